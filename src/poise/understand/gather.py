"""Cells as they are estimated: repeats of one cell joined, with their columns, scores and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from poise.counted import counted
from poise.plan.spec import Analysis, Cell
from poise.store.lines import Targets
from poise.store.run import CellFolder, Run, Segment
from poise.types import LagSample, ResourceSample, State
from poise.understand import statistics as st
from poise.understand.attempts import NO_TIME
from poise.understand.derive import Columns, columns, pooled
from poise.understand.judged import join
from poise.understand.lean import Names
from poise.understand.score import Scores, pooled_scores, score_cell

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CellData:
    """One cell of one run, its repeats pooled."""

    run: str
    folder: CellFolder
    """The first repeat's."""
    deployment: str
    """The deployment's name, `name@run` where two runs measured the same cell."""
    cell: Cell
    analysis: Analysis
    columns: Columns
    scores: Scores
    samples: Targets
    segments: list[list[Segment]]
    resources: list[list[ResourceSample]]
    lags: list[list[list[LagSample]]]
    """Event-loop lateness of each client process of each repeat."""
    folders: int
    repeats: list[int]
    poise: str
    """Version that measured."""
    left_s: float = 0.0
    """What is left of a timed load's duration, over all repeats."""

    @property
    def planned(self) -> int:
        """Requests planned over all repeats; a timed load planned what it came to ask, once its time is over."""
        if not self.cell.load.timed:
            return self.cell.planned * self.folders
        return max(self.cell.planned * self.folders, len(self.columns) + 1) if self.left_s else len(self.columns)

    @property
    def judges(self) -> bool:
        """Whether this cell's answers are verdicts about answers of others."""
        return any(getattr(v.metric, "about_others", False) for v in self.scores.by_metric.values())

    @property
    def open_loop(self) -> bool:
        """Whether requests had times at which they were due."""
        return bool((self.columns.due_ns != NO_TIME).any())

    @cached_property
    def usual_gap_s(self) -> float:
        """Median gap between chunks; 0 where there are none."""
        return st.quantile(self.columns.gaps, 0.5) if len(self.columns.gaps) else 0.0

    @cached_property
    def items(self) -> tuple[Sequence[str], Ints]:
        """Sample ids in order of first appearance, and each row's index among them."""
        if self.columns.sample.distinct:
            return self.columns.sample, np.arange(len(self.columns))
        index: dict[str, int] = {}
        codes = np.fromiter((index.setdefault(s, len(index)) for s in self.columns.sample), np.int64)
        return Names(index), codes

    @cached_property
    def clusters(self) -> Ints | None:
        """For each item the index of its cluster; None where every item stands alone."""
        if not self.samples.cluster:
            return None
        names = [self.samples.cluster.get(s) for s in self.items[0]]
        if not any(names):
            return None
        index: dict[str, int] = {}
        codes = [index.setdefault(n or f"\0{i}", len(index)) for i, n in enumerate(names)]
        return np.array(codes, dtype=np.int64)

    @cached_property
    def time_groups(self) -> tuple[Ints, str] | None:
        """For each item the group within which its times depend on each other, and what these groups are.

        Static batches always; under concurrent loads blocks of √n requests in order of sending, where successive
        times are correlated (lag-1 autocorrelation above 2/√n; Box and Jenkins). None = times taken as independent.
        """
        c, load = self.columns, self.cell.load
        first = np.unique(self.items[1], return_index=True)[1]
        if load.form == "batch":
            index: dict[str | None, int] = {}
            names = [c.batch[i] for i in first]
            return np.array([index.setdefault(n, len(index)) for n in names], dtype=np.int64), "batch"
        if load.form == "closed" and load.width <= 1:
            return None
        order = first[np.argsort(c.sent_ns[first], kind="stable")]
        times = c.e2e_s[order][np.isfinite(c.e2e_s[order])]
        n = len(times)
        off = times - times.mean() if n else times
        if n < 32 or float(off[:-1] @ off[1:]) <= 2 / math.sqrt(n) * float(off @ off):
            return None
        size = math.ceil(math.sqrt(n))
        blocks = np.empty(len(first), dtype=np.int64)
        blocks[self.items[1][order]] = np.arange(len(order)) // size
        return blocks, f"block of {size} successive requests"

    @property
    def remote(self) -> bool:
        """Whether a server answered, so that the process watched here is the client alone."""
        return self.cell.source_kind == "api"

    def unit_names(self) -> Sequence[str]:
        """For each item the name under which it is resampled: its cluster, else itself."""
        if not self.samples.cluster:
            return self.items[0]
        found = [self.samples.cluster.get(s) for s in self.items[0]]
        return Names(f"\0{cluster}" if cluster else s for s, cluster in zip(self.items[0], found))


