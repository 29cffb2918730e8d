"""Whether cells were asked the same: told apart by what was asked, not by how far each got."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import asked, cell, write_run

from poise.plan.spec import Load
from poise.store.run import open_run
from poise.types import CellSummary, Check
from poise.understand.compare import compare
from poise.understand.gather import gather
from poise.understand.questions import comparable
from poise.understand.summarize import summarize


def items(n: int = 40, target: str = "x", first: int = 0) -> list[Any]:
    return [asked(f"i{i}", target, "x", sent_s=2.0 * i, e2e_s=1.0) for i in range(first, first + n)]


def found(path: Path, *cells: Any) -> list[Check]:
    return list(comparable(gather([open_run(write_run(path / "run", list(cells)))])).values())


def timed(rate: float, n: int) -> Any:
    """An open loop whose duration was over after n items."""
    return cell("m", "t", items(n), load=Load("open", rate, duration_s=40), target_sha=f"first {n}")


def test_other_targets_are_incomparable(tmp_path: Path) -> None:
    raised = found(tmp_path, cell("m", "t", items()), cell("n", "t", items(target="y"), target_sha="others"))
    assert [(c.code, c.level) for c in raised] == [("incomparable", "error")] * 2


def test_a_timed_load_that_got_further_is_no_doubt(tmp_path: Path) -> None:
    assert found(tmp_path, timed(1, 40), timed(4, 160), timed(2, 80)) == []


def test_quality_under_timed_loads_is_paired_on_what_both_were_asked(tmp_path: Path) -> None:
    cells: list[CellSummary] = summarize(write_run(tmp_path / "run", [timed(1, 40), timed(4, 160)])).cells
    assert cells[1]["quality_under_load"].n == 40


def test_timed_loads_compare_on_what_both_were_asked(tmp_path: Path) -> None:
    short, long = (open_run(write_run(tmp_path / str(n), [timed(1, n)])) for n in (40, 160))
    assert {row.n for row in compare([short], [long]).rows} == {40}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (cell("n", "t", items(), wording="else", target_sha="b"), "in other words or with other limits"),
        (cell("n", "t", items(first=20), target_sha="b"), "other items"),
    ],
)
def test_other_questions_are_named(tmp_path: Path, other: Any, why: str) -> None:
    raised = found(tmp_path, cell("m", "t", items()), other)
    assert [c.code for c in raised] == ["different_questions"] * 2
    assert all(why in c.evidence and c.action for c in raised)
