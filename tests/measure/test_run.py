"""Whole runs with the scripted engine: crash, kill -9, interrupt and resume lose nothing and duplicate nothing."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.measure.mock_config import MockConfig
from poise.measure.mock_server import running
from poise.measure.run import execute
from poise.plan.build import plan
from poise.plan.read import load_study
from poise.plan.schedule import Extent
from poise.store.run import CellFolder, Run
from poise.types import UsageError


class Silent:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str | None]] = []
        self.ticks: list[int] = []

    def waiting(self, why: str) -> None: ...

    def start(self, cells: Sequence[Extent]) -> None:
        self.cells = list(cells)

    def cell_started(self, label: str, extent: Extent, already_done: int = 0, spent_s: float = 0.0) -> None: ...

    def tick(self, done_in_cell: int) -> None:
        self.ticks.append(done_in_cell)

    def cell_done(
        self, label: str, n: int, seconds_per_request: Any, quality: Any = None, reason: str | None = None
    ) -> None:
        self.done.append((label, reason))

    def close(self) -> None: ...


def study(tmp_path: Path, options: dict[str, Any] | None = None, n: int = 12, **changes: Any) -> dict[str, Any]:
    return {
        "models": [{"name": "a", "source": {"api": "a"}}],
        "deployments": [{"backend": "scripted", "options": options or {}}],
        "tasks": [
            {"task": "synthetic", "options": {"n": n, "prompt_tokens": 8, "output_tokens": 4}},
            {"task": "synthetic", "name": "other", "options": {"n": 3, "prompt_tokens": 9, "output_tokens": 2}},
        ],
        **changes,
    }


def go(data: dict[str, Any], out: Path, **kwargs: Any) -> Any:
    return execute(
        plan(load_study(data, name="t")),
        out,
        watcher=kwargs.pop("watcher", Silent()),
        between=lambda _: (None, None),
        **kwargs,
    )


def measured(out: Path) -> dict[str, list[str]]:
    """task -> request ids recorded in the measured phase."""
    return {f.cell.task.name: [r.request_id for r in f.records() if r.phase == "measure"] for f in Run(out).cells()}


def test_a_run_leaves_a_self_sufficient_folder(tmp_path: Path) -> None:
    watcher = Silent()
    outcome = go(study(tmp_path), tmp_path / "run", watcher=watcher)
    assert outcome.failed == {} and sorted(watcher.cells) == [Extent(3, None), Extent(12, None)]
    run = Run(tmp_path / "run")
    assert {k: len(set(v)) for k, v in measured(run.path).items()} == {"synthetic": 12, "other": 3}
    for folder in run.cells():
        assert len(list(folder.requests())) == folder.cell.planned == len(folder.targets())
        events = [s.event for s in folder.segments()]
        assert events == ["start", "end"] and folder.segments()[0].load_s
    assert run.environment["cores"] and run.manifest.study.name == "t"
    phases = [r.phase for r in run.cells()[0].records()]
    assert phases[:3] == ["cold", "warmup", "warmup"] and set(phases[3:]) == {"measure"}


def test_the_same_call_again_asks_nothing(tmp_path: Path) -> None:
    go(study(tmp_path), tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("records.jsonl")}
    go(study(tmp_path), tmp_path / "run")
    assert {p: p.read_bytes() for p in before} == before


def test_raising_the_limit_asks_only_the_new_items(tmp_path: Path) -> None:
    def limited(limit: int) -> dict[str, Any]:
        return {**study(tmp_path), "tasks": [{"task": "synthetic", "options": {"n": 20}, "limit": limit}]}

    go(limited(5), tmp_path / "run")
    first = measured(tmp_path / "run")["synthetic"]
    go(limited(9), tmp_path / "run")
    both = measured(tmp_path / "run")["synthetic"]
    assert both[:5] == first and len(both) == len(set(both)) == 9
    with pytest.raises(UsageError, match="only 5"):
        go(limited(5), tmp_path / "run")


def test_another_study_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    go(study(tmp_path), tmp_path / "run")
    with pytest.raises(UsageError, match="does not contain"):
        go(study(tmp_path, seed=5), tmp_path / "run")
    assert len(measured(tmp_path / "run")["synthetic"]) == 12


def test_a_folder_of_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no run folder"):
        go(study(tmp_path), tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) in (["thesis.txt"], [".lock", "thesis.txt"])


def test_a_crash_fails_its_cell_and_the_rest_goes_on(tmp_path: Path) -> None:
    watcher = Silent()
    outcome = go(study(tmp_path, {"crash_after": 8}), tmp_path / "run", watcher=watcher)
    assert [label.split(", ")[1] for label in outcome.failed] == ["synthetic"]
    reason = next(iter(outcome.failed.values()))
    assert "exit code 9" in reason
    assert (tmp_path / "run" / reason.rpartition("its log: ")[2].rstrip(")")).is_file()
    kept = measured(tmp_path / "run")
    assert 0 < len(kept["synthetic"]) < 12 and len(kept["other"]) == 3
    assert Run(tmp_path / "run").cells()[0].segments()[-1].error


def test_what_cannot_run_is_known_before(tmp_path: Path) -> None:
    data = study(tmp_path, deployments=[{"backend": "openai", "base_url": "http://127.0.0.1:9/v1"}])
    with pytest.raises(UsageError, match="a on openai"):
        go(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_served_models_own_folder_counts_the_tokens_that_the_server_does_not(tmp_path: Path) -> None:
    """The worker that asks a server knows the model's other sources too."""
    folder = Path(poise.__file__).parent / "bundled" / "xs"
    if not folder.is_dir():
        pytest.skip("no bundled model here")

    async def asked() -> Any:
        async with running(MockConfig(tokens=3, usage="none")) as (_, port):
            served = {"backend": "openai", "base_url": f"http://127.0.0.1:{port}"}
            model = {"name": "a", "source": {"api": "a", "hf": str(folder)}, "format": "raw"}
            data = study(tmp_path, models=[model], deployments=[served])
            return await asyncio.to_thread(go, data, tmp_path / "run")

    outcome = asyncio.run(asked())
    assert outcome.failed == {}
    records = [r for f in Run(tmp_path / "run").cells() for r in f.records()]
    assert {r.tokens_by for r in records} == {"tokenizer"} and all(r.output_tokens >= 3 for r in records)


