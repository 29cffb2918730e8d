"""Run folders written by hand from lists of exact times: the fixtures of everything that reads run folders.

run = write_run(tmp_path / "r", [cell("s", "sst2", [asked("a", "positive", "positive", e2e_s=1.5), …]), …])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from poise.plan.spec import (
    Analysis,
    Cell,
    CellTask,
    Deployment,
    Generation,
    Load,
    Mode,
    Model,
    Study,
    TaskUse,
)
from poise.store.files import encode_pretty
from poise.store.run import Manifest, Segment
from poise.types import FORMAT, Batch, Failure, LagSample, Record, Request, ResourceSample, Sample, Status, Timeline

SECOND = 1_000_000_000


@dataclass
class Asked:
    """One item, what was answered, and when."""

    sample: Sample
    records: list[Record]


@dataclass
class CellSpec:
    """One cell of a run folder to be written."""

    model: str
    task: str
    asked: list[Asked]
    deployment: str = "onnx"
    load: Load = field(default_factory=lambda: Load("closed", 1))
    mode: Mode = "generate"
    metrics: tuple[str, ...] = ("exact_match",)
    extract: str = "first_line"
    chance: float = 0.0
    n_ref: float = 10.0
    tau: str = "conversational"
    repeat: int = 0
    planned: int | None = None
    state: str = "planned"
    reason: str | None = None
    segments: list[Segment] = field(default_factory=list)
    resources: list[ResourceSample] = field(default_factory=list)
    lags: list[LagSample] = field(default_factory=list)
    source_kind: str = "bundled"
    generation: Generation = field(default_factory=Generation)
    deployment_spec: Deployment | None = None
    target_sha: str | None = None
    """Also names the files of its items: cells of another one have files of their own."""
    wording: str = "asked"


def ns(seconds: float) -> int:
    return round(seconds * SECOND)


def asked(
    id: str,
    target: Any,
    text: str | list[str] = "",
    *,
    sent_s: float = 0.0,
    at_s: list[float] | None = None,
    e2e_s: float | None = None,
    status: Status = "ok",
    **more: Any,
) -> Asked:
    """One item and its record: pieces of `text` at `at_s` seconds after sending (one piece at `e2e_s`).

    `more`: fields of Record, of Sample (choices, category, cluster), `kind` of failure, `due_s`, `batch=(id, size,
    start_s, end_s)`, `done_s` (default: the last piece).
    """
    pieces = [text] if isinstance(text, str) else text
    stamps = at_s if at_s is not None else [e2e_s] if e2e_s is not None else []
    times = [ns(t) for t in stamps]
    deltas = [b - a for a, b in zip([0, *times], times)]
    sample_fields = {k: more.pop(k) for k in ("choices", "category", "cluster", "fields") if k in more}
    sample = Sample(
        id=id, fields=sample_fields.pop("fields", {"text": f"question {id}"}), target=target, **sample_fields
    )
    done = ns(more.pop("done_s")) if "done_s" in more else (times[-1] if times else 0)
    due = more.pop("due_s", None)
    batch = more.pop("batch", None)
    kind = more.pop("kind", None)
    if batch is not None:
        batch = Batch(batch[0], batch[1], ns(batch[2]), ns(batch[3]))
    record = Record(
        request_id=more.pop("request_id", id),
        sample_id=id,
        status=status,
        due_ns=None if due is None else ns(due),
        timeline=None if status == "skipped" else Timeline(ns(sent_s), deltas, done),
        pieces=pieces if times else [],
        batch=batch,
        error=Failure(kind or "http", "it failed") if status == "error" else None,
        **more,
    )
    return Asked(sample, [record])


def cell(model: str, task: str, items: list[Asked], **more: Any) -> CellSpec:
    """A cell to be written; `more` are fields of CellSpec."""
    return CellSpec(model, task, items, **more)


def write_run(path: Path, cells: list[CellSpec], analysis: Analysis | None = None, name: str = "study") -> Path:
    """A complete run folder of the given cells."""
    (path / "inputs").mkdir(parents=True)
    models = {c.model: Model(name=c.model, source={"bundled": c.model}, format="raw") for c in cells}
    deployments = {c.deployment: c.deployment_spec or Deployment(c.deployment, "scripted") for c in cells}
    loads = {c.load.label: c.load for c in cells}
    study = Study(
        name=name,
        models=list(models.values()),
        deployments=list(deployments.values()),
        tasks=[TaskUse(task=t, name=t) for t in dict.fromkeys(c.task for c in cells)],
        loads=list(loads.values()),
        analysis=analysis or Analysis(),
    )
    manifest = Manifest(FORMAT, "0.1.0", study, "", ["poise", "run"])
    (path / "manifest.json").write_bytes(encode_pretty(manifest))
    (path / "environment.json").write_bytes(b"{}\n")
    for spec in cells:
        _write_cell(path, spec, models[spec.model], deployments[spec.deployment])
    return path


def _write_cell(run: Path, spec: CellSpec, model: Model, deployment: Deployment) -> None:
    items_sha = "-".join(filter(None, ["items", spec.task, spec.mode, spec.target_sha]))
    samples = {a.sample.id: a.sample for a in spec.asked}
    kind = "choice" if spec.mode == "choice" else "generate"
    requests = {
        r.request_id: Request(
            r.request_id,
            r.sample_id,
            kind,
            f"{spec.wording}-{r.sample_id}",
            prompt=f"{r.sample_id}?",
            max_tokens=spec.generation.max_tokens or 0,
            min_tokens=spec.generation.min_tokens,
        )
        for a in spec.asked
        for r in a.records
        if r.phase == "measure"
    }
    if not (run / "inputs" / f"{items_sha}.requests.jsonl").exists():
        _jsonl(run / "inputs" / f"{items_sha}.requests.jsonl", list(requests.values()))
        _jsonl(run / "inputs" / f"{items_sha}.targets.jsonl", list(samples.values()))
    task = CellTask(
        name=spec.task,
        task=spec.task,
        version=1,
        mode=spec.mode,
        data_sha="data",
        target_sha=spec.target_sha or f"target-{spec.task}",
        items_sha=items_sha,
        extract=spec.extract,
        metrics=spec.metrics,
        chance=spec.chance,
        n_ref=spec.n_ref,
        tau=spec.tau,
    )
    slug = "-".join((spec.model, spec.deployment, spec.task, spec.load.label)).replace(" ", "").replace("/", "")
    written = Cell(
        id=slug.replace(":", ""),
        model=model,
        deployment=deployment,
        task=task,
        load=spec.load,
        generation=spec.generation,
        seed=0,
        planned=len(requests) if spec.planned is None else spec.planned,
        source_kind=spec.source_kind,
        state=spec.state,  # type: ignore[arg-type]
        reason=spec.reason,
        repeat=spec.repeat,
    )
    folder = run / "cells" / written.folder
    folder.mkdir(parents=True)
    (folder / "cell.json").write_bytes(encode_pretty(written))
    _jsonl(folder / "records.jsonl", [r for a in spec.asked for r in a.records])
    _jsonl(folder / "segments.jsonl", spec.segments)
    _jsonl(folder / "resources.jsonl", spec.resources)
    if spec.lags:
        _jsonl(folder / "loop_lag.jsonl", spec.lags)


def _jsonl(path: Path, rows: list[Any]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
