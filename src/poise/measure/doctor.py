"""Whether this host is fit to measure on: facts about it, each with what to do where it is not."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import sys
import time
from collections.abc import Iterator

import psutil

from poise import registry
from poise.measure import host, loop
from poise.types import Check, Level

_TIMER_LATE_S = 0.002
_OTHERS_CORES = 0.2
_FILES_BESIDE = 64
"""Open files beside the connections: logs, records, libraries."""


def checks(load: int | None) -> list[Check]:
    """All facts, in order; level `info` where there is nothing to do."""
    found: list[Check] = []
    for look in (_python, _wire, _clock, _others, _timer, _governor, _extras, _gpus, lambda: _files(load)):
        found += look()
    return found


def _fact(code: str, evidence: str, action: str = "", level: Level | None = None) -> Check:
    return Check(code, level or ("warn" if action else "info"), evidence, action)


def _python() -> Iterator[Check]:
    cores = host.usable_cores()
    where = f"{platform.system()} {platform.machine()}, {cores} cores"
    yield _fact("python", f"Python {platform.python_version()} on {where}")
    if cores is not None and cores < 2:
        yield _fact("cores", "one core for client and server", "measure a server on another machine")


def _wire() -> Iterator[Check]:
    absent = [name for name in ("uvloop", "httptools") if importlib.util.find_spec(name) is None]
    if not absent:
        yield _fact("wire", "uvloop and httptools are installed")
    elif sys.platform != "win32":
        yield _fact("wire", f"{' and '.join(absent)} missing: times err more", f"pip install {' '.join(absent)}")
    else:
        yield _fact("wire", "no uvloop on Windows: asyncio's own loop is used, whose timers are 15 ms coarse")


def _clock() -> Iterator[Check]:
    step_ns = min(_step_ns() for _ in range(100))
    action = "" if step_ns <= 1_000 else "use another clock source (Linux: tsc in /sys/devices/system/clocksource)"
    yield _fact("clock", f"the clock advances in steps of {step_ns:,} ns", action)


def _step_ns() -> int:
    start = time.perf_counter_ns()
    while (now := time.perf_counter_ns()) == start:
        pass
    return now - start


def _others() -> Iterator[Check]:
    cores = psutil.cpu_percent(interval=0.5) / 100 * (psutil.cpu_count() or 1)
    action = "" if cores <= _OTHERS_CORES else "stop what else runs here, or measure later"
    yield _fact("others", f"others use {cores:.2f} of {psutil.cpu_count()} cores now", action)
    steal = getattr(psutil.cpu_times_percent(interval=0.1), "steal", 0.0)
    if steal > 1:
        yield _fact(
            "steal", f"the host takes {steal:.0f} % of this virtual machine's time", "use a machine of your own"
        )


def _timer() -> Iterator[Check]:
    late = sorted(loop.run(_lateness(200)))
    p99 = late[len(late) * 99 // 100]
    action = "" if p99 <= _TIMER_LATE_S else "stop what else runs here; in a virtual machine, give it whole cores"
    yield _fact("timer", f"a timer comes {p99 * 1e3:.2f} ms late (p99 of {len(late)})", action)


async def _lateness(n: int) -> list[float]:
    late, due = [], time.perf_counter()
    for _ in range(n):
        due = max(due, time.perf_counter()) + 0.003
        await asyncio.sleep(due - time.perf_counter())
        late.append(max(0.0, time.perf_counter() - due))
    return late


def _governor() -> Iterator[Check]:
    governor = host.governor()
    if governor is not None:
        action = "" if governor == "performance" else "sudo cpupower frequency-set -g performance"
        yield _fact("governor", f"the processor's frequency governor is {governor!r}", action)


def _extras() -> Iterator[Check]:
    for name in registry.names("backend"):
        backend = registry.lookup("backend", name)
        if absent := registry.absent(backend):
            evidence = f"engine {name}: {', '.join(absent)} not installed"
            yield _fact("extra", evidence, registry.install(backend), level="info")
        else:
            yield _fact("extra", f"engine {name} is ready")


def _gpus() -> Iterator[Check]:
    gpus = host.gpus()
    if not gpus:
        there = "an NVIDIA driver is there, but no usable device" if host.has_nvidia() else "no NVIDIA GPU"
        yield _fact("gpu", there, "see what nvidia-smi says" if host.has_nvidia() else "")
    for gpu in gpus:
        evidence = f"{gpu['name']}, driver {gpu['driver']}, {gpu['mem_free_bytes'] / 1e9:.0f} GB free"
        shared = bool(gpu["processes"])
        action = "end the other processes on it (nvidia-smi shows them)" if shared else ""
        yield _fact("gpu", evidence + (f", {gpu['processes']} processes use it" if shared else ""), action)


def _files(load: int | None) -> Iterator[Check]:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = (load or 0) + _FILES_BESIDE
    enough = soft == resource.RLIM_INFINITY or soft >= needed
    action = "" if enough else f"ulimit -n {needed}"
    yield _fact("files", f"{soft:,} files may be open, {needed:,} are needed", action, None if enough else "error")
