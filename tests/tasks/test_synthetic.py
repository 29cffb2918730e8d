import pytest

from poise.tasks.build import get_task
from poise.types import UsageError

TASK = get_task("synthetic")


def texts(**options):
    return [s.fields["text"].split() for s in TASK.samples(None, options)]


def test_prompts_differ_from_the_first_word():
    words = texts(n=500, prompt_tokens=20)
    assert len(words) == 500 and {len(w) for w in words} == {20}
    assert len({w[0] for w in words}) == 500
    assert words == texts(n=500, prompt_tokens=20) != texts(n=500, prompt_tokens=20, seed=1)


def test_shared_prefix():
    words = texts(n=5, prompt_tokens=20, shared_prefix_tokens=12)
    assert len({tuple(w[:12]) for w in words}) == 1 and len({w[12] for w in words}) == 5


def test_fields_carry_the_lengths():
    sample = next(iter(TASK.samples(None, {"prompt_tokens": "64", "output_tokens": 7})))
    assert (sample.fields["prompt_tokens"], sample.fields["output_tokens"], sample.target) == (64, 7, None)


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"prompt_tokens": "many"}, {"output_tokens": 1.5}, {"shared_prefix_tokens": 999}]
)
def test_bad_options(options):
    with pytest.raises(UsageError, match="synthetic: "):
        texts(**options)
