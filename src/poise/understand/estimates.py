"""Numbers with intervals for one cell's times and throughputs; what cannot be measured here says why.

Quantiles: order statistics (Woodruff by item where items were asked more than once, by answer for chunk gaps).
Means: central limit theorem over items, clustered. Throughputs: one value per repeat, Student's t over repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from poise.types import Better, Estimate
from poise.understand import statistics as st
from poise.understand.gather import CellData

Floats = NDArray[np.float64]

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def absent(reason: str, unit: str = "", better: Better | None = None) -> Estimate:
    """An estimate that is not measurable."""
    return Estimate(value=None, unit=unit, better=better, reason=reason)


def item_means(data: CellData, values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Mean of the finite values of each item (repeats and draws averaged first), and which items have any."""
    codes = data.items[1]
    finite = np.isfinite(values)
    count = np.bincount(codes[finite], minlength=len(data.items[0]))
    total = np.bincount(codes[finite], weights=values[finite], minlength=len(data.items[0]))
    has = np.flatnonzero(count)
    return total[has] / count[has], has


def mean(
    data: CellData, values: Floats, unit: str, better: Better | None, reason: str, timed: bool = False
) -> Estimate:
    """Mean over items with its clustered interval; `timed` values are clustered by what their times share."""
    per_item, has = item_means(data, values)
    if not len(per_item):
        return absent(reason, unit, better)
    clusters, what = (data.clusters, "cluster") if not (timed and data.time_groups) else data.time_groups
    clusters = None if clusters is None else clusters[has]
    between = _between_repeats(data, values)
    value, (lo, hi) = st.mean_interval(per_item, clusters, more_variance=between or 0.0)
    method = "mean, normal interval" + (f" clustered by {what}" if clusters is not None else "")
    method += " over items and repeats" if between is not None else ""
    if int(np.isfinite(values).sum()) > len(per_item):
        method += ", repeats of an item averaged first"
    if lo is None:
        method += " needs at least two groups"
    elif unit:  # a quantity, and none of poise's can be negative
        lo = max(lo, 0.0)
    return Estimate(value, lo, hi, len(per_item), unit, better, method)


def _between_repeats(data: CellData, values: Floats) -> float | None:
    """Variance of the mean that comes from repeated runs: s²/R of their means; None for a single run."""
    known = np.isfinite(values)
    means = [float(values[known & (data.columns.repeat == r)].mean()) for r in np.unique(data.columns.repeat[known])]
    return None if len(means) < 2 else float(np.var(means, ddof=1)) / len(means)


def quantiles(
    data: CellData, values: Floats, unit: str, better: Better | None, reason: str, which: Iterable[str] = ()
) -> dict[str, Estimate]:
    """p50, p90, p99 of the values that are not NaN; +inf (timeouts) counts as the slowest."""
    wanted = [(name, p) for name, p in QUANTILES if not which or name in which]
    known = ~np.isnan(values)
    ordered = np.sort(values[known])
    if not len(ordered):
        return {name: absent(reason, unit, better) for name, _ in wanted}
    groups, what = data.time_groups or (np.arange(len(data.items[0])), "item")
    codes = groups[data.items[1][known]]
    asked = np.bincount(codes)
    sizes = asked[asked > 0].astype(float)
    grouped = len(sizes) < len(ordered)
    found = {}
    for name, p in wanted:
        value = st.quantile(ordered, p)
        if grouped:
            below = np.bincount(codes, weights=values[known] <= value)[asked > 0].astype(float)
            lo, hi = st.grouped_quantile_interval(ordered, value, p, below, sizes)
            method = f"Woodruff interval by {what}"
        else:
            lo, hi = st.quantile_interval(ordered, p)
            method = "order statistics"
        found[name] = _quantile(value, lo, hi, len(ordered), unit, better, method, int(np.isinf(values).sum()))
    return found


def _quantile(
    value: float, lo: float | None, hi: float | None, n: int, unit: str, better: Better | None, method: str, late: int
) -> Estimate:
    if lo is None or hi is None:
        method += f"; too few ({n}) for {'a lower' if lo is None else 'an upper'} limit"
    reason = f"infinite: {late} of {n} timed out" if math.isinf(value) else None
    return Estimate(value, lo, hi, n, unit, better, method, reason)


def inverse(estimate: Estimate, unit: str) -> Estimate:
    """1/x of a time: a rate."""
    if not estimate.value:
        return absent(estimate.reason or "the time between tokens is 0", unit, "higher")
    lo = None if estimate.hi is None else 1 / estimate.hi
    hi = None if not estimate.lo else 1 / estimate.lo
    return Estimate(1 / estimate.value, lo, hi, estimate.n, unit, "higher", f"1/median; {estimate.method}")


