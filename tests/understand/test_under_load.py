"""Quality by load level: paired with the lowest load, with the reason for every loss, on folders of known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from support import asked, cell, write_run

from poise.plan.spec import Load
from poise.types import CellSummary
from poise.understand.summarize import summarize


def loaded(path: Path, *levels: tuple[Load, list[Any]], **more: Any) -> list[CellSummary]:
    """Summaries of one system under several loads."""
    return summarize(
        write_run(path / "run", [cell("m", "t", items, load=load, **more) for load, items in levels])
    ).cells


def calm(n: int = 100, wrong: int = 20) -> list[Any]:
    return [
        asked(f"i{i}", "x", "y" if i < wrong else "x", e2e_s=1.0, sent_s=float(i), output_tokens=8) for i in range(n)
    ]


def strained(kind: str, lost: int = 15) -> list[Any]:
    """As calm, but the last `lost` items are lost for one reason."""
    items = calm(100 - lost)
    for i in range(100 - lost, 100):
        more: dict[str, Any] = {
            "timeout": {"status": "timeout", "done_s": 60.0},
            "dropped": {"status": "dropped"},
            "reset": {"status": "error", "kind": "reset"},
            "length": {"text": "cut o", "e2e_s": 1.0, "finish_reason": "length", "output_tokens": 4},
            "text": {"text": "other", "e2e_s": 1.0, "output_tokens": 8},
        }[kind]
        items.append(asked(f"i{i}", "x", sent_s=float(i), **more))
    return items


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("timeout", "timed out"),
        ("dropped", "dropped"),
        ("reset", "failed"),
        ("length", "cut at the token limit"),
        ("text", "another text"),
    ],
)
def test_what_got_worse_and_why(tmp_path: Path, kind: str, reason: str) -> None:
    high, low = loaded(tmp_path, (Load("closed", 64), strained(kind)), (Load("closed", 1), calm()))
    assert "the lowest load" in (low["quality_under_load"].reason or "") and "under_load" not in low.tables
    effect = high.tables["under_load"]
    assert effect["against"] == "closed 1" and effect["n"] == 100
    assert (effect["quality_there"], effect["quality_here"]) == pytest.approx((0.8, 0.65))
    assert effect["worse"] == 15 and effect["better"] == 0 and effect["reasons"] == {reason: 15}
    assert effect["p"] == pytest.approx(stats.binomtest(0, 15).pvalue)
    difference = high["quality_under_load"]
    assert difference.value == pytest.approx(-0.15) and difference.hi is not None and difference.hi < 0
    (check,) = [c for c in high.checks if c.code == "quality_falls"]
    assert f"15 got worse (15 {reason}), 0 better" in check.evidence and check.action
    changed = {"length": 0.15, "text": 0.15}.get(kind, 0.0)
    assert effect["changed"] == pytest.approx(changed)
    assert effect["cut"] == (0.0, 0.15 if kind == "length" else 0.0)
    assert effect["tokens"] == pytest.approx(1 - 0.15 / 2 if kind == "length" else 1.0)
    assert effect["timed_out"] == (0.0, 0.15 if kind == "timeout" else 0.0)
    assert effect["failed"] == (0.0, 0.15 if kind in ("timeout", "dropped", "reset") else 0.0)


def test_changes_both_ways_are_no_fall(tmp_path: Path) -> None:
    """Batching turned ten texts: five wrong ones right, five right ones wrong."""
    items = calm(wrong=15)
    items[95:] = [asked(f"i{i}", "x", "z", e2e_s=1.0, sent_s=float(i), output_tokens=8) for i in range(95, 100)]
    _, high = loaded(tmp_path, (Load("closed", 1), calm()), (Load("closed", 64), items))
    effect = high.tables["under_load"]
    assert (effect["worse"], effect["better"], effect["changed"]) == (5, 5, 0.10)
    assert high["quality_under_load"].value == 0 and not [c for c in high.checks if c.code == "quality_falls"]


def test_several_levels_share_holms_correction(tmp_path: Path) -> None:
    cells = loaded(
        tmp_path, (Load("open", 8), strained("text", 6)), (Load("closed", 1), calm()), (Load("open", 4), calm())
    )
    six, low, four = cells
    assert six.tables["under_load"]["against"] == four.tables["under_load"]["against"] == low.load
    p = stats.binomtest(0, 6).pvalue
    assert six.tables["under_load"]["p"] == pytest.approx(p) and six.tables["under_load"][
        "p_adjusted"
    ] == pytest.approx(2 * p)
    assert not [c for c in six.checks if c.code == "quality_falls"]  # .03 alone, .06 among two


def test_only_items_that_both_were_asked_count(tmp_path: Path) -> None:
    _, high = loaded(tmp_path, (Load("closed", 1), calm(60)), (Load("closed", 8), calm(100)))
    assert high.tables["under_load"]["n"] == 60


def test_one_load_or_nothing_scored_says_nothing(tmp_path: Path) -> None:
    (alone,) = loaded(tmp_path / "a", (Load("closed", 1), calm()))
    _, unscored = loaded(tmp_path / "b", (Load("closed", 1), calm()), (Load("closed", 8), calm()), metrics=())
    assert "under_load" not in alone.tables | unscored.tables
    assert "quality_under_load" not in alone.estimates | unscored.estimates
