"""The balanced score against METRICS §4's check values, its properties, and its pairing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from support import asked, cell, write_run

from poise.plan.spec import Analysis, Load
from poise.store.run import open_run
from poise.types import UsageError
from poise.understand.balanced import (
    Items,
    balanced_score,
    crossing,
    items,
    marks_of_task,
    over_tasks,
    quality_mark,
    speed_marks,
    tau_s,
)
from poise.understand.gather import CellData, gather


def gathered(path: Path, *cells: object, **more: object) -> list[CellData]:
    return gather([open_run(write_run(path / "run", list(cells), **more))])  # type: ignore[arg-type]


def test_check_values() -> None:
    # METRICS §4: mean q .81, c .25, t = 1, 3, 9 s, τ = 3 s
    quality = quality_mark(0.81, 0.25)
    speed = speed_marks(np.array([1.0, 3.0, 9.0]), 3.0).mean()
    assert float(quality) == pytest.approx(0.746667, abs=5e-7)
    assert speed == pytest.approx(0.5)
    assert float(balanced_score(quality, speed)) == pytest.approx(61.1010, abs=5e-5)
    assert float(balanced_score(1.0, 0.5)) == pytest.approx(70.7107, abs=5e-5)
    assert float(balanced_score(1.0, 0.25)) == pytest.approx(50)
    assert crossing(0.9, 10, 0.6, 2) == pytest.approx(14)
    assert crossing(0.5, 1, 0.5, 2) is None


def test_reference_times() -> None:
    assert tau_s("conversational", 10) == pytest.approx(3.0)
    assert tau_s("interactive", 10) == pytest.approx(0.8)
    assert tau_s("batch", 10) == pytest.approx(30.0)
    assert tau_s("miniature", 10) == pytest.approx(0.013)
    assert tau_s(4.5, 10) == 4.5 and tau_s("4.5", 10) == 4.5
    for bad in ("conversatonal", -1, "inf", 0):
        with pytest.raises(UsageError):
            tau_s(bad, 10)


marks = some.floats(0, 1)


@given(marks, marks, some.floats(0.01, 0.99), some.floats(1.01, 3))
def test_monotone_bounded_and_even(q: float, s: float, weight: float, factor: float) -> None:
    score = float(balanced_score(q, s, weight))
    assert 0 <= score <= 100 + 1e-9
    assert float(balanced_score(min(1, q * factor), s, weight)) >= score - 1e-9
    # raising either mark by a given percentage raises B equally
    assert float(balanced_score(q * factor, s)) == pytest.approx(float(balanced_score(q, s * factor)))


def test_failures_and_timeouts_are_worth_nothing(tmp_path: Path) -> None:
    data = gathered(
        tmp_path,
        cell(
            "m",
            "t",
            [
                asked("a", "x", "x", e2e_s=3.0),
                asked("b", "x", status="timeout", done_s=3.0),
                asked("c", "x", status="error", done_s=0.1),
                asked("d", "x", "x", e2e_s=3.0),
            ],
        ),
    )[0]  # τ = 2 + .1·10 = 3
    found = items(data)
    assert isinstance(found, Items)
    assert found.marks.tolist() == [1, 0, 0, 1]
    assert found.score() == pytest.approx(100 * np.sqrt(0.5 * 0.25))


def test_repeats_are_averaged_per_item_first(tmp_path: Path) -> None:
    def repeat(number: int, first: str, seconds: float) -> object:
        return cell("m", "t", [asked("a", "x", first, e2e_s=seconds), asked("b", "x", "x", e2e_s=3.0)], repeat=number)

    found = items(gathered(tmp_path, repeat(0, "x", 3.0), repeat(1, "y", 9.0))[0])
    assert isinstance(found, Items)
    assert found.per_item(found.marks).tolist() == [0.5, 1.0]
    assert found.score() == pytest.approx(100 * np.sqrt(0.75 * ((0.5 + 0.25) / 2 + 0.5) / 2))


def test_repeats_that_differ_widen_the_interval() -> None:
    def twice(seconds: list[float]) -> Items:
        rows, repeat = np.tile(np.arange(50), 2), np.repeat([0, 1], 50)
        return Items([str(i) for i in range(50)], rows, repeat, np.ones(100), np.repeat(seconds, 50), 0.0, 3.0, 0.5)

    same, apart = (marks_of_task("t", [twice(s)])[0].estimate("speed") for s in ([3.0, 3.0], [1.0, 9.0]))
    assert (same.lo, same.hi) == pytest.approx((same.value, same.value))
    assert (apart.lo, apart.hi) == pytest.approx((0.25, 0.75))  # either run alone


@pytest.mark.parametrize(("mark", "name"), [(1.0, "all right"), (0.0, "all wrong")])
def test_marks_that_are_all_alike_are_not_certain(mark: float, name: str) -> None:
    one, other = marks_of_task("t", [synthetic([mark] * 100, [s] * 100) for s in (3.0, 1.0)])
    got = one.estimate("mean_q")
    assert got.value == mark and got.lo is not None and got.hi is not None
    # Jeffreys' interval for 0 (100) of 100 has its limit 2.5 % (97.5 %) quantile at .0247 (.9753): scipy.stats.beta
    assert abs((got.hi if mark == 0 else 1 - got.lo) - 0.0247) < 0.004, name
    assert (one.replicates["mean_q"] == other.replicates["mean_q"]).all()
    assert other.estimate("score").hi is not None


def test_an_open_loop_counts_from_due(tmp_path: Path) -> None:
    one = asked("a", "x", "x", sent_s=2.0, due_s=1.0, e2e_s=2.0)
    found = items(gathered(tmp_path, cell("m", "t", [one], load=Load("open", 2)))[0])
    assert isinstance(found, Items) and found.seconds == pytest.approx([3.0])


def test_an_answer_without_a_time_makes_it_not_measurable(tmp_path: Path) -> None:
    untimed = asked("a", "x", "x")
    untimed.records[0] = type(untimed.records[0])("a", "a", "ok", pieces=["x"])
    reason = items(gathered(tmp_path, cell("m", "t", [untimed, asked("b", "x", "x", e2e_s=1)]))[0])
    assert reason == "1 answered requests have no time"


def test_the_studys_tau_and_weight(tmp_path: Path) -> None:
    data = gathered(
        tmp_path, cell("m", "t", [asked("a", "x", "x", e2e_s=3.0)]), analysis=Analysis(tau=1.0, weight=1.0)
    )[0]
    found = items(data)
    assert isinstance(found, Items) and found.tau == 1.0 and found.score() == pytest.approx(100)


def synthetic(q: list[float], seconds: list[float], units: list[str] | None = None) -> Items:
    n = len(q)
    names = units or [str(i) for i in range(n)]
    return Items(names, np.arange(n), np.zeros(n, dtype=int), np.array(q), np.array(seconds), 0.0, 3.0, 0.5)


def test_systems_on_the_same_items_are_paired() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.5
    # b is right wherever a is, and on ten items more
    a, b = hard.astype(float), hard.astype(float)
    b[np.flatnonzero(~hard)[:10]] = 1
    first, second = marks_of_task("t", [synthetic(list(a), [1.0] * 200), synthetic(list(b), [1.0] * 200)])
    difference = second.replicates["mean_q"] - first.replicates["mean_q"]
    assert (difference >= 0).all(), "unpaired resampling would let the worse one win at times"
    assert np.std(difference) == pytest.approx(np.sqrt(0.05 * 0.95 / 200), rel=0.1)


def test_interval_covers_the_delta_method() -> None:
    rng = np.random.default_rng(3)
    q = (rng.random(400) < 0.7).astype(float)
    one = marks_of_task("t", [synthetic(list(q), [3.0] * 400)])[0].estimate("score")
    # S is constant ½: B = 100·√(q̄/2), dB = 50·√(1/(2q̄))·dq̄
    spread = 1.96 * 50 * np.sqrt(1 / (2 * q.mean())) * q.std() / 20
    assert one.lo is not None and one.hi is not None and one.value is not None
    assert one.value - one.lo == pytest.approx(spread, rel=0.1)
    assert one.hi - one.value == pytest.approx(spread, rel=0.1)


def test_clusters_are_resampled_whole() -> None:
    q = [1.0] * 50 + [0.0] * 50
    apart = marks_of_task("t", [synthetic(q, [1.0] * 100)])[0].estimate("mean_q")
    together = marks_of_task("t", [synthetic(q, [1.0] * 100, [str(i // 25) for i in range(100)])])[0].estimate("mean_q")
    assert together.lo is not None and apart.lo is not None and together.lo < apart.lo - 0.1


def test_over_tasks_is_the_plain_mean() -> None:
    both = [marks_of_task(name, [synthetic([1.0, q], [3.0, 3.0])])[0] for name, q in (("a", 1.0), ("b", 0.0))]
    joined = over_tasks(both)
    assert joined.score == pytest.approx((both[0].score + both[1].score) / 2)
    assert joined.mean_s == pytest.approx(3.0)


def test_not_better_than_guessing(tmp_path: Path) -> None:
    data = gathered(tmp_path, cell("m", "t", [asked(i, "x", i, e2e_s=1.0) for i in "xy"], chance=0.5))[0]
    found = items(data)
    assert isinstance(found, Items)
    estimate = marks_of_task("t", [found])[0].estimate("score")
    assert estimate.value == 0 and "guessing" in estimate.method