# ---------------------------------------------------------------- all times of a cell


def times(data: CellData) -> dict[str, Estimate]:
    """Every latency of METRICS §1, each as quantiles and mean."""
    c = data.columns
    why = _time_reasons(data)
    found: dict[str, Estimate] = {}
    for name in ("ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "wait_s", "response_s"):
        values: Floats = getattr(c, name)
        if name in ("ttft_s", "ttfvt_s", "tpot_s") and not c.streamed:
            values = np.full(len(c), np.nan)
        found |= _family(data, name, values, "s", "lower", why[name])
    found |= gaps(data, why["chunk_gap_s"])
    found["decode_tok_s"] = inverse(found["tpot_s.p50"], "tok/s")
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(c.ok & (c.e2e_s > 0) & np.isfinite(c.e2e_s), c.n_out / c.e2e_s, np.nan)
    found["request_tok_s"] = quantiles(data, rate, "tok/s", "higher", why["n_out"], ["p50"])["p50"]
    batched = c.batch_size > 0
    amortized = np.where(batched & c.ok, c.batch_s / np.maximum(c.batch_size, 1), np.nan)
    reason = "not a static batch"
    found["batch_s"] = mean(data, np.where(batched & c.ok, c.batch_s, np.nan), "s", "lower", reason, timed=True)
    found["amortized_s"] = mean(data, amortized, "s", "lower", reason, timed=True)
    found["output_tokens.mean"] = output_tokens(data)
    return found


def output_tokens(data: CellData) -> Estimate:
    """Mean length of the answers."""
    c = data.columns
    return mean(data, np.where(c.ok, c.n_out, np.nan), "tok", None, _time_reasons(data)["n_out"])


def _family(
    data: CellData, name: str, values: Floats, unit: str, better: Better | None, reason: str
) -> dict[str, Estimate]:
    found = dict(quantiles(data, values, unit, better, reason))
    found["mean"] = mean(data, values, unit, better, reason, timed=True)
    return {f"{name}.{q}": _beside(e, len(data.columns), values) for q, e in found.items()}


def _beside(estimate: Estimate, asked: int, values: Floats) -> Estimate:
    """The estimate with the number of requests that gave it no value, since a failure must stand beside a latency."""
    answered, late = int(np.isfinite(values).sum()), int(np.isinf(values).sum())
    if estimate.value is None or answered == asked:
        return estimate
    late_in = estimate.n == answered + late and late > 0
    left = asked - answered - (late if late_in else 0)
    notes = [f"{late} timed out count as +∞"] if late_in else []
    notes += [f"{left} of {asked} requests without it left out"] if left else []
    return msgspec.structs.replace(estimate, method="; ".join([estimate.method, *notes]))


def _time_reasons(data: CellData) -> dict[str, str]:
    """Why a time is missing, should it be."""
    c = data.columns
    if not len(c):
        every = data.cell.reason or "nothing was measured"
        return dict.fromkeys(
            ("ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "wait_s", "response_s", "chunk_gap_s", "n_out"), every
        )
    unanswered = None if c.ok.any() else "no request was answered"
    untimed = unanswered or "no times were recorded"
    first = unanswered or "no chunk with text was stamped"
    gap = "no answer came in two or more pieces"
    tokens = "output tokens were counted neither by the engine nor by the server"
    if data.cell.task.mode == "choice":
        first, gap, tokens = ("choice items have no first token",) * 2 + ("choice items write no tokens",)
    elif not c.streamed:
        first = gap = "answers came in one piece (not streamed)"
    few = tokens if np.isnan(c.n_out).all() else "no answer has two tokens in two pieces"
    due = "closed loop: requests have no due time" if not data.open_loop else untimed
    return {
        "ttft_s": first,
        "ttfvt_s": first if first != "no chunk with text was stamped" else "no visible text was stamped",
        "tpot_s": first if not c.streamed or data.cell.task.mode == "choice" else unanswered or few,
        "e2e_s": untimed,
        "wait_s": due,
        "response_s": due,
        "chunk_gap_s": unanswered or gap,
        "n_out": unanswered or tokens,
    }


def gaps(data: CellData, reason: str) -> dict[str, Estimate]:
    """p50, p99 and max of all gaps between chunks; gaps of one answer are a group."""
    c = data.columns
    n = len(c.gaps)
    names = ("p50", "p99", "max")
    if not n:
        return {f"chunk_gap_s.{name}": absent(reason, "s", "lower") for name in names}
    rows = c.gaps.counts[c.gaps.counts > 0].astype(float)
    found = {}
    for name, p in (("p50", 0.5), ("p99", 0.99)):
        value = st.quantile(c.gaps, p)
        lo, hi = st.grouped_quantile_interval(c.gaps, value, p, rows - c.gaps.over(value), rows)
        found[f"chunk_gap_s.{name}"] = _quantile(value, lo, hi, n, "s", "lower", "Woodruff interval by answer", 0)
    found["chunk_gap_s.max"] = Estimate(c.gaps[-1], None, None, n, "s", "lower", "largest seen; no interval")
    return found


# ---------------------------------------------------------------- throughput


def throughput(data: CellData) -> dict[str, Estimate]:
    """Tokens, characters and requests per second of the measured window, and the window itself."""
    c = data.columns
    repeats = sorted({w.repeat for w in c.windows})
    wall = {r: sum(w.wall_s for w in c.windows if w.repeat == r) for r in repeats}
    mine = {r: c.repeat == r for r in repeats}
    nothing = data.cell.reason or ("no request was sent" if len(c) else "nothing was measured")
    counted = np.where(np.isnan(c.n_out), 0.0, c.n_out)
    uncounted = int((np.isnan(c.n_out) & c.ok).sum())
    reason = f"output tokens of {uncounted} of {len(c)} answers are unknown"
    if not repeats or not c.ok.any():
        reason = nothing if not repeats else "no request was answered"
    if data.cell.task.mode == "choice":
        reason = "choice items write no tokens"

    def rate(amount: Floats) -> Callable[[int], float]:
        return lambda r: float(amount[mine[r]].sum()) / wall[r] if wall[r] > 0 else math.nan

    answered = c.ok.astype(float)
    found = {
        "task_s": over_repeats([wall[r] for r in repeats], "s", "lower", nothing),
        "requests_s": over_repeats([rate(answered)(r) for r in repeats], "1/s", "higher", nothing),
        "chars_s": over_repeats([rate(c.chars * answered)(r) for r in repeats], "char/s", "higher", nothing),
        "system_tok_s": absent(reason, "tok/s", "higher"),
    }
    if repeats and not uncounted and c.ok.any() and data.cell.task.mode != "choice":
        found["system_tok_s"] = over_repeats([rate(counted)(r) for r in repeats], "tok/s", "higher", nothing)
    if data.cell.task.mode == "choice":
        found["chars_s"] = absent("choice items write no text", "char/s", "higher")
    return found | goodput(data, wall, mine)


def goodput(data: CellData, wall: dict[int, float], mine: dict[int, NDArray[np.bool_]]) -> dict[str, Estimate]:
    """Requests per second within all limits of the study's `slo`, and those of them that are also right."""
    limits = {k: v for k, v in data.analysis.slo.items() if k != "percentile"}
    if not limits or not wall:
        return {}
    c = data.columns
    within = np.isfinite(c.e2e_s)
    for name, limit in limits.items():
        values = getattr(c, name, None)
        if not isinstance(values, np.ndarray) or np.isnan(values).all():
            return {"goodput_rps": absent(f"the limit on {name} cannot be checked here", "1/s", "higher")}
        with np.errstate(invalid="ignore"):
            # an answer of one token has no time between tokens to be too long
            within &= (values <= limit) | (np.isnan(values) & (name == "tpot_s"))
    amounts = {"goodput_rps": within.astype(float)}
    if data.scores.first is not None:
        amounts["correct_goodput_rps"] = within * np.nan_to_num(data.scores.first.q)
    return {
        name: over_repeats([float(a[mine[r]].sum()) / wall[r] for r in wall], "1/s", "higher", "")
        for name, a in amounts.items()
    }


def over_repeats(values: list[float], unit: str, better: Better | None, reason: str) -> Estimate:
    """Mean over repeats with Student's t; one repeat has no interval."""
    return mean_of([] if any(math.isnan(v) for v in values) else values, unit, better, reason, "repeat")


def mean_of(values: list[float], unit: str, better: Better | None, reason: str, what: str) -> Estimate:
    """Mean of a few values (one a repeat, one a start …) with Student's t; a single one has no interval."""
    if not values:
        return absent(reason, unit, better)
    value, (lo, hi) = st.repeat_interval(values)
    method = f"mean of {len(values)} ({what}s), Student's t" if len(values) > 1 else f"one {what}: no interval"
    return Estimate(value, None if lo is None else max(lo, 0.0), hi, len(values), unit, better, method)
