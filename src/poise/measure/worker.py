"""The process that measures: opens one engine, then runs cells as it is told (`messages`: JSON lines in and out).

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
from functools import partial
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any, Literal

import msgspec

from poise import registry
from poise.measure import drive, loop, priority, share
from poise.measure.concurrent import Concurrent
from poise.measure.messages import Command, Event, Go, Job
from poise.measure.recording import message
from poise.plan.repeat import asked, sequence
from poise.plan.spec import Load
from poise.protocols import Backend, Opened
from poise.store.files import Appender
from poise.store.run import CellFolder, Outcome, Segment
from poise.types import LagSample, Phase, PoiseError, Request


def main() -> int:
    """Serve commands from stdin until it closes."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever an engine prints goes to the log, never between the lines of the protocol
    commands = sys.stdin.buffer
    job = msgspec.json.decode(commands.readline(), type=Job)
    _die_with_parent(job.parent)

    def say(event: Event) -> None:
        out.write(msgspec.json.encode(event) + b"\n")

    try:
        backend = registry.lookup("backend", job.deployment.backend, job.allow_code)()
        opened = backend.open(job.model, job.deployment)
    except PoiseError as error:
        say(Event("failed", str(error)))
        return 1
    except Exception as error:
        say(Event("failed", message(error)))
        return 1

    def start() -> int:
        """Wait for the common start: the clock reading at which it is."""
        say(Event("armed"))
        line = commands.readline()
        if not line:
            raise SystemExit("the parent process is gone")
        return msgspec.json.decode(line, type=Go).start_ns

    load_s = (time.perf_counter_ns() - job.started_ns) / 1e9
    say(Event("ready"))
    with loop.runner() as runner:  # one event loop for all cells: connections outlive a cell
        try:
            for line in commands:
                try:
                    command = msgspec.json.decode(line, type=Command)
                    run_cell(backend, opened, job, command, load_s, runner, start)
                except PoiseError as error:
                    say(Event("failed", str(error)))
                else:
                    say(Event("done"))
        finally:
            backend.close()
    return 0


def run_cell(
    backend: Backend,
    opened: Opened,
    job: Job,
    command: Command,
    load_s: float,
    runner: asyncio.Runner,
    start: Callable[[], int],
) -> None:
    """Run what is missing of one cell, or of this process's part of it; everything observed goes to its folder."""
    sitting = _Sitting(backend, job, command)
    segments = _appender(command, "segments")
    segments.write(
        [
            _anchor(
                "start",
                command.segment,
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
        sitting.measure(runner, start)
        segments.write([_anchor("end", command.segment)])
    except PoiseError as error:
        with contextlib.suppress(PoiseError):  # a full disk may refuse this line too
            segments.write([_anchor("end", command.segment, error=str(error))])
        raise
    finally:
        gc.enable()
        gc.unfreeze()
        sitting.records.close()
        segments.close()


class _Sitting:
    """One command: what its cell misses is asked of the backend, and recorded."""

    def __init__(self, backend: Backend, job: Job, command: Command) -> None:
        self.backend, self.job, self.command = backend, job, command
        self.folder = CellFolder(Path(command.run), Path(command.folder))
        self.attempts, failed = attempts_made(self.folder)
        self.again = failed if command.retry_failed else set()
        self.records = _appender(command, "records")
        cold, warm = command.warmup[:1], command.warmup[1:]
        self.warmups: tuple[tuple[Phase, list[Request]], ...] = (("cold", cold), ("warmup", warm))

    def measure(self, runner: asyncio.Runner, start: Callable[[], int]) -> None:
        """The warm-up and the cell; `start`: see `Concurrent.run`."""
        if "concurrent" in self.backend.capabilities:
            priority.run_on_arrival()
            runner.run(self._concurrently(start))
        else:
            self._in_process()

    def _pending(self, request: Request) -> bool:
        """A conversation that lacks a turn runs again from its first."""
        return any(part not in self.attempts or part in self.again for part in request.parts)

    def _alive(self) -> None:
        if os.getppid() != self.job.parent:
            raise SystemExit("the parent process is gone")

    def _in_process(self) -> None:
        load = self.folder.cell.load
        requests, seconds = _asked(self.folder, len(self.attempts))
        ask = partial(
            drive.in_process, self.backend, write=self.records.write, segment=self.command.segment, alive=self._alive
        )
        for phase, group in self.warmups:
            ask(iter([[r] for r in group]), batched=False, attempts={}, phase=phase)
        groups = drive.groups(requests, self._pending, load.width)
        ask(groups, batched=load.form == "batch", attempts=self.attempts, seconds=seconds)

    async def _concurrently(self, start: Callable[[], int]) -> None:
        command, load = self.command, self.folder.cell.load
        requests, seconds = _asked(self.folder, len(self.attempts))
        for phase, group in self.warmups:
            await self._driver(phase, {}, retries=0).run(group, Load("closed", 1))
        driver = self._driver("measure", self.attempts, self.job.retries)
        part, parts = command.part, command.parts
        own, go = share.portion(load, part, parts), start if parts > 1 else None
        if command.due_ns is not None:  # a resumed open loop keeps its gaps and starts anew (CONTRACT §3)
            left = ((r, d) for r, d in zip(requests, command.due_ns, strict=True) if self._pending(r))
            first = list(islice(left, 1))
            asking, due = tee(share.mine(load, chain(first, left), part, parts))
            await driver.run((r for r, _ in asking), own, (d - first[0][1] for _, d in due), go)
        else:
            mine = share.mine(load, filter(self._pending, requests), part, parts)
            await driver.run(mine, own, None, go, seconds)
        lags = _appender(command, "loop_lag")
        lags.write([LagSample(t, lag) for t, lag in driver.lags])
        lags.close()

    def _driver(self, phase: Phase, attempts: dict[str, int], retries: int) -> Concurrent:
        return Concurrent(
            self.backend,
            self.records.write,
            segment=self.command.segment,
            attempts=attempts,
            retries=retries,
            alive=self._alive,
            phase=phase,
        )


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
