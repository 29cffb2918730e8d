"""The balanced score: equal weight to a quality mark and a speed mark, with paired bootstrap intervals.

    Q = clip((mean q - c)/(1 - c), 0, 1)    S = mean τ/(τ + t)    B = 100·Q^w·S^(1-w), w = ½

c = chance level, t = seconds of an item, τ = the task's reference time (METRICS §4). Failures have q = s = 0.
All systems that answered the same task are resampled with the same items, so their differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise.types import Better, Estimate, UsageError
from poise.understand import statistics as st
from poise.understand.gather import CellData, state_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FACTORS = {"tau/4": 0.25, "tau": 1.0, "tau*4": 4.0}
_PROFILES = {
    "conversational": (2.0, 0.1),
    "interactive": (0.5, 0.03),
    "batch": (20.0, 1.0),
    "miniature": (0.003, 0.001),
}


def tau_s(profile: str | float, n_ref: float) -> float:
    """Reference time in seconds: TTFT* + TPOT*·n_ref of a named profile, or the seconds themselves."""
    try:
        first, each = _PROFILES.get(str(profile)) or (float(profile), 0.0)
        seconds = first + each * max(n_ref, 0.0)
    except ValueError:
        known = ", ".join(_PROFILES)
        raise UsageError(f"unknown reference time {profile!r}; give seconds or one of {known}") from None
    if not seconds > 0 or math.isinf(seconds):
        raise UsageError(f"the reference time must be positive seconds, not {profile!r}")
    return seconds


def quality_mark(mean_q: Floats | float, chance: float) -> Floats:
    """Mean q with guessing removed: 0 at the chance level, 1 if all is right."""
    if chance >= 1:
        return np.zeros_like(np.asarray(mean_q, dtype=float))
    return np.clip((np.asarray(mean_q, dtype=float) - chance) / (1 - chance), 0.0, 1.0)


def speed_marks(seconds: Floats, tau: float) -> Floats:
    """τ/(τ + t) of each time: 1 = instant, ½ at τ; 0 for +inf (failed)."""
    return tau / (tau + np.asarray(seconds, dtype=float))


def balanced_score(quality: Floats | float, speed: Floats | float, weight: float = 0.5) -> Floats:
    """100·Q^w·S^(1-w): the weighted geometric mean of both marks."""
    q, s = np.asarray(quality, dtype=float), np.asarray(speed, dtype=float)
    return np.asarray(100.0 * q**weight * s ** (1.0 - weight))


def crossing(q1: float, t1: float, q2: float, t2: float) -> float | None:
    """The τ at which two systems with one time each have the same balanced score; None where they never do.

    τ* = (q₂t₁ - q₁t₂)/(q₁ - q₂)
    """
    if q1 == q2:
        return None
    tau = (q2 * t1 - q1 * t2) / (q1 - q2)
    return tau if tau > 0 else None


# ---------------------------------------------------------------- one cell


@dataclass(frozen=True)
class Items:
    """A cell's requests for the balanced score, and which item each of them asks."""

    units: Sequence[str]
    """Name of each item for resampling: its cluster, else itself."""
    rows: Ints
    """Item of each request."""
    repeat: Ints
    marks: Floats
    """q of each request, NaN = unscorable."""
    seconds: Floats
    """Time of each request, +inf = failed."""
    chance: float
    tau: float
    weight: float

    def per_item(self, values: Floats, inside: NDArray[np.bool_] | None = None) -> Floats:
        """Mean of each item's known values (repeats and draws first); NaN where it has none."""
        known = np.isfinite(values) if inside is None else np.isfinite(values) & inside
        total = np.bincount(self.rows[known], weights=values[known], minlength=len(self.units))
        count = np.bincount(self.rows[known], minlength=len(self.units))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def score(self, factor: float = 1.0) -> float:
        """B at τ·factor."""
        quality = quality_mark(float(np.nanmean(self.per_item(self.marks))), self.chance)
        speed = float(self.per_item(speed_marks(self.seconds, self.tau * factor)).mean())
        return float(balanced_score(quality, speed, self.weight))


def items(data: CellData) -> Items | str:
    """The cell's items, or the reason why it has no balanced score."""
    c, task, first = data.columns, data.cell.task, data.scores.first
    state, why = state_of(data)
    if not len(c) or (state == "failed" and len(c) < data.planned):
        return why or "nothing was measured"
    if first is None:
        return data.scores.unscored or "nothing was scored"
    if np.isnan(first.values).all():
        return "no answer could be scored"
    untimed = int((np.isnan(c.spent_s) & c.ok).sum())
    if untimed:
        return f"{untimed} answered requests have no time"
    profile = task.tau if data.analysis.tau == "auto" else data.analysis.tau
    return Items(
        units=data.unit_names(),
        rows=data.items[1],
        repeat=c.repeat,
        marks=np.where(c.ok, first.q, 0.0),
        seconds=np.where(c.ok, c.spent_s, np.inf),
        chance=task.chance,
        tau=tau_s(profile, task.n_ref),
        weight=data.analysis.weight,
    )


# ---------------------------------------------------------------- all cells of a task, paired


