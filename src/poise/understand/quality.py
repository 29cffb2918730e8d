"""Quality estimates of one cell: each metric, the mean mark `quality`, groups by category, and the confusion table.

METRICS §3: failed requests count as 0, unscorable answers are left out with the bounds beside the mean.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from poise.types import Better, Estimate
from poise.understand import statistics as st
from poise.understand.estimates import absent, item_means, mean
from poise.understand.gather import CellData
from poise.understand.scored import Values

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]
ONE_ITEM = "corpus value; one item has no interval"


def quality(data: CellData) -> dict[str, Estimate]:
    """Every metric by its name, then `quality` = mean mark of the primary one."""
    reason = data.scores.unscored or data.cell.reason or "nothing was measured"
    found = {name: metric(data, values) for name, values in data.scores.by_metric.items()} if len(data.columns) else {}
    for values in list(data.scores.by_metric.values()):
        found |= over_draws(data, values)
    for name in data.cell.task.metrics:
        found.setdefault(name, absent(reason))
    first = data.scores.first
    if first is None or not len(data.columns):
        return found | {"quality": absent(reason, "", "higher")}
    found["quality"] = mean_mark(data, first.q, np.ones(len(data.columns), dtype=bool))
    if data.cell.task.mode == "generate":
        found["none_found"] = none_found(data)
    return found


def over_draws(data: CellData, values: Values) -> dict[str, Estimate]:
    """What a metric makes of all draws of an item together (pass@k): its mean over items; only of more than one draw.

    A failed draw did not pass. An item with fewer scorable draws than the study asks for is left out.
    """
    together = getattr(values.metric, "over_draws", None)
    draws = data.cell.generation.draws
    if together is None or draws < 2 or not len(data.columns):
        return {}
    of_item: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(~np.isnan(values.values)):
        of_item.setdefault((int(data.columns.repeat[row]), int(data.items[1][row])), []).append(int(row))
    whole = {item: rows for item, rows in of_item.items() if len(rows) == draws}
    marks = {name: np.full(len(data.columns), np.nan) for name in together([0.0] * draws)}
    for rows in whole.values():
        for name, mark in together(values.values[rows]).items():
            marks[name][rows] = mark
    inside = np.zeros(len(data.columns), dtype=bool)
    inside[[row for rows in whole.values() for row in rows]] = True
    return {name: _from_draws(mean_mark(data, mark, inside), draws) for name, mark in marks.items()}


def _from_draws(estimate: Estimate, draws: int) -> Estimate:
    method = f"unbiased estimate from {draws} draws an item; {estimate.method}"
    return msgspec.structs.replace(estimate, method=method) if estimate.value is not None else estimate


def none_found(data: CellData) -> Estimate:
    """Share of the texts that came in which the extractor found no answer; they count as wrong."""
    if not data.columns.ok.any():
        return absent("no request was answered", "", "lower")
    return mean_mark(data, data.scores.unfound.astype(float), data.columns.ok, better="lower")


def metric(data: CellData, values: Values, inside: Rows | None = None) -> Estimate:
    """A metric's corpus value by `reduce` over summed statistics, else the mean of its values; of the rows `inside`."""
    inside = np.ones(len(data.columns), dtype=bool) if inside is None else inside
    if getattr(values.metric, "aggregate", None) is not None:
        return aggregated(data, values, inside)
    unit, better = getattr(values.metric, "unit", ""), getattr(values.metric, "better", None)
    scorable = inside & ~np.isnan(values.values)
    if not scorable.any():
        reason = next((r for r, i in zip(values.reasons, inside) if r and i), "nothing to score")
        return absent(f"no answer could be scored: {reason}", unit, better)
    if values.reduce is not None:
        return corpus(data, values, scorable)
    if values.scale == 1:
        return mean_mark(data, values.values, inside, unit, better)
    return mean(data, np.where(inside, values.values, np.nan), unit, better, "")


def corpus(data: CellData, values: Values, scorable: Rows) -> Estimate:
    """`reduce` of the summed statistics, with its bootstrap interval over items (or clusters)."""
    assert values.reduce is not None
    unit, better = getattr(values.metric, "unit", ""), getattr(values.metric, "better", None)
    units = data.items[1] if data.clusters is None else data.clusters[data.items[1]]
    count = int(units.max()) + 1
    weights = st.bootstrap_weights(count, "corpus")
    sums = values.sums(weights.groups(units), len(weights.starts), scorable)
    with np.errstate(all="ignore"):
        value = float(np.asarray(values.reduce(sums.sum(axis=0))))
        if not np.isfinite(value):
            return absent(f"{values.name} is undefined for these answers", unit, better)
        n = len(np.unique(data.items[1][scorable]))
        if count < 2:
            return Estimate(value, None, None, n, unit, better, ONE_ITEM)
        replicates = np.asarray(values.reduce(weights @ sums), dtype=np.float64)
    return _resampled(value, replicates, n, unit, better)


def _resampled(value: float, replicates: Floats, n: int, unit: str, better: Better | None) -> Estimate:
    """A corpus value with the interval of its resamples, where these tell one."""
    known = replicates[np.isfinite(replicates)]
    if len(known) < max(50, len(replicates) / 2):
        return Estimate(value, None, None, n, unit, better, "corpus value; undefined in most resamples")
    lo, hi = st.percentile_interval(known)
    if lo == hi:  # all right, all wrong: a bootstrap would call that certain
        return Estimate(value, None, None, n, unit, better, "corpus value; the same in all resamples, no interval")
    return Estimate(value, lo, hi, n, unit, better, f"corpus value, bootstrap over items, {len(replicates)} resamples")


