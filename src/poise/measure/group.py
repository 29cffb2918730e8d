"""One crew and its cells, one after the other: what is missing of each is measured, watched, and told of.

A worker that dies fails the cell it was in; a new crew takes the rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

from msgspec import structs

from poise import registry
from poise.measure import host, share
from poise.measure.crew import Crew
from poise.measure.messages import Command, Job
from poise.plan.build import Plan, label
from poise.plan.schedule import Extent, peak_rps
from poise.plan.sources import sources
from poise.plan.spec import Cell, Deployment
from poise.plan.tokenizer import find
from poise.store.files import Appender
from poise.store.run import CellFolder, Outcome, Run, Segment
from poise.store.write import add, missing


class Watcher(Protocol):
    """What a progress display is told, from the parent process."""

    def waiting(self, why: str) -> None: ...
    def start(self, cells: Sequence[Extent]) -> None: ...
    def cell_started(self, label: str, extent: Extent, already_done: int = 0, spent_s: float = 0.0) -> None: ...
    def tick(self, done_in_cell: int) -> None: ...
    def cell_done(
        self,
        label: str,
        n: int,
        seconds_per_request: float | None,
        quality: float | None = None,
        reason: str | None = None,
    ) -> None: ...
    def close(self) -> None: ...


Between = Callable[[CellFolder], tuple[float | None, float | None]]
"""Called between cells, with no request in flight: (seconds per request, quality) of a finished cell."""

NextRate = Callable[[Cell, list[CellFolder]], float | None]
"""Called between the probes of a search: the rate to try next, after these; None at its end."""


class Group:
    """The cells of one crew: model x deployment x repeat."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        cells: list[Cell],
        watcher: Watcher,
        between: Between,
        next_rate: NextRate,
        retry_failed: bool,
        allow_code: bool,
    ) -> None:
        self.plan, self.run, self.watcher = plan, run, watcher
        self.between, self.next_rate = between, next_rate
        self.retry_failed, self.allow_code = retry_failed, allow_code
        self.folders = [CellFolder(run.path, run.path / "cells" / c.folder) for c in cells]

    def measure(self) -> dict[str, str]:
        """Run every cell that misses something; failed cells by label."""
        failed: dict[str, str] = {}
        todo = self._todo()
        crew: Crew | None = None
        warm_loads: set[str] = set()
        try:
            for folder in todo:
                if crew is None:
                    crew, warm_loads = self._crew(folder.cell), set()
                    error = crew.wait_ready()
                    if error:
                        return failed | {label(f.cell): self._never_ran(f, error) for f in chain([folder], todo)}
                error = self._one(crew, folder, warm=folder.cell.load.label not in warm_loads)
                warm_loads.add(folder.cell.load.label)
                if error:
                    failed[label(folder.cell)] = error
                    if crew.broken:
                        crew.stop()
                        crew = None
        finally:
            if crew:
                crew.stop()
        return failed

    def _crew(self, cell: Cell) -> Crew:
        size = max(self._processes(f.cell) for f in self.folders)
        return Crew(self._job(cell), self._log(cell), size, self._is_client(cell))

    def _todo(self) -> Iterator[CellFolder]:
        """The cells that miss something; the probes of a search one by one, each chosen after the one before."""
        for folder in self.folders:
            if folder.cell.load.kind == "search":
                yield from self._probes(folder.cell)
            elif missing(folder, self.retry_failed):
                yield folder
            else:
                self._known(folder)

    def _probes(self, search: Cell) -> Iterator[CellFolder]:
        tried: list[CellFolder] = []
        while (rate := self.next_rate(search, tried)) is not None:
            cell, items = self.plan.probe(search, rate)
            self.plan.items.setdefault(cell.task.items_sha, items)
            folder = add(self.run, cell, items)
            if missing(folder, self.retry_failed):
                yield folder
                if missing(folder, retry_failed=False):
                    return  # it failed, and the next rate hangs on it
            else:
                self._known(folder)
            tried.append(folder)

    def _known(self, folder: CellFolder) -> None:
        extent = self.plan.extent(folder.cell)
        self.watcher.cell_started(label(folder.cell), extent, _made(folder, False), extent.seconds or 0.0)
        self._report(folder)

    def _is_client(self, cell: Cell) -> bool:
        backend = registry.lookup("backend", cell.deployment.backend, self.allow_code)
        return "concurrent" in backend.capabilities

    def _processes(self, cell: Cell) -> int:
        if not self._is_client(cell):
            return 1
        wanted = self.plan.study.client_processes
        peak = peak_rps(self.plan.due_ns(cell) or ()) if wanted == "auto" and cell.load.trace else None
        return share.processes(cell.load, wanted, host.usable_cores() or 1, peak)

    def _one(self, crew: Crew, folder: CellFolder, warm: bool) -> str | None:
        cell = folder.cell
        already = _made(folder, self.retry_failed)
        extent = self.plan.extent(cell)
        self.watcher.cell_started(label(cell), extent, already, _spent_s(folder, extent, already))
        crew.monitor(folder.path / "resources.jsonl")
        warmup = self.plan.warmup(cell) if warm else []
        segment = sum(s.event == "start" for s in folder.segments())
        command = Command(
            run=str(self.run.path),
            folder=str(folder.path),
            segment=segment,
            warmup=warmup,
            retry_failed=self.retry_failed,
            due_ns=self.plan.due_ns(cell),
        )
        parts = self._processes(cell)
        commands = [structs.replace(command, part=k, parts=parts, warmup=[] if k else warmup) for k in range(parts)]
        count, read = already - len(warmup), {p: p.stat().st_size for p in folder.files("records")}

        def tick() -> None:
            nonlocal count
            for path in folder.files("records"):
                new, read[path] = _new_lines(path, read.get(path, 0))
                count += new
            there = max(count, already)
            self.watcher.tick(there if extent.requests is None else min(there, extent.requests))

        error = crew.run(commands, tick)
        if error is not None and crew.broken:
            self._fail(folder, segment, error)
        self._report(folder, error)
        return error

    def _report(self, folder: CellFolder, error: str | None = None) -> None:
        seconds, quality = (None, None) if error else self.between(folder)
        asked = _made(folder, False) if folder.cell.load.timed else folder.cell.planned
        self.watcher.cell_done(label(folder.cell), asked, seconds, quality, error)

    def _never_ran(self, folder: CellFolder, error: str) -> str:
        self._fail(folder, len(folder.segments()), error)
        self.watcher.cell_started(label(folder.cell), self.plan.extent(folder.cell))
        self._report(folder, error)
        return error

    def _fail(self, folder: CellFolder, number: int, error: str) -> None:
        """Note the reason in the cell's folder: a failed cell is data."""
        appender = Appender(folder.path / "segments.jsonl")
        appender.write([Segment("end", number, time.perf_counter_ns(), time.time_ns(), error=error)])
        appender.close()

    def _job(self, cell: Cell) -> Job:
        kind, source = self.plan.sources[cell.model.name, cell.deployment.name]
        there = sources(cell.model, self.plan.study.base_dir)  # a server's model may be here too: its tokenizer counts
        return Job(
            model=structs.replace(cell.model, source={**there, kind: source}),
            deployment=_located(cell.deployment, self.plan.study.base_dir),
            allow_code=self.allow_code,
            retries=self.plan.study.retries,
            parent=os.getpid(),
            started_ns=time.perf_counter_ns(),
        )

    def _log(self, cell: Cell) -> Path:
        name = f"{cell.model.name}-{cell.deployment.name}-r{cell.repeat}.log"
        return self.run.path / "logs" / "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _located(deployment: Deployment, base_dir: str) -> Deployment:
    """The deployment with its tokenizer where it is: a path in a study counts from the study."""
    if not (name := deployment.options.get("tokenizer")):
        return deployment
    return structs.replace(deployment, options={**deployment.options, "tokenizer": str(find(name, base_dir))})


def _made(folder: CellFolder, retry_failed: bool) -> int:
    """How many of a cell's requests need not be asked any more; of a timed load, how many it came to ask."""
    if not folder.cell.load.timed:
        return folder.cell.planned - missing(folder, retry_failed)
    return len({r.request_id for r in folder.records(Outcome) if r.phase == "measure"})


def _spent_s(folder: CellFolder, extent: Extent, already: int) -> float:
    """How much of a load's seconds earlier sittings used."""
    if not already or not extent.seconds:
        return 0.0
    if extent.requests is None:
        return extent.seconds - folder.left_s()
    return extent.seconds * already / extent.requests


def _new_lines(path: Path, position: int) -> tuple[int, int]:
    """Newlines after a byte position, and the new position."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            count = 0
            while chunk := file.read(1 << 20):
                count += chunk.count(b"\n")
                position += len(chunk)
            return count, position
    except FileNotFoundError:
        return 0, 0
