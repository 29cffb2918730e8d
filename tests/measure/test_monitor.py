import os
import queue
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from poise.measure import monitor as module
from poise.measure.monitor import gpu_samplers, monitor, tree_sampler
from poise.store.run import iter_jsonl
from poise.types import ResourceSample

BUSY = """
import subprocess, sys, time
block = bytearray(80_000_000)
for i in range(0, len(block), 4096): block[i] = 1
child = subprocess.Popen([sys.executable, "-c", "import time; t=time.time()\\nwhile time.time()-t<60: pass"])
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


@pytest.fixture
def engine():
    """A process with 80 MB and a child that burns CPU."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", BUSY], **pipes) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


def read(path):
    return list(iter_jsonl(path, ResourceSample))


def test_each_file_has_a_first_and_a_last_reading(engine, tmp_path):
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    command = [sys.executable, "-m", "poise.measure.monitor", str(engine.pid), "30"]
    before = time.perf_counter_ns()
    done = subprocess.run(command, input=f"{first}\n{second}\n", text=True, check=False, timeout=60)
    assert done.returncode == 0
    after = time.perf_counter_ns()
    assert len(read(first)) >= 2 and len(read(second)) >= 2, "with a period of 30 s only switches are sampled"
    for sample in read(first) + read(second):
        assert before < sample.t_ns < after, "all processes share one clock"


def test_the_tree_is_counted_with_its_children(engine, tmp_path):
    sampler = tree_sampler([engine.pid], pids := set())
    start = sampler()[0]
    deadline = time.monotonic() + 30
    while (now := sampler()[0]).cpu_s < start.cpu_s + 0.1:
        assert time.monotonic() < deadline, "the child burns CPU, so the tree's time must rise"
        time.sleep(0.02)
    assert len(pids) == 2
    assert now.device == "cpu" and now.mem_bytes > 80_000_000
    assert now.host_cpu is not None and 0 < now.host_cpu <= psutil.cpu_count() + 0.5
    assert now.power_w is None, "not measurable is null"


def test_an_ended_tree_ends_the_monitor(engine):
    sampler = tree_sampler([engine.pid], set())
    assert len(sampler()) == 1
    engine.stdin.close()
    engine.wait(30)
    assert sampler() == []
    commands: queue.Queue[str | None] = queue.Queue()
    commands.put(os.devnull)
    monitor([lambda: []], commands, 0.01)


def test_a_process_that_is_already_gone_is_no_error():
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    command = [sys.executable, "-m", "poise.measure.monitor", str(gone.pid), "0.1"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0


def test_readings_come_in_the_period(tmp_path):
    commands: queue.Queue[str | None] = queue.Queue()
    path, count = tmp_path / "r.jsonl", 0

    def sampler():
        nonlocal count
        count += 1
        if count == 6:
            commands.put(None)
        return [ResourceSample(count, "cpu")]

    commands.put(str(path))
    monitor([sampler], commands, 0.01)
    assert [s.t_ns for s in read(path)] == [1, 2, 3, 4, 5, 6, 7]


# ---------------------------------------------------------------- GPUs (a stand-in for the driver's library)


def driver(**answers):
    def unsupported(*_):
        raise RuntimeError("Not Supported")

    names = (
        "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo",
    )  # fmt: skip
    fake = SimpleNamespace(
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        **dict.fromkeys(names, unsupported),
    )
    for name, value in answers.items():
        setattr(fake, name, lambda *_, value=value: value)
    return fake


def test_a_gpu_is_read_in_our_units(monkeypatch):
    processes = [SimpleNamespace(pid=7, usedGpuMemory=100), SimpleNamespace(pid=8, usedGpuMemory=50)]
    fake = driver(
        nvmlDeviceGetUtilizationRates=SimpleNamespace(gpu=75),
        nvmlDeviceGetPowerUsage=250_500,
        nvmlDeviceGetTotalEnergyConsumption=1_234_567,
        nvmlDeviceGetCurrentClocksEventReasons=0x24,
        nvmlDeviceGetComputeRunningProcesses=processes,
        nvmlDeviceGetTemperature=61,
        nvmlDeviceGetClockInfo=1980,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(module, "has_nvidia", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    (sampler,) = gpu_samplers({7})
    (sample,) = sampler()
    assert (sample.device, sample.util, sample.power_w, sample.energy_j) == ("gpu1", 0.75, 250.5, 1234.567)
    assert (sample.mem_bytes, sample.temp_c, sample.clock_mhz, sample.throttled) == (100, 61, 1980, True)


@pytest.mark.parametrize(
    ("named", "devices"),
    [(None, [0, 1]), ("1,0", [1, 0]), ("", []), ("-1", []), ("0,-1,1", [0]), ("0,5,1", [0]), ("GPU-8932f937", [0, 1])],
)
def test_the_gpus_that_an_engine_may_use(monkeypatch, named, devices):
    # CUDA C++ Programming Guide, "CUDA Environment Variables": devices behind an invalid one are not visible
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    monkeypatch.setattr(module, "has_nvidia", lambda: True)
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert [sampler()[0].device for sampler in gpu_samplers(set())] == [f"gpu{i}" for i in devices]


def test_what_a_gpu_does_not_tell_is_null(monkeypatch):
    fake = driver(nvmlDeviceGetMemoryInfo=SimpleNamespace(used=900), nvmlDeviceGetCurrentClocksEventReasons=0x04)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(module, "has_nvidia", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    samplers = gpu_samplers({7})
    assert len(samplers) == 2
    (sample,) = samplers[0]()
    assert sample.util is sample.power_w is sample.energy_j is None
    assert sample.mem_bytes == 900, "the whole device, where processes are hidden"
    assert sample.throttled is False, "the ordinary power cap is no throttling"


def test_no_driver_no_samplers(monkeypatch):
    monkeypatch.setattr(module, "has_nvidia", lambda: False)
    assert gpu_samplers({1}) == []
