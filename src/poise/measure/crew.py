"""The processes of one model x deployment x repeat: its worker (several where they share a load) and its monitor."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from poise.measure.messages import Command, Event, Go, Job
from poise.measure.redact import redact

_POLL_S = 0.25
_MONITOR_PERIOD_S = 0.1
_CLIENT_PERIOD_S = 0.5
_TOGETHER_NS = 20_000_000
"""From the word to go until the common start: time for every process to hear it."""


class Crew:
    """Starts the processes, passes cells to them, says when and how they end."""

    def __init__(self, job: Job, log: Path, size: int = 1, client: bool = False) -> None:
        self._log_path = log
        self._log: IO[bytes] = log.open("ab")
        self._log_start = self._log.tell()
        python = job.deployment.python or sys.executable
        self._workers = [_Process([python, "-m", "poise.measure.worker"], self._log, out=True) for _ in range(size)]
        # beside a client that stamps arrivals on this very host, the monitor is slower and the last to run
        pace = [str(_CLIENT_PERIOD_S), "--idle"] if client else [str(_MONITOR_PERIOD_S)]
        pids = ",".join(str(w.pid) for w in self._workers)
        self._monitor = _Process([sys.executable, "-m", "poise.measure.monitor", pids, *pace], self._log)
        self.broken = False
        """A process has ended or is out of step: the others are of no more use."""
        for worker in self._workers:
            worker.say(job)

    def wait_ready(self) -> str | None:
        """None once every worker has opened its engine, else why one has not."""
        return self._wait(self._workers, "ready", lambda: None)

    def run(self, commands: Sequence[Command], tick: Callable[[], None]) -> str | None:
        """Have a cell measured, by as many workers as there are commands; None once all is recorded, else why not."""
        workers = self._workers[: len(commands)]
        for worker, command in zip(workers, commands, strict=True):
            worker.say(command)
        if len(workers) > 1:
            error = self._wait(workers, "armed", tick)
            if error is not None:
                self.broken = True  # the others wait for a start that will not come
                return error
            go = Go(time.perf_counter_ns() + _TOGETHER_NS)
            for worker in workers:
                worker.say(go)
        return self._wait(workers, "done", tick)

    def monitor(self, path: Path) -> None:
        """Resource samples go to `path` from now on."""
        with contextlib.suppress(BrokenPipeError):  # no resource figures then; the cell says so
            self._monitor.write(f"{path}\n".encode())

    def _wait(self, workers: Sequence[_Process], good: str, tick: Callable[[], None]) -> str | None:
        waiting, errors = list(workers), []
        with selectors.DefaultSelector() as selector:
            for worker in waiting:
                selector.register(worker.out, selectors.EVENT_READ, worker)
            while waiting:
                found = [worker for worker in waiting if worker.has_event()]
                for worker in found:
                    waiting.remove(worker)
                    event = worker.event()
                    if event.event != good:
                        errors.append(redact(event.error or "unknown error"))
                if found:
                    continue
                ready = selector.select(_POLL_S)
                if not ready:
                    tick()
                for key, _ in ready:
                    if not key.data.hear():
                        self.broken = True
                        return self._obituary(key.data)
        tick()
        return errors[0] if errors else None

    def _obituary(self, worker: _Process) -> str:
        code = worker.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            last = [line for line in log.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
        said = f": {last[-1][:300]}" if last else ""
        return redact(f"the engine's process {how}{hint}{said} (its log: logs/{self._log_path.name})")

    def stop(self) -> None:
        """End all processes, the monitor first (its last reading needs a living worker)."""
        midway = sys.exc_info()[0] is not None or self.broken  # a worker in the middle of a request is not waited for
        self._monitor.end(5)
        for worker in self._workers:
            worker.end(0 if midway else 5)
        self._log.close()


class _Process(subprocess.Popen[bytes]):
    """A process spoken to in JSON lines.

    A process group of its own: an interrupt at the keyboard reaches the parent alone, which then ends the others. The
    same session: Linux shares cores between sessions first, whatever priority a process asks for.
    """

    def __init__(self, command: list[str], log: IO[bytes], out: bool = False) -> None:
        sink = subprocess.PIPE if out else subprocess.DEVNULL
        super().__init__(command, stdin=subprocess.PIPE, stdout=sink, stderr=log, process_group=0, bufsize=0)
        self._heard = b""

    @property
    def out(self) -> IO[bytes]:
        assert self.stdout
        return self.stdout

    def say(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the wait that follows tells why
            self.write(msgspec.json.encode(message) + b"\n")

    def write(self, data: bytes) -> None:
        assert self.stdin
        rest = memoryview(data)
        while rest:
            rest = rest[self.stdin.write(rest) or 0 :]

    def hear(self) -> bool:
        """Read what is there; False at its end."""
        chunk = os.read(self.out.fileno(), 65536)
        self._heard += chunk
        return bool(chunk)

    def has_event(self) -> bool:
        return b"\n" in self._heard

    def event(self) -> Event:
        line, _, self._heard = self._heard.partition(b"\n")
        return msgspec.json.decode(line, type=Event)

    def end(self, patience_s: float) -> None:
        assert self.stdin
        self.stdin.close()
        try:
            self.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
        if self.stdout:
            self.stdout.close()
