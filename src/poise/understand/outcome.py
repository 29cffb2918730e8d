"""Times of right answers against those of wrong ones.

An item is right or wrong, never both: the two are different items, so that nothing can be paired.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poise.types import Estimate
from poise.understand import statistics as st
from poise.understand.estimates import absent, mean, quantiles
from poise.understand.gather import CellData


def by_outcome(data: CellData) -> dict[str, Estimate]:
    """End-to-end seconds of right and of wrong answers, and how many times as long the wrong ones take."""
    first, c = data.scores.first, data.columns
    names = ("right_e2e_s.p50", "right_e2e_s.mean", "wrong_e2e_s.p50", "wrong_e2e_s.mean")
    known = ~np.isnan(first.values) if first is not None else np.zeros(len(c), dtype=bool)
    if first is None or not known.any():
        why = data.scores.unscored or data.cell.reason or "nothing was scored"
    elif not np.isin(first.q[known], (0.0, 1.0)).all():
        why = "marks are graded, not right or wrong"
    else:
        found: dict[str, Estimate] = {}
        sides = {"right": known & (first.q == 1.0), "wrong": known & (first.q == 0.0)}
        for side, rows in sides.items():
            times, none = np.where(rows, c.e2e_s, np.nan), f"no answer with a time is {side}"
            found[f"{side}_e2e_s.p50"] = quantiles(data, times, "s", "lower", none, ["p50"])["p50"]
            found[f"{side}_e2e_s.mean"] = mean(data, times, "s", "lower", none, timed=True)
        return found | {"wrong_over_right": _ratio(data, sides["right"], sides["wrong"])}
    absents = {name: absent(why, "s", "lower") for name in names}
    return absents | {"wrong_over_right": absent(why, "×")}


def _ratio(data: CellData, right: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Estimate:
    """Mean time of wrong answers over that of right ones; bootstrap over items (clusters), both drawn together."""
    timed = np.isfinite(data.columns.e2e_s)
    unit = data.items[1] if data.clusters is None else data.clusters[data.items[1]]
    units = int(unit.max()) + 1
    sums = [
        np.bincount(unit[rows & timed], weights=values[rows & timed], minlength=units)
        for rows in (wrong, right)
        for values in (data.columns.e2e_s, np.ones(len(data.columns)))
    ]
    totals = [float(s.sum()) for s in sums]
    if min(totals) <= 0:
        return absent("needs right and wrong answers, both with times", "×")
    value = totals[0] / totals[1] / (totals[2] / totals[3])
    n = int(totals[1] + totals[3])
    if min(totals[1], totals[3]) < 2:
        return Estimate(value, None, None, n, "×", None, "ratio of means; a single answer on one side has no interval")
    weights = st.bootstrap_weights(units, "by outcome")
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = [weights @ s for s in sums]
        ratios = drawn[0] / drawn[1] / (drawn[2] / drawn[3])
    ratios = ratios[np.isfinite(ratios)]
    lo, hi = st.percentile_interval(ratios)
    return Estimate(value, lo, hi, n, "×", None, f"ratio of means, bootstrap over items, {len(weights)} resamples")
