"""The run folder on disk: open, list cells, append records, read everything back.

    <run>/manifest.json  environment.json
          inputs/<items_sha>.requests.jsonl   what is asked (all a worker may see)
          inputs/<items_sha>.targets.jsonl    what counts as right (Samples)
          cells/<id>-r<repeat>/{cell.json, records.jsonl, segments.jsonl, resources.jsonl, server.log}
          derived/                            rebuilt byte for byte from the rest

JSONL files are append-only. A torn last line (the process was killed while writing) is dropped when reading and
its request runs again; so does a static batch of which not all records reached the disk. Where several client
processes share a cell, process k writes `records.<k>.jsonl`, `segments.<k>.jsonl` …; readers see one cell.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import msgspec
from msgspec import Struct, field, structs

from poise.plan.spec import Cell, Study
from poise.store.lines import Lines, Place, Targets, iter_jsonl, located
from poise.types import FORMAT, Batch, LagSample, Phase, Record, Request, ResourceSample, Status, Timeline, UsageError

T = TypeVar("T")


class Manifest(Struct, frozen=True, omit_defaults=True):
    """What was asked for and with what; `study` is the resolved study, `source` its text as the user wrote it."""

    format: int
    poise: str
    study: Study
    source: str
    argv: list[str]
    versions: dict[str, str] = field(default_factory=dict)
    git: str | None = None
    started: str = ""
    """Wall time, for people; never used as a latency."""


class Segment(Struct, frozen=True, omit_defaults=True):
    """One end of a stretch of a cell's measuring by one worker process: a line of `segments.jsonl`."""

    event: Literal["start", "end"]
    segment: int
    t_ns: int
    wall_ns: int
    """Wall clock at `t_ns`: an anchor, not for latencies."""
    load_s: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    tokenizer_sha: str | None = None
    template_sha: str | None = None
    cpu_s: float | None = None
    """CPU seconds of the worker process at this line (engine and client in one where in process)."""
    error: str | None = None


class Outcome(Struct, gc=False):
    """The fields of a record that tell how a request came out."""

    request_id: str
    status: Status
    phase: Phase = "measure"
    attempt: int = 1
    segment: int = 0
    batch: Batch | None = None


class _Sent(Struct):
    """The fields of a record that tell when something was sent."""

    request_id: str
    phase: Phase = "measure"
    part: int = 0
    segment: int = 0
    timeline: Timeline | None = None
    batch: Batch | None = None


class CellFolder:
    """One `cells/<id>-r<repeat>` folder: its cell, and typed readers of its files."""

    def __init__(self, run: Path, path: Path) -> None:
        self.run, self.path = run, path
        self.cell = _decode_file(path / "cell.json", Cell)

    @overload
    def records(self) -> Iterator[Record]: ...
    @overload
    def records(self, kind: type[T]) -> Iterator[T]: ...
    def records(self, kind: type[Any] = Record) -> Iterator[Any]:
        """Every complete record in order of writing (all phases, all attempts), partial batches left out.

        Of several client processes: segment by segment, one process after the other. `kind`: a struct with some of
        `Record`'s fields, `batch` and `segment` among them, for readers that need no more.
        """
        return (record for record, _ in self.located(kind))

    def located(self, kind: type[T]) -> Iterator[tuple[T, Place]]:
        """`records`, and where each stands."""
        parts: list[Iterator[Any]] = [located(path, kind) for path in self.files("records")]
        pending: list[tuple[Any, Place]] = []
        found: tuple[Any, Place]
        for found in heapq.merge(*parts, key=_segment) if len(parts) > 1 else chain(*parts):
            batch: Batch | None = found[0].batch
            if batch is None:
                pending.clear()
                yield found
                continue
            if pending and pending[0][0].batch != batch:
                pending.clear()
            pending.append(found)
            if len(pending) == batch.size:
                yield from pending
                pending.clear()

    def files(self, stem: str) -> list[Path]:
        """`stem.jsonl` and, of several client processes, `stem.<k>.jsonl`: those that exist, in order."""
        shared = [p for p in self.path.glob(f"{stem}.*.jsonl") if p.name.split(".")[1].isdigit()]
        whole = self.path / f"{stem}.jsonl"
        return [whole] * whole.is_file() + sorted(shared, key=lambda p: int(p.name.split(".")[1]))

    def segments(self) -> list[Segment]:
        """Start and end of every segment in order; those of several client processes as one."""
        parts = [iter_jsonl(path, Segment) for path in self.files("segments")]
        lines = sorted(chain(*parts), key=lambda s: (s.segment, s.event != "start"))
        return [_joined(list(same)) for _, same in groupby(lines, key=lambda s: (s.segment, s.event))]

    def resources(self) -> list[ResourceSample]:
        return list(iter_jsonl(self.path / "resources.jsonl", ResourceSample))

    def loop_lag(self) -> list[list[LagSample]]:
        """Readings of each client process; none where nothing ran concurrently."""
        return [list(iter_jsonl(path, LagSample)) for path in self.files("loop_lag")]

    def left_s(self) -> float:
        """What earlier sittings left of a timed load's duration: 0 once it is over, or all its requests are asked."""
        load = self.cell.load
        if load.duration_s is None:
            return 0.0
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        begun: set[str] = set()
        for r in self.records(_Sent):
            if r.phase == "measure" and r.timeline is not None:
                if r.part == 0:
                    begun.add(r.request_id)
                first[r.segment] = min(r.timeline.sent_ns, first.get(r.segment, r.timeline.sent_ns))
                last[r.segment] = max(r.timeline.sent_ns + r.timeline.done_ns, last.get(r.segment, 0))
        for s in self.segments():
            if s.event == "end" and s.error is None and s.segment in last:  # it waited for the time to be over
                last[s.segment] = max(s.t_ns, last[s.segment])
        if load.requests is not None and len(begun) >= load.requests:
            return 0.0
        return max(0.0, load.duration_s - sum(last[s] - first[s] for s in first) / 1e9)

    @overload
    def requests(self) -> Iterable[Request]: ...
    @overload
    def requests(self, kind: type[T]) -> Iterable[T]: ...
    def requests(self, kind: type[Any] = Request) -> Iterable[Any]:
        """What this cell asks, in plan order, read anew at each turn and never held.

        Where it asks more than that, `plan.repeat` says how. `kind`: a struct with some of `Request`'s fields.
        """
        return Lines(self.run / "inputs" / f"{self.cell.task.items_sha}.requests.jsonl", kind)

    def targets(self) -> Targets:
        """The samples by id: fields, targets, choices, categories."""
        return Targets(self.run / "inputs" / f"{self.cell.task.items_sha}.targets.jsonl")


