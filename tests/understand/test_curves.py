"""Distribution functions and deadline accuracy, against counting by hand and outside intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import asked, cell, write_run

from poise.plan.spec import Analysis
from poise.store.run import open_run
from poise.types import Record, Timeline
from poise.understand import statistics as st
from poise.understand.curves import at_limit, curves
from poise.understand.gather import CellData, gather


def data(path: Path, items: list[Any], analysis: Analysis | None = None, **more: Any) -> CellData:
    return gather([open_run(write_run(path / "run", [cell("m", "t", items, **more)], analysis=analysis))])[0]


FOUR = [
    asked("a", "x", "x", e2e_s=1.0),
    asked("b", "x", "y", e2e_s=2.0),
    asked("c", "x", "x", e2e_s=3.0),
    asked("d", "x", status="timeout", done_s=9.0),
]


def test_distribution_and_deadline_curves(tmp_path: Path) -> None:
    got = curves(data(tmp_path, FOUR))
    assert got["e2e_s"] == {"x": [1.0, 2.0, 3.0], "y": [0.25, 0.5, 0.75], "n": 4}
    # right and within D: a from 1 s on, c from 3 s on, of four items
    deadline = got["deadline"]
    assert (deadline["x"], deadline["y"], deadline["n"]) == ([1.0, 2.0, 3.0], [0.25, 0.25, 0.5], 4)
    for i, k in enumerate((1, 1, 2)):
        ci = stats.binomtest(k, 4).proportion_ci(method="wilson")
        assert (deadline["lo"][i], deadline["hi"][i]) == pytest.approx((ci.low, ci.high))


def test_curves_have_at_most_200_points(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "x", "x", e2e_s=1.0 + i) for i in range(500)]
    got = curves(data(tmp_path, items))
    for name in ("e2e_s", "deadline"):
        assert len(got[name]["x"]) == 200 and got[name]["x"][-1] == 500.0 and got[name]["y"][-1] == 1.0


def test_an_unscorable_answer_is_left_out_and_a_failure_is_not(tmp_path: Path) -> None:
    items = [*FOUR, asked("e", None, "x", e2e_s=0.5), asked("f", "x", status="error")]
    assert curves(data(tmp_path, items))["deadline"]["y"][-1] == pytest.approx(2 / 5)


def test_the_band_of_clustered_and_repeated_items_is_that_of_their_means(tmp_path: Path) -> None:
    """At every point the curve and its limits are the clustered mean of the marks that came in time, computed anew."""
    rng = np.random.default_rng(3)
    items = []
    for i in range(60):
        right, took = bool(rng.random() < 0.7), float(rng.uniform(0.5, 3))
        one = asked(f"i{i}", "x", "x" if right else "y", e2e_s=took, cluster=f"c{i // 5}")
        again = Timeline(0, [round(float(rng.uniform(0.5, 3)) * 1e9)], 0)
        one.records.append(Record(f"i{i}#1", f"i{i}", "ok", draw=1, timeline=again, pieces=["x"]))
        items.append(one)
    cell_data = data(tmp_path, items)
    curve = curves(cell_data)["deadline"]
    times, q = cell_data.columns.spent_s, cell_data.scores.first.q  # type: ignore[union-attr]
    codes, clusters = cell_data.items[1], cell_data.clusters
    assert clusters is not None
    for k in range(0, len(curve["x"]), 17):
        inside = q * (times <= curve["x"][k] + 1e-12)
        per_item = np.bincount(codes, weights=inside) / 2
        assert curve["y"][k] == pytest.approx(per_item.mean())
        off = np.bincount(clusters, weights=per_item - per_item.mean())
        error = np.sqrt(float(off @ off) * 12 / 11) / 60
        assert curve["hi"][k] - curve["y"][k] == pytest.approx(min(st.z_value() * error, 1 - curve["y"][k]))


def test_accuracy_at_the_limit_of_the_study(tmp_path: Path) -> None:
    got = at_limit(data(tmp_path, FOUR, Analysis(slo={"e2e_s": 2.5, "ttft_s": 1})))["deadline_accuracy"]
    ci = stats.binomtest(1, 4).proportion_ci(method="wilson")
    assert (got.value, got.lo, got.hi) == pytest.approx((0.25, ci.low, ci.high))
    assert got.method.startswith("right within 2.5 s")


def test_no_limit_no_estimate(tmp_path: Path) -> None:
    assert at_limit(data(tmp_path, FOUR, Analysis(slo={"ttft_s": 1}))) == {}


def test_nothing_scored_has_no_curve(tmp_path: Path) -> None:
    assert "deadline" not in curves(data(tmp_path, FOUR, metrics=()))
