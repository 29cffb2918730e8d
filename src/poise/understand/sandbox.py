"""Run generated code against its tests, contained: two processes in bubblewrap, limits, and a nonce for a pass.

The candidate's code lives in one process, its tests in another; the two share nothing but a line of JSON values, and
the tests alone know the nonce that says "passed". So exit codes, patched comparisons, or a search through memory, files
or descriptors gain nothing. Both run in bubblewrap: namespaces of their own, no network, no home, an empty environment,
/usr and the interpreter read-only, a small /tmp of their own. Processes, memory, CPU, file size and wall time are
limited. Root's processes leave root for a host uid that nobody has, because process limits do not hold for root.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

JAIL = Path(__file__).resolve().parent / "jail.py"
UNSAFE = "POISE_UNSAFE_CODE"
"""Environment variable that allows running generated code without bubblewrap (limits and time-out still apply)."""
MEMORY_BYTES = 1024 * 2**20
PROCESSES = 32
FILE_BYTES = 32 * 2**20
WALL = 3
TMP_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the tests passed; `reason` says why not."""

    passed: bool
    reason: str | None = None


class Unavailable(Exception):
    """Nothing here can contain generated code; the message says what to install."""


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
    return _run(job, cpu_s, contained=_bubblewrap() is not None)


@cache
def why_unavailable() -> str | None:
    """None where generated code can be run, else what is missing. Tried once, with a program that must pass."""
    if _bubblewrap() is None:
        if os.environ.get(UNSAFE) == "1":
            return None
        return f"no sandbox: install bubblewrap (bwrap), or set {UNSAFE}=1 to run generated code with limits only"
    trial = {"code": "def one():\n    return 1\n", "tests": "assert one() == 1\n", "trusted": "", "entry_point": ""}
    outcome = _run(trial, 10.0, contained=True)
    if outcome.passed:
        return None
    return f"bubblewrap does not work here ({outcome.reason}); unprivileged user namespaces may be switched off"


def _bubblewrap() -> str | None:
    return shutil.which("bwrap") if sys.platform == "linux" else None


def _run(job: dict[str, str], cpu_s: float, *, contained: bool) -> Outcome:
    nonce = secrets.token_hex(16)
    limits = json.dumps(_limits(cpu_s, contained))
    to_candidate, from_candidate = os.pipe(), os.pipe()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.append(
            subprocess.Popen(
                _command(["candidate", limits], contained),
                stdin=to_candidate[0],
                stdout=from_candidate[1],
                **_apart(),
            )
        )
        ends = (from_candidate[0], to_candidate[1])
        processes.append(
            subprocess.Popen(
                _command(["tests", limits, *map(str, ends)], contained),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=ends,
                **_apart(),
            )
        )
        # Only the children hold the pipes now, so that each sees the other's end.
        for fd in (*to_candidate, *from_candidate):
            os.close(fd)
        to_candidate = from_candidate = (-1, -1)
        report, _ = processes[1].communicate(json.dumps({**job, "nonce": nonce}).encode(), timeout=WALL * cpu_s)
    except subprocess.TimeoutExpired:
        return Outcome(False, f"timeout after {WALL * cpu_s:g} s")
    finally:
        for fd in (*to_candidate, *from_candidate):
            if fd >= 0:
                os.close(fd)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()
    return _outcome(report, nonce)


def _outcome(report: bytes, nonce: str) -> Outcome:
    try:
        said = json.loads(report)
    except ValueError:
        return Outcome(False, "the tests' process ended without a report")
    if secrets.compare_digest(str(said.get("passed", "")), nonce):
        return Outcome(True)
    return Outcome(False, str(said.get("failed", "no nonce"))[:300])


def _apart() -> dict[str, Any]:
    return {"stderr": subprocess.DEVNULL, "env": {"PATH": "/usr/bin:/bin"}, "cwd": "/", "start_new_session": True}


def _limits(cpu_s: float, contained: bool) -> dict[str, int | None]:
    root = os.geteuid() == 0
    others = 0 if root else _own_processes()
    return {
        "AS": MEMORY_BYTES,
        "CPU": max(1, round(cpu_s)),
        "FSIZE": FILE_BYTES,
        "NOFILE": 64,
        "NPROC": others + PROCESSES,
        "CORE": 0,
        # Without bubblewrap the interpreter may lie where another user cannot read it.
        "uid": 2**20 + secrets.randbelow(2**20) if root and contained else None,
    }


def _own_processes() -> int:
    """Threads of this user now: older kernels count them all against the limit."""
    count, me = 0, os.getuid()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == me:
                count += sum(1 for _ in (entry / "task").iterdir())
    return count


def _command(arguments: list[str], contained: bool) -> list[str]:
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    flags = ["-I", "-S", "-B", "-X", "utf8"]
    if not contained:
        return [python, *flags, str(JAIL), *arguments]
    bwrap = _bubblewrap()
    assert bwrap is not None
    return [bwrap, *_walls(), "--", python, *flags, "/jail.py", *arguments]


def _walls() -> list[str]:
    """bubblewrap's arguments. As root the user namespace stays, and inside, root is left for an unused host uid."""
    if os.geteuid() == 0:
        user = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        user = ["--unshare-user", "--cap-drop", "ALL"]
    walls = [
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", *user),
        *("--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"),
        *("--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr"),
        *("--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"),
    ]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            walls += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            walls += ["--ro-bind", name, name]
    if Path("/etc/ld.so.cache").is_file():
        walls += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    home = Path(os.path.realpath(sys.base_prefix))
    if not home.is_relative_to("/usr"):
        for parent in reversed(home.parents[:-1]):
            walls += ["--perms", "0755", "--dir", str(parent)]
        walls += ["--ro-bind", str(home), str(home)]
    return [*walls, "--ro-bind", str(JAIL), "/jail.py", "--chdir", "/tmp"]