def _segment(found: tuple[Any, Place]) -> int:
    return int(found[0].segment)


def _joined(same: list[Segment]) -> Segment:
    """The starts, or the ends, of one segment in several processes: the first or the last, with all their CPU time."""
    if len(same) == 1:
        return same[0]
    first_or_last = min(same, key=lambda s: s.t_ns) if same[0].event == "start" else max(same, key=lambda s: s.t_ns)
    spent = [s.cpu_s for s in same if s.cpu_s is not None]
    error = next((s.error for s in same if s.error), None)
    return structs.replace(first_or_last, cpu_s=sum(spent) if spent else None, error=error)


class Run:
    """A run folder, opened for reading."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        manifest = self.path / "manifest.json"
        if not self.path.is_dir():
            raise UsageError(f"no run folder {self.path}; `poise run` makes one")
        if not manifest.is_file():
            raise UsageError(f"{self.path} is not a run folder (it has no manifest.json)")
        check_format(manifest)
        self.manifest = _decode_file(manifest, Manifest)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def environment(self) -> dict[str, Any]:
        path = self.path / "environment.json"
        return _decode_file(path, dict[str, Any]) if path.is_file() else {}

    def cells(self) -> list[CellFolder]:
        """All cell folders, in plan order (the order of the manifest's study), repeats together."""
        folders = [
            CellFolder(self.path, p) for p in sorted((self.path / "cells").glob("*-r*")) if (p / "cell.json").is_file()
        ]
        study = self.manifest.study
        models = {m.name: i for i, m in enumerate(study.models)}
        deployments = {d.name: i for i, d in enumerate(study.deployments)}
        tasks = {t.name: i for i, t in enumerate(study.tasks)}
        loads = {load.label: i for i, load in enumerate(study.loads)}

        def place(folder: CellFolder) -> tuple[int, int, int, int, float, int]:
            c = folder.cell
            return (
                models.get(c.model.name, 999),
                deployments.get(c.deployment.name, 999),
                tasks.get(c.task.name, 999),
                loads.get(c.load.label, 999),
                c.load.value,
                c.repeat,
            )

        return sorted(folders, key=place)


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run folder for reading; UsageError where it is none, or of another format version."""
    return Run(path)


def open_runs(given: Sequence[Run | str | os.PathLike[str]]) -> list[Run]:
    """Several to be read together; UsageError where one is given twice, which would count as two systems."""
    opened = [one if isinstance(one, Run) else open_run(one) for one in given]
    named: dict[Path, Path] = {}
    for one in opened:
        folder = one.path.resolve()
        if folder in named:
            also = "" if named[folder] == one.path else f" (also as {named[folder]})"
            raise UsageError(f"{one.path} is given twice{also}; name each run folder once")
        named[folder] = one.path
    return opened


def check_format(manifest: Path) -> None:
    """Refuse a folder of another format version before anything in it is believed."""
    try:
        version = dict(msgspec.json.decode(manifest.read_bytes())).get("format")
    except (ValueError, TypeError, RecursionError):
        raise UsageError(f"{manifest} is not JSON; this is not a run folder, or it is damaged") from None
    if version != FORMAT:
        raise UsageError(
            f"{manifest.parent} has run-folder format {version!r}, this poise reads format {FORMAT}; "
            "read it with the poise version it was written by, or run into a new folder (-o)"
        )


def _decode_file(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (ValueError, RecursionError) as error:  # also msgspec's
        raise UsageError(
            f"{path}: {error}; the file is damaged or from another version: restore it, or run into a new folder (-o)"
        ) from None
