"""Systems (model x deployment x load) over all their tasks: balanced score, marks, frontier probability.

A system's score is the plain mean of its tasks' scores, over every task that any system of the same load was scored
on: one that lacks a task has no score rather than one over easier questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from poise.types import Estimate, ModelSummary
from poise.understand.balanced import FACTORS, Items, Marks, items, marks_of_task, over_tasks
from poise.understand.estimates import absent
from poise.understand.frontier import front_probability, on_front
from poise.understand.gather import CellData

Key = tuple[str, str, str]


@dataclass(frozen=True)
class System:
    """One model x deployment x load with everything the verdict needs."""

    model: str
    deployment: str
    load: str
    items: dict[str, Items]
    """By task, in the order of the cells."""
    tasks: dict[str, Marks]
    overall: Marks | None
    reason: str | None
    p_frontier: float | None = None
    on_frontier: bool = False

    def score(self, factor: float = 1.0) -> float:
        """B over all tasks at τ·factor."""
        return float(np.mean([i.score(factor) for i in self.items.values()]))


def systems(cells: Sequence[CellData]) -> list[System]:
    """All systems in the order of their first cells."""
    keys = list(dict.fromkeys(key_of(c) for c in cells))
    of_cell = {id(c): items(c) for c in cells}
    marks = _marks(cells, of_cell)
    required: dict[str, list[str]] = {}
    for c in cells:
        if isinstance(of_cell[id(c)], Items) and c.cell.task.name not in required.setdefault(key_of(c)[2], []):
            required[key_of(c)[2]].append(c.cell.task.name)
    found = []
    for key in keys:
        own = [c for c in cells if key_of(c) == key]
        reasons = {c.cell.task.name: r for c in own if isinstance(r := of_cell[id(c)], str)}
        mine = {c.cell.task.name: i for c in own if isinstance(i := of_cell[id(c)], Items)}
        tasks = {c.cell.task.name: marks[id(c)] for c in own if id(c) in marks}
        needed = required.get(key[2], [])
        lacking = [t for t in needed if t not in tasks]
        overall, reason = None, None
        if lacking:
            reason = f"no score on {lacking[0]}: {reasons.get(lacking[0], 'not measured')}"
        elif not tasks:
            reason = next(iter(reasons.values()), "nothing was measured")
        else:
            overall = over_tasks([tasks[t] for t in needed])
        found.append(System(*key, {t: mine[t] for t in needed if t in mine}, tasks, overall, reason))
    return _with_frontier(found)


def key_of(cell: CellData) -> Key:
    return (cell.cell.model.name, cell.deployment, cell.cell.load.label)


def _marks(cells: Sequence[CellData], of_cell: dict[int, Items | str]) -> dict[int, Marks]:
    """Marks of every cell by identity, all cells of one task resampled together."""
    by_task: dict[str, list[CellData]] = {}
    for c in cells:
        if isinstance(of_cell[id(c)], Items):
            by_task.setdefault(c.cell.task.name, []).append(c)
    found: dict[int, Marks] = {}
    for task, members in by_task.items():
        own = [i for c in members if isinstance(i := of_cell[id(c)], Items)]
        found |= {id(c): m for c, m in zip(members, marks_of_task(task, own))}
    return found


def _with_frontier(found: list[System]) -> list[System]:
    """The same systems with their place on the front of their load."""
    out = list(found)
    for load in dict.fromkeys(s.load for s in found):
        at = [i for i, s in enumerate(found) if s.load == load and s.overall is not None]
        marks = [o for i in at if (o := found[i].overall) is not None]
        if not marks:
            continue
        length = min(len(m.replicates["quality"]) for m in marks)
        drawn = [np.stack([m.replicates[n][:length] for m in marks], axis=-1) for n in ("quality", "speed")]
        chance = front_probability(np.nan_to_num(drawn[0]), np.nan_to_num(drawn[1]))
        now = on_front(np.array([m.quality for m in marks]), np.array([m.speed for m in marks]))
        for i, p, member in zip(at, chance, now):
            out[i] = replace(found[i], p_frontier=float(p), on_frontier=bool(member))
    return out


def model_summary(system: System, groups: dict[str, dict[str, Estimate]]) -> ModelSummary:
    """The row of CONTRACT §6 for one system; `groups` are the scores of its groups of tasks."""
    overall = system.overall
    reason = system.reason or ""
    missing = {
        name: absent(reason, unit, "higher") for name, unit in (("score", "0–100"), ("quality", ""), ("speed", ""))
    }
    marks = missing if overall is None else {n: overall.estimate(n, missing[n].unit) for n in missing}
    return ModelSummary(
        model=system.model,
        deployment=system.deployment,
        load=system.load,
        balanced=marks["score"],
        quality=marks["quality"],
        speed=marks["speed"],
        p_frontier=system.p_frontier,
        tasks={task: task_marks(m) for task, m in system.tasks.items()},
        sensitivity={n: None if overall is None else system.score(f) for n, f in FACTORS.items()},
        groups=groups,
    )


def task_marks(marks: Marks) -> dict[str, Estimate]:
    """One task's marks by the names of `ModelSummary.tasks`."""
    return {
        "balanced": marks.estimate("score", "0–100"),
        "quality_mark": marks.estimate("quality"),
        "speed_mark": marks.estimate("speed"),
        "quality": marks.estimate("mean_q"),
        "e2e_s": marks.estimate("mean_s", "s"),
    }
