"""Quality estimates: proportions, corpus metrics, clusters, bounds, groups; outside values where there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import asked, cell, write_run

from poise.store.run import open_run
from poise.types import Estimate
from poise.understand import quality
from poise.understand.gather import CellData, gather

LABELS = ("a", "b", "c")


def data(path: Path, items: list[Any], *others: Any, **more: Any) -> CellData:
    return gather([open_run(write_run(path / "run", [cell("m", "t", items, **more), *others]))])[0]


def labels(targets: str, answers: str, **more: Any) -> list[Any]:
    return [
        asked(f"i{i}", t, a, sent_s=float(i), e2e_s=1.0, choices=LABELS, **more)
        for i, (t, a) in enumerate(zip(targets, answers))
    ]


def test_right_and_wrong_is_a_wilson_proportion(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "x", "x" if i < 27 else "y", e2e_s=1.0) for i in range(30)]
    got = quality.quality(data(tmp_path, items))
    assert (got["exact_match"].lo, got["exact_match"].hi) == pytest.approx((0.7438, 0.9654), abs=5e-5)  # METRICS §7
    assert got["quality"].value == 0.9 and got["quality"].n == 30


def test_corpus_metrics_of_labels(tmp_path: Path) -> None:
    # sklearn.metrics 1.7, y_true = aabbcc, y_pred = aabbca: f1_score(average="macro") = 0.822222,
    # precision_score = .888889, recall_score = .833333, matthews_corrcoef = .783349
    metrics = ("accuracy", "f1.macro", "precision.macro", "recall.macro", "matthews")
    got = quality.quality(data(tmp_path, labels("aabbcc", "aabbca"), metrics=metrics, extract="label"))
    values = [got[m].value for m in metrics]
    assert values == pytest.approx([5 / 6, 0.822222, 0.888889, 0.833333, 0.783349], abs=5e-7)
    f1 = got["f1.macro"]
    assert f1.lo is not None and f1.hi is not None and f1.lo < 0.822222 <= f1.hi


@pytest.mark.parametrize(("answers", "value"), [("aabbcc", 1.0), ("bbccaa", 0.0)])
def test_resamples_that_are_all_alike_are_no_certainty(tmp_path: Path, answers: str, value: float) -> None:
    got = quality.quality(data(tmp_path, labels("aabbcc", answers), metrics=("f1.macro",), extract="label"))["f1.macro"]
    assert (got.value, got.lo, got.hi) == (value, None, None) and "no interval" in got.method


def test_corpus_bootstrap_agrees_with_the_mean_where_both_are_the_same(tmp_path: Path) -> None:
    # recall of one class is an accuracy: its bootstrap interval comes near the normal one
    rng = np.random.default_rng(0)
    answers = "".join(rng.choice(["a", "b"], p=[0.7, 0.3], size=400))
    found = data(tmp_path, labels("a" * 400, answers), metrics=("recall.macro",), extract="label")
    # labels that occur: a (recall p) and, as a prediction only, b (recall 0): the macro mean is p/2
    p, got = answers.count("a") / 400, quality.quality(found)["recall.macro"]
    assert got.value == pytest.approx(p / 2)
    half = 1.96 * np.sqrt(p * (1 - p) / 400) / 2
    assert (got.lo, got.hi) == pytest.approx((p / 2 - half, p / 2 + half), abs=0.003)


def test_clusters_widen_the_interval(tmp_path: Path) -> None:
    def items(**_: Any) -> list[Any]:
        return [
            asked(f"i{i}", "x", "x" if i % 20 < 10 else "y", e2e_s=1.0, cluster=f"c{i // 5 if _ else ''}")
            for i in range(40)
        ]

    values, clusters = np.array([float(i % 20 < 10) for i in range(40)]), np.arange(40) // 5
    off = values - values.mean()
    sums = np.array([off[clusters == c].sum() for c in range(8)])
    error = np.sqrt(off @ off / 39 / 40 + (sums @ sums - off @ off) / 1600)
    got = quality.quality(data(tmp_path, items(each=True)))["exact_match"]
    assert (got.lo, got.hi) == pytest.approx((0.5 - 1.959964 * error, 0.5 + 1.959964 * error))
    assert "clustered" in got.method


def test_unscorable_answers_are_left_out_with_bounds(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "x", "x" if i < 6 else "y", e2e_s=1.0) for i in range(8)]
    items += [asked(f"u{i}", None, "x", e2e_s=1.0) for i in range(2)]
    got = quality.quality(data(tmp_path, items))["quality"]
    assert got.value == 0.75 and got.n == 8
    assert "2 unscorable left out, 0.6 to 0.8 if all of them were wrong or right" in got.method


def test_graded_marks_use_the_normal_interval(tmp_path: Path) -> None:
    answers = ["x y", "x", "y z", "q"]
    items = [asked(f"i{i}", "x y", a, e2e_s=1.0) for i, a in enumerate(answers)]
    got = quality.quality(data(tmp_path, items, metrics=("f1",)))["f1"]
    marks = np.array([1, 2 / 3, 1 / 2, 0])
    assert got.value == pytest.approx(marks.mean())
    lo, hi = stats.norm.interval(0.95, loc=marks.mean(), scale=stats.sem(marks))
    assert (got.lo, got.hi) == pytest.approx((max(0, lo), min(1, hi)))


def test_scaled_metrics_give_marks_between_0_and_1(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "the cat sat on the mat", "the cat sat on the mat", e2e_s=1.0) for i in range(3)]
    got = quality.quality(data(tmp_path, items, metrics=("chrf", "bleu")))
    assert got["chrf"].value == pytest.approx(100) and got["bleu"].value == pytest.approx(100)
    assert got["quality"].value == pytest.approx(1.0)


def test_draws_are_averaged_per_item(tmp_path: Path) -> None:
    items = [
        asked(f"i{i}", "x", "x" if (i + d) % 2 else "y", e2e_s=1.0, draw=d, request_id=f"i{i}/{d}")
        for i in range(4)
        for d in range(2)
    ]
    got = quality.quality(data(tmp_path, items))["quality"]
    assert (got.value, got.n, got.lo, got.hi) == (0.5, 4, 0.5, 0.5)


def test_groups_by_category(tmp_path: Path) -> None:
    items = [
        asked(f"i{i}", "x", "x" if i < 5 else "y", e2e_s=1.0 + i % 2, category="algebra" if i % 2 else "level=hard")
        for i in range(8)
    ]
    got = quality.groups(data(tmp_path, items))
    assert list(got) == ["category=algebra", "level=hard"]
    assert got["category=algebra"]["exact_match"].value == 0.5 and got["level=hard"]["exact_match"].value == 0.75
    assert got["category=algebra"]["e2e_s.mean"].value == 2.0
    ci = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (got["level=hard"]["exact_match"].lo, got["level=hard"]["exact_match"].hi) == pytest.approx(
        (ci.low, ci.high)
    )


def test_nothing_scored(tmp_path: Path) -> None:
    got = quality.quality(data(tmp_path, [asked("a", None, "x", e2e_s=1.0)], metrics=()))
    assert got == {"quality": Estimate(None, better="higher", reason="task t has nothing to score")}
