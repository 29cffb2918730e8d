"""A prefix cache is seen where it changed the times, and nothing else is taken for one."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import asked, cell, write_run

import poise
from poise.measure.mock_config import MockConfig
from poise.measure.mock_server import running
from poise.plan.prompts import sha
from poise.plan.spec import Load
from poise.store.run import open_run
from poise.types import Check
from poise.understand.checks import checks
from poise.understand.gather import gather


def found(cells: list[Any], path: Path) -> Check | None:
    [data] = gather([open_run(write_run(path / "run", cells))])
    return next((c for c in checks(data) if c.code == "prefix_cache"), None)


def loop(ttft: Callable[[int, int, float], float], n: int, turns: int, usage: Any = None) -> list[Any]:
    """A closed loop of one over `n` items, again and again; `ttft(item, turn, seconds since the start)`."""
    items: dict[int, Any] = {}
    now = 0.0
    for turn in range(turns):
        for i in range(n):
            first = ttft(i, turn, now)
            more = {} if usage is None else {"usage": usage(i, turn)}
            name = sha(i)[:9]  # ids, and so prompts, that do not begin alike
            made = asked(name, "x", ["x", "y"], sent_s=now, at_s=[first, first + 0.1], draw=turn,
                         request_id=f"{name}/{turn}", **more)  # fmt: skip
            if i in items:
                items[i].records += made.records
            else:
                items[i] = made
            now += first + 0.1
    return list(items.values())


def seen(items: list[Any], load: Load = Load("closed", 1)) -> Check | None:
    with tempfile.TemporaryDirectory() as folder:
        return found([cell("m", "t", items, load=load, source_kind="api")], Path(folder))


DRIFTS: dict[str, Callable[[float, float], float]] = {
    "none": lambda at, end: 1.0,
    "slowly faster": lambda at, end: 1.5 - 0.7 * at / end,
    "warms up": lambda at, end: 1 + 4 * 0.5 ** (20 * at / end),
    "cools down": lambda at, end: 1 + at / end,
    "two paces": lambda at, end: 1.5 if at < 0.12 * end else 1.0,
}


@settings(max_examples=40, derandomize=True)  # a share of one in thousands is no bug
@given(
    st.integers(0, 10**6),
    st.sampled_from(sorted(DRIFTS)),
    st.integers(12, 60),
    st.integers(2, 4),
    st.floats(0.02, 0.6),
    st.floats(0.0, 1.0),
)
def test_without_a_cache_there_is_no_alarm(
    seed: int, drift: str, n: int, turns: int, noise: float, lengths: float
) -> None:
    r = random.Random(seed)
    of_item = [0.2 * r.lognormvariate(0, lengths) for _ in range(n)]
    end = sum(of_item) * turns + 0.1 * n * turns

    def ttft(i: int, turn: int, at: float) -> float:
        return of_item[i] * DRIFTS[drift](at, end) * r.lognormvariate(0, noise)

    check = seen(loop(ttft, n, turns))
    assert check is not None and check.level == "info", "what came again is said, and no more"
    assert f"{n} prompts came again word for word ({n * (turns - 1)} requests)" in check.evidence


@settings(max_examples=20, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(["none", "warms up", "cools down"]), st.floats(0.1, 0.5))
def test_a_cache_that_the_server_says_nothing_of_shows_in_the_times(seed: int, drift: str, left: float) -> None:
    r = random.Random(seed)

    def ttft(i: int, turn: int, at: float) -> float:
        return 0.2 * (left if turn else 1.0) * DRIFTS[drift](at, 40.0) * r.lognormvariate(0, 0.1)

    check = seen(loop(ttft, 60, 2))
    assert check is not None and check.level == "warn"
    assert "understates that of a new prompt" in check.evidence and "of the first time's" in check.evidence


def told(cached: int) -> dict[str, Any]:
    return {"prompt_tokens": 100, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": cached}}


def test_what_the_server_says_is_believed() -> None:
    again = seen(loop(lambda i, turn, at: 0.2, 20, 2, lambda i, turn: told(96 if turn else 0)))
    assert again is not None and again.level == "warn" and again.evidence.startswith("the server took 48% of its")
    known = seen(loop(lambda i, turn, at: 0.2, 40, 1, lambda i, turn: told(96)))
    assert known is not None and known.level == "warn" and "from an earlier cell or run" in known.evidence
    alike = seen(loop(lambda i, turn, at: 0.2, 40, 1, lambda i, turn: told(32)))
    assert alike is not None and alike.level == "info" and "begin alike" in alike.evidence
    assert seen(loop(lambda i, turn, at: 0.2, 40, 1, lambda i, turn: told(0))) is None


def test_new_prompts_and_engines_in_process_have_none() -> None:
    assert seen(loop(lambda i, turn, at: 0.2, 40, 1)) is None
    with tempfile.TemporaryDirectory() as folder:
        assert found([cell("m", "t", loop(lambda i, turn, at: 0.2, 40, 2))], Path(folder)) is None


@pytest.mark.parametrize(
    ("config", "bust", "level"),
    [
        ({"prefix_cache": True, "cached_usage": False, "ttft_s": 0.01, "prefill_s": 0.001}, False, "warn"),  # by times
        ({"prefix_cache": True}, False, "warn"),
        ({}, False, "info"),
        ({"prefix_cache": True}, True, None),
        ({"prefix_cache": True, "cached_usage": False}, True, None),
    ],
)
def test_against_the_mock_server(tmp_path: Path, config: dict[str, Any], bust: bool, level: str | None) -> None:
    async def main() -> Any:
        async with running(MockConfig(**{"tokens": 2, "prefill_s": 0.0004, **config})) as (_, port):
            study = {
                "models": [{"name": "m", "source": {"api": "mock"}}],
                "deployments": [
                    {"name": "d", "backend": "openai", "base_url": f"http://127.0.0.1:{port}/v1",
                     "preset": "mock-server"}
                ],
                "tasks": [
                    {"task": "synthetic",
                     "options": {"n": 20, "prompt_tokens": 64, "output_tokens": 2, "cache_bust": bust}}
                ],
                "loads": [{"closed": 1, "requests": 40}],
            }  # fmt: skip
            return await asyncio.to_thread(poise.run, study, tmp_path / "run", quiet=True)

    run = asyncio.run(main())
    [summary] = poise.summarize(run).cells
    check = next((c for c in summary.checks if c.code == "prefix_cache"), None)
    assert (check and check.level) == level
    if check and level == "warn":
        assert "leave out cache_bust: false" in check.action
        assert ("the server took 49% of its prompt tokens" in check.evidence) == ("cached_usage" not in config)
