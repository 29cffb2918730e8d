"""A study expanded: which cells there are, and which requests each asks. Pure and seeded; asks no engine anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from msgspec import structs

from poise import registry
from poise.plan import search
from poise.plan.cell import make_cell, matches, replayed
from poise.plan.draw import Drawn, Items
from poise.plan.prompts import warmups
from poise.plan.repeat import asked
from poise.plan.schedule import Extent, due_times
from poise.plan.sources import has_chat_template, pick, sources
from poise.plan.spec import Cell, Deployment, Load, Model, Study, TaskUse
from poise.protocols import Backend
from poise.types import Request, UsageError


@dataclass(frozen=True)
class Plan:
    """All cells of a study (repeats included) in plan order, their items, and where each model's artefact is."""

    study: Study
    cells: list[Cell]
    items: dict[str, Items]
    sources: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(model, deployment) -> kind of source, and its resolved path or name."""
    searches: dict[str, Callable[[Load], tuple[Cell, Items]]] = field(default_factory=dict)
    """Id of a cell that searches -> what makes the cell of one of its probes."""

    def __str__(self) -> str:
        from poise.plan.estimate import describe

        return describe(self)

    @property
    def requests(self) -> int:
        return sum(c.planned for c in self.cells if c.state == "planned")

    def due_ns(self, cell: Cell) -> list[int] | None:
        """When each of the cell's requests is due, from the start of its load; None where none has a due time."""
        if cell.load.form != "open":
            return None
        requests = sum(1 for _ in asked(self.items[cell.task.items_sha].requests, cell.planned))
        return due_times(cell.load, requests, cell.seed, replayed(self.study, cell.load).rows)

    def extent(self, cell: Cell) -> Extent:
        """How many requests the cell makes, and how long its load goes on; None for what shows only afterwards."""
        load = cell.load
        if load.kind == "search" or load.timed:
            return Extent(None, load.duration_s if load.timed else None)
        due_ns = self.due_ns(cell) if load.duration_s is None else None
        return Extent(cell.planned, due_ns[-1] / 1e9 if due_ns else load.duration_s)

    def probe(self, cell: Cell, rate: float) -> tuple[Cell, Items]:
        """The open loop by which a search tries one rate: the same cell as if the study had named that load."""
        made, asked = self.searches[cell.id](search.probe(cell.load, rate))
        return structs.replace(made, repeat=cell.repeat), asked

    def contains(self, cell: Cell) -> bool:
        """Whether the cell is one of the plan, or a probe of one of its searches."""
        if any(cell.folder == c.folder for c in self.cells):
            return True
        near = [c for c in self.cells if c.id in self.searches and c.repeat == cell.repeat]
        return any(
            cell.load.value in search.ladder(c.load) and self.probe(c, cell.load.value)[0].folder == cell.folder
            for c in near
        )

    def warmup(self, cell: Cell) -> list[Request]:
        """The cold request and the study's warm-ups for a worker that starts with this cell."""
        return warmups(self.items[cell.task.items_sha].requests, 1 + self.study.warmup)


def plan(study: Study, *, allow_code: bool = False) -> Plan:
    """Expand a study. UsageError for what can be known beforehand to be wrong; asks no engine, starts nothing."""
    read_by = {model.name: _readers(study, model, allow_code) for model in study.models}
    read = [(*picked, model.revision) for model in study.models for *_, picked in read_by[model.name]]
    tasks = {use.name: Drawn(study, use, allow_code, read) for use in study.tasks}
    cells: list[Cell] = []
    items: dict[str, Items] = {}
    searches: dict[str, Callable[[Load], tuple[Cell, Items]]] = {}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for model in study.models:
        readers = read_by[model.name]
        if readers and model.format == "auto":
            used = {kind for _, _, (kind, _) in readers}
            chat = has_chat_template(sources(model, study.base_dir), used, model.revision)
            model = structs.replace(model, format="chat" if chat else "raw")
        for deployment, backend, picked in readers:
            for use in study.tasks:
                for load in study.loads:
                    if _selected(study, model, deployment, use, load):
                        found[model.name, deployment.name] = picked
                        make = partial(make_cell, study, model, deployment, backend, picked, tasks[use.name])
                        cell, asked = make(load)
                        if load.kind == "search":  # asks nothing itself
                            _check_limits(study)
                            cell = structs.replace(cell, planned=0)
                            searches[cell.id] = make
                        cells += [structs.replace(cell, repeat=r) for r in range(study.repeats)]
                        items[cell.task.items_sha] = asked
    if not cells:
        raise UsageError(_why_nothing(study))
    _refuse_twins(cells)
    return Plan(study, cells, items, found, searches)


