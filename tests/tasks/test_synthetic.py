"""Prompts of given lengths: words as asked, shared where asked, new elsewhere, the same for the same seed."""

import math
import statistics

import pytest

from poise.tasks.build import get_task
from poise.types import Traced, UsageError

TASK = get_task("synthetic")


def texts(**options):
    return [s.fields["text"].split() for s in TASK.samples(None, options)]


def test_prompts_differ_from_the_first_word():
    words = texts(n=500, prompt_tokens=20)
    assert len(words) == 500 and {len(w) for w in words} == {20}
    assert len({w[0] for w in words}) == 500
    assert words == texts(n=500, prompt_tokens=20) != texts(n=500, prompt_tokens=20, seed=1)


def test_shared_prefix():
    words = texts(n=5, prompt_tokens=20, prefix_tokens=12)
    assert len({tuple(w[:12]) for w in words}) == 1 and len({w[12] for w in words}) == 5


def test_several_prefixes_take_turns():
    words = texts(n=12, prompt_tokens=20, prefix_tokens=8, prefixes=3)
    heads = [tuple(w[:8]) for w in words]
    assert len(set(heads)) == 3 and heads == heads[:3] * 4
    assert len({tuple(w[8:]) for w in words}) == 12


def test_what_is_new_when_asked_again_begins_behind_the_prefix():
    for sample in TASK.samples(None, {"n": 3, "prompt_tokens": 20, "prefix_tokens": 8}):
        text, start = sample.fields["text"], TASK.shared_chars(sample)
        assert text[:start].split() == text.split()[:8] and text[start:].split() == text.split()[8:]
    assert {TASK.shared_chars(s) for s in TASK.samples(None, {"n": 3})} == {0}
    assert {TASK.shared_chars(s) for s in TASK.samples(None, {"n": 3, "cache_bust": False})} == {None}


def test_fields_carry_the_lengths():
    sample = next(iter(TASK.samples(None, {"prompt_tokens": "64", "output_tokens": 7})))
    assert (sample.fields["prompt_tokens"], sample.fields["output_tokens"], sample.target) == (64, 7, None)


def test_lengths_are_drawn_from_a_distribution():
    options = {"n": 2000, "prompt_tokens": {"mean": 60, "stdev": 10, "min": 40, "max": 80}, "output_tokens": [8, 16]}
    samples = list(TASK.samples(None, options))
    lengths = [s.fields["prompt_tokens"] for s in samples]
    assert [len(s.fields["text"].split()) for s in samples] == lengths
    assert min(lengths) == 40 and max(lengths) == 80  # cut at 2 standard deviations, which 2000 draws pass
    assert statistics.mean(lengths) == pytest.approx(60, abs=1)
    # cut at ±2σ, its tails put on the ends: σ·0.9591 by numpy's standard_normal(4_000_000).clip(-2, 2).std()
    assert statistics.pstdev(lengths) == pytest.approx(9.6, abs=0.4)
    outputs = [s.fields["output_tokens"] for s in samples]
    assert set(outputs) == {8, 16} and outputs.count(8) == pytest.approx(1000, abs=100)
    assert samples == list(TASK.samples(None, options))


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"prompt_tokens": "many"},
        {"output_tokens": 1.5},
        {"prefix_tokens": 999},
        {"prefixes": 0},
        {"cache_bust": "maybe"},
        {"prompt_tokens": {"mean": 5, "sd": 1}},
        {"prompt_tokens": {"stdev": 1}},
        {"prompt_tokens": {"mean": 5, "stdev": -1}},
        {"prompt_tokens": {"mean": 5, "min": 9, "max": 3}},
        {"prompt_tokens": [4, 0]},
        {"prompt_tokens": []},
        {"prompt_tokens": 10**11},
        {"n": math.inf},
        {"n": 10**400},
        {"seed": -1},
    ],
)
def test_bad_options(options):
    with pytest.raises(UsageError, match="synthetic: "):
        texts(**options)


def test_a_trace_gives_lengths_and_shared_blocks():
    rows = [
        Traced(0, 1300, 5, (0, 1, 2)),
        Traced(1, 1100, 6, (0, 1, 9)),
        Traced(2, 700, 7, (7, 1)),
        Traced(3, 40, 8, ()),
        Traced(4, 600, 8, (0,)),
    ]
    samples = list(TASK.traced(rows, {}))
    words = [s.fields["text"].split() for s in samples]
    assert [len(w) for w in words] == [row.input_tokens for row in rows]
    assert [TASK.exact_lengths(s) for s in samples] == [(r.input_tokens, r.output_tokens) for r in rows]
    assert words[0][:1024] == words[1][:1024] and words[0][1024:] != words[1][1024:]
    assert words[2][:512] != words[0][:512] and words[2][512:] == words[0][512:700]
    assert words[4][:512] == words[0][:512] and words[4][512:] != words[0][512:600]
    with pytest.raises(UsageError, match="leave out 'prompt_tokens'"):
        list(TASK.traced(rows, {"prompt_tokens": 5}))


def test_blocks_depend_on_the_seed():
    row = Traced(0, 512, 1, (3,))
    one, other = ([s.fields["text"] for s in TASK.traced([row], {"seed": seed})] for seed in (0, 1))
    assert one != other
