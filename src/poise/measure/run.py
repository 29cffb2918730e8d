"""Run a plan: one worker process per model x deployment x repeat, a monitor beside it, and nothing else meanwhile.

The parent tells the worker which cell comes next, watches its records grow, and calls `between` when no request is
in flight. A worker that dies fails the cell it was in; a new one takes the rest.
"""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
from msgspec import structs

from poise.measure import host, preflight
from poise.measure.redact import redact
from poise.measure.worker import Command, Event, Job
from poise.plan.build import Plan, label, workers
from poise.plan.spec import Cell
from poise.store.run import Appender, CellFolder, Run, Segment, encode_pretty, write_atomic
from poise.store.write import Lock, missing, prepare
from poise.types import UsageError

_POLL_S = 0.25
_MONITOR_PERIOD_S = 0.1


class Watcher(Protocol):
    """What a progress display is told, from the parent process."""

    def start(self, cells: int, requests: int) -> None: ...
    def cell_started(self, label: str, planned: int, already_done: int = 0) -> None: ...
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


class Outcome(msgspec.Struct, frozen=True):
    """How a run ended: failed cells by label with their reasons."""

    failed: dict[str, str]
    skipped: dict[str, str]


def execute(
    plan: Plan,
    out: Path,
    *,
    source: str = "",
    argv: list[str] | None = None,
    watcher: Watcher,
    between: Between,
    retry_failed: bool = False,
    allow_code: bool = False,
) -> Outcome:
    """Measure what is missing of `plan` in `out`. UsageError before anything runs; later failures are data."""
    plan, skipped = _preflight(plan, allow_code)
    created = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = Lock(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be made or written ({error.strerror}); give another folder with -o") from None
    try:
        environment = host.environment()
        try:
            run = prepare(
                plan,
                out,
                source=redact(source),
                argv=[redact(a) for a in argv or []],
                versions=environment.get("packages", {}),
                git=_git(),
            )
        except UsageError:
            if created:
                (out / ".lock").unlink(missing_ok=True)
                out.rmdir()
            raise
        if not (out / "environment.json").exists():
            write_atomic(out / "environment.json", encode_pretty(environment))
        watcher.start(sum(c.state == "planned" for c in plan.cells), plan.requests)
        failed: dict[str, str] = {}
        try:
            for group in workers(plan):
                failed |= _Group(plan, run, group, watcher, between, retry_failed, allow_code).measure()
        finally:
            watcher.close()
        return Outcome(failed, skipped)
    finally:
        lock.close()


def _preflight(plan: Plan, allow_code: bool) -> tuple[Plan, dict[str, str]]:
    """Exit 2 for what cannot run, unless its deployment is optional: its cells are then skipped with the reason."""
    optional = {d.name: d.optional for d in plan.study.deployments}
    problems = preflight.problems(plan, allow_code=allow_code)
    for (model, deployment), reason in problems.items():
        if not optional[deployment]:
            raise UsageError(f"{model} on {deployment}: {reason}")
    cells, skipped = [], {}
    for cell in plan.cells:
        why = problems.get((cell.model.name, cell.deployment.name))
        if why and cell.state == "planned":
            cell = structs.replace(cell, state="skipped", reason=why)
        if cell.state != "planned":
            skipped[label(cell)] = cell.reason or ""
        cells.append(cell)
    if not any(c.state == "planned" for c in cells):
        raise UsageError("nothing can be measured: " + "; ".join(sorted(set(skipped.values()))))
    return dataclasses.replace(plan, cells=cells), skipped


class _Group:
    """The cells of one worker: model x deployment x repeat."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        cells: list[Cell],
        watcher: Watcher,
        between: Between,
        retry_failed: bool,
        allow_code: bool,
    ) -> None:
        self.plan, self.run, self.watcher, self.between = plan, run, watcher, between
        self.retry_failed, self.allow_code = retry_failed, allow_code
        self.folders = [CellFolder(run.path, run.path / "cells" / c.folder) for c in cells]

    def measure(self) -> dict[str, str]:
        """Run every cell that misses something; failed cells by label."""
        failed: dict[str, str] = {}
        todo = [f for f in self.folders if missing(f, self.retry_failed)]
        for folder in self.folders:
            if folder not in todo:
                self.watcher.cell_started(label(folder.cell), folder.cell.planned, folder.cell.planned)
                self._report(folder)
        worker: _Worker | None = None
        warm_loads: set[str] = set()
        try:
            for folder in todo:
                if worker is None:
                    worker = _Worker(self._job(folder.cell), self._log(folder.cell))
                    error = worker.wait_ready(lambda: None)
                    if error:
                        rest = todo[todo.index(folder) :]
                        return failed | {label(f.cell): self._never_ran(f, error) for f in rest}
                    warm_loads = set()
                error = self._one(worker, folder, warm=folder.cell.load.label not in warm_loads)
                warm_loads.add(folder.cell.load.label)
                if error:
                    failed[label(folder.cell)] = error
                    if worker.dead:
                        worker.stop()
                        worker = None
        finally:
            if worker:
                worker.stop()
        return failed

    def _one(self, worker: _Worker, folder: CellFolder, warm: bool) -> str | None:
        cell = folder.cell
        records = folder.path / "records.jsonl"
        already = cell.planned - missing(folder, self.retry_failed)
        self.watcher.cell_started(label(cell), cell.planned, already)
        worker.monitor(folder.path / "resources.jsonl")
        warmup = self.plan.warmup(cell) if warm else []
        worker.send(
            Command(
                run=str(self.run.path),
                folder=str(folder.path),
                warmup=warmup,
                retry_failed=self.retry_failed,
                due_ns=self.plan.due_ns(cell),
            )
        )
        count, position = already - len(warmup), records.stat().st_size if records.exists() else 0

        def tick() -> None:
            nonlocal count, position
            new, position = _lines(records, position)
            count += new
            self.watcher.tick(min(max(count, already), cell.planned))

        error = worker.wait_done(tick)
        if error is not None and worker.dead:
            self._fail(folder, error)
        self._report(folder, error)
        return error

    def _report(self, folder: CellFolder, error: str | None = None) -> None:
        seconds, quality = (None, None) if error else self.between(folder)
        self.watcher.cell_done(label(folder.cell), folder.cell.planned, seconds, quality, error)

    def _never_ran(self, folder: CellFolder, error: str) -> str:
        self._fail(folder, error)
        self.watcher.cell_started(label(folder.cell), folder.cell.planned)
        self._report(folder, error)
        return error

    def _fail(self, folder: CellFolder, error: str) -> None:
        """Note the reason in the cell's folder: a failed cell is data."""
        segments = folder.segments()
        number = segments[-1].segment if segments and segments[-1].event == "start" else len(segments)
        appender = Appender(folder.path / "segments.jsonl")
        appender.write([Segment("end", number, time.perf_counter_ns(), time.time_ns(), error=error)])
        appender.close()

    def _job(self, cell: Cell) -> Job:
        kind, source = self.plan.sources[cell.model.name, cell.deployment.name]
        return Job(
            model=structs.replace(cell.model, source={kind: source}),
            deployment=cell.deployment,
            allow_code=self.allow_code,
            retries=self.plan.study.retries,
            parent=os.getpid(),
            started_ns=time.perf_counter_ns(),
        )

    def _log(self, cell: Cell) -> Path:
        name = f"{cell.model.name}-{cell.deployment.name}-r{cell.repeat}.log"
        return self.run.path / "logs" / "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


class _Worker:
    """A worker process and its monitor."""

    def __init__(self, job: Job, log: Path) -> None:
        self._log_path = log
        self._log: IO[bytes] = log.open("ab")
        self._log_start = self._log.tell()
        python = job.deployment.python or sys.executable
        # its own session: an interrupt at the keyboard reaches the parent alone, which then ends the worker
        self.process = subprocess.Popen(
            [python, "-m", "poise.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            bufsize=0,
        )
        self._monitor = subprocess.Popen(
            [sys.executable, "-m", "poise.measure.monitor", str(self.process.pid), str(_MONITOR_PERIOD_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
            bufsize=0,
        )
        self._buffer = b""
        self._write(self.process, job)

    @property
    def dead(self) -> bool:
        return self.process.poll() is not None

    def send(self, command: Command) -> None:
        self._write(self.process, command)

    def monitor(self, path: Path) -> None:
        """Resource samples go to `path` from now on."""
        try:
            assert self._monitor.stdin
            self._monitor.stdin.write(f"{path}\n".encode())
        except BrokenPipeError:  # no resource figures then; the cell says so
            pass

    def _write(self, process: subprocess.Popen[bytes], message: Any) -> None:
        assert process.stdin
        try:
            data = memoryview(msgspec.json.encode(message) + b"\n")
            while data:
                data = data[process.stdin.write(data) or 0 :]
        except BrokenPipeError:
            pass  # the wait that follows tells why

    def wait_ready(self, tick: Callable[[], None]) -> str | None:
        """None once the engine is open, else why it is not."""
        return self._wait(("ready",), tick)

    def wait_done(self, tick: Callable[[], None]) -> str | None:
        """None once the cell is done, else why it failed."""
        return self._wait(("done",), tick)

    def _wait(self, good: tuple[str, ...], tick: Callable[[], None]) -> str | None:
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(_POLL_S):
                    tick()
                    continue
                chunk = os.read(self.process.stdout.fileno(), 65536)
                if not chunk:
                    return self._obituary()
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        event = msgspec.json.decode(line, type=Event)
        tick()
        return None if event.event in good else redact(event.error or "unknown error")

    def _obituary(self) -> str:
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            last = [line for line in log.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
        return redact(f"the engine's process {how}{hint}" + (f": {last[-1][:300]}" if last else ""))

    def stop(self) -> None:
        """End both processes, the monitor first (its last reading needs a living worker)."""
        for process in (self._monitor, self.process):
            assert process.stdin
            process.stdin.close()
            busy = process is self.process and sys.exc_info()[0] is not None
            try:
                process.wait(0 if busy else 5)  # a worker in the middle of a request is not waited for
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self._log.close()


def _lines(path: Path, position: int) -> tuple[int, int]:
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


def _git() -> str | None:
    """Commit of the working folder, where it is a git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
