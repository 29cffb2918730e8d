"""How a sample is asked: CONTRACT's raw and chat forms, and hashes that notice every change but the seed."""

from typing import Any

import pytest

from poise.plan.prompts import Asker, warmups
from poise.plan.spec import Generation
from poise.types import Message, Sample, UsageError


class Capital:
    name, version, instruction, answer_prefix = "capital", 1, "Name the capital.", "Answer:"
    extract, metrics, chance, n_ref, max_tokens = "first_line", ("exact_match",), 0.0, 2.0, 8

    def samples(self, data: Any, options: dict[str, Any]) -> list[Sample]:
        return []

    def question(self, sample: Sample) -> str:
        return f"Country: {sample.fields['country']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


FRANCE = Sample("0", {"country": "France"}, "Paris", choices=("Paris", "Rome"))
ITALY = Sample("1", {"country": "Italy"}, "Rome")


def asker(**changes: Any) -> Asker:
    given: dict[str, Any] = {
        "format": "raw",
        "mode": "generate",
        "system": None,
        "shots": [],
        "generation": Generation(),
        "prompt": {},
        "seed": 0,
    }
    return Asker(Capital(), **{**given, **changes})


def test_raw_form() -> None:
    request = asker(shots=[ITALY]).request(FRANCE, 0)
    assert request.prompt == ("Name the capital.\n\nCountry: Italy\nAnswer: Rome\n\nCountry: France\nAnswer:")
    assert request.stop == ("\n\n",) and request.max_tokens == 8


def test_chat_form() -> None:
    request = asker(format="chat", system="Be brief.", shots=[ITALY]).request(FRANCE, 0)
    assert request.messages == (
        Message("system", "Be brief."),
        Message("user", "Name the capital.\n\nCountry: Italy"),
        Message("assistant", "Rome"),
        Message("user", "Country: France"),
    )
    assert request.prompt is None and request.stop == ()


def test_continuations_carry_a_space_in_raw_only() -> None:
    assert asker(mode="choice").request(FRANCE, 0).continuations == (" Paris", " Rome")
    assert asker(mode="choice", format="chat").request(FRANCE, 0).continuations == ("Paris", "Rome")
    with pytest.raises(UsageError, match="no choices"):
        asker(mode="choice").request(ITALY, 0)


def test_asked_sha_notices_everything_but_the_seed() -> None:
    base = asker().request(FRANCE, 0).asked_sha
    assert asker(seed=7).request(FRANCE, 0).asked_sha == base
    for change in (
        {"generation": Generation(max_tokens=9)},
        {"generation": Generation(stop=["x"])},
        {"generation": Generation(temperature=0.5)},
        {"shots": [ITALY]},
        {"format": "chat"},
        {"prompt": {"answer_prefix": "A:"}},
    ):
        assert asker(**change).request(FRANCE, 0).asked_sha != base


def test_prompt_templates_are_sandboxed() -> None:
    assert asker(prompt={"question": "Q {{ country }}?"}).request(FRANCE, 0).prompt == (
        "Name the capital.\n\nQ France?\nAnswer:"
    )
    from jinja2.exceptions import SecurityError

    with pytest.raises((SecurityError, UsageError)):
        asker(prompt={"question": "{{ country.__class__.__mro__ }}"}).request(FRANCE, 0)


def test_draws_have_their_own_ids_and_seeds() -> None:
    ask = asker(generation=Generation(draws=2, temperature=1.0))
    first, second = ask.request(FRANCE, 0), ask.request(FRANCE, 1)
    assert (first.id, second.id) == ("0/0", "0/1") and first.seed != second.seed
    assert first.asked_sha == second.asked_sha


def test_warmups_are_not_measured_prompts() -> None:
    requests = [asker().request(s, 0) for s in (FRANCE, ITALY)]
    made = warmups(requests, 3)
    assert len(made) == 3 and not {r.prompt for r in made} & {r.prompt for r in requests}
