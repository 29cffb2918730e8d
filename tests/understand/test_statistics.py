"""Intervals and tests against scipy, METRICS §7 and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from poise.understand import statistics as st


def test_proportions_agree_with_scipy_and_the_published_values() -> None:
    # METRICS §7, 27 of 30; scipy.stats.binomtest(27, 30).proportion_ci(method=...)
    assert st.wilson(27, 30) == pytest.approx((0.7438, 0.9654), abs=5e-5)
    assert st.clopper_pearson(27, 30) == pytest.approx((0.7347, 0.9789), abs=5e-5)
    assert st.beta_interval(27, 30) == pytest.approx((0.7425, 0.9637), abs=5e-5)


@given(some.integers(1, 500).flatmap(lambda n: some.tuples(some.integers(0, n), some.just(n))))
def test_proportion_intervals_equal_scipys(drawn: tuple[int, int]) -> None:
    right, n = drawn
    test = stats.binomtest(right, n)
    wilson, exact = test.proportion_ci(method="wilson"), test.proportion_ci(method="exact")
    assert st.wilson(right, n) == pytest.approx((wilson.low, wilson.high), abs=1e-9)
    assert st.clopper_pearson(right, n) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_mean_interval_is_the_central_limit_one() -> None:
    values = np.array([0.2, 0.9, 0.4, 0.7, 0.5])
    mean, (lo, hi) = st.mean_interval(values)
    expected = stats.norm.interval(0.95, loc=values.mean(), scale=stats.sem(values))
    assert (lo, hi) == pytest.approx(expected)
    assert mean == pytest.approx(0.54)
    assert st.mean_interval(np.array([1.0])) == (1.0, (None, None))


def test_clustered_error_is_millers_formula() -> None:
    values, clusters = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1, 2, 2])
    off, n = values - 0.5, 6
    cross = sum(
        off[i] * off[j] for i in range(n) for j in range(n) if i != j and clusters[i] == clusters[j]
    )  # arXiv 2411.00640, eq. 4, written out
    expected = math.sqrt(off @ off / (n - 1) / n + cross / n**2)
    assert st.standard_error(values, clusters) == pytest.approx(expected)
    assert st.standard_error(values, np.arange(6)) == pytest.approx(st.standard_error(values))
    assert math.isnan(st.standard_error(values, np.zeros(6, dtype=int)))


def test_repeats_use_students_t() -> None:
    values = [10.0, 11.0, 9.5]
    _, (lo, hi) = st.repeat_interval(values)
    assert (lo, hi) == pytest.approx(stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values)))


@pytest.mark.parametrize(
    ("n", "p", "ranks"),
    # METRICS §7
    [(30, 0.5, (10, 21)), (200, 0.95, (184, 197)), (1000, 0.99, (983, 997)), (368, 0.99, (360, 368))],
)
def test_quantile_ranks(n: int, p: float, ranks: tuple[int, int]) -> None:
    assert st.order_ranks(n, p) == ranks


def test_p99_has_no_upper_limit_below_368_samples() -> None:
    assert st.order_ranks(367, 0.99)[1] is None
    assert st.quantile_interval(np.arange(367.0), 0.99)[1] is None
    assert st.quantile_interval(np.arange(1.0, 31.0), 0.5) == (10.0, 21.0)


@given(some.integers(5, 3000), some.sampled_from([0.1, 0.5, 0.9, 0.95, 0.99]))
def test_quantile_ranks_cover(n: int, p: float) -> None:
    lower, upper = st.order_ranks(n, p)
    below = stats.binom.cdf((upper or n + 1) - 1, n, p) - stats.binom.cdf((lower or 0) - 1, n, p)
    assert below >= 0.95 - 1e-12


@given(some.lists(some.floats(0, 100), min_size=1, max_size=50), some.floats(0, 1))
def test_quantile_is_numpys(values: list[float], p: float) -> None:
    ordered = np.sort(np.array(values))
    assert st.quantile(ordered, p) == pytest.approx(float(np.quantile(ordered, p)), abs=1e-9)


def test_quantile_with_timeouts_is_infinite_only_where_they_reach() -> None:
    ordered = np.array([1.0, 2.0, 3.0, math.inf])
    assert st.quantile(ordered, 0.5) == 2.5
    assert st.quantile(ordered, 0.99) == math.inf


def test_grouped_quantile_interval_covers() -> None:
    rng, hits, rounds = np.random.default_rng(1), 0, 300
    for _ in range(rounds):
        # every group has its own level: the observations of a group say the same thing four times
        values = np.repeat(rng.normal(size=80), 4) + rng.normal(scale=0.1, size=320)
        ordered = np.sort(values)
        value = st.quantile(ordered, 0.5)
        below = (values <= value).reshape(80, 4).sum(axis=1).astype(float)
        lo, hi = st.grouped_quantile_interval(ordered, value, 0.5, below, np.full(80, 4.0))
        hits += lo is not None and hi is not None and lo <= 0 <= hi
    assert 0.91 <= hits / rounds <= 0.98  # binomial 99 % band around .95; the plain interval reaches about .67


def test_one_seed_one_interval() -> None:
    assert (st.bootstrap_weights(7, "a").counts == st.bootstrap_weights(7, "a").counts).all()
    assert not (st.bootstrap_weights(7, "a").counts == st.bootstrap_weights(7, "b").counts).all()
    assert (st.bootstrap_weights(7, "a").counts.sum(axis=1) == 7).all()


@pytest.mark.parametrize("units", [1, 7, 2500, 2501, 30_000])
def test_sums_of_resamples(units: int) -> None:
    drawn, sums = st.bootstrap_weights(units, "a"), np.random.default_rng(1).normal(size=(units, 3))
    of_units = drawn.counts.astype(float)[:, drawn.groups(np.arange(units))]
    assert np.allclose(drawn @ sums, of_units @ sums, rtol=1e-12, atol=1e-9)
    assert np.allclose(drawn @ sums[:, 0], (drawn @ sums)[:, 0], rtol=1e-12, atol=1e-9)
    by_group = np.stack([np.bincount(drawn.groups(np.arange(units)), weights=column) for column in sums.T], axis=1)
    assert np.allclose(drawn @ by_group, drawn @ sums, rtol=1e-12, atol=1e-9)
    assert len(drawn) == 2000 and drawn.counts.nbytes <= 5_000_000


def test_resamples_of_very_many_agree_with_the_normal_interval() -> None:
    data = np.random.default_rng(0).exponential(size=40_001)
    drawn = st.bootstrap_weights(len(data), "many")
    means = (drawn @ data) / (drawn @ np.ones(len(data)))
    expected = stats.norm.interval(0.95, loc=data.mean(), scale=stats.sem(data))
    assert st.percentile_interval(means) == pytest.approx(expected, abs=0.05 * (expected[1] - expected[0]))


def test_paired_difference_agrees_with_the_normal_interval_for_many_items() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1, 2000), rng.normal(0.8, 1, 2000)
    value, (lo, hi) = st.paired_difference(a, b)
    expected = stats.norm.interval(0.95, loc=value, scale=stats.sem(a - b))
    assert (lo, hi) == pytest.approx(expected, abs=0.006)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert st.mcnemar(4, 15) == pytest.approx(stats.binomtest(4, 19).pvalue)
    assert st.mcnemar(0, 0) == 1.0
    assert st.mcnemar(5, 5) == 1.0


def test_permutation_agrees_with_scipy() -> None:
    a, b = np.array([1, 1, 0, 1, 1, 1, 0, 1.0]), np.array([0, 1, 0, 0, 1, 0, 0, 0.0])
    expected = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert st.permutation(a, b) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    many = rng.normal(0.03, 1, 5000)
    assert st.permutation(many, np.zeros(5000)) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.002)
    x = rng.normal(0.1, 1, 60)
    assert st.permutation(x, np.zeros(60)) == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.03)


def test_holm() -> None:
    # R: p.adjust(c(.01, .04, .03, .005), "holm")
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([]) == []


def test_power() -> None:
    assert st.items_needed(1 / 9, 0.03) == 969  # METRICS §7, Miller (2024) §5
