"""Results of MLPerf-like scenarios, with MLPerf's early stopping (confidence .99, tolerance 0).

n requests of which t are over a limit show that the p-quantile is within it if so few would be rare were it not:
P(X ≤ t) ≤ 1 − confidence for X ~ Binomial(n, 1 − p). The latency reported for a percentile is therefore the t-th
largest, with the largest t for which n suffices; no estimate exists below the n of t = 1 (p90: 64, p99: 662).
Source: MLCommons inference rules, early stopping, and the estimate that LoadGen prints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from poise.counted import counted
from poise.types import CellSummary, Estimate
from poise.understand.estimates import absent
from poise.understand.gather import CellData
from poise.understand.knee import PERCENTILE, from_due
from poise.understand.mlperf_rule import Held

CONFIDENCE = 0.99
SINGLE_STREAM = 0.9
WORDS = {"mlperf_latency_s": "s at p90", "mlperf_samples_s": "samples/s", "mlperf_tok_s": "tokens/s"}


def smallest_n(t: int, p: float) -> int:
    """Fewest requests that show the p-quantile within a limit when t of them are over it."""
    low, high = t, t + 1
    while not _shown(high, t, p):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shown(middle, t, p) else (middle, high)
    return high


def allowed_over(n: int, p: float) -> int | None:
    """Most of n requests that may be over a limit whose p-quantile is to be shown within it; None: n is too small."""
    if not _shown(n, 0, p):
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _shown(n, middle, p) else (low, middle)
    return low


def _shown(n: int, t: int, p: float) -> bool:
    from scipy.special import bdtr

    return t < n and bool(bdtr(t, n, 1 - p) <= 1 - CONFIDENCE)


def reported(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], p: float) -> Estimate:
    """The early-stopping estimate of a latency's p-quantile; no answer (+inf) counts as the slowest."""
    known = np.sort(values[~np.isnan(values)])[::-1]
    n, least = len(known), smallest_n(1, p)
    t = allowed_over(n, p)
    if not n or not t:
        return absent(f"{counted(n, 'request')}: early stopping of p{100 * p:g} needs {least}", "s", "lower")
    value = float(known[t - 1])
    method = f"MLPerf early stopping, p{100 * p:g}: number {t} of {n}, counted from the largest"
    reason = f"infinite: {int(np.isinf(known).sum())} of {n} have no answer" if np.isinf(value) else None
    return Estimate(value, None, None, n, "s", "lower", method, reason)


def mlperf(data: CellData, numbers: Mapping[str, Estimate], against: Held | None) -> dict[str, Estimate]:
    """A scenario's own results: a latency (singlestream), throughput (offline), throughput within limits (server).

    They are valid only if quality and answer lengths are those of the reference, where one is named.
    """
    if data.cell.load.scenario is None or not len(data.columns):
        return {}
    found, reasons = _results(data, numbers)
    if against is not None:
        reasons += against.missed
    if reasons:
        invalid = "not valid: " + "; ".join(reasons)
        of = [k for k in found if k in ("mlperf_latency_s", "mlperf_samples_s", "mlperf_tok_s")]
        found |= {k: absent(invalid, found[k].unit, found[k].better) for k in of}
    return found | (against.shares if against is not None else {})


def _results(data: CellData, numbers: Mapping[str, Estimate]) -> tuple[dict[str, Estimate], list[str]]:
    """The scenario's numbers, and why its speed does not count, as far as times say."""
    scenario, c = data.cell.load.scenario, data.columns
    if scenario == "singlestream":
        return {"mlperf_latency_s": reported(from_due(c, "e2e_s"), SINGLE_STREAM)}, []
    found = {"mlperf_samples_s": numbers["requests_s"], "mlperf_tok_s": numbers["system_tok_s"]}
    if scenario == "offline":
        return found, []
    p = data.analysis.slo.get(PERCENTILE, 99) / 100
    reasons = []
    limits = {name: most for name, most in data.analysis.slo.items() if name != PERCENTILE}
    for name in dict.fromkeys(("ttft_s", "tpot_s", *limits)):
        values = from_due(c, name)
        found[f"mlperf_{name}"] = reported(values, p)
        if name in limits:
            known = values[~np.isnan(values)]
            over, n = int((known > limits[name]).sum()), len(known)
            most = allowed_over(n, p)
            if most is None or over > most:
                need = smallest_n(over, p)
                reasons.append(f"{over} of {n} requests are over {name} {limits[name]:g} s, which takes {need} to pass")
    return found, reasons if limits else ["the study names no limits (analysis.slo)"]


def scenario_sentence(cell: CellSummary) -> str:
    """A scenario's result in one clause of the verdict."""
    found = {k: e for k, e in cell.estimates.items() if k in ("mlperf_latency_s", "mlperf_samples_s", "mlperf_tok_s")}
    known = [f"{e.value:.4g} {WORDS[k]}" for k, e in found.items() if e.value is not None and math.isfinite(e.value)]
    reason = next((e.reason for e in found.values() if e.value is None and e.reason), "no result")
    held = known and any(name.startswith("mlperf_share") for name in cell.estimates)
    valid = ", valid against the reference" if held else ""
    return f"{cell.load}, {cell.model} on {cell.deployment}, {cell.task}: {' and '.join(known) or reason}{valid}"
