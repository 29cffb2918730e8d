"""Two systems on the same items: paired differences with intervals, p-values and Holm's correction.

Items pair on (sample_id, draw, asked_sha). Other targets are refused; another prompt template is noted. Quality:
McNemar's exact test for right/wrong marks, else sign-flip permutation. Times: ratio of means over the items that both
answered, permutation of the differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from poise.store.run import Run
from poise.types import Estimate, UsageError
from poise.understand import statistics as st
from poise.understand.gather import CellData, gather
from poise.understand.questions import other_targets

Floats = NDArray[np.float64]
Key = tuple[str, str, str]

_TIMES = ("ttft_s", "tpot_s", "e2e_s")


class Difference(Struct, frozen=True):
    """One quantity of one task: b against a, over the `n` items that have it in both."""

    task: str
    load: str
    a: str
    b: str
    name: str
    value_a: float
    value_b: float
    difference: Estimate
    """value_b - value_a"""
    ratio: Estimate | None
    """value_b / value_a of a time; None for marks."""
    n: int
    p: float
    p_adjusted: float
    """Holm's correction over all rows."""

    @property
    def shown(self) -> bool:
        """Whether the data show a difference at all (adjusted p below .05)."""
        return self.p_adjusted < 0.05


class Comparison(Struct, frozen=True):
    """All paired differences, and what to keep in mind about them."""

    rows: list[Difference]
    notes: list[str] = field(default_factory=list)


def compare(a: Sequence[Run], b: Sequence[Run] | None = None, **where: str) -> Comparison:
    """Paired differences between the systems of `a` and of `b`, or between the systems within `a`.

    `where` keeps the cells whose model, deployment, task or load is the one given. With two sets of runs, cells of
    equal model, deployment, task and load pair; if each set has but one system, these two. Within one set the first
    system is the baseline of all others.
    """
    first = _kept(gather(a), where)
    pairs = _within(first) if b is None else _between(first, _kept(gather(b), where))
    if not pairs:
        raise UsageError("nothing to compare: no two cells share a task and a load; name them with model=, deployment=")
    rows: list[Difference] = []
    notes: list[str] = []
    for left, right in pairs:
        found, said = _pair(left, right)
        rows += found
        notes += [n for n in said if n not in notes]
    adjusted = st.holm([r.p for r in rows])
    return Comparison([replace(r, p_adjusted=p) for r, p in zip(rows, adjusted)], notes)


def _kept(cells: list[CellData], where: dict[str, str]) -> list[CellData]:
    known = {"model", "deployment", "task", "load"}
    if unknown := sorted(set(where) - known):
        raise UsageError(f"cells are chosen by {', '.join(sorted(known))}, not by {unknown[0]!r}")

    def fits(c: CellData) -> bool:
        model, deployment, load = _system(c)
        have = {"model": model, "deployment": deployment, "load": load, "task": c.cell.task.name}
        return all(have[k] == v for k, v in where.items())

    return [c for c in cells if len(c.columns) and fits(c)]


def _system(c: CellData) -> Key:
    return (c.cell.model.name, c.deployment, c.cell.load.label)


def _within(cells: list[CellData]) -> list[tuple[CellData, CellData]]:
    pairs = []
    for task in dict.fromkeys((c.cell.task.name, c.cell.load.label) for c in cells):
        same = [c for c in cells if (c.cell.task.name, c.cell.load.label) == task]
        pairs += [(same[0], other) for other in same[1:]]
    return pairs


def _between(first: list[CellData], second: list[CellData]) -> list[tuple[CellData, CellData]]:
    alone = len({_system(c) for c in first}) == 1 and len({_system(c) for c in second}) == 1
    return [
        (x, y)
        for x in first
        for y in second
        if x.cell.task.name == y.cell.task.name and (alone or _system(x) == _system(y))
    ]


# ---------------------------------------------------------------- one pair of cells


