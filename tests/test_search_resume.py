"""A knee search as a user runs it: killed half-way, the same command goes on, and finds the same knee."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise import load_study, plan, summarize
from poise.measure.mock_answers import Script
from poise.measure.mock_config import MockConfig
from poise.plan.search import ladder, next_rate
from poise.store.run import open_run

LOSSES = MockConfig(error_share=0.2, seed=8, tokens=2, ttft_s=0.005)
"""A fifth of the prompts, always the same ones, is refused: whether a rate meets its limit is known beforehand."""


@pytest.fixture
def server() -> Iterator[str]:
    flags = [f"--error-share={LOSSES.error_share}", f"--seed={LOSSES.seed}", f"--tokens={LOSSES.tokens}", "--ttft=.005"]
    command = [sys.executable, "-m", "poise.measure.mock_server", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


def written(folder: Path, url: str) -> Path:
    """A study that searches by a limit which a request without an answer is over: 80 of 100 must be answered."""
    study = {
        "models": [{"name": "m", "source": {"api": "mock"}}],
        "deployments": [{"name": "d", "backend": "openai", "base_url": f"{url}/v1"}],
        "tasks": [{"task": "synthetic", "options": {"n": 200, "prompt_tokens": 4, "output_tokens": 2}}],
        "loads": [{"search": "open", "between": [40, 400], "arrivals": "constant", "duration_s": 0.4}],
        "analysis": {"slo": {"e2e_s": 60, "percentile": 80}},
        "warmup": 0,
    }
    path = folder / "s.json"
    path.write_text(json.dumps(study))
    return path


def expected(study: Path) -> tuple[list[float], float | None]:
    """The rates that are tried, in order, and the knee: by the server's own draws."""
    planned = plan(load_study(study))
    [search] = planned.cells
    script, met = Script(LOSSES), dict[float, bool]()
    while (rate := next_rate(ladder(search.load), met)) is not None:
        cell, items = planned.probe(search, rate)
        prompts = [r.messages[-1].content for r in items.requests[: cell.planned] if r.messages]
        lost = sum(script.plan({"prompt": p, "stream": True}, chat=True).fault is not None for p in prompts)
        met[rate] = len(prompts) - lost > math.ceil(0.8 * (len(prompts) - 1))  # a quantile between two times: both
    failed = min((r for r, ok in met.items() if not ok), default=float("inf"))
    return list(met), max((r for r, ok in met.items() if ok and r < failed), default=None)


def records(run: Path) -> dict[float, list[Path]]:
    """The record files of every probe, by its rate."""
    if not (run / "manifest.json").is_file():
        return {}
    return {f.cell.load.value: f.files("records") for f in open_run(run).cells() if f.cell.load.kind == "open"}


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path, server: str) -> None:
    study, run = written(tmp_path, server), tmp_path / "run"
    rates, knee = expected(study)
    assert knee is not None and len(rates) >= 5, "the draws make a search that has something to find"
    command = [sys.executable, "-m", "poise.cli", "run", str(study), "-q", "-o", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(records(run).get(rates[2], [])):  # the third probe writes
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {rate: [p.read_bytes() for p in records(run)[rate]] for rate in rates[:2]}
    assert list(records(run)) == sorted(rates[:3])

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(records(run)) == sorted(rates), "each rate once, the way an undisturbed search goes"
    assert {rate: [p.read_bytes() for p in records(run)[rate]] for rate in before} == before, "none measured again"
    for folder in open_run(run).cells():
        measured = [r.request_id for r in folder.records() if r.phase == "measure"]
        assert len(measured) == len(set(measured)) == folder.cell.planned
    search = next(c for c in summarize(run).cells if "knee_rps" in c.estimates)
    assert search["knee_rps"].value == knee
