import getpass
import json
import platform

import psutil
import pytest

from poise.measure import host


def test_the_environment_names_the_machine_and_not_its_owner():
    found = host.environment()
    assert found["cores"]["logical"] >= found["cores"]["usable"] >= 1
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert 0 < found["memory_available_bytes"] <= found["memory_bytes"]
    assert found["python"] == platform.python_version()
    assert "poise" in found["packages"] and "msgspec" in found["packages"]
    text = json.dumps(found)
    assert platform.node() not in text or len(platform.node()) < 4
    assert f"/{getpass.getuser()}" not in text and "/home" not in text


@pytest.mark.parametrize(("system", "said"), [("Linux", "A64FX at 2 GHz"), ("Darwin", "Apple M2 Max")])
def test_the_processor_is_named_on_linux_and_macos(monkeypatch, system, said):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(host, "_read", lambda path: f"x : y\nmodel name\t: {said}\n")
    monkeypatch.setattr(host, "_command", lambda *argv: "Apple M2 Max" if argv[0] == "sysctl" else "")
    assert host._cpu() == said


def test_threads_follow_the_size_of_the_model():
    assert host.default_threads(5_000_000) == 1
    assert host.default_threads(14_000_000_000) == psutil.cpu_count(logical=False)


def test_a_container_limit_is_respected(monkeypatch):
    files = {"/sys/fs/cgroup/memory.max": "1000000", "/sys/fs/cgroup/memory.current": "400000"}
    monkeypatch.setattr(host, "_read", lambda path: files.get(path, ""))
    assert host.memory_available() == 600_000


@pytest.mark.parametrize(("free", "found"), [([3, 7], 7), ([0], 0), ([], None)])
def test_a_model_for_a_gpu_has_the_memory_of_the_emptiest(monkeypatch, free, found):
    monkeypatch.setattr(host, "gpus", lambda: [{"mem_free_bytes": n} for n in free])
    assert host.memory_available("cuda:0") == found


def test_a_container_at_its_limit_has_nothing_left(monkeypatch):
    files = {"/sys/fs/cgroup/memory.max": "1000", "/sys/fs/cgroup/memory.current": "1200"}
    monkeypatch.setattr(host, "_read", lambda path: files.get(path, ""))
    assert host.memory_available() == 0
