"""Lengths that were asked for against what the engine or server counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import asked, cell, write_run

from poise.store.run import open_run
from poise.types import Check, Request
from poise.understand.checks import checks
from poise.understand.gather import gather


def found(path: Path, counted: list[int | None], *, remote: bool = True, fitted: bool = False) -> list[Check]:
    """Checks of prompts that were asked for 100 tokens each."""
    items = [
        asked(f"i{i}", "x", "x", sent_s=2.0 * i, e2e_s=1.0, usage=None if n is None else {"prompt_tokens": n})
        for i, n in enumerate(counted)
    ]
    run = write_run(path / "run", [cell("m", "t", items, source_kind="api" if remote else "hf")])
    [inputs] = run.glob("inputs/*.requests.jsonl")
    requests = [msgspec.json.decode(line, type=Request) for line in inputs.read_bytes().splitlines()]
    inputs.write_bytes(
        b"".join(msgspec.json.encode(msgspec.structs.replace(r, prompt_tokens=100)) + b"\n" for r in requests)
    )
    [data] = gather([open_run(run)])
    task = msgspec.structs.replace(data.cell.task, fitted_by="hash" if fitted else None)
    data = dataclasses.replace(data, cell=msgspec.structs.replace(data.cell, task=task))
    return [c for c in checks(data) if c.code == "prompt_length"]


VARIED: list[Any] = [150, 160] * 20


@pytest.mark.parametrize(
    ("counted", "facts", "level", "evidence", "action"),
    [
        (VARIED, {}, "warn", "one word for each token asked for; 40 of 40 prompts", "-O tokenizer=FOLDER"),
        (VARIED, {"remote": False}, "warn", "40 of 40 prompts are not as many tokens", "compare times per token"),
        (VARIED, {"fitted": True}, "warn", "40 of 40 prompts are not as many tokens", "the very model it serves"),
        ([119] * 40, {"fitted": True}, "warn", "the server counts 19 more in every one", "its chat template"),
        ([None] * 40, {}, "info", "one word for each token asked for; the server does not say", "-O tokenizer=FOLDER"),
        ([None] * 40, {"fitted": True}, "info", "as long as asked for by the tokenizer", "-O stream=false"),
    ],
)
def test_what_a_server_counts_is_held_against_what_was_asked(
    tmp_path: Path, counted: list[int | None], facts: Any, level: str, evidence: str, action: str
) -> None:
    [check] = found(tmp_path, counted, **facts)
    assert check.level == level and evidence in check.evidence and action in check.action


@pytest.mark.parametrize("facts", [{}, {"fitted": True}, {"remote": False}])
def test_lengths_that_were_held_are_no_doubt(tmp_path: Path, facts: Any) -> None:
    assert found(tmp_path, [100] * 40, **facts) == []
