"""The knee of a rate search: the highest rate of requests at which a deployment still meets the study's limits.

A probe meets a limit if that percentile of its requests' times is within it. Times count from when a request was due,
so that what waits in the client is not hidden; a request without an answer is late. The percentile's interval (order
statistics) says whether the probe is decided: above the limit as a whole, or below it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poise.plan.search import ladder, next_rate
from poise.plan.spec import Analysis, Cell
from poise.store.run import CellFolder
from poise.types import CellSummary, Estimate
from poise.understand import statistics as st
from poise.understand.derive import Columns, columns
from poise.understand.estimates import absent
from poise.understand.gather import CellData
from poise.understand.systems import key_of

PERCENTILE = "percentile"
_FROM_SENT = ("ttft_s", "ttfvt_s", "e2e_s")


class Limit(Struct, frozen=True):
    """One limit read off one probe: the percentile found and its interval, None where it cannot be known."""

    name: str
    most: float
    value: float | None
    lo: float | None
    hi: float | None
    n: int

    @property
    def met(self) -> bool:
        return self.value is not None and self.value <= self.most

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of the limit."""
        return (self.hi is not None and self.hi <= self.most) or (self.lo is not None and self.lo > self.most)


class Probe(Struct, frozen=True):
    """One rate and how it stood to all limits."""

    rate: float
    limits: list[Limit]

    @property
    def met(self) -> bool:
        return all(limit.met for limit in self.limits)

    @property
    def sure(self) -> bool:
        """Met by all for certain, or missed by one for certain."""
        return all(x.sure for x in self.limits) if self.met else any(x.sure and not x.met for x in self.limits)


def from_due(c: Columns, name: str) -> NDArray[np.float64]:
    """A time of every request, counted from when it was due; +inf without an answer, NaN where it has none."""
    values: NDArray[np.float64] = getattr(c, name)
    if name in _FROM_SENT:
        values = values + np.nan_to_num(c.wait_s)
    return np.where(c.ok, values, np.inf)


def read(c: Columns, rate: float, slo: Mapping[str, float]) -> Probe:
    """How the requests of one probe stand to the limits."""
    p = slo.get(PERCENTILE, 99) / 100
    limits = []
    for name, most in slo.items():
        if name == PERCENTILE:
            continue
        values = from_due(c, name)
        ordered = np.sort(values[~np.isnan(values)])
        if not np.isfinite(ordered).any() and c.ok.any():  # answered, but without such a time
            limits.append(Limit(name, most, None, None, None, 0))
            continue
        lo, hi = st.quantile_interval(ordered, p) if len(ordered) else (None, None)
        limits.append(Limit(name, most, st.quantile(ordered, p) if len(ordered) else None, lo, hi, len(ordered)))
    return Probe(rate, limits)


def choose(cell: Cell, probes: Sequence[CellFolder], analysis: Analysis) -> float | None:
    """The rate that a search tries next, after these probes; None at its end."""
    found = {f.cell.load.value: read(columns(f), f.cell.load.value, analysis.slo) for f in probes}
    if any(x.value is None for probe in found.values() for x in probe.limits):
        return None
    return next_rate(ladder(cell.load), {rate: probe.met for rate, probe in found.items()})


def probes_of(search: CellData, cells: Sequence[CellData]) -> list[CellData]:
    """The open loops of the same run that a search may read, by rate: its own probes, and what else was measured so."""
    load = search.cell.load

    def fits(c: CellData) -> bool:
        same = key_of(c)[:2] == key_of(search)[:2] and c.cell.task.name == search.cell.task.name and c.run == search.run
        arrivals = (c.cell.load.arrivals, c.cell.load.burstiness) == (load.arrivals, load.burstiness)
        return same and c.cell.load.kind == "open" and arrivals and len(c.columns) > 0

    return sorted(filter(fits, cells), key=lambda c: c.cell.load.value)


def knee(search: CellData, cells: Sequence[CellData]) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """`knee_rps` and the table of its probes."""
    slo = search.analysis.slo
    found = [read(c.columns, c.cell.load.value, slo) for c in probes_of(search, cells)]
    rows = [_row(probe) for probe in found]
    return {"knee_rps": _estimate(found, ladder(search.cell.load), slo)}, {"probes": rows} if rows else {}


def _row(probe: Probe) -> dict[str, Any]:
    named = {x.name: {"value": x.value, "lo": x.lo, "hi": x.hi, "limit": x.most, "n": x.n} for x in probe.limits}
    return {"rate": probe.rate, "met": probe.met, "sure": probe.sure, **named}


def _estimate(found: Sequence[Probe], rates: Sequence[float], slo: Mapping[str, float]) -> Estimate:
    if not found or not [n for n in slo if n != PERCENTILE]:
        return absent("no rate was tried" if not found else "the study names no limits (analysis.slo)", "1/s", "higher")
    unknown = next((x.name for probe in found for x in probe.limits if x.value is None), None)
    if unknown:
        return absent(f"the limit on {unknown} cannot be checked here", "1/s", "higher")
    failed = min((p.rate for p in found if not p.met), default=math.inf)
    passed = max((p.rate for p in found if p.met and p.rate < failed), default=None)
    lo = max((p.rate for p in found if p.met and p.sure and p.rate < failed), default=None)
    hi = min((p.rate for p in found if not p.met and p.sure), default=None)
    limits = " and ".join(f"{name} ≤ {most:g} s" for name, most in slo.items() if name != PERCENTILE)
    method = f"highest rate with p{slo.get(PERCENTILE, 99):g} of {limits} from due; lo, hi = decided probes around it"
    notes = []
    if passed is None:
        notes.append(f"not even {failed:g}/s meets the limits")
    elif math.isinf(failed):
        notes.append(f"the limits hold up to {passed:g}/s, the highest rate tried")
    elif next_rate(rates, {p.rate: p.met for p in found}) is not None:
        notes.append(f"the search is not over: between {passed:g} and {failed:g}/s")
    if again := [f"{p.rate:g}" for p in found if p.met and p.rate > failed]:
        notes.append(f"not monotone: {failed:g}/s fails, {', '.join(again)}/s meets them again")
    if open_ := [f"{p.rate:g}" for p in found if not p.sure and p.rate in (passed, failed)]:
        notes.append(f"undecided at {' and '.join(open_)}/s, where the interval holds the limit: ask more requests")
    return Estimate(passed, lo, hi, len(found), "1/s", "higher", method, "; ".join(notes) or None)


def knee_sentence(cell: CellSummary) -> str:
    """What a search found, in one clause of the verdict."""
    found = cell["knee_rps"]
    where = f"{cell.model} on {cell.deployment}, {cell.task}"
    if found.value is None:
        return f"knee of {where}: {found.reason or 'unknown'}"
    more = f" [{'?' if found.lo is None else f'{found.lo:g}'}, {'∞' if found.hi is None else f'{found.hi:g}'}]"
    return f"knee of {where}: {found.value:g} requests/s{more}" + (f" ({found.reason})" if found.reason else "")
