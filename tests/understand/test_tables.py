"""Frames from whichever library there is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import asked, cell, write_run

from poise.types import Summary, UsageError
from poise.understand.summarize import summarize
from poise.understand.tables import COLUMNS, frame, rows


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return summarize(write_run(tmp_path / "run", [cell("m", "t", [asked("a", "x", "x", e2e_s=1.5)])]))


def test_a_row_names_where_its_number_belongs(summary: Summary) -> None:
    (row,) = [r for r in rows(summary) if r["quantity"] == "e2e_s.mean"]
    assert [row[k] for k in ("run", "model", "task", "load", "value", "unit")] == [
        "run",
        "m",
        "t",
        "closed 1",
        1.5,
        "s",
    ]


def test_polars_first(summary: Summary) -> None:
    polars = pytest.importorskip("polars")
    got = frame(summary)
    assert got.schema["value"] == polars.Float64 and got.schema["reason"] == polars.String
    assert got.height == len(list(rows(summary))) and list(got.columns) == list(COLUMNS)


def test_without_a_library_the_extra_is_named(summary: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pip install 'poise\[frames\]'"):
        summary.frame()
