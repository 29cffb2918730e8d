"""A study expanded: which cells there are, and which requests each asks. Pure and seeded; asks no engine anything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from poise import registry
from poise.plan import search
from poise.plan.kept import Kept
from poise.plan.lengths import Fitter
from poise.plan.prompts import Asker, sha, sha_of_each, warmups
from poise.plan.repeat import asked, sequence
from poise.plan.schedule import Extent, due_times, planned
from poise.plan.sources import digest, has_chat_template, pick, sources
from poise.plan.spec import Cell, CellTask, Deployment, Generation, Load, Mode, Model, Study, TaskUse
from poise.plan.tokenizer import Folder, served
from poise.plan.trace import Trace, read_trace
from poise.types import Request, Sample, UsageError

NEEDS = {
    "choice": ("score", "gives no prompt log-probabilities; try mode: generate"),
    "perplexity": ("score", "gives no prompt log-probabilities"),
    "batch": ("batch", "takes no static batches; try closed"),
    "concurrent": ("concurrent", "takes one request at a time; use closed: 1 or a batch"),
    "chat": ("chat", "takes no chat messages; say format: raw"),
}


@dataclass(frozen=True)
class Items:
    """What is asked of every cell that shares an `items_sha`: requests in plan order, and their samples.

    The first requests are those of the samples, one by one; further draws follow when all have had one.
    """

    requests: Kept[Request]
    samples: Kept[Sample]

    def first(self, count: int) -> Items:
        """The first `count` requests alone."""
        return Items(self.requests[:count], self.samples[:count])

    @cached_property
    def facts(self) -> Facts:
        asked, turns = [], False
        for r in self.requests:
            asked.append((r.sample_id, r.draw))
            turns = turns or bool(r.turns)

        def in_order(count: int) -> list[int]:
            return sorted(range(count), key=asked.__getitem__)

        return Facts(
            sha_of_each((r.sample_id, r.draw, r.asked_sha) for r in self.requests.picked(in_order(len(asked)))),
            sha_of_each((s.id, s.target, s.choices) for s in self.samples.picked(in_order(len(self.samples)))),
            turns,
        )


class Facts(NamedTuple):
    """What is known of items once all have been gone through."""

    items_sha: str
    """Of which samples are asked, how often and how."""
    target_sha: str
    """Of what counts as right."""
    turns: bool
    """Whether any of the requests is a conversation."""


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
        return due_times(cell.load, requests, cell.seed, _trace(self.study, cell.load).rows)

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
    tasks = {use.name: Drawn(study, use, allow_code) for use in study.tasks}
    cells: list[Cell] = []
    items: dict[str, Items] = {}
    searches: dict[str, Callable[[Load], tuple[Cell, Items]]] = {}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for model in study.models:
        readers = _readers(study, model, allow_code)
        if readers and model.format == "auto":
            used = {kind for _, _, (kind, _) in readers}
            chat = has_chat_template(sources(model, study.base_dir), used, model.revision)
            model = structs.replace(model, format="chat" if chat else "raw")
        for deployment, backend, picked in readers:
            found[model.name, deployment.name] = picked
            for use in study.tasks:
                for load in study.loads:
                    if _selected(study, model, deployment, use, load):
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


class Drawn:
    """A task of the study with its samples drawn once: the same items for every model and deployment."""

    def __init__(self, study: Study, use: TaskUse, allow_code: bool) -> None:
        from poise.tasks.build import get_task
        from poise.tasks.data import data_sha

        self.study, self.use = study, use
        self.task: Any = get_task(_beside(use.task, study.base_dir), allow_code=allow_code)
        self.mode: Mode = self._mode()
        self._check_options()
        self.data = data = _data(use.data, study.base_dir) or getattr(self.task, "data", None)
        # A task that is itself a file is part of what was asked.
        files = [*getattr(self.task, "files", ()), *(data if isinstance(data, list) else [data] if data else [])]
        self.shots, self.shot_count = self._shots()
        samples: Kept[Sample] = Kept(self.task.samples(data, dict(use.options)))
        if not samples:
            raise UsageError(f"task {use.name!r}: {use.data or 'the generator'} gives no items; nothing can be asked")
        self.all = samples
        """In the order of the data; `samples` is the draw from them."""
        self.samples = samples.picked(self._draw(samples))
        if own := getattr(self.task, "data_sha", None):  # where the data are no files to be hashed as they are
            self.data_sha = own(samples)
        else:
            self.data_sha = data_sha(files) if files else f"generated v{self.task.version}"
        self._asked: dict[str, Items] = {}
        self.fitter = cache(lambda home, chat: Fitter(Folder(home), chat))

    def _draw(self, samples: Kept[Sample]) -> list[int]:
        from poise.tasks.build import draw, draw_clusters

        use, seed = self.use, self.study.seed
        if use.balance is None and getattr(self.task, "drawn_by_cluster", False):
            return draw_clusters(samples, use.limit, seed)
        return draw(samples, use.limit, use.balance, seed)

    def _mode(self) -> Mode:
        modes = tuple(getattr(self.task, "modes", ("generate",)))
        mode: Mode = self.use.mode or modes[0]
        if mode not in modes:
            raise UsageError(f"task {self.use.name!r} has no mode {mode!r}; it has: {', '.join(modes)}")
        return mode

    def _check_options(self) -> None:
        use = self.use
        known = getattr(self.task, "options", None)
        for key in use.options:
            if known is not None and key not in known:
                raise UsageError(f"task {use.name!r}: unknown option {key!r}{registry.did_you_mean(key, known)}")

    def _shots(self) -> tuple[list[Sample], int]:
        """The examples that are shown, and their number: some tasks show examples of their own making."""
        if take := getattr(self.task, "take_shots", None):
            return [], take(self.use.shots)
        there = list(getattr(self.task, "shot_samples", ()))
        count = self.use.shots if self.use.shots is not None else getattr(self.task, "shots", 0)
        if count > len(there):
            raise UsageError(
                f"task {self.use.name!r} has {len(there)} examples to show, the study asks for {count} shots"
            )
        return there[:count], count

    def ask(
        self,
        model: Model,
        format: str,
        generation: Generation,
        prompt: dict[str, str],
        load: Load,
        trace: Trace,
        fitter: Fitter | None,
    ) -> Items:
        """Requests for one way of asking, made once and shared by all cells that ask so.

        A task of given lengths makes its prompts after the load's trace, row for row.
        """
        rows = trace.rows[: load.requests][: self.use.limit] if hasattr(self.task, "traced") else ()
        key = sha([format, model.system, generation, prompt, trace.sha if rows else None, len(rows)])
        key += fitter.sha if fitter else ""
        if key not in self._asked:
            samples = Kept(self.task.traced(rows, dict(self.use.options))) if rows else self.samples
            asker = Asker(
                self.task,
                format=format,
                mode=self.mode,
                system=model.system,
                shots=self.shots,
                generation=generation,
                prompt=prompt,
                seed=self.study.seed,
            )

            def made(sample: Sample, draw: int) -> Request:
                request = asker.request(sample, draw)
                return fitter.fit(request, self.task.parts(sample)) if fitter else request

            requests = (made(s, d) for d in range(generation.draws) for s in samples)
            self._asked[key] = Items(Kept(requests, Request), samples)
        return self._asked[key]


def make_cell(
    study: Study,
    model: Model,
    deployment: Deployment,
    backend: Any,
    picked: tuple[str, str],
    drawn: Drawn,
    load: Load,
) -> tuple[Cell, Items]:
    use, task = drawn.use, drawn.task
    generation, options, prompt = _overridden(study, model, deployment, drawn, load)
    deployment = structs.replace(deployment, options={**deployment.options, **options})
    format = model.format
    generation = structs.replace(generation, max_tokens=generation.max_tokens or task.max_tokens)
    if not hasattr(task, "temperature"):  # 0 said and 0 by default are the same
        generation = structs.replace(generation, temperature=generation.temperature or None)
    trace = _trace(study, load)
    load = structs.replace(load, trace_sha=trace.sha)
    fitter = _fitter(study, model, deployment, picked[0], drawn, format)
    asked = drawn.ask(model, format, generation, prompt, load, trace, fitter)
    rows = trace.rows[: len(asked.samples)] if hasattr(task, "traced") else trace.rows
    count = planned(load, len(asked.requests), study.seed, rows)
    if count == 0:
        raise UsageError(f"load {load.label}: no request falls due within {load.duration_s:g} s; make it longer")
    if count < len(asked.requests):
        asked = asked.first(count)
    cell_task = CellTask(
        name=use.name,
        task=use.task,
        version=task.version,
        mode=drawn.mode,
        data_sha=drawn.data_sha,
        target_sha=asked.facts.target_sha,
        items_sha=sha([asked.facts.items_sha, fitter.sha]) if fitter else asked.facts.items_sha,
        extract=use.extract or task.extract,
        metrics=tuple(task.metrics),
        chance=task.chance,
        n_ref=task.n_ref,
        tau=getattr(task, "tau", "conversational"),
        shots=drawn.shot_count,
        options=use.options,
        prompt=prompt,
        scoring=getattr(task, "scoring", {}),
        fitted_by=fitter.folder.sha if fitter else None,
    )
    source_sha = digest(*picked, model.revision)
    identity = {
        "model": [source_sha, model.adapter, model.weights, format, model.system],
        # an endpoint has no digest: two servers of one model differ only by the name the user gives them
        "deployment": [
            deployment.backend, deployment.device, deployment.dtype, deployment.quantization,
            {k: v for k, v in deployment.options.items() if k != "tokenizer"},
            deployment.server, deployment.name if picked[0] == "api" else None, *([fitter.sha] if fitter else []),
        ],
        "task": [
            task.name, task.version, drawn.data_sha, drawn.mode, drawn.shot_count, use.options, prompt, use.balance,
        ],
        "load": _shape(load, count),
        "generation": generation,
        "seed": study.seed,
    }  # fmt: skip
    reason = _missing_capability(backend, deployment, drawn.mode, load, format)
    cell = Cell(
        id=sha(identity)[:12],
        model=model,
        deployment=deployment,
        task=cell_task,
        load=load,
        generation=generation,
        seed=study.seed,
        planned=sum(len(r.parts) for r in islice(sequence(asked.requests), count)) if asked.facts.turns else count,
        source_kind=picked[0],
        source_sha=source_sha,
        state="not_measurable" if reason else "planned",
        reason=reason,
    )
    return cell, asked


def _fitter(study: Study, model: Model, deployment: Deployment, kind: str, drawn: Drawn, format: str) -> Fitter | None:
    """What cuts prompts of given lengths for a server; None for other engines and tasks, or without its tokenizer."""
    if kind != "api" or not hasattr(drawn.task, "parts"):
        return None
    home = served(deployment.options.get("tokenizer"), sources(model, study.base_dir).get("hf"), study.base_dir)
    chat = format == "chat" or deployment.options.get("endpoint") == "chat"
    return drawn.fitter(home, chat) if home else None


def _shape(load: Load, count: int) -> Load:
    """The load without how long it goes on: raising that asks only more. A ramp is another one if it takes longer."""
    if load.kind == "ramp":
        return structs.replace(load, requests=None if load.duration_s else count)
    return structs.replace(load, requests=None, duration_s=None, trace=None)


def _trace(study: Study, load: Load) -> Trace:
    """What the load replays; nothing for all other loads."""
    return read_trace(Path(study.base_dir) / Path(load.trace).expanduser()) if load.trace else Trace((), "")


def _overridden(
    study: Study, model: Model, deployment: Deployment, drawn: Drawn, load: Load
) -> tuple[Generation, dict[str, Any], dict[str, str]]:
    """Later wins: task, study's generation, the task entry's, overrides."""
    use = drawn.use
    generation = {**getattr(drawn.task, "generation", {}), **study.generation, **use.generation}
    options: dict[str, Any] = {}
    prompt = dict(use.prompt)
    for override in study.overrides:
        if _matches(override.when, model, deployment, use, load):
            generation |= override.generation
            options |= override.options
            prompt |= override.prompt
    return msgspec.convert(generation, Generation), options, prompt


def _matches(selector: dict[str, str], model: Model, deployment: Deployment, use: TaskUse, load: Load) -> bool:
    there = {"model": model.name, "deployment": deployment.name, "task": use.name, "load": load.label}
    return all(fnmatchcase(there[k], pattern) for k, pattern in selector.items())


def _selected(study: Study, model: Model, deployment: Deployment, use: TaskUse, load: Load) -> bool:
    coordinates = (model, deployment, use, load)
    included = not study.include or any(_matches(s, *coordinates) for s in study.include)
    return included and not any(_matches(s, *coordinates) for s in study.exclude)


def _missing_capability(backend: Any, deployment: Deployment, mode: Mode, load: Load, format: str) -> str | None:
    there = set(getattr(backend, "capabilities_of", lambda d: backend.capabilities)(deployment))
    needed: list[str] = [mode] if mode != "generate" else []
    if format == "chat":
        needed.append("chat")
    if load.form == "batch":
        needed.append("batch")
    elif load.form == "open" or load.width > 1:
        needed.append("concurrent")
    for need in needed:
        capability, advice = NEEDS[need]
        if capability not in there:
            if need == "concurrent" and load.scenario == "offline" and "batch" in there:
                advice = "takes requests in batches; say of how many: {mlperf: offline, at_once: 16}"
            return f"not measurable: {deployment.backend} {advice}"
    return None


def _check_options(deployment: Deployment, backend: Any) -> None:
    known = list(getattr(backend.Options, "__struct_fields__", ()))
    for key in deployment.options:
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


def _data(data: str | list[str] | None, base_dir: str) -> Any:
    if isinstance(data, list):
        return [_data(part, base_dir) for part in data]
    if data is None or data.startswith("hub:") or Path(data).expanduser().is_absolute():
        return data if data is None or data.startswith("hub:") else str(Path(data).expanduser())
    return str(Path(base_dir) / data)


def _beside(task: str, base_dir: str) -> str:
    """File tasks (file.yaml, lm-eval:file.yaml, file.py:Name) are relative to the study."""
    if task.startswith(registry.LM_EVAL):
        name = task.removeprefix(registry.LM_EVAL)
        file = name.partition("::")[0].endswith((".yaml", ".yml"))
        return registry.LM_EVAL + (str(Path(base_dir) / name) if file else name)
    return str(Path(base_dir) / task) if task.endswith((".yaml", ".yml")) or ".py:" in task else task


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
