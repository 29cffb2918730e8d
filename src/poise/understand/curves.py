"""Curves of a cell: the distribution functions of its times, and deadline accuracy A(D) over D.

A(D) = share of items answered right no later than D after they were first sent (open loop: due); METRICS §2. An
unscorable answer is left out, a failed request counts as wrong. Marks between 0 and 1 count by their value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.types import Estimate
from poise.understand import statistics as st
from poise.understand.estimates import absent
from poise.understand.gather import CellData
from poise.understand.quality import mean_mark

Floats = NDArray[np.float64]
POINTS = 200


def points(n: int, most: int = POINTS) -> NDArray[np.int64]:
    """At most `most` of n ranks, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def distributions(data: CellData) -> dict[str, Any]:
    """Distribution functions of times, at most 200 points each."""
    found: dict[str, Any] = {}
    for name in ("ttft_s", "e2e_s", "response_s"):
        values = getattr(data.columns, name)
        ordered = np.sort(values[~np.isnan(values)])
        finite = int(np.isfinite(ordered).sum())
        if finite:
            at = points(finite)
            found[name] = {"x": ordered[at].tolist(), "y": ((at + 1) / len(ordered)).tolist(), "n": len(ordered)}
    return found


def curves(data: CellData) -> dict[str, Any]:
    """All curves that the cell has, by name."""
    deadline = deadline_curve(data)
    return distributions(data) | ({"deadline": deadline} if deadline else {})


# ---------------------------------------------------------------- A(D)


def deadline_curve(data: CellData) -> dict[str, Any] | None:
    """A(D) at the times at which it grows, with its 95 % limits: Wilson for right/wrong items, else normal, clustered.

    The curve is a mean over items: each row weighs one over its item's scorable rows. Sums over items and over
    clusters grow row by row in the order of time, so that all points cost one pass.
    """
    first, c = data.scores.first, data.columns
    if first is None or not len(c):
        return None
    scorable = ~np.isnan(first.values)
    timed = np.flatnonzero(scorable & c.ok & np.isfinite(c.spent_s))
    if not len(timed):
        return None
    rows_of = np.bincount(data.items[1][scorable], minlength=len(data.items[0]))
    n = int((rows_of > 0).sum())
    order = timed[np.argsort(c.spent_s[timed], kind="stable")]
    gain = first.q[order] / rows_of[data.items[1][order]]
    share = np.cumsum(gain) / n
    at = points(len(order))
    if data.clusters is None and rows_of.max() == 1 and np.isin(first.q[scorable], (0.0, 1.0)).all():
        lo, hi = st.wilson_band(share[at], n)
    else:
        half = st.z_value() * _errors(data, order, gain, share, rows_of > 0)[at]
        lo, hi = np.maximum(share[at] - half, 0.0), np.minimum(share[at] + half, 1.0)
    limits = {"lo": lo.tolist(), "hi": hi.tolist()} if np.isfinite(lo).all() else {}
    return {"x": c.spent_s[order][at].tolist(), "y": share[at].tolist(), **limits, "n": n}


def _errors(data: CellData, order: NDArray[np.int64], gain: Floats, share: Floats, has: NDArray[np.bool_]) -> Floats:
    """Standard error of the mean after each row: spread between clusters (or items) of their sums of marks.

    Σ_u (S_u - n_u·m)² = Σ S_u² - 2m·Σ S_u n_u + m²·Σ n_u², where S_u grows by one row's mark at a time.
    """
    unit_of = np.arange(len(has)) if data.clusters is None else data.clusters
    sizes = np.bincount(unit_of[has], minlength=int(unit_of.max()) + 1).astype(float)
    unit = unit_of[data.items[1][order]]
    by_unit = np.argsort(unit, kind="stable")
    grown = np.cumsum(gain[by_unit])
    starts = np.searchsorted(unit[by_unit], unit[by_unit])
    before = np.empty_like(gain)
    before[by_unit] = grown - gain[by_unit] - np.where(starts > 0, grown[starts - 1], 0.0)
    squares = np.cumsum(2 * gain * before + gain**2)
    crossed = np.cumsum(gain * sizes[unit])
    units = int((sizes > 0).sum())
    off = squares - 2 * share * crossed + share**2 * float(sizes @ sizes)
    more = units / (units - 1) if units > 1 else np.nan
    return np.asarray(np.sqrt(np.maximum(off * more, 0.0)) / float(sizes.sum()))


def at_limit(data: CellData) -> dict[str, Estimate]:
    """A(D) at the end-to-end limit of the study's `slo`, where it has one."""
    limits = [data.analysis.slo[name] for name in ("response_s", "e2e_s") if name in data.analysis.slo]
    if not limits:
        return {}
    first, c = data.scores.first, data.columns
    if first is None or not len(c):
        return {"deadline_accuracy": absent(data.scores.unscored or data.cell.reason or "nothing was measured")}
    late = ~(c.ok & (c.spent_s <= min(limits)))
    marks = np.where(late & ~np.isnan(first.values), 0.0, np.where(np.isnan(first.values), np.nan, first.q))
    found = mean_mark(data, marks, np.ones(len(c), dtype=bool))
    method = f"right within {min(limits):g} s; {found.method}"
    return {"deadline_accuracy": Estimate(found.value, found.lo, found.hi, found.n, "", "higher", method, found.reason)}
