"""Items asked again: unique ids, the same order, and new words where a prompt may have them."""

import math
from itertools import islice, pairwise

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
    own = "my own words here are seven"
    [*prompts] = (r.prompt for r in islice(sequence([request("a", prompt=f"share this {own}", shared_chars=11)]), 24))
    assert len(set(prompts)) == 24, "four words that can change places have 24 orders"
    for prompt in prompts:
        assert prompt and prompt.startswith("share this my ") and prompt.endswith(" seven")
        assert sorted(prompt[11:].split(" ")) == sorted(own.split(" "))
    seconds = [p.split(" ")[3] for p in prompts[:5] if p]
    assert all(a != b for a, b in pairwise(seconds)), "from its second word on a prompt is not the one before"


@given(st.integers(1, 60), st.integers(1, 400))
def test_a_long_prompt_has_an_order_for_every_turn(words: int, turns: int) -> None:
    text = " ".join(f"w{i}" for i in range(words))
    prompts = [r.prompt for r in islice(sequence([request("a", prompt=text, shared_chars=0)]), turns)]
    assert all(p and sorted(p.split(" ")) == sorted(text.split(" ")) for p in prompts)
    assert len(set(prompts)) == (turns if words > 8 else min(turns, math.factorial(max(0, words - 2))))


def test_a_chat_keeps_its_system_prompt() -> None:
    turns = (Message("system", "Be brief."), Message("user", "own words to keep"))
    *_, again = islice(sequence([request("a", messages=turns, shared_chars=0)]), 2)
    assert again.messages == (turns[0], Message("user", "own to words keep"))
