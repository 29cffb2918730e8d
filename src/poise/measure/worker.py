"""The process that measures: opens one engine, then runs cells as it is told, one JSON line in and one out.

in:  {"model": …, "deployment": …, "backend": …, "retries": …, "parent": pid} once, then {"folder": …, "warmup": […],
     "retry_failed": bool, "part": k, "parts": n …} for each cell
out: {"event": "ready" | "failed"} once, then {"event": "done" | "failed"} for each cell

Where several processes share a cell, each says "armed" when it could start and starts when told {"start_ns": …}.
A cell travels as plain data and comes back as files, so the same worker can run anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from poise import registry
from poise.measure import drive, loop, priority, share
from poise.measure.concurrent import Concurrent
from poise.plan.repeat import asked, sequence
from poise.plan.spec import Deployment, Load, Model
from poise.protocols import Opened
from poise.store.files import Appender
from poise.store.run import CellFolder, Outcome, Segment
from poise.types import LagSample, Phase, PoiseError, Request


class Job(Struct, frozen=True):
    """What a worker is started with."""

    model: Model
    deployment: Deployment
    allow_code: bool
    retries: int
    parent: int
    started_ns: int
    """Clock reading just before the process was started: load_s counts from here."""


class Command(Struct, frozen=True):
    """One cell to run."""

    run: str
    folder: str
    segment: int = 0
    part: int = 0
    parts: int = 1
    """This process takes part `part` of `parts` of the cell's requests."""
    warmup: list[Request] = field(default_factory=list)
    retry_failed: bool = False
    due_ns: list[int] | None = None


class Go(Struct, frozen=True):
    """The common start of the processes that share a cell."""

    start_ns: int


class Event(Struct, frozen=True, omit_defaults=True):
    event: str
    error: str | None = None


def main() -> int:
    """Serve commands from stdin until it closes."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever an engine prints goes to the log, never between the lines of the protocol
    commands = sys.stdin.buffer
    job = msgspec.json.decode(commands.readline(), type=Job)
    _die_with_parent(job.parent)

    def say(event: str, error: str | None = None) -> None:
        out.write(msgspec.json.encode(Event(event, error)) + b"\n")

    try:
        backend: Any = registry.lookup("backend", job.deployment.backend, job.allow_code)()
        opened = backend.open(job.model, job.deployment)
    except PoiseError as error:
        say("failed", str(error))
        return 1
    except Exception as error:
        say("failed", f"{type(error).__name__}: {error}"[:1000])
        return 1

    def start() -> int:
        """Wait for the common start: the clock reading at which it is."""
        say("armed")
        line = commands.readline()
        if not line:
            raise SystemExit("the parent process is gone")
        return msgspec.json.decode(line, type=Go).start_ns

    load_s = (time.perf_counter_ns() - job.started_ns) / 1e9
    say("ready")
    with loop.runner() as runner:  # one event loop for all cells: connections outlive a cell
        try:
            for line in commands:
                try:
                    command = msgspec.json.decode(line, type=Command)
                    run_cell(backend, opened, job, command, load_s, runner, start)
                except PoiseError as error:
                    say("failed", str(error))
                else:
                    say("done")
        finally:
            backend.close()
    return 0


def run_cell(
    backend: Any,
    opened: Opened,
    job: Job,
    command: Command,
    load_s: float,
    runner: asyncio.Runner,
    start: Callable[[], int],
) -> None:
    """Run what is missing of one cell, or of this process's part of it; everything observed goes to its folder."""
    folder = CellFolder(Path(command.run), Path(command.folder))
    attempts, failed = attempts_made(folder)
    again = failed if command.retry_failed else ()

    def pending(request: Request) -> bool:  # a conversation that lacks a turn runs again from its first
        return any(part not in attempts or part in again for part in request.parts)

    segment = command.segment
    records, segments = _appender(command, "records"), _appender(command, "segments")
    segments.write(
        [
            _anchor(
                "start",
                segment,
                load_s=load_s,
                versions=opened.versions,
                settings=opened.settings,
                tokenizer_sha=opened.tokenizer_sha,
                template_sha=opened.template_sha,
            )
        ]
    )
    gc.collect(1)  # the young only: going through all of torch takes 0.15 s, and all is frozen anyway
    gc.freeze()
    gc.disable()
    try:
        _drive(backend, folder, job, command, pending, records, attempts, runner, start)
        segments.write([_anchor("end", segment)])
    except PoiseError as error:
        with contextlib.suppress(PoiseError):  # a full disk may refuse this line too
            segments.write([_anchor("end", segment, error=str(error))])
        raise
    finally:
        gc.enable()
        gc.unfreeze()
        records.close()
        segments.close()


