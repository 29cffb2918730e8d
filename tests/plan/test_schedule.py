"""Open-loop schedules: absolute, seeded, with the asked mean rate and variability."""

import statistics
from itertools import pairwise

import pytest

from poise.plan.schedule import due_times
from poise.plan.spec import Load


def test_constant_arrivals_are_exact() -> None:
    assert due_times(Load("open", 4.0, arrivals="constant"), 5, 0) == [0, 250_000_000, 500_000_000, 750_000_000, 10**9]


def test_closed_loops_have_no_due_times() -> None:
    assert due_times(Load("closed", 4), 5, 0) is None


@pytest.mark.parametrize(
    ("arrivals", "burstiness", "cv"), [("poisson", 1.0, 1.0), ("gamma", 4.0, 0.5), ("gamma", 0.25, 2.0)]
)
def test_rate_and_variability(arrivals: str, burstiness: float, cv: float) -> None:
    # coefficient of variation of a gamma of shape k is 1/sqrt(k)
    due = due_times(Load("open", 50.0, arrivals=arrivals, burstiness=burstiness), 20_000, 3)  # type: ignore[arg-type]
    assert due is not None and due == sorted(due)
    gaps = [(b - a) / 1e9 for a, b in pairwise(due)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.06)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.08)


def test_the_seed_decides() -> None:
    load = Load("open", 5.0)
    assert due_times(load, 50, 1) == due_times(load, 50, 1) != due_times(load, 50, 2)