def test_an_optional_deployment_is_skipped_with_the_reason(tmp_path: Path) -> None:
    away = {"backend": "openai", "base_url": "http://127.0.0.1:9/v1", "optional": True}
    outcome = go(study(tmp_path, deployments=["scripted", away]), tmp_path / "run")
    assert outcome.failed == {} and len(outcome.skipped) == 2
    states = {(f.cell.deployment.name, f.cell.state) for f in Run(tmp_path / "run").cells()}
    assert states == {("scripted", "planned"), ("openai", "skipped")}


def test_more_requests_than_items_ask_them_again(tmp_path: Path) -> None:
    task = {"task": "synthetic", "options": {"n": 4}}
    go(study(tmp_path, tasks=[task], loads=[{"closed": 1, "requests": 10}]), tmp_path / "run")
    first = measured(tmp_path / "run")["synthetic"]
    assert first[4:] == [f"{i}/1" for i in first[:4]] + [f"{i}/2" for i in first[:2]]
    go(study(tmp_path, tasks=[task], loads=[{"closed": 1, "requests": 12}]), tmp_path / "run")
    assert measured(tmp_path / "run")["synthetic"] == [*first, f"{first[2]}/2", f"{first[3]}/2"]
    (cell,) = poise.summarize(tmp_path / "run").cells
    assert (cell.state, cell.planned, cell.n) == ("ok", 12, 12)


def test_batches_of_repeated_items_are_whole(tmp_path: Path) -> None:
    task = {"task": "synthetic", "options": {"n": 4}}
    go(study(tmp_path, tasks=[task], loads=[{"batch": 3, "order": "length", "requests": 7}]), tmp_path / "run")
    (folder,) = Run(tmp_path / "run").cells()
    sizes = [r.batch.size for r in folder.records() if r.phase == "measure" and r.batch]
    assert sizes == [3] * 6 + [1]


