"""Paired comparison: the same items, the right test, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import asked, cell, write_run

from poise.store.run import Run, open_run
from poise.types import UsageError
from poise.understand.compare import compare


def run(path: Path, *cells: Any) -> Run:
    return open_run(write_run(path, list(cells)))


def system(model: str, right: str, seconds: float, **more: Any) -> Any:
    items = [asked(f"i{i}", "1", r, sent_s=20.0 * i, e2e_s=seconds * (1 + i % 5)) for i, r in enumerate(right)]
    return cell(model, "t", items, **more)


A, B = "1111011101" * 3, "1101000101" * 3


def test_within_one_run(tmp_path: Path) -> None:
    found = compare([run(tmp_path / "r", system("a", A, 1.0), system("b", B, 0.5))])
    quality, time = found.rows
    assert (quality.a, quality.b, quality.name, quality.n) == ("a on onnx", "b on onnx", "quality", 30)
    assert quality.difference.value == pytest.approx(-0.3)
    assert quality.p == pytest.approx(stats.binomtest(0, 9).pvalue)  # nine items only a got right, none only b
    assert time.name == "e2e_s.mean" and time.ratio is not None
    assert (time.ratio.value, time.ratio.lo, time.ratio.hi) == pytest.approx((0.5, 0.5, 0.5))
    assert quality.p_adjusted >= quality.p and quality.shown and time.shown


def test_the_interval_is_paired(tmp_path: Path) -> None:
    row = compare([run(tmp_path / "r", system("a", A, 1.0), system("b", B, 0.5))]).rows[0]
    off = np.array([int(y) - int(x) for x, y in zip(A, B)])
    half = 1.96 * off.std() / np.sqrt(30)
    assert row.difference.lo == pytest.approx(-0.3 - half, abs=0.03)
    assert row.difference.hi == pytest.approx(-0.3 + half, abs=0.03)


def test_two_runs_pair_equal_systems_or_the_only_ones(tmp_path: Path) -> None:
    before = run(tmp_path / "before", system("a", A, 1.0), system("b", B, 0.5))
    after = run(tmp_path / "after", system("a", A, 0.8), system("b", B, 0.5))
    rows = compare([before], [after]).rows
    assert {(r.a, r.b) for r in rows} == {
        ("a on onnx (before)", "a on onnx (after)"),
        ("b on onnx (before)", "b on onnx (after)"),
    }
    only = compare([run(tmp_path / "x", system("a", A, 1.0))], [run(tmp_path / "y", system("c", B, 1.0))])
    assert [(r.a, r.b) for r in only.rows] == [("a on onnx", "c on onnx")] * 2


def test_where_chooses(tmp_path: Path) -> None:
    one = run(tmp_path / "r", system("a", A, 1.0), system("b", B, 0.5), system("b", A, 0.5, deployment="x"))
    assert {(r.a, r.b) for r in compare([one], model="b").rows} == {("b on onnx", "b on x")}
    with pytest.raises(UsageError, match="not by 'modle'"):
        compare([one], modle="b")
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([one], model="a")


def test_other_targets_are_refused(tmp_path: Path) -> None:
    other = cell("b", "t", [asked(f"i{i}", "2", r, e2e_s=1.0) for i, r in enumerate(B)], target_sha="else")
    with pytest.raises(UsageError, match="different targets"):
        compare([run(tmp_path / "r", system("a", A, 1.0), other)])


def test_only_what_both_were_asked_counts(tmp_path: Path) -> None:
    found = compare([run(tmp_path / "x", system("a", A, 1.0))], [run(tmp_path / "y", system("a", B[:20], 1.0))])
    assert found.rows[0].n == 20
    assert found.notes == ["t: 20 items were asked alike of 30 and 20"]
