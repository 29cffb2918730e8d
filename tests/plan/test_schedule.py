"""Open-loop schedules: absolute, seeded, with the asked rate and variability, whatever the shape of the load."""

import statistics
from bisect import bisect_left
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.plan.schedule import due_times, peak_rps, planned
from poise.plan.spec import Load

OPEN = st.builds(
    Load,
    st.just("open"),
    st.floats(0.1, 1000),
    arrivals=st.sampled_from(["constant", "poisson", "gamma"]),
    burstiness=st.floats(0.2, 5),
)
RAMP = st.builds(
    lambda low, more, arrivals, duration: Load(
        "ramp", low + more, low=low, arrivals=arrivals, duration_s=duration, burstiness=0.5
    ),
    st.floats(0, 50),
    st.floats(0.5, 200),
    st.sampled_from(["constant", "poisson", "gamma"]),
    st.none() | st.floats(1, 100),
)


def due(load: Load, count: int, seed: int = 0) -> list[int]:
    found = due_times(load, count, seed)
    assert found is not None
    return found


@given(st.lists(st.integers(0, 5 * 10**9), max_size=60))
def test_the_busiest_second_holds_the_most_requests(offsets: list[int]) -> None:
    due_ns = sorted(offsets)
    assert peak_rps(due_ns) == max((sum(start <= t < start + 10**9 for t in due_ns) for start in due_ns), default=0)


def test_constant_arrivals_are_exact() -> None:
    assert due(Load("open", 4.0, arrivals="constant"), 5) == [0, 250_000_000, 500_000_000, 750_000_000, 10**9]


def test_closed_loops_have_no_due_times() -> None:
    assert due_times(Load("closed", 4), 5, 0) is None is due_times(Load("batch", 4), 5, 0)


@pytest.mark.parametrize(
    ("arrivals", "burstiness", "cv"), [("poisson", 1.0, 1.0), ("gamma", 4.0, 0.5), ("gamma", 0.25, 2.0)]
)
def test_rate_and_variability(arrivals: Any, burstiness: float, cv: float) -> None:
    # coefficient of variation of a gamma of shape k is 1/sqrt(k)
    times = due(Load("open", 50.0, arrivals=arrivals, burstiness=burstiness), 20_000, 3)
    gaps = [(b - a) / 1e9 for a, b in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.06)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.08)


@settings(deadline=None, max_examples=60)
@given(OPEN | RAMP, st.integers(1, 300), st.integers(0, 9))
def test_a_schedule_rises_and_its_seed_decides(load: Load, count: int, seed: int) -> None:
    times = due(load, count, seed)
    assert len(times) == count and times[0] == 0 and times == sorted(times)
    assert times == due(load, count, seed)
    if load.arrivals != "constant" and count > 3:
        assert times != due(load, count, seed + 1)


@settings(deadline=None, max_examples=60)
@given(OPEN, st.integers(1, 200), st.integers(0, 200))
def test_a_longer_schedule_begins_with_the_shorter(load: Load, count: int, more: int) -> None:
    assert due(load, count + more)[:count] == due(load, count)


@settings(deadline=None, max_examples=60)
@given(OPEN | RAMP.filter(lambda r: r.duration_s), st.floats(0.5, 20), st.integers(0, 9))
def test_a_duration_holds_what_falls_due_in_it(load: Load, duration: float, seed: int) -> None:
    load = load if load.kind == "ramp" else Load("open", min(load.value, 50), duration_s=duration)
    count = planned(load, 7, seed)
    times = due(load, count + 1, seed)
    assert all(t < load.duration_s * 1e9 for t in times[:count]) and times[count] >= load.duration_s * 1e9 - 1


def test_the_rate_of_a_ramp_rises_linearly() -> None:
    # 10 to 50 requests/s in 10 s: 300 in all; up to t there are 10·t + 2·t²
    ramp = Load("ramp", 50, low=10, arrivals="constant", duration_s=10)
    assert planned(ramp, 1, 0) == 300
    times = [t / 1e9 for t in due(ramp, 300)]
    for t in (1, 2.5, 5, 7.5, 10):
        assert bisect_left(times, t) == pytest.approx(10 * t + 2 * t * t, abs=1)
    assert due(Load("ramp", 50, low=10, arrivals="constant"), 300)[-1] == pytest.approx(10e9, rel=0.01)


def test_random_arrivals_follow_the_ramp() -> None:
    ramp = Load("ramp", 400, low=0, duration_s=20)
    counts = [planned(ramp, 1, seed) for seed in range(30)]
    # Poisson with mean 4000: mean of 30 draws within 4 standard errors, their spread within its own
    assert statistics.mean(counts) == pytest.approx(4000, abs=4 * (4000 / 30) ** 0.5)
    times = due(ramp, counts[0], 0)
    early = bisect_left(times, 10e9) / counts[0]
    assert early == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


def test_how_many_a_load_asks() -> None:
    assert planned(Load("closed", 2), 9, 0) == 9
    assert planned(Load("closed", 2, requests=20), 9, 0) == 20
    assert planned(Load("open", 10, arrivals="constant", duration_s=2), 9, 0) == 20
    assert planned(Load("open", 10, arrivals="constant", duration_s=2, requests=5), 9, 0) == 5
    assert planned(Load("closed", 2, duration_s=3), 9, 0) == 9