def gather(runs: Sequence[Run], allow_code: bool = False) -> list[CellData]:
    """All cells of the runs, in their order; colliding deployments are told apart by their run.

    How they are read (reference time, weight, limits) is the first run's word for all, so that they compare. Where a
    run judges the answers of another, its verdicts become their quality.
    """
    groups: dict[tuple[int, str], list[CellFolder]] = {}
    for number, run in enumerate(runs):
        for folder in run.cells():
            groups.setdefault((number, folder.cell.id), []).append(folder)
    names = _run_names(runs)
    owners: dict[tuple[str, str, str, str], set[int]] = {}
    for (number, _), folders in groups.items():
        owners.setdefault(_place(folders[0].cell), set()).add(number)
    clashing = {(place[1], number) for place, numbers in owners.items() if len(numbers) > 1 for number in numbers}
    found = []
    samples: dict[tuple[int, str], Targets] = {}
    for (number, _), folders in groups.items():
        cell = folders[0].cell
        deployment = cell.deployment.name
        if (deployment, number) in clashing:
            deployment = f"{deployment}@{names[number]}"
        key = (number, cell.task.items_sha)
        if key not in samples:
            samples[key] = folders[0].targets()
        parts = [columns(f) for f in folders]
        scores = [score_cell(f, c, samples[key], allow_code) for f, c in zip(folders, parts)]
        found.append(
            CellData(
                run=names[number],
                folder=folders[0],
                deployment=deployment,
                cell=cell,
                analysis=runs[0].manifest.study.analysis,
                columns=pooled(parts),
                scores=pooled_scores(scores),
                samples=samples[key],
                segments=[f.segments() for f in folders],
                resources=[f.resources() for f in folders],
                lags=[f.loop_lag() for f in folders],
                folders=len(folders),
                repeats=[f.cell.repeat for f in folders],
                poise=runs[number].manifest.poise,
                left_s=sum(f.left_s() for f in folders) if cell.load.timed else 0.0,
            )
        )
    return join(found)


def failures(data: CellData) -> dict[str, int]:
    """How many requests failed, by kind, the most frequent first."""
    kinds: dict[str, int] = {}
    for failure in data.columns.failure:
        if failure is not None:
            kinds[failure] = kinds.get(failure, 0) + 1
    return dict(sorted(kinds.items(), key=lambda kv: (-kv[1], kv[0])))


def state_of(data: CellData) -> tuple[State, str | None]:
    """Whether the cell was measured, and if not (wholly) why."""
    cell, c = data.cell, data.columns
    if cell.state != "planned":
        return "not_measurable", cell.reason
    crash = next((repeat[-1].error for repeat in data.segments if repeat and repeat[-1].error), None)
    if len(c) < data.planned:
        done = f"{len(c)} of {data.planned} requests done"
        if data.left_s:
            done = f"{counted(len(c), 'request')} done, {data.left_s:.3g} s of the duration left"
        if crash:
            return "failed", f"{crash} ({done})"
        return "partial", done
    if len(c) and not c.ok.any():
        kind = next(iter(failures(data)))
        return "failed", f"every request failed, most often: {kind}"
    return "ok", None


def _place(cell: Cell) -> tuple[str, str, str, str]:
    return (cell.model.name, cell.deployment.name, cell.task.name, cell.load.label)


def _run_names(runs: Sequence[Run]) -> list[str]:
    """The folders' names, numbered where two are called alike."""
    names: list[str] = []
    for run in runs:
        name, number = run.name, 2
        while name in names:
            name, number = f"{run.name}#{number}", number + 1
        names.append(name)
    return names
