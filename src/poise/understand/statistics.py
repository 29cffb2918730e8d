"""Intervals, tests and resampling: every formula of uncertainty that poise uses, with its source.

Proportions: Wilson (1927), Clopper and Pearson (1934), Beta(1 + x, 1 + n - x). Means: the central limit theorem,
with clustered standard errors after Miller (2024), arXiv 2411.00640. Quantiles: order statistics with binomial
coverage (Conover 1999, §3.2), or Woodruff (1952) where observations come in groups. Paired systems: bootstrap over
items, McNemar's exact test, sign-flip permutation, Holm (1979). All levels are two-sided 95 % unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]

LEVEL = 0.95
RESAMPLES = 2000
MOST_UNITS = 2500
_AT_ONCE = 250_000
"""Draws that are worked on together: 8 MB."""


def z_value(level: float = LEVEL) -> float:
    """Two-sided normal quantile: 1.96 for 95 %."""
    return NormalDist().inv_cdf(0.5 + level / 2)


# ---------------------------------------------------------------- proportions


def wilson(right: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson score interval of a proportion, right of n."""
    lo, hi = wilson_band(np.array([right / n]), n, level)
    return (0.0 if right <= 0 else float(lo[0]), 1.0 if right >= n else float(hi[0]))


def wilson_band(p: Floats, n: int, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson score intervals of several proportions, each of n."""
    z = z_value(level)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def clopper_pearson(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact (conservative) interval of a proportion."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    lo = 0.0 if right == 0 else float(betaincinv(right, n - right + 1, tail))
    hi = 1.0 if right == n else float(betaincinv(right + 1, n - right, 1 - tail))
    return lo, hi


def beta_interval(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Central interval of the posterior Beta(1 + x, 1 + n - x) under a flat prior."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    a, b = right + 1, n - right + 1
    return float(betaincinv(a, b, tail)), float(betaincinv(a, b, 1 - tail))


# ---------------------------------------------------------------- means


def standard_error(values: Floats, clusters: NDArray[np.int64] | None = None) -> float:
    """Standard error of a mean; with `clusters` (integer codes) Miller's clustered one. NaN for fewer than two groups.

    SE_cl² = s²/n + (1/n²) · Σ_c Σ_{i≠j in c} (x_i - x̄)(x_j - x̄)
    """
    n = len(values)
    if n < 2:
        return math.nan
    off = values - values.mean()
    squares = float(off @ off)
    variance = squares / (n - 1) / n
    if clusters is not None:
        sums = np.bincount(clusters, weights=off)
        if len(np.unique(clusters)) < 2:
            return math.nan
        variance += (float(sums @ sums) - squares) / (n * n)
    return math.sqrt(max(variance, 0.0))


def mean_interval(
    values: Floats, clusters: NDArray[np.int64] | None = None, level: float = LEVEL, more_variance: float = 0.0
) -> tuple[float, Interval]:
    """Mean and its normal interval; (None, None) where there are too few groups.

    `more_variance` of the mean comes on top of that over items: that of repeated runs, say.
    """
    mean = float(values.mean())
    error = math.sqrt(standard_error(values, clusters) ** 2 + more_variance)
    if math.isnan(error):
        return mean, (None, None)
    half = z_value(level) * error
    return mean, (mean - half, mean + half)


def repeat_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, Interval]:
    """Mean over repeated runs with Student's t; no interval for one run."""
    data = np.asarray(values, dtype=float)
    mean = float(data.mean())
    if len(data) < 2:
        return mean, (None, None)
    from scipy.special import stdtrit

    half = float(stdtrit(len(data) - 1, 0.5 + level / 2)) * float(data.std(ddof=1)) / math.sqrt(len(data))
    return mean, (mean - half, mean + half)


# ---------------------------------------------------------------- quantiles


def order_ranks(n: int, p: float, level: float = LEVEL) -> tuple[int | None, int | None]:
    """Ranks (from 1) whose order statistics enclose the p-quantile with binomial coverage ≥ level; None = too few."""
    from scipy.special import bdtr

    tail = (1 - level) / 2
    spread = 12 * math.sqrt(n * p * (1 - p)) + 12
    k = np.arange(max(0, math.floor(n * p - spread)), min(n, math.ceil(n * p + spread)) + 1)
    cdf = np.minimum(bdtr(k, n, p), 1.0)
    lower = int(k[int(np.searchsorted(cdf, tail))])
    upper = int(k[min(int(np.searchsorted(cdf, 1 - tail)), len(k) - 1)]) + 1
    return (lower if lower >= 1 else None, upper if upper <= n else None)


class Ordered(Protocol):
    """Values by their rank: a sorted array, or what only counts them."""

    def __len__(self) -> int: ...
    def __getitem__(self, rank: int, /) -> Any: ...


def quantile(ordered: Ordered, p: float) -> float:
    """Quantile of sorted values by linear interpolation (Hyndman and Fan's type 7, numpy's default); safe with +inf."""
    place = (len(ordered) - 1) * p
    below = math.floor(place)
    part = place - below
    low = float(ordered[below])
    if part < 1e-12 or below + 1 >= len(ordered):
        return low
    high = float(ordered[below + 1])
    return math.inf if math.isinf(high) else low + part * (high - low)


def quantile_interval(ordered: Floats, p: float, level: float = LEVEL) -> Interval:
    """[X_(l), X_(u)] of sorted values; None on a side for which there are too few."""
    lower, upper = order_ranks(len(ordered), p, level)
    return (
        None if lower is None else float(ordered[lower - 1]),
        None if upper is None else float(ordered[upper - 1]),
    )


def grouped_quantile_interval(
    ordered: Ordered, value: float, p: float, below: Floats, sizes: Floats, level: float = LEVEL
) -> Interval:
    """Woodruff's interval of a p-quantile for observations in groups (gaps of one answer, repeats of one item).

    `below[g]` of the `sizes[g]` observations in group g are ≤ value. The share below is a ratio of sums over groups;
    its standard error is turned back into quantiles.
    """
    groups, total = len(sizes), float(sizes.sum())
    if groups < 2:
        return None, None
    off = below - p * sizes
    error = math.sqrt(groups / (groups - 1) * float(off @ off)) / total
    half = z_value(level) * error
    lo = quantile(ordered, p - half) if p - half > 0 else None
    hi = quantile(ordered, p + half) if p + half < 1 - 1 / (2 * len(ordered)) else None
    return lo, hi


# ---------------------------------------------------------------- resampling


def generator(key: str) -> np.random.Generator:
    """A random generator that depends on `key` alone, so that every summary of the same data is the same."""
    import zlib

    return np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))