@dataclass(frozen=True)
class Marks:
    """One system's marks on one task (or on several, averaged): values and bootstrap replicates [resamples]."""

    quality: float
    speed: float
    score: float
    mean_q: float
    mean_s: float
    n: int
    replicates: dict[str, Floats]
    """quality, speed, score, mean_q, mean_s"""

    def estimate(self, name: str, unit: str = "") -> Estimate:
        """A mark as an estimate with its paired bootstrap interval."""
        value = float(getattr(self, name))
        if math.isnan(value):
            return Estimate(None, unit=unit, better=_BETTER[name], reason="no request was answered")
        method = "paired bootstrap over items"
        if name == "score" and value == 0:
            method = f"0: {'no request was answered' if math.isnan(self.mean_s) else 'not better than guessing'}"
        drawn = self.replicates[name]
        drawn = drawn[np.isfinite(drawn)]
        if self.n < 2 or len(drawn) < 2:
            return Estimate(value, None, None, self.n, unit, _BETTER[name], f"{method}; too few items")
        lo, hi = st.percentile_interval(drawn)
        method = f"{method}, {len(drawn)} resamples"
        return Estimate(value, min(lo, value), max(hi, value), self.n, unit, _BETTER[name], method)


_BETTER: dict[str, Better] = {
    "quality": "higher",
    "speed": "higher",
    "score": "higher",
    "mean_q": "higher",
    "mean_s": "lower",
}


def marks_of_task(task: str, systems: Sequence[Items]) -> list[Marks]:
    """The marks of all systems on one task, resampled together over the union of their items (clusters).

    Repeated runs are resampled too, and alike for all systems: they were interleaved, so they share what drifted.
    """
    units, count = _numbered([s.units for s in systems])
    if not count:
        return []
    weights = st.bootstrap_weights(count, f"balanced {task}")
    return [_marks(s, own, count, weights) for s, own in zip(systems, units)]


def _numbered(names: Sequence[Sequence[str]]) -> tuple[list[Ints], int]:
    """For each system the numbers of its names among those of all of them, sorted; and how many these are."""
    if len(names) == 1:  # in less memory: there may be as many as a long document has windows
        order = np.array(sorted(range(len(names[0])), key=names[0].__getitem__), dtype=np.int64)
        places, last = np.empty_like(order), ""
        number = -1
        for row in order:
            if (name := names[0][row]) != last or number < 0:
                number, last = number + 1, name
            places[row] = number
        return [places], number + 1
    index = {name: i for i, name in enumerate(sorted({name for own in names for name in own}))}
    return [np.array([index[name] for name in own], dtype=np.int64) for own in names], len(index)


def _marks(system: Items, units: Ints, count: int, weights: st.Resamples) -> Marks:
    repeats = np.unique(system.repeat)
    sums = _sums(system, units, count, None)
    if len(repeats) == 1:
        drawn = weights @ sums
    else:
        picked = st.bootstrap_weights(len(repeats), "repeats").counts[: len(weights)]
        drawn = np.zeros((len(weights), sums.shape[1]))
        for column, repeat in enumerate(repeats):
            drawn += picked[:, column, None] * (weights @ _sums(system, units, count, system.repeat == repeat))

    known = system.marks[~np.isnan(system.marks)]
    alike = known[0] if (known == known[0]).all() and known[0] in (0.0, 1.0) else None
    tries = len(np.unique(units))

    def means(sums: Floats) -> dict[str, Floats]:
        with np.errstate(invalid="ignore", divide="ignore"):
            q, s, t = (sums[..., i] / sums[..., i + 1] for i in (0, 2, 4))
        if alike is not None and q.ndim:
            q = st.all_alike(float(alike), tries, len(q))
        quality = quality_mark(q, system.chance)
        score = balanced_score(quality, s, system.weight)
        return {"quality": quality, "speed": s, "score": score, "mean_q": q, "mean_s": t}

    value = {k: float(v) for k, v in means(sums.sum(axis=0)).items()}
    return _of(value, int((~np.isnan(system.per_item(system.marks))).sum()), means(drawn))


def _sums(system: Items, units: Ints, count: int, inside: NDArray[np.bool_] | None) -> Floats:
    """Per unit: sum and number of the items' marks, speed marks and seconds, [units, 6]."""
    columns = []
    for values in (system.marks, speed_marks(system.seconds, system.tau), system.seconds):
        per_item = system.per_item(values, inside)
        columns.append(np.bincount(units, weights=np.nan_to_num(per_item), minlength=count))
        columns.append(np.bincount(units, weights=~np.isnan(per_item), minlength=count))
    return np.stack(columns, axis=1)


def _of(value: dict[str, float], n: int, replicates: dict[str, Floats]) -> Marks:
    v = value
    return Marks(v["quality"], v["speed"], v["score"], v["mean_q"], v["mean_s"], n, replicates)


def over_tasks(tasks: Sequence[Marks]) -> Marks:
    """Plain mean of the per-task marks; times as geometric mean, since tasks differ in scale."""
    length = min(len(t.replicates["score"]) for t in tasks)
    names = ("quality", "speed", "score", "mean_q", "mean_s")

    def joined(name: str, rows: Sequence[Floats]) -> Floats:
        stacked = np.stack(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.exp(np.log(stacked).mean(axis=0)) if name == "mean_s" else stacked.mean(axis=0)
        return np.asarray(mean, dtype=float)

    value = {n: float(joined(n, [np.array(getattr(t, n)) for t in tasks])) for n in names}
    drawn = {n: joined(n, [t.replicates[n][:length] for t in tasks]) for n in names}
    return _of(value, sum(t.n for t in tasks), drawn)
