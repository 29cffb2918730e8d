"""The rates a search walks: a fixed ladder, halved until neighbours enclose the knee."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from poise.plan.search import STEP, ladder, most_probes, next_rate, probe
from poise.plan.spec import Load

SEARCH = st.builds(
    lambda low, factor: Load("search", low * factor, low=low), st.floats(0.01, 100), st.floats(1.01, 1000)
)


@given(SEARCH)
def test_a_ladder_reaches_from_end_to_end_in_small_steps(load: Load) -> None:
    rates = ladder(load)
    assert rates == sorted(set(rates)) and len(rates) >= 2
    assert rates[0] == float(f"{load.low:.4g}") and rates[-1] == float(f"{load.value:.4g}")
    assert all(b / a < STEP * 1.002 for a, b in itertools.pairwise(rates))  # four digits may round a step up


@settings(deadline=None)
@given(SEARCH, st.floats(-0.2, 1.2))
def test_a_search_ends_at_the_knee(load: Load, where: float) -> None:
    rates = ladder(load)
    knee = round(where * len(rates))  # rates[:knee] meet the limits
    met: dict[float, bool] = {}
    while (rate := next_rate(rates, met)) is not None:
        assert rate not in met
        met[rate] = rates.index(rate) < knee
    passed = [r for r, ok in met.items() if ok]
    assert max(passed, default=None) == (rates[min(knee, len(rates)) - 1] if knee > 0 else None)
    if 0 < knee < len(rates):
        assert met[rates[knee]] is False
    assert len(met) <= most_probes(load)


def test_an_overload_is_approached_from_below() -> None:
    rates = ladder(Load("search", 64, low=1))
    assert next_rate(rates, {}) == 1 and next_rate(rates, {1: False}) is None
    middle = next_rate(rates, {1: True})
    assert middle == rates[len(rates) // 2 - 1] or middle == rates[len(rates) // 2]


def test_a_probe_is_the_open_loop_of_that_rate() -> None:
    load = Load("search", 64, low=1, arrivals="constant", requests=9)
    assert probe(load, 4.5) == Load("open", 4.5, arrivals="constant", requests=9)