@dataclass(frozen=True, slots=True)
class Resamples:
    """How often each of some units is drawn in each resample; of very many units, how often each group of them."""

    counts: NDArray[np.uint8]
    """[resamples, groups], a byte each."""
    starts: NDArray[np.int64]
    """The first unit of each group; units that are neighbours belong together."""
    units: int

    def __len__(self) -> int:
        return len(self.counts)

    def groups(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """The group of each of these units."""
        if len(self.starts) == self.units:
            return units
        return np.searchsorted(self.starts, units, side="right") - 1

    def __matmul__(self, sums: NDArray[Any]) -> Floats:
        """The sums of every resample: [units] or [units, k] -> [resamples] or [resamples, k]; or of each group."""
        if len(sums) != len(self.starts):
            sums = np.add.reduceat(sums, self.starts, axis=0)
        rows = max(1, _AT_ONCE // max(self.counts.shape[1], 1))
        blocks = [self.counts[start : start + rows] for start in range(0, len(self), rows)]
        return np.concatenate([block.astype(float) @ sums for block in blocks])


@lru_cache(maxsize=4)
def bootstrap_weights(units: int, key: str) -> Resamples:
    """Resamples of `units` items; of more than 2500, neighbours are drawn together, so that 5 MB hold any number.

    Using the same ones for all systems that answered the same items keeps them paired. A mean of groups of equal size
    varies as that of its items does; where neighbours are alike (windows of one text), more truly so.
    """
    groups = min(units, MOST_UNITS)
    rng = generator(key)
    counts = np.empty((RESAMPLES, groups), dtype=np.uint8)  # how often one of n is drawn n times is 1 on average
    block = max(1, _AT_ONCE // groups)
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        drawn = rng.integers(0, groups, (rows, groups))
        drawn += np.arange(rows)[:, None] * groups
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
    return Resamples(counts, np.arange(groups) * units // groups, units)


def all_alike(mark: float, n: int, resamples: int) -> Floats:
    """Replicates of a mean where all n marks are 0, or all 1, which resampling would call certain.

    Drawn from Jeffreys' posterior Beta(½, n + ½) of the share that differs; equal for systems of equal n, so that
    two systems that are both all right still differ by nothing.
    """
    off = generator(f"all alike {n}").beta(0.5, n + 0.5, resamples)
    return np.asarray(off if mark == 0 else 1 - off)


def percentile_interval(replicates: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Percentile bootstrap interval of replicates (no NaN among them)."""
    tail = (1 - level) / 2
    lo, hi = np.quantile(replicates, [tail, 1 - tail])
    return float(lo), float(hi)


# ---------------------------------------------------------------- two systems on the same items


def paired_difference(a: Floats, b: Floats, key: str = "paired") -> tuple[float, Interval]:
    """mean(a - b) over the same items with its paired bootstrap interval."""
    off = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if len(off) < 2:
        return float(off.mean()), (None, None)
    weights = bootstrap_weights(len(off), key)
    return float(off.mean()), percentile_interval(weights @ off / len(off))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value from the items that only one of two systems got right (McNemar 1947)."""
    from scipy.special import bdtr

    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))


def permutation(a: Floats, b: Floats, key: str = "permutation", rounds: int = 10_000) -> float:
    """Two-sided p-value of mean(a - b) under random swaps of the two systems' values of an item.

    All 2^n swaps for n ≤ 12, else `rounds` random ones with the add-one correction (Phipson and Smyth 2010); above
    2000 items the swaps' normal limit with variance Σ(a - b)².
    """
    off = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if len(off) > 2000:
        spread = math.sqrt(float(off @ off))
        return 1.0 if spread == 0 else 2 * NormalDist().cdf(-abs(float(off.sum())) / spread)
    observed = abs(float(off.sum())) - 1e-12 * float(np.abs(off).sum())
    n = len(off)
    if n <= 12:
        bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ off) >= observed))
    rng = generator(key)
    hits, step = 0, max(1, 4_000_000 // n)
    for start in range(0, rounds, step):
        signs = rng.integers(0, 2, (min(step, rounds - start), n)) * 2 - 1
        hits += int(np.sum(np.abs(signs @ off) >= observed))
    return (hits + 1) / (rounds + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values over several comparisons (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def items_needed(
    omega2: float,
    difference: float,
    alpha: float = 0.05,
    power: float = 0.8,
    variance_a: float = 0.0,
    variance_b: float = 0.0,
    draws_a: int = 1,
    draws_b: int = 1,
) -> int:
    """Items needed to show a paired difference: (z_{α/2} + z_β)²(ω² + σ_A²/K_A + σ_B²/K_B)/δ², Miller (2024) §5."""
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return math.ceil(z * z * (omega2 + variance_a / draws_a + variance_b / draws_b) / difference**2)
