"""Scores of groups of tasks that say how they are averaged: Σ wᵢ·mᵢ / Σ wᵢ, w = items of the task, or 1.

The tasks' items are drawn apart, so half widths add up as √Σ (wᵢ·hᵢ)² / Σ wᵢ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from poise.types import CellSummary, Estimate, UsageError
from poise.understand.estimates import absent
from poise.understand.gather import CellData

Named = dict[str, dict[str, Estimate]]


class Aggregate(Struct, frozen=True):
    """One metric of a group; `filters` None: of every filter that its tasks have."""

    metric: str
    by_size: bool
    filters: list[str] | None = None


class Group(Struct, frozen=True):
    name: str
    aggregate: list[Aggregate]


class _Member(Struct, frozen=True):
    data: CellData
    cell: CellSummary
    aggregate: list[Aggregate]


def task_groups(cells: Sequence[CellData], found: Sequence[CellSummary]) -> dict[tuple[str, str, str], Named]:
    """By system (model, deployment, load): each group's metrics, over the tasks that were asked of it."""
    members: dict[tuple[str, str, str], dict[str, list[_Member]]] = {}
    for data, cell in zip(cells, found):
        for group in _groups(data):
            place = members.setdefault((cell.model, cell.deployment, cell.load), {})
            place.setdefault(group.name, []).append(_Member(data, cell, group.aggregate))
    return {
        key: {name: scores for name, tasks in groups.items() if (scores := dict(_scores(tasks)))}
        for key, groups in members.items()
    }


def _groups(data: CellData) -> list[Group]:
    try:
        return msgspec.convert(data.cell.task.scoring.get("groups", []), list[Group])
    except msgspec.ValidationError as error:
        raise UsageError(f"{data.folder.path / 'cell.json'}: {error}; the file is damaged") from None


def _scores(members: Sequence[_Member]) -> Iterator[tuple[str, Estimate]]:
    for one in members[0].aggregate:
        there = list(dict.fromkeys(name for m in members for name in m.data.cell.task.metrics))
        names = [name for name in there if name.partition(".")[0] == one.metric]
        if one.filters is not None:
            names = [one.metric if f == "none" else f"{one.metric}.{f}" for f in one.filters]
        for name in names:
            having = [m for m in members if name in m.cell.estimates]
            if having:
                yield name, _mean(name, having, one.by_size)


def _mean(name: str, members: Sequence[_Member], by_size: bool) -> Estimate:
    estimates = [m.cell.estimates[name] for m in members]
    better = estimates[0].better
    for m, estimate in zip(members, estimates):
        if estimate.value is None:
            return absent(f"{m.cell.task}: {estimate.reason}", "", better)
    sizes = [len(m.data.items[0]) for m in members]
    weights = sizes if by_size else [1] * len(members)
    total = sum(weights)
    value = sum(w * (e.value or 0.0) for w, e in zip(weights, estimates)) / total
    method = f"mean of {len(members)} tasks{', weighted by their items' if by_size else ''}"
    halves = [(e.hi - e.lo) / 2 for e in estimates if e.lo is not None and e.hi is not None]
    if len(halves) < len(estimates):
        return Estimate(value, None, None, sum(sizes), "", better, f"{method}; not every task has an interval")
    half = math.sqrt(sum((w * h) ** 2 for w, h in zip(weights, halves))) / total
    return Estimate(value, value - half, value + half, sum(sizes), "", better, f"{method}; their half widths joined")
