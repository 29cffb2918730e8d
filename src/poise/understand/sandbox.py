"""Run generated code against its tests, contained: two processes in a box, limits, and a nonce for a pass.

The candidate's code lives in one process, its tests in another; the two share nothing but a line of JSON values, and
the tests alone know the nonce that says "passed". So exit codes, patched comparisons, or a search through memory, files
or descriptors gain nothing. What the box is, and how it bounds the two, is `boxes`' matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from poise.understand.boxes import BOXES, Bare, Box, Refused

ENGINE = "POISE_SANDBOX"
"""Environment variable: what contains generated code on this machine (bwrap, docker or podman)."""
WALL = 3
REPORT_BYTES = 64 * 2**10

_unsafe = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the tests passed; `reason` says why not."""

    passed: bool
    reason: str | None = None


class Unavailable(Exception):
    """Nothing here can contain generated code; the message says what to do."""


@contextlib.contextmanager
def unsafe_code(allowed: bool) -> Iterator[None]:
    """Allow generated code to run with limits only where nothing contains it: the caller's word, for this process."""
    global _unsafe
    before, _unsafe = _unsafe, _unsafe or allowed
    try:
        yield
    finally:
        _unsafe = before


def run_tests(code: str, tests: str, *, trusted: str = "", entry_point: str = "", cpu_s: float = 10.0) -> Outcome:
    """Define `code` (Python), then run `tests` against its names. Raises Unavailable where nothing contains it.

    `trusted` is code of the task (helpers, imports) that the tests' process defines for itself; of its names only
    `entry_point` is the candidate's. `cpu_s` limits the CPU time of each process; wall time may be three times as much,
    so that a busy machine fails nobody.
    """
    reason = why_unavailable()
    if reason:
        raise Unavailable(reason)
    job = {"code": code, "tests": tests, "trusted": trusted, "entry_point": entry_point}
    name = _chosen()
    return _run(job, cpu_s, Bare if _why_uncontained(name) else BOXES[name])


def why_unavailable() -> str | None:
    """None where generated code can be run, else what is missing."""
    try:
        reason = _why_uncontained(_chosen())
    except Unavailable as error:
        return str(error)
    if reason is None or _unsafe:
        return None
    return f"no sandbox: {reason}; or run generated code with limits only: --unsafe-code"


def _chosen() -> str:
    name = os.environ.get(ENGINE) or "bwrap"
    if name not in BOXES:
        from poise.registry import did_you_mean

        raise Unavailable(f"{ENGINE}={name}: no such sandbox{did_you_mean(name, BOXES)}; there are: {', '.join(BOXES)}")
    return name


@cache
def _why_uncontained(name: str) -> str | None:
    """None where this box works. Tried once, with a program that must pass."""
    trial = {"code": "def one():\n    return 1\n", "tests": "assert one() == 1\n", "trusted": "", "entry_point": ""}
    try:
        outcome = _run(trial, 10.0, BOXES[name])
    except (Refused, OSError) as error:
        return str(error)
    return None if outcome.passed else f"{name} does not work here ({outcome.reason})"


# ---------------------------------------------------------------- one test


def _run(job: dict[str, str], cpu_s: float, box_of: Callable[[float], Box]) -> Outcome:
    nonce = secrets.token_hex(16)
    given = json.dumps({**job, "nonce": nonce}).encode() + b"\n"
    box, processes, ends = box_of(cpu_s), list[subprocess.Popen[bytes]](), set[int]()
    try:
        (asked, asking), (answered, answering), (said, saying) = pipes = [os.pipe() for _ in range(3)]
        ends.update(end for pipe in pipes for end in pipe)
        processes.append(_start(box.command("tests"), answered, asking, saying))
        processes.append(_start(box.command("candidate"), asked, answering, subprocess.DEVNULL))
        # Only the children hold these now, so that each sees the other's end.
        for end in (asked, asking, answered, saying):
            ends.remove(end)
            os.close(end)
        # The job comes first on the candidate's line: nothing is asked, and so nothing answered, before it is read.
        ends.remove(answering)
        threading.Thread(target=_write, args=(answering, given), daemon=True).start()
        report = _read(said, time.monotonic() + WALL * cpu_s)
    finally:
        for end in ends:
            os.close(end)
        _end(processes, box)
    return Outcome(False, f"timeout after {WALL * cpu_s:g} s") if report is None else _outcome(report, nonce)


def _start(command: list[str], stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    apart = {"PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=apart, cwd="/", start_new_session=True
    )


def _write(end: int, data: bytes) -> None:
    """Write all and close; the reader may be gone."""
    with contextlib.suppress(OSError), os.fdopen(end, "wb") as stream:
        stream.write(data)


def _read(end: int, deadline: float) -> bytes | None:
    """What comes until the end or a bound; None where the deadline comes first."""
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([end], [], [], left)[0]:
            break
        part = os.read(end, REPORT_BYTES)
        data += part
        if not part or len(data) > REPORT_BYTES:
            return data
    return None


def _end(processes: list[subprocess.Popen[bytes]], box: Box) -> None:
    """Kill both with their groups, then what the box still holds."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    box.close()
    for process in processes:
        process.wait()


def _outcome(report: bytes, nonce: str) -> Outcome:
    """The last line of the report; an engine may have warned of something before it."""
    last = report.decode("utf-8", "replace").strip().rpartition("\n")[2]
    try:
        said = json.loads(last)
        passed, failed = str(said.get("passed", "")), str(said.get("failed", "no nonce"))
    except (ValueError, AttributeError):
        return Outcome(False, f"the tests' process ended without a report {last}".strip()[:300])
    return Outcome(True) if secrets.compare_digest(passed.encode(), nonce.encode()) else Outcome(False, failed[:300])