def _check_limits(study: Study) -> None:
    if not [name for name in study.analysis.slo if name != "percentile"]:
        raise UsageError(
            "a search needs limits to meet: analysis: {slo: {ttft_s: 1, tpot_s: 0.05, percentile: 99}}, or --slo"
        )


def _readers(study: Study, model: Model, allow_code: bool) -> list[tuple[Deployment, Any, tuple[str, str]]]:
    """The deployments that can read this model: with their backend and the (kind, source) they take."""
    found = []
    for deployment in study.deployments:
        backend = registry.lookup("backend", deployment.backend, allow_code)
        _check_options(deployment, backend)
        if picked := pick(model, deployment, tuple(backend.reads), study.base_dir):
            found.append((deployment, backend, picked))
    return found


def _selected(study: Study, model: Model, deployment: Deployment, use: TaskUse, load: Load) -> bool:
    coordinates = (model, deployment, use, load)
    included = not study.include or any(matches(s, *coordinates) for s in study.include)
    return included and not any(matches(s, *coordinates) for s in study.exclude)


def _check_options(deployment: Deployment, backend: type[Backend]) -> None:
    known = list(getattr(backend.Options, "__struct_fields__", ()))
    for key in deployment.options:
        if key in Deployment.__struct_fields__:
            raise UsageError(
                f"deployment {deployment.name!r}: {key} is no option: write it beside `options`, not in it"
            )
        if key not in known:
            raise UsageError(
                f"deployment {deployment.name!r}: backend {deployment.backend} has no option {key!r}"
                + (registry.did_you_mean(key, known) if known else "; it has none")
            )
    try:
        msgspec.convert(deployment.options, backend.Options)
    except msgspec.ValidationError as error:
        raise UsageError(f"deployment {deployment.name!r}, options: {error}") from None


def _refuse_twins(cells: list[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        twin = seen.setdefault(cell.folder, cell)
        if twin is not cell:
            raise UsageError(
                f"{label(twin)} and {label(cell)} would measure the same thing under two names; remove one of them"
            )


def label(cell: Cell) -> str:
    """`model on deployment, task, load`: how messages name a cell."""
    return f"{cell.model.name} on {cell.deployment.name}, {cell.task.name}, {cell.load.label}"


def _why_nothing(study: Study) -> str:
    reads = {d.name: "/".join(registry.lookup("backend", d.backend, True).reads) for d in study.deployments}
    has = {m.name: "/".join(sources(m, study.base_dir)) for m in study.models}
    if study.include or study.exclude:
        return "include and exclude leave no cell to run"
    return (
        "no model has a source that a deployment reads: "
        + ", ".join(f"{m} has {k}" for m, k in has.items())
        + "; "
        + ", ".join(f"{d} reads {k}" for d, k in reads.items())
    )


def workers(plan: Plan) -> list[list[Cell]]:
    """Planned cells by worker (model x deployment x repeat); repeats are interleaved, so that drift is no effect."""
    groups: dict[tuple[int, str, str], list[Cell]] = {}
    for cell in plan.cells:
        if cell.state == "planned":
            groups.setdefault((cell.repeat, cell.model.name, cell.deployment.name), []).append(cell)
    order = sorted(groups, key=lambda key: key[0])
    if plan.study.repeats > 1:  # another order in every repeat: neighbours change too
        shuffled: list[tuple[int, str, str]] = []
        for repeat in range(plan.study.repeats):
            keys = [k for k in order if k[0] == repeat]
            random.Random(f"{plan.study.seed}/{repeat}").shuffle(keys)
            shuffled += keys
        order = shuffled
    return [groups[key] for key in order]
