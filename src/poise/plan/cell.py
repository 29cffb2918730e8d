"""One cell of a plan: what it asks under which settings, its identity, and why it cannot be measured if so."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import structs

from poise.plan.draw import Drawn, Items
from poise.plan.lengths import Fitter
from poise.plan.prompts import sha
from poise.plan.repeat import sequence
from poise.plan.schedule import planned
from poise.plan.sources import digest, sources
from poise.plan.spec import Cell, CellTask, Deployment, Generation, Load, Mode, Model, Study, TaskUse
from poise.plan.tokenizer import served
from poise.plan.trace import Trace, read_trace
from poise.types import UsageError

NEEDS = {
    "choice": ("score", "gives no prompt log-probabilities; try mode: generate"),
    "perplexity": ("score", "gives no prompt log-probabilities"),
    "batch": ("batch", "takes no static batches; try closed"),
    "concurrent": ("concurrent", "takes one request at a time; use closed: 1 or a batch"),
    "chat": ("chat", "takes no chat messages; say format: raw"),
}

NO_PART_OF_AN_ANSWER = ("tokenizer", "ready_s", "allow_key")
"""Options of a server that change no answer and no time: where a tokenizer lies (its content counts), waits, leave."""


class Capable(Protocol):
    """What a cell asks of a backend: what it can do."""

    capabilities: frozenset[str]


def make_cell(
    study: Study,
    model: Model,
    deployment: Deployment,
    backend: type[Capable],
    picked: tuple[str, str],
    drawn: Drawn,
    load: Load,
) -> tuple[Cell, Items]:
    """The cell of one model, deployment, task and load, and what it asks."""
    use, task = drawn.use, drawn.task
    generation, options, prompt = _overridden(study, model, deployment, drawn, load)
    deployment = structs.replace(deployment, options={**deployment.options, **options})
    format = model.format
    generation = structs.replace(generation, max_tokens=generation.max_tokens or task.max_tokens)
    if not hasattr(task, "temperature"):  # 0 said and 0 by default are the same
        generation = structs.replace(generation, temperature=generation.temperature or None)
    trace = replayed(study, load)
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
            {k: v for k, v in deployment.options.items() if k not in NO_PART_OF_AN_ANSWER},
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


def replayed(study: Study, load: Load) -> Trace:
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
        if matches(override.when, model, deployment, use, load):
            generation |= override.generation
            options |= override.options
            prompt |= override.prompt
    return msgspec.convert(generation, Generation), options, prompt


def matches(selector: dict[str, str], model: Model, deployment: Deployment, use: TaskUse, load: Load) -> bool:
    there = {"model": model.name, "deployment": deployment.name, "task": use.name, "load": load.label}
    return all(fnmatchcase(there[k], pattern) for k, pattern in selector.items())


def _missing_capability(
    backend: type[Capable], deployment: Deployment, mode: Mode, load: Load, format: str
) -> str | None:
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
            return f"{deployment.backend} {advice}"
    return None
