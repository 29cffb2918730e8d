"""The load as it came about against the load that was asked, and the requests that were lost to it.

A request is in flight from `sent` to `done`, every attempt counted. Delivered concurrency is the time-weighted mean of
requests in flight from the first `sent` to the last one of a segment: after that no request is left to send and the
places empty out. Delivered rate is (requests sent - 1) over the time from the first due one to the last due or sent
one, whichever is later; the rate asked is (requests due - 1) over the time between the first and the last due one.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from poise.types import Estimate
from poise.understand import statistics as st
from poise.understand.attempts import NO_TIME
from poise.understand.derive import NEVER_SENT, Columns, Window
from poise.understand.estimates import absent, over_repeats
from poise.understand.gather import CellData

Ints = NDArray[np.int64]


def delivered(data: CellData) -> dict[str, Estimate]:
    """Concurrency and rate against what was asked, the most requests in flight, and what failed or was dropped."""
    return _concurrency(data) | _rate(data) | _lost(data)


def flying(window: Window, start_ns: int, end_ns: int) -> float:
    """Mean number of requests in flight between two clock readings."""
    overlap = np.minimum(window.ended_ns, end_ns) - np.maximum(window.sent_ns, start_ns)
    return float(np.maximum(overlap, 0).sum()) / (end_ns - start_ns)


def most_flying(window: Window) -> int:
    """The most requests in flight at once."""
    before = np.searchsorted(np.sort(window.ended_ns), window.sent_ns, side="right")
    return int((np.arange(1, len(window.sent_ns) + 1) - before).max(initial=0))


# ---------------------------------------------------------------- requests in flight


def _concurrency(data: CellData) -> dict[str, Estimate]:
    load, windows = data.cell.load, data.columns.windows
    if load.form == "batch" or not windows:
        reason = "a static batch is handed over whole" if windows else data.cell.reason or "nothing was sent"
        return {n: absent(reason, "", "higher") for n in ("delivered_concurrency", "load_delivered", "in_flight.max")}
    asked = load.width if load.form == "closed" and load.scenario != "offline" else None
    largest = max(map(most_flying, windows))
    most = Estimate(float(largest), None, None, len(windows), "", None, "largest seen; no interval")
    mean = _mean_flying(windows, asked)
    if asked is None or mean.value is None:
        share = absent(mean.reason or "", "", "higher")
        return {"delivered_concurrency": mean, "in_flight.max": most} | ({"load_delivered": share} if asked else {})
    mean = msgspec.structs.replace(mean, method=f"mean in flight, first to last sent, of {asked} asked; {mean.method}")
    return {"delivered_concurrency": mean, "load_delivered": _share(mean, asked), "in_flight.max": most}


def _mean_flying(windows: list[Window], asked: int | None) -> Estimate:
    """Over the stretch of each segment in which requests were left to send; one value per repeat."""
    values = []
    for repeat in sorted({w.repeat for w in windows}):
        total, length = 0.0, 0
        for w in windows:
            span = int(w.sent_ns[-1] - w.sent_ns[0]) if w.repeat == repeat and len(w.sent_ns) > (asked or 1) else 0
            if span > 0:
                total += flying(w, int(w.sent_ns[0]), int(w.sent_ns[-1])) * span
                length += span
        if length:
            values.append(total / length)
    few = "too few requests: none was left to send once all places were taken"
    return over_repeats(values, "", "higher", few)


def _share(mean: Estimate, asked: float) -> Estimate:
    assert mean.value is not None
    lo, hi = (None if end is None else end / asked for end in (mean.lo, mean.hi))
    return msgspec.structs.replace(mean, value=mean.value / asked, lo=lo, hi=hi)


# ---------------------------------------------------------------- rate


def _rate(data: CellData) -> dict[str, Estimate]:
    c = data.columns
    if not (c.due_ns != NO_TIME).any():
        reason = "no request has a due time: nothing asks for a rate" if len(c) else "nothing was sent"
        return {n: absent(reason, "1/s", "higher") for n in ("asked_rps", "delivered_rps")}
    repeats = np.unique(c.repeat)
    rates = [rates_of(c, c.repeat == r) for r in repeats]
    few = "one request has no rate"
    asked = over_repeats([a for a, _ in rates], "1/s", None, few)
    got = over_repeats([g for _, g in rates], "1/s", "higher", few)
    share = over_repeats([g / a for a, g in rates], "", "higher", few)
    return {"asked_rps": asked, "delivered_rps": got, "load_delivered": share}


def rates_of(c: Columns, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """(asked, delivered) requests per second of some rows; NaN where there is but one."""
    sent_rows = ~c.failure.among(*NEVER_SENT) & (c.sent_ns != NO_TIME)
    due_n, due_ns, sent_n, took_ns = 0, 0, 0, 0
    for segment in np.unique(c.segment[inside]):
        rows = inside & (c.segment == segment) & (c.due_ns != NO_TIME)
        if rows.sum() < 2:
            continue
        due, left = c.due_ns[rows], c.sent_ns[rows & sent_rows]
        due_n, due_ns = due_n + len(due) - 1, due_ns + int(due.max() - due.min())
        sent_n += max(len(left) - 1, 0)
        took_ns += int(max(due.max(), left.max(initial=due.min())) - due.min())
    if not due_ns or not took_ns:
        return math.nan, math.nan
    return due_n / due_ns * 1e9, sent_n / took_ns * 1e9


# ---------------------------------------------------------------- lost requests


def _lost(data: CellData) -> dict[str, Estimate]:
    """How many requests failed (anything but an answer), and how many of these were dropped, never sent."""
    c = data.columns
    n = len(c)
    if not n:
        return {}
    counts = {"failed": n - int(c.ok.sum())}
    if data.open_loop:
        counts["dropped"] = int(c.failure.among("dropped").sum())
    found = {}
    for name, k in counts.items():
        lo, hi = st.wilson(k, n)
        found[f"{name}.count"] = Estimate(float(k), None, None, n, "", "lower", "count; no interval")
        found[f"{name}.share"] = Estimate(k / n, lo, hi, n, "", "lower", "proportion, Wilson")
    return found
