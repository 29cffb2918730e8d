"""What this machine is (for `environment.json`) and what fits on it: no host name, no user name, no path."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "poise", "msgspec", "uvloop", "httptools", "numpy", "tokenizers", "onnxruntime", "onnxruntime-genai", "torch",
    "transformers", "accelerate", "peft", "bitsandbytes", "torchao", "nvidia-ml-py",
)  # fmt: skip
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve")
SMALL_BYTES = 200_000_000
"""Below this the weights of a model nearly fit a cache, and more threads cost more than they bring."""


def default_threads(model_bytes: int) -> int:
    """1 for a small model (it is slower on two threads as soon as the host is shared), else all physical cores."""
    import psutil

    return 1 if model_bytes < SMALL_BYTES else psutil.cpu_count(logical=False) or os.cpu_count() or 1


# ---------------------------------------------------------------- memory


def memory_available(device: str = "cpu") -> int | None:
    """Bytes free for a model on this host (or on the emptiest GPU, for `cuda`); None where it cannot be known."""
    if device.startswith("cuda"):
        return max((int(gpu["mem_free_bytes"]) for gpu in gpus()), default=None)
    import psutil

    available, granted = int(psutil.virtual_memory().available), _cgroup_free()
    return available if granted is None else min(available, granted)


def _cgroup_free() -> int | None:
    """What a container's memory limit leaves, where there is one (cgroup v2, then v1)."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        top, now = _read(limit), _read(used)
        if top.isdigit() and now.isdigit() and int(top) < 2**62:
            return max(0, int(top) - int(now))
    return None


# ---------------------------------------------------------------- environment


def environment() -> dict[str, Any]:
    """Machine, processor, memory, accelerators, system, packages and who else was busy: facts a reader compares by."""
    import psutil

    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": {"physical": psutil.cpu_count(logical=False), "logical": os.cpu_count(), "usable": usable_cores()},
        "flags": [flag for flag in FLAGS if flag in _flags()],
        "governor": governor(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_available_bytes": memory_available(),
        "gpus": gpus(),
        "os": _system(),
        "python": platform.python_version(),
        "virtualised": _virtualised(),
        "packages": _packages(),
        "load_average": [round(value, 2) for value in load],
    }


def governor() -> str | None:
    """How the processor's frequency is governed (Linux); None where that is not told, as in virtual machines."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None


def gpus() -> list[dict[str, Any]]:
    """NVIDIA devices through NVML: name, driver, memory, and how many processes use each already."""
    if not has_nvidia():
        return []
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # no usable driver: then there is no GPU to speak of
        return []
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found.append(
            {
                "name": _text(nvml.nvmlDeviceGetName(handle)),
                "driver": _text(nvml.nvmlSystemGetDriverVersion()),
                "mem_bytes": memory.total,
                "mem_free_bytes": memory.free,
                "processes": _count(nvml.nvmlDeviceGetComputeRunningProcesses, handle),
            }
        )
    nvml.nvmlShutdown()
    return found


def has_nvidia() -> bool:
    """A cheap look (no library is loaded) at whether an NVIDIA driver is there."""
    return any(Path(p).exists() for p in ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")) or os.name == "nt"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _count(ask: Any, handle: Any) -> int | None:
    try:
        return len(ask(handle))
    except Exception:  # some virtual machines hide processes
        return None


def _cpu() -> str:
    """The processor's name as the system tells it (Apple's chip name through sysctl)."""
    if platform.system() == "Darwin":
        return _command("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _flags() -> set[str]:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def usable_cores() -> int | None:
    """Cores this process may use: affinity, and a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit() and cores:
        return max(1, min(cores, round(int(quota) / int(period))))
    return cores


def _system() -> str:
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    named = [line[12:].strip('"') for line in _read("/etc/os-release").splitlines() if line.startswith("PRETTY_NAME=")]
    kernel = f"{platform.system()} {platform.release()}"
    return f"{named[0]}, {kernel}" if named else kernel


def _virtualised() -> bool | None:
    if platform.system() == "Darwin":
        answer = _command("sysctl", "-n", "kern.hv_vmm_present")
        return answer == "1" if answer else None
    return "hypervisor" in _flags() if _flags() else None


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # the monitor, small as it is, imports this module too

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _command(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=2, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
