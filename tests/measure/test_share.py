"""Several client processes: one schedule, one record set, whatever the number; kills lose nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.measure import share
from poise.plan.spec import Load
from poise.store.run import CellFolder, open_run

MOCK = [sys.executable, "-m", "poise.measure.mock_server"]


@given(st.sampled_from(["closed", "open"]), st.integers(1, 40), st.integers(1, 9), st.integers(0, 200))
def test_the_parts_are_the_whole(kind: Any, value: int, wanted: int, n: int) -> None:
    load = Load(kind, value, max_in_flight=max(value, 16))
    parts = share.processes(load, wanted, 4)
    shares = [list(share.mine(load, range(n), k, parts)) for k in range(parts)]
    assert sorted(i for part in shares for i in part) == list(range(n))
    assert all(part == sorted(part) for part in shares), "each process keeps the schedule's order"
    portions = [share.portion(load, k, parts) for k in range(parts)]
    assert sum(p.max_in_flight for p in portions) == load.max_in_flight
    if kind == "closed":
        assert sum(p.value for p in portions) == value and all(p.value >= 1 for p in portions)
        lanes = [len(part) / p.value for part, p in zip(shares, portions, strict=True)]
        assert max(lanes) - min(lanes) <= 1, "a process asks in proportion to what it keeps in flight"
    else:
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("load", "cores", "expected"),
    [
        (Load("closed", 8), 64, 1),
        (Load("closed", 256), 64, 4),
        (Load("closed", 256), 4, 2),
        (Load("closed", 256), 1, 1),
        (Load("open", 4000), 64, 8),
        (Load("open", 40), 64, 1),
    ],
)
def test_auto_goes_by_the_load_and_leaves_half_the_cores(load: Load, cores: int, expected: int) -> None:
    assert share.processes(load, "auto", cores) == expected


def test_a_trace_counts_by_its_busiest_second() -> None:
    trace = Load("trace", 0.5, trace="t.csv")  # twice as fast: that is no rate
    assert share.processes(trace, "auto", 64, 1600.0) == 3
    assert share.processes(trace, "auto", 64, 12.0) == 1
    assert share.processes(trace, 2, 64, 12.0) == 2


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """A mock server with a truth log: (address, log)."""
    truth = tmp_path / "truth.jsonl"
    command = [*MOCK, f"--truth={truth}", "--ttft=0.02", "--gap=0.002", "--tokens=8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], truth
        process.terminate()


def command(tmp_path: Path, url: str, n: int, load: dict[str, Any], processes: int) -> list[str]:
    study = {
        "models": [{"name": "m", "source": {"api": "mock"}}],
        "deployments": [{"name": "d", "backend": "openai", "base_url": f"{url}/v1"}],
        "tasks": [{"task": "synthetic", "options": {"n": n, "prompt_tokens": 8, "output_tokens": 8}}],
        "loads": [load],
        "warmup": 2,
    }
    (tmp_path / "s.json").write_text(json.dumps(study))
    more = ["-q", "-o", str(tmp_path / "run"), "--client-processes", str(processes)]
    return [sys.executable, "-m", "poise.cli", "run", str(tmp_path / "s.json"), *more]


def asked(cell: CellFolder) -> list[str]:
    return sorted(r.request_id for r in cell.records() if r.phase == "measure")


@pytest.mark.parametrize("load", [{"closed": 5}, {"open": 200, "arrivals": "constant"}])
def test_two_processes_ask_what_one_would(tmp_path: Path, server: Any, load: dict[str, Any]) -> None:
    url, truth = server
    done = subprocess.run(command(tmp_path, url, 41, load, 2), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    [cell] = open_run(tmp_path / "run").cells()
    assert [p.name for p in cell.files("records")] == ["records.0.jsonl", "records.1.jsonl"]
    assert asked(cell) == sorted(r.id for r in cell.requests())
    records = [r for r in cell.records() if r.phase == "measure"]
    assert all(r.status == "ok" for r in records)
    assert sum(r.phase != "measure" for r in cell.records()) == 3, "one process warms the server up, not each"
    assert [s.event for s in cell.segments()] == ["start", "end"] and len(cell.loop_lag()) == 2
    if "open" in load:
        due = sorted(r.due_ns for r in records if r.due_ns is not None)
        assert [b - due[0] for b in due] == [i * 5_000_000 for i in range(41)], "one schedule with one start"
    else:
        events = [json.loads(line) for line in truth.read_text().splitlines()][3:]
        edges = sorted([(e["arrived_ns"], 1) for e in events] + [(e["sent_ns"][-1], -1) for e in events])
        flying = most = 0
        for _, step in edges:
            flying += step
            most = max(most, flying)
        assert most == 5, "five in flight, over both processes"


def test_a_kill_loses_nothing_and_another_number_of_processes_goes_on(tmp_path: Path, server: Any) -> None:
    url, _ = server
    process = subprocess.Popen(command(tmp_path, url, 300, {"closed": 6}, 3), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while sum(p.stat().st_size for p in tmp_path.rglob("records.*.jsonl")) < 20_000:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)
    [cell] = open_run(tmp_path / "run").cells()
    before = len(asked(cell))
    assert 0 < before < 300
    done = subprocess.run(command(tmp_path, url, 300, {"closed": 6}, 2), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert asked(cell) == sorted(r.id for r in cell.requests()), "none lost, none twice"
    assert {r.segment for r in cell.records()} == {0, 1}
    assert [s.event for s in cell.segments()] in (["start", "start", "end"], ["start", "end", "start", "end"])


def test_a_number_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "http://127.0.0.1:9", 1, {"closed": 1}, 0), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--client-processes takes auto or a number" in done.stderr
