"""Facts about a host, and the client's floor on it: through the command, on this very host."""

import json
import subprocess
import sys

import pytest

from poise.measure import doctor, host
from poise.measure.calibrate import Floor
from poise.report.doctor import fit
from poise.types import Check


def told(*flags: str, before: str = "") -> tuple[int, dict]:
    start = f"import sys; sys.argv = ['poise', 'doctor', '--json', *{flags!r}]"
    code = f"{before}\n{start}\nfrom poise.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_doubt_comes_with_one_thing_to_do() -> None:
    code, found = told()
    codes = [check["code"] for check in found["checks"]]
    assert {"python", "wire", "clock", "timer", "others", "gpu", "extra", "files", "sandbox"} <= set(codes)
    assert all(bool(c["action"]) for c in found["checks"] if c["level"] != "info")
    assert code == 0 and found["fit"] and found["floor"] is None


def test_too_few_files_for_the_load_is_known_before_anything_runs() -> None:
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))"
    code, found = told("--load", "256", before=limit)
    [files] = [c for c in found["checks"] if c["code"] == "files"]
    assert code == 5 and not found["fit"] and found["floor"] is None
    assert files == {"code": "files", "level": "error", "evidence": files["evidence"], "action": "ulimit -n 320"}


def test_the_client_is_calibrated_at_the_planned_load() -> None:
    code, found = told("--load", "4")
    floor = found["floor"]
    assert floor["load"] == 4 and floor["needed_chunks_per_s"] == 400
    assert floor["ttft_error_p99_s"] >= floor["ttft_error_p50_s"] > 0, "no client is earlier than the server"
    assert 0 < floor["delivered"] <= 1 and floor["chunks_per_s"] > 0
    assert (code, found["fit"]) == ((0, True) if not found["shortcomings"] else (5, False))


def test_a_floor_says_what_is_beyond_it() -> None:
    good = Floor(256, 0.0001, 0.001, 0.002, 0.995, 90_000, 25_600)
    assert good.shortcomings == [] and fit([], good)
    bad = Floor(256, 0.2, 0.4, 0.05, 0.5, 20_000, 25_600)
    assert len(bad.shortcomings) == 4 and not fit([], bad)
    assert not fit([Check("files", "error", "", "ulimit -n 320")], None)


def test_a_governor_and_a_shared_gpu_are_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"name": "GPU", "driver": "1", "mem_bytes": 8e9, "mem_free_bytes": 2e9, "processes": 2}
    monkeypatch.setattr(host, "governor", lambda: "powersave")
    monkeypatch.setattr(host, "gpus", lambda: [gpu])
    found = {c.code: c for c in doctor.checks(None)}
    assert found["governor"].level == "warn" and "performance" in found["governor"].action
    assert found["gpu"].level == "warn" and "2 processes use it" in found["gpu"].evidence