def aggregated(data: CellData, values: Values, inside: Rows) -> Estimate:
    """A metric that is neither a sum nor a mean: its own function of all items, with a bootstrap over them.

    That function may be slow and another package's: a hundred resamples, and what it refuses has no value.
    """
    better = getattr(values.metric, "better", None)
    rows = [i for i, item in enumerate(values.items or ()) if item is not None and inside[i]]
    if not rows or values.items is None or values.aggregate is None:
        reason = next((r for r, i in zip(values.reasons, inside) if r and i), "nothing to score")
        return absent(f"no answer could be scored: {reason}", "", better)
    items = [values.items[i] for i in rows]
    units = (data.items[1] if data.clusters is None else data.clusters[data.items[1]])[rows]
    names, units = np.unique(units, return_inverse=True)
    try:
        with np.errstate(all="ignore"):
            value = float(values.aggregate(items))
            weights = st.bootstrap_weights(len(names), "corpus")
            groups = weights.groups(units)
            drawn = [
                np.repeat(np.arange(len(items)), w.astype(int)[groups])
                for w in weights.counts[: 100 if len(names) > 1 else 0]
            ]
            replicates = np.array([values.aggregate([items[i] for i in draw]) for draw in drawn], dtype=float)
    except Exception as error:
        return absent(f"{values.name} could not be computed: {error}", "", better)
    if not np.isfinite(value):
        return absent(f"{values.name} is undefined for these answers", "", better)
    n = len(np.unique(data.items[1][rows]))
    if len(names) < 2:
        return Estimate(value, None, None, n, "", better, ONE_ITEM)
    return _resampled(value, replicates, n, "", better)


def mean_mark(
    data: CellData, marks: Floats, inside: Rows, unit: str = "", better: Better | None = "higher"
) -> Estimate:
    """Mean of marks in [0, 1]: Wilson where each item is right or wrong, else the (clustered) normal interval."""
    marks = np.where(inside, marks, np.nan)
    per_item, _ = item_means(data, marks)
    n, rows = len(per_item), int(inside.sum())
    unscorable = rows - int(np.isfinite(marks).sum())
    if not n:
        return absent(f"none of {rows} answers could be scored", unit, better)
    alike = bool((per_item == per_item[0]).all())
    if np.isin(per_item, (0.0, 1.0)).all() and (data.clusters is None or alike):
        # all right or all wrong shows no spread: then each cluster counts as one observation
        independent = n if data.clusters is None else len(np.unique(data.clusters))
        lo, hi = st.wilson(float(per_item.mean()) * independent, independent)
        found = Estimate(float(per_item.mean()), lo, hi, n, unit, better, "proportion, Wilson")
    else:
        found = mean(data, marks, unit, better, "")
        if found.lo is not None and found.hi is not None and found.value is not None:
            low, high = max(0.0, found.lo), min(1.0, found.hi)
            found = Estimate(found.value, low, high, found.n, unit, better, found.method)
    if not unscorable:
        return found
    total = float(np.nansum(marks))
    bounds = f"{total / rows:.4g} to {(total + unscorable) / rows:.4g}"
    method = f"{found.method}; {unscorable} unscorable left out, {bounds} if all of them were wrong or right"
    return Estimate(found.value, found.lo, found.hi, found.n, unit, better, method)


# ---------------------------------------------------------------- groups, tables


def groups(data: CellData) -> dict[str, dict[str, Estimate]]:
    """Primary metric and mean time by the samples' category, in the categories' order; conversations by turn too."""
    labels = np.array([_label(data, s) or "" for s in data.columns.sample])
    members = {name: labels == name for name in sorted({*labels.tolist()} - {""})}
    if data.columns.part.any():
        members |= {f"turn={k + 1}": data.columns.part == k for k in np.unique(data.columns.part).tolist()}
    found: dict[str, dict[str, Estimate]] = {}
    for label, inside in members.items():
        times = np.where(inside, data.columns.e2e_s, np.nan)
        entry = {"e2e_s.mean": mean(data, times, "s", "lower", "no times were recorded", timed=True)}
        first = data.scores.first or (next(iter(data.scores.by_metric.values())) if data.judges else None)
        if first is not None:
            entry = {first.name: metric(data, first, inside), **entry}
        found[label] = entry
    return found


def _label(data: CellData, sample: str) -> str | None:
    category = data.samples.category.get(sample)
    return category if category is None or "=" in category else f"category={category}"


def tables(data: CellData) -> dict[str, Any]:
    """The confusion table of a task with fixed choices: targets (rows) against answers, "none" being one of them."""
    for values in data.scores.by_metric.values():
        table = getattr(values.metric, "table", None)
        if table is not None and values.stats is not None and (fixed := _fixed_choices(data)):
            return {"confusion": table(values.sums(np.zeros(len(values.values), dtype=np.int64), 1)[0], fixed)}
    return {}


def _fixed_choices(data: CellData) -> tuple[str, ...] | None:
    """The choices that all items share."""
    choices = {data.samples[s].choices for s in data.items[0] if s in data.samples}
    return choices.pop() if len(choices) == 1 else None
