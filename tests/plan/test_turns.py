"""Conversations: each turn asks with the model's own answers before it, as chat messages or as one text."""

from typing import Any

import pytest

from poise.plan.prompts import Asker, warmups
from poise.plan.spec import Generation
from poise.plan.turns import turn
from poise.types import Message, Request, Sample, UsageError


class Talk:
    name, version, instruction, answer_prefix = "talk", 1, "Be brief.", "Answer:"
    extract, metrics, chance, n_ref, max_tokens = "text", (), 0.0, 2.0, 8

    def question(self, sample: Sample) -> Any:
        return sample.fields["turns"]

    def answer(self, sample: Sample) -> str:
        return ""

    def temperature(self, sample: Sample) -> float:
        return 0.7


def asked(turns: Any, format: str, **changes: Any) -> Request:
    generation = changes.pop("generation", Generation())
    asker = Asker(
        Talk(),  # type: ignore[arg-type]
        format=format,
        mode=changes.pop("mode", "generate"),
        system=None,
        shots=changes.pop("shots", []),
        generation=generation,
        prompt={},
        seed=0,
    )
    return asker.request(Sample("81", {"turns": turns}, choices=("x", "y")), 0)


def test_chat_turns_hold_the_answers_between() -> None:
    request = asked(["Who?", "Where?", "When?"], "chat")
    assert request.parts == ("81#0", "81#1", "81#2")
    assert turn(request, []).messages == (Message("user", "Be brief.\n\nWho?"),)
    last = turn(request, ["Ann.", "Here."])
    assert (last.id, last.part, last.sample_id, last.turns) == ("81#2", 2, "81", ())
    assert last.messages == (
        Message("user", "Be brief.\n\nWho?"),
        Message("assistant", "Ann."),
        Message("user", "Where?"),
        Message("assistant", "Here."),
        Message("user", "When?"),
    )


def test_raw_turns_are_one_text() -> None:
    request = asked(["Who?", "Where?"], "raw")
    assert turn(request, []).prompt == "Be brief.\n\nWho?\nAnswer:"
    assert turn(request, [" Ann.\n"]).prompt == "Be brief.\n\nWho?\nAnswer: Ann.\n\nWhere?\nAnswer:"


def test_one_question_is_an_ordinary_request() -> None:
    listed, plain = asked(["Who?"], "chat"), asked("Who?", "chat")
    assert listed == plain and listed.parts == ("81",) and turn(listed, []) is listed


def test_later_turns_are_part_of_what_was_asked() -> None:
    assert asked(["Who?", "Where?"], "chat").asked_sha != asked(["Who?", "When?"], "chat").asked_sha


def test_the_study_s_temperature_comes_before_the_task_s() -> None:
    assert asked("Who?", "chat").temperature == 0.7
    assert asked("Who?", "chat", generation=Generation(temperature=0.0)).temperature == 0.0


@pytest.mark.parametrize("changes", [{"mode": "choice"}, {"shots": [Sample("s", {"turns": "Why?"}, "x")]}])
def test_choices_and_shots_ask_once(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="several turns"):
        asked(["Who?", "Where?"], "chat", **changes)
    with pytest.raises(UsageError, match="asks nothing"):
        asked([], "chat")


def test_warmups_ask_once() -> None:
    assert all(not w.turns for w in warmups([asked(["Who?", "Where?"], "raw")], 3))