def _pair(a: CellData, b: CellData) -> tuple[list[Difference], list[str]]:
    task = a.cell.task
    if other_targets([a, b]):
        raise UsageError(
            f"{task.name}: {_label(a)} and {_label(b)} were scored against different targets; they cannot be compared"
        )
    names = (_label(a), _label(b))
    names = names if names[0] != names[1] else (f"{names[0]} ({a.run})", f"{names[1]} ({b.run})")
    rows_a, rows_b = asked(a), asked(b)
    shared = [k for k in rows_a if k in rows_b]
    notes = []
    if len(shared) < max(len(rows_a), len(rows_b)):
        notes.append(f"{task.name}: {len(shared)} items were asked alike of {len(rows_a)} and {len(rows_b)}")
    if not shared:
        return [], notes
    if _templates(a) != _templates(b):
        notes.append(f"{task.name}: {names[0]} and {names[1]} render prompts by different templates")
    rows = [rows_a[k] for k in shared], [rows_b[k] for k in shared]
    found = []
    if a.scores.first is not None and b.scores.first is not None:
        q = [means(side.scores.first.q, r) for side, r in zip((a, b), rows) if side.scores.first is not None]
        found.append(difference(a, names, "quality", q[0], q[1]))
    streamed = a.columns.streamed and b.columns.streamed
    for name in _TIMES if streamed else ("e2e_s",):
        times = [means(getattr(side.columns, name), r) for side, r in zip((a, b), rows)]
        found.append(difference(a, names, f"{name}.mean", times[0], times[1]))
    return [d for d in found if d is not None], notes


def _label(c: CellData) -> str:
    return f"{c.cell.model.name} on {c.deployment}"


def asked(c: CellData) -> dict[tuple[str, int, str], list[int]]:
    """Rows (one a repeat) of every question by (sample, draw, asked_sha)."""
    sha = {r.sample_id: r.asked_sha for r in c.folder.requests()}
    found: dict[tuple[str, int, str], list[int]] = {}
    for i in range(len(c.columns)):
        key = (c.columns.sample[i], int(c.columns.draw[i]), sha.get(c.columns.sample[i], ""))
        found.setdefault(key, []).append(i)
    return found


def _templates(c: CellData) -> set[str | None]:
    return {s.template_sha for repeat in c.segments for s in repeat if s.event == "start"}


def means(values: Floats, rows: list[list[int]]) -> Floats:
    """Mean of each item's repeats; NaN where one is missing or infinite."""
    finite = np.where(np.isfinite(values), values, np.nan)
    return np.array([float(np.mean(finite[r])) for r in rows])


def difference(cell: CellData, names: tuple[str, str], name: str, a: Floats, b: Floats) -> Difference | None:
    """The paired difference of one quantity, item by item; None for fewer than two items."""
    both = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[both], b[both]
    if len(a) < 2:
        return None
    mark = name == "quality"
    value, (lo, hi) = st.paired_difference(b, a, f"compare {len(a)}")
    unit = "" if mark else "s"
    method = "paired bootstrap over items"
    ratio = None
    if not mark and a.min() > 0:
        weights = st.bootstrap_weights(len(a), f"compare {len(a)}")
        drawn = (weights @ b) / (weights @ a)
        low, high = st.percentile_interval(drawn)
        ratio = Estimate(float(b.mean() / a.mean()), low, high, len(a), "×", "lower", method)
    if mark and np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
        p = st.mcnemar(int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum()))
    else:
        p = st.permutation(a, b)
    return Difference(
        task=cell.cell.task.name,
        load=cell.cell.load.label,
        a=names[0],
        b=names[1],
        name=name,
        value_a=float(a.mean()),
        value_b=float(b.mean()),
        difference=Estimate(value, lo, hi, len(a), unit, "higher" if mark else "lower", method),
        ratio=ratio,
        n=len(a),
        p=p,
        p_adjusted=math.nan,
    )