def test_a_timed_load_asks_until_its_time_is_over(tmp_path: Path) -> None:
    # an answer of four tokens takes 80 ms on the virtual clock: after 12 of them 0.96 s are over, after 13 it is 1.04 s
    def timed(duration_s: float, **more: Any) -> dict[str, Any]:
        tasks = [{"task": "synthetic", "options": {"n": 5, "output_tokens": 4}}]
        loads = [{"closed": 1, "duration_s": duration_s, **more}]
        return study(tmp_path, {"gap_s": 0.01, "ttft_s": 0.05}, tasks=tasks, loads=loads)

    go(timed(1.0), tmp_path / "run")
    assert len(set(measured(tmp_path / "run")["synthetic"])) == 13
    (cell,) = poise.summarize(tmp_path / "run").cells
    assert (cell.state, cell.planned, cell.n) == ("ok", 13, 13)
    before = (tmp_path / "run").rglob("records.jsonl").__next__().read_bytes()
    go(timed(1.0), tmp_path / "run")
    assert (tmp_path / "run").rglob("records.jsonl").__next__().read_bytes() == before
    go(timed(9.0, requests=3), tmp_path / "few")
    assert len(measured(tmp_path / "few")["synthetic"]) == 3


def test_a_timed_load_goes_on_for_what_is_left(tmp_path: Path) -> None:
    # each process answers three warm-ups and four requests of 80 ms, then it dies
    tasks = [{"task": "synthetic", "options": {"n": 5, "output_tokens": 4}}]
    options = {"gap_s": 0.01, "ttft_s": 0.05, "crash_after": 8}
    data = study(tmp_path, options, tasks=tasks, loads=[{"closed": 1, "duration_s": 1}])
    counts = []
    for _ in range(4):
        go(data, tmp_path / "run")
        (cell,) = poise.summarize(tmp_path / "run").cells
        counts.append((cell.n, cell.state))
    assert counts == [(4, "failed"), (8, "failed"), (12, "failed"), (13, "ok")]
    assert len(set(measured(tmp_path / "run")["synthetic"])) == 13
    go(data, tmp_path / "run")
    assert len(measured(tmp_path / "run")["synthetic"]) == 13


SCRIPT = """
import sys
from collections.abc import Sequence
from pathlib import Path
from poise.cli import main
sys.argv = ["poise", "run", "-q", sys.argv[1], "-o", sys.argv[2]]
main()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_a_random_moment_the_same_command_finishes(tmp_path: Path, how: signal.Signals) -> None:
    import yaml

    out, file = tmp_path / "run", tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(study(tmp_path, {"sleep_s": 0.01}, n=60)))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(file), str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 3000 for p in out.rglob("records.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, how)
    assert process.wait(30) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    wait_for_worker(out)
    partial = sum(map(len, measured(out).values()))
    assert 0 < partial < 63
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(file), str(out)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    straight = tmp_path / "straight"
    go({**study(tmp_path, {"sleep_s": 0.01}, n=60), "name": "s"}, straight)
    assert answers(out) == answers(straight)


def wait_for_worker(out: Path) -> None:
    """A killed parent takes its worker along; give the kernel a moment."""
    size = -1
    while (now := sum(p.stat().st_size for p in out.rglob("records.jsonl"))) != size:
        size = now
        time.sleep(0.2)


def answers(out: Path) -> dict[str, list[tuple[str, str]]]:
    def one(folder: CellFolder) -> list[tuple[str, str]]:
        return sorted((r.request_id, "".join(r.pieces)) for r in folder.records() if r.phase == "measure")

    return {f.cell.task.name: one(f) for f in Run(out).cells()}


def test_two_runs_into_one_folder_exclude_each_other(tmp_path: Path) -> None:
    from poise.store.write import Lock

    (tmp_path / "run").mkdir()
    lock = Lock(tmp_path / "run")
    try:
        with pytest.raises(UsageError, match="another poise is running"):
            go(study(tmp_path), tmp_path / "run")
    finally:
        lock.close()


def test_secrets_reach_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "verysecretvalue123")
    go(
        study(tmp_path),
        tmp_path / "run",
        argv=["poise", "run", "--x", "verysecretvalue123"],
        source="k: verysecretvalue123",
    )
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert b"verysecretvalue123" not in path.read_bytes()
