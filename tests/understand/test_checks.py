"""Each doubt is raised by data that deserve it, and by no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import asked, cell, ns, write_run

from poise.plan.spec import Generation, Load
from poise.store.run import open_run
from poise.types import Check, Record, ResourceSample, Timeline
from poise.understand.checks import checks
from poise.understand.gather import gather


def found(path: Path, *cells: Any) -> dict[str, Check]:
    data = gather([open_run(write_run(path / "run", list(cells)))])
    return {c.code: c for c in checks(data[0])}


def items(n: int = 40, text: str = "x", **more: Any) -> list[Any]:
    return [asked(f"i{i}", "x", text, sent_s=2.0 * i, e2e_s=1.0, **more) for i in range(n)]


def readings(**more: Any) -> list[ResourceSample]:
    return [ResourceSample(ns(t), "cpu", cpu_s=0.5 * t, host_cpu=2.0, **more) for t in range(0, 80, 4)]


def test_a_sound_cell_raises_none(tmp_path: Path) -> None:
    assert found(tmp_path, cell("m", "t", items())) == {}


CASES: dict[str, Any] = {
    "few_items": lambda: cell("m", "t", items(12)),
    "missing_requests": lambda: cell("m", "t", items(), planned=60),
    "failed_requests": lambda: cell("m", "t", [*items(), asked("z", "x", status="error", kind="reset")]),
    "none_found": lambda: cell("m", "t", items(text=" "), extract="first_line"),
    "unscorable": lambda: cell("m", "t", [*items(), asked("z", None, "x", e2e_s=1.0)]),
    "cut_off": lambda: cell("m", "t", items(finish_reason="length")),
    "length_not_held": lambda: cell(
        "m", "t", items(output_tokens=7), generation=Generation(max_tokens=8, min_tokens=8)
    ),
    "client_bound": lambda: cell(
        "m",
        "t",
        [asked(f"i{i}", "x", "x", sent_s=2.0 * i + 0.5, due_s=2.0 * i, e2e_s=1.0) for i in range(40)],
        load=Load("open", 0.5),
    ),
    "resumed_open_loop": lambda: cell(
        "m",
        "t",
        [asked(f"i{i}", "x", "x", sent_s=2.0 * i, due_s=2.0 * i, e2e_s=1.0, segment=i // 20) for i in range(40)],
        load=Load("open", 0.5),
    ),
    "throttled": lambda: cell("m", "t", items(), resources=[ResourceSample(ns(5), "gpu0", throttled=True)]),
    "other_load_on_host": lambda: cell("m", "t", items(), resources=readings()),
}


@pytest.mark.parametrize("code", list(CASES))
def test_each_doubt(tmp_path: Path, code: str) -> None:
    raised = found(tmp_path, CASES[code]())
    assert list(raised) == [code]
    assert raised[code].evidence and raised[code].action


def test_few_items_of_a_timed_load_want_more_time(tmp_path: Path) -> None:
    raised = found(tmp_path, cell("m", "t", items(12), load=Load("open", 0.5, duration_s=24)))
    assert "duration_s" in raised["few_items"].action


def test_prompts_beyond_the_context_are_not_asked_again(tmp_path: Path) -> None:
    raised = found(tmp_path, cell("m", "t", [*items(), asked("z", "x", status="error", kind="context")]))
    assert "shorter" in raised["failed_requests"].action and "--retry-failed" not in raised["failed_requests"].action


def test_reruns_are_mentioned(tmp_path: Path) -> None:
    again = asked("z", "x", status="error")
    again.records.append(Record("z", "z", "ok", attempt=2, segment=1, timeline=Timeline(ns(99), [1], 1), pieces=["x"]))
    assert "rerun" in found(tmp_path, cell("m", "t", [*items(), again]))


def test_late_requests_in_a_closed_loop_are_no_doubt(tmp_path: Path) -> None:
    assert "client_bound" not in found(tmp_path, cell("m", "t", items()))
