"""A stall in some streams shows, and says in how many."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats
from support import asked, cell, write_run

from poise.plan.spec import Analysis
from poise.store.run import open_run
from poise.understand.checks import checks
from poise.understand.gather import CellData, gather
from poise.understand.stalls import stalls


def streams(path: Path, stalled: int, analysis: Analysis | None = None) -> CellData:
    """100 streams of 20 chunks every 10 ms; the first ones stop for 400 ms; one failed, one in one piece."""
    items = []
    for i in range(100):
        at = [0.1 + 0.01 * k + (0.4 if i < stalled and k >= 10 else 0.0) for k in range(20)]
        items.append(asked(f"i{i}", "x", ["x"] * 20, at_s=at, sent_s=float(i)))
    items += [asked("whole", "x", "x", e2e_s=5.0), asked("gone", "x", status="error")]
    return gather([open_run(write_run(path / "run", [cell("m", "t", items)], analysis=analysis))])[0]


def test_ten_per_cent_of_streams_stall(tmp_path: Path) -> None:
    data = streams(tmp_path, 10)
    got = stalls(data)
    assert got["stall.count"].value == 10 and got["stall.count"].n == 1900
    ci = stats.binomtest(10, 100).proportion_ci(method="wilson")
    assert (got["stall.share"].value, got["stall.share"].lo, got["stall.share"].hi) == pytest.approx(
        (0.1, ci.low, ci.high)
    )
    (check,) = [c for c in checks(data) if c.code == "stalls"]
    assert (
        check.evidence
        == "10.0% of 100 answers stalled: 10 gaps over 0.1 s, the longest 0.41 s; the median gap is 0.01 s"
    )


def test_steady_streams_have_none(tmp_path: Path) -> None:
    data = streams(tmp_path, 0)
    assert stalls(data)["stall.count"].value == 0 and stalls(data)["stall.share"].value == 0
    assert not [c for c in checks(data) if c.code == "stalls"]


def test_the_study_says_what_a_stall_is(tmp_path: Path) -> None:
    assert stalls(streams(tmp_path, 10, Analysis(stall_s=0.5)))["stall.count"].value == 0


def test_answers_in_one_piece_cannot_stall(tmp_path: Path) -> None:
    items = [asked("a", "x", "x", e2e_s=5.0)]
    data = gather([open_run(write_run(tmp_path / "run", [cell("m", "t", items)]))])[0]
    assert stalls(data)["stall.count"].value is None and stalls(data)["stall.share"].reason