def _drive(
    backend: Any,
    folder: CellFolder,
    job: Job,
    command: Command,
    pending: Callable[[Request], bool],
    records: Appender,
    attempts: dict[str, int],
    runner: asyncio.Runner,
    start: Callable[[], int],
) -> None:
    def alive() -> None:
        if os.getppid() != job.parent:
            raise SystemExit("the parent process is gone")

    load = folder.cell.load
    segment = command.segment
    warmups: tuple[tuple[Phase, list[Request]], ...] = (("cold", command.warmup[:1]), ("warmup", command.warmup[1:]))
    requests, seconds = _asked(folder, len(attempts))
    if "concurrent" not in backend.capabilities:
        for phase, group in warmups:
            drive.in_process(
                backend,
                iter([[r] for r in group]),
                records.write,
                segment=segment,
                batched=False,
                attempts={},
                alive=alive,
                phase=phase,
            )
        drive.in_process(
            backend,
            drive.groups(requests, pending, load.width),
            records.write,
            segment=segment,
            batched=load.form == "batch",
            attempts=attempts,
            alive=alive,
            seconds=seconds,
        )
        return

    priority.run_on_arrival()

    async def concurrent() -> None:
        one = Load("closed", 1)
        for phase, group in warmups:
            driver = Concurrent(
                backend,
                records.write,
                segment=segment,
                attempts={},
                retries=0,
                alive=alive,
                phase=phase,
            )
            await driver.run(group, one)
        driver = Concurrent(
            backend, records.write, segment=segment, attempts=attempts, retries=job.retries, alive=alive
        )
        part, parts = command.part, command.parts
        own, go = share.portion(load, part, parts), start if parts > 1 else None
        if command.due_ns is not None:  # a resumed open loop keeps its gaps and starts anew (CONTRACT §3)
            left = ((r, d) for r, d in zip(requests, command.due_ns, strict=True) if pending(r))
            first = list(islice(left, 1))
            asking, due = tee(share.mine(load, chain(first, left), part, parts))
            await driver.run((r for r, _ in asking), own, (d - first[0][1] for _, d in due), go)
        else:
            await driver.run(share.mine(load, filter(pending, requests), part, parts), own, None, go, seconds)
        lags = _appender(command, "loop_lag")
        lags.write([LagSample(t, lag) for t, lag in driver.lags])
        lags.close()

    runner.run(concurrent())


def _asked(folder: CellFolder, begun: int) -> tuple[Iterator[Request], float | None]:
    """The cell's requests in order, and for how long they are sent: None = to the end.

    A timed load goes on for what earlier sittings left of its duration; when that is over, only what it `begun` may be
    asked again.
    """
    cell, requests = folder.cell, folder.requests()
    if cell.load.order == "length":
        requests = sorted(requests, key=drive.length)
    if not cell.load.timed:
        return asked(requests, cell.planned), None
    if left_s := folder.left_s():
        return islice(sequence(requests), cell.load.requests), left_s
    return asked(requests, begun), None


def _appender(command: Command, stem: str) -> Appender:
    name = f"{stem}.{command.part}.jsonl" if command.parts > 1 else f"{stem}.jsonl"
    return Appender(Path(command.folder) / name)


def attempts_made(folder: CellFolder) -> tuple[dict[str, int], set[str]]:
    """Id of a record (a request's, or a turn's) -> its last attempt in the measured phase; and which failed."""
    made: dict[str, int] = {}
    failed: set[str] = set()
    for r in folder.records(Outcome):
        if r.phase == "measure":
            made[r.request_id] = r.attempt
            (failed.discard if r.status == "ok" else failed.add)(r.request_id)
    return made, failed


def _anchor(event: Literal["start", "end"], segment: int, **more: Any) -> Segment:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Segment(
        event,
        segment,
        t_ns=time.perf_counter_ns(),
        wall_ns=time.time_ns(),
        cpu_s=used.ru_utime + used.ru_stime,
        **more,
    )


def _die_with_parent(parent: int) -> None:
    """A killed parent takes its worker along (Linux); elsewhere `alive` notices between two requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the parent process is gone")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # everything is on disk: an engine's teardown (half a second for torch) would only be waited for
