"""A process of its own that samples what an engine's processes and the GPUs use (PID[,PID…] PERIOD_S [--idle]).

Each line on stdin is the path of the `resources.jsonl` to append to from now on; the end of stdin ends it. A switch
and the end are sampled at once, so that every file has a first and a last reading. Stamps are `perf_counter_ns`.
"""

from __future__ import annotations

import itertools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import psutil

from poise.measure.host import has_nvidia
from poise.measure.priority import run_when_idle
from poise.store.files import Appender
from poise.types import ResourceSample

LOOK_NS = 1_000_000_000
"""How often the process tree is looked through for new children: that costs more than reading known ones."""
SLOWED = 0x08 | 0x20 | 0x40 | 0x80
"""NVML's reasons that mean trouble: hardware slowdown, software or hardware thermal limit, power brake (not the
ordinary power cap). https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html"""

Sampler = Callable[[], list[ResourceSample]]


def monitor(samplers: list[Sampler], commands: queue.Queue[str | None], period_s: float) -> None:
    """Sample until `commands` gives None or the process is gone; a path among them is where to write from then on.

    The first sampler is the process tree's: when it has nothing, the process has ended.
    """
    target: Appender | None = None
    period_ns, due = int(period_s * 1e9), 0
    while True:
        wait_s = None if target is None else max(0.0, (due - perf_counter_ns()) / 1e9)
        try:
            command, switched = commands.get(timeout=wait_s), True
        except queue.Empty:
            command, switched = None, False
        readings = [read() for read in samplers]
        samples = [sample for reading in readings for sample in reading]
        if target is not None:
            target.write(samples)
        if switched and target is not None:
            target.close()
        if (switched and command is None) or not readings[0]:
            return
        if command is not None:
            target = Appender(Path(command))
            target.write(samples)
        now = perf_counter_ns()
        due = now + period_ns if switched else max(due + period_ns, now)


# ---------------------------------------------------------------- processes


def tree_sampler(roots: Sequence[int], pids: set[int]) -> Sampler:
    """CPU seconds and resident memory of processes and their descendants (this one left out), and the host's load.

    Time of children that have ended is in their parent's account. The host's busy cores count from reading to
    reading. `pids` is kept up to date with the tree. No sample at all once one of `roots` is gone.
    """
    processes = [psutil.Process(pid) for pid in roots]
    pids.update(roots)
    known: list[psutil.Process] = processes
    looked = 0
    last_busy, last_ns = _host_busy(), perf_counter_ns()

    def read() -> list[ResourceSample]:
        nonlocal known, looked, pids, last_busy, last_ns
        now = perf_counter_ns()
        try:
            if now - looked > LOOK_NS:
                found = [c for p in processes for c in p.children(recursive=True) if c.pid != os.getpid()]
                known, looked = [*processes, *found], now
                pids |= {process.pid for process in known}
            usage = [_usage(process) for process in known]
        except psutil.NoSuchProcess:
            known, looked = processes, 0
            if not all(p.is_running() for p in processes):
                return []
            usage = [_usage(p) for p in processes]
        busy = _host_busy()
        elapsed = (now - last_ns) / 1e9
        host = round((busy - last_busy) / elapsed, 3) if elapsed > 0.01 else None
        if host is not None:
            last_busy, last_ns = busy, now
        cpu_s, mem_bytes = (sum(column) for column in zip(*usage))
        return [ResourceSample(now, "cpu", cpu_s=round(cpu_s, 4), mem_bytes=int(mem_bytes), host_cpu=host)]

    return read


def _usage(process: psutil.Process) -> tuple[float, int]:
    with process.oneshot():
        times = process.cpu_times()
        ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return times.user + times.system + ended, process.memory_info().rss


def _host_busy() -> float:
    """CPU seconds spent on the whole host, by all but idling and waiting for disks."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


# ---------------------------------------------------------------- GPUs


def gpu_samplers(pids: set[int]) -> list[Sampler]:
    """One sampler per visible NVIDIA device; [] (and no library loaded) where there is no driver."""
    if not has_nvidia():
        return []
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        visible = _visible(nvml.nvmlDeviceGetCount())
        return [_gpu_sampler(nvml, index, pids) for index in visible]
    except Exception:  # no usable driver: there is nothing to sample
        return []


def _visible(count: int) -> Iterable[int]:
    """The devices an engine may use: all, or the named ones up to the first that is none (as CUDA reads the list)."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or named.lstrip().startswith(("GPU-", "MIG-")):  # which of them these are is not looked up
        return range(count)
    numbers = (int(word) if word.strip().isdigit() else count for word in named.split(","))
    return list(itertools.takewhile(lambda number: number < count, numbers))


def _gpu_sampler(nvml: Any, index: int, pids: set[int]) -> Sampler:
    """Readings of one device; what this device or driver does not tell stays null.

    Memory is that of the engine's processes, or of the whole device where the driver hides processes.
    """
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or getattr(
        nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None
    )

    def ask(question: Any, *more: Any) -> Any:
        try:
            return question(handle, *more)
        except Exception:  # not supported here: null, not zero
            return None

    def memory() -> int | None:
        processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses) or []
        own = [p.usedGpuMemory for p in processes if p.usedGpuMemory and p.pid in pids]
        if own:
            return int(sum(own))
        whole = ask(nvml.nvmlDeviceGetMemoryInfo)
        return int(whole.used) if whole else None

    def read() -> list[ResourceSample]:
        now = perf_counter_ns()
        rates, power = ask(nvml.nvmlDeviceGetUtilizationRates), ask(nvml.nvmlDeviceGetPowerUsage)
        energy, slowed = ask(nvml.nvmlDeviceGetTotalEnergyConsumption), ask(reasons) if reasons else None
        return [
            ResourceSample(
                now,
                f"gpu{index}",
                util=rates.gpu / 100 if rates else None,
                mem_bytes=memory(),
                power_w=power / 1000 if power is not None else None,
                energy_j=energy / 1000 if energy is not None else None,
                temp_c=ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
                clock_mhz=ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
                throttled=bool(slowed & SLOWED) if slowed is not None else None,
            )
        ]

    return read


# ---------------------------------------------------------------- the process


def main(argv: list[str]) -> int:
    roots, period_s = [int(pid) for pid in argv[0].split(",")], float(argv[1])
    if "--idle" in argv:
        run_when_idle()
    commands: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            commands.put(line.rstrip("\n"))
        commands.put(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        pids: set[int] = set()
        samplers = [tree_sampler(roots, pids), *gpu_samplers(pids)]
    except psutil.NoSuchProcess:
        return 0
    monitor(samplers, commands, period_s)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # all is written; the parent waits for this process
