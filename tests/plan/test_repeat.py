"""Items asked again: unique ids, the same order, and new words where a prompt may have them."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from poise.plan.repeat import sequence
from poise.types import Message, Request


def request(sample: str, draw: int = 0, draws: int = 1, **more: object) -> Request:
    identity = sample if draws == 1 else f"{sample}/{draw}"
    return Request(id=identity, sample_id=sample, kind="generate", asked_sha="s", draw=draw, **more)  # type: ignore[arg-type]


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 60))
def test_ids_stay_unique_and_items_come_back_after_all_others(items: int, draws: int, count: int) -> None:
    base = [request(str(i), d, draws, prompt=f"p{i}") for d in range(draws) for i in range(items)]
    asked = list(islice(sequence(base), count))
    assert len({r.id for r in asked}) == len(asked) == count
    assert len({(r.sample_id, r.draw) for r in asked}) == count
    assert asked[: len(base)] == base[:count]
    assert [r.prompt for r in asked] == [base[i % len(base)].prompt for i in range(count)]


def test_nothing_gives_nothing() -> None:
    assert list(islice(sequence([]), 3)) == []


def test_synthetic_prompts_are_new_each_time_behind_their_shared_part() -> None:
    base = [request("a", prompt="share this own words here", shared_chars=11), request("b", prompt="x", shared_chars=0)]
    prompts = [r.prompt for r in islice(sequence(base), 6)]
    assert len(set(prompts)) == 6
    assert all(p.startswith("share this own") and len(p.split()) == 5 for p in prompts[::2] if p)


def test_a_chat_keeps_its_system_prompt() -> None:
    turns = (Message("system", "Be brief."), Message("user", "own words"))
    *_, again = islice(sequence([request("a", messages=turns, shared_chars=0)]), 2)
    assert again.messages == (turns[0], Message("user", "ownx1 words"))
