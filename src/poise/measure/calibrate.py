"""What this client sees on this host where the truth is known: its errors and its speed at a planned load.

A small study runs through the whole program against the bundled mock server, whose log says when it sent what. Server
and client share this host, so a busy or small one shows here as errors that a distant server would not cause.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from poise.measure.group import Watcher
from poise.measure.mock_answers import prompt_sha
from poise.measure.run import execute
from poise.plan.build import plan
from poise.plan.read import load_study
from poise.store.run import CellFolder, open_run
from poise.types import PoiseError, Record

TTFT_S, GAP_S, TOKENS, ROUNDS = 0.1, 0.01, 64, 3
MOST_TTFT_ERROR_S = 0.002
"""At the 99th percentile; more than this would be taken for the server's."""
MOST_GAP_ERROR_S = 0.005
LEAST_DELIVERED = 0.99


class Floor(Struct, frozen=True):
    """The client's own errors at a load; what it reports of a server contains them."""

    load: int
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    gap_error_max_s: float
    delivered: float
    """Mean streams in flight, as a share of `load`."""
    chunks_per_s: float
    """Received, parsed and recorded, from a server without pauses."""
    needed_chunks_per_s: float
    """What `load` streams of one chunk every 10 ms bring."""

    @property
    def shortcomings(self) -> list[str]:
        """Why this load is beyond the client here; [] where it is not."""
        found = {
            f"time to first token is up to {self.ttft_error_p99_s * 1e3:.1f} ms late (p99)": (
                self.ttft_error_p99_s > MOST_TTFT_ERROR_S
            ),
            f"a gap between chunks is wrong by {self.gap_error_max_s * 1e3:.1f} ms": (
                self.gap_error_max_s > MOST_GAP_ERROR_S
            ),
            f"only {self.delivered:.1%} of the load is delivered": self.delivered < LEAST_DELIVERED,
            f"at most {self.chunks_per_s:,.0f} chunks/s are recorded, {self.needed_chunks_per_s:,.0f} may come": (
                self.chunks_per_s < self.needed_chunks_per_s
            ),
        }
        return [sentence for sentence, true in found.items() if true]


def calibrate(load: int, watcher: Watcher) -> Floor:
    """Measure the floor at `load` streams in flight, in about ten seconds."""
    with tempfile.TemporaryDirectory(prefix="poise-doctor-") as name:
        folder = Path(name)
        paced = {"ttft": TTFT_S, "gap": GAP_S, "tokens": TOKENS}
        with _mock(folder / "paced.jsonl", **paced) as url:
            cell = _measured(folder / "paced", url, load, ROUNDS * load, watcher)
            truth = _truth(folder / "paced.jsonl")
            asked = {r.id: r.messages[-1].content if r.messages else r.prompt or "" for r in cell.requests()}
            seen = [r for r in cell.records() if r.phase == "measure" and r.pieces]
            pairs = [(r, truth[prompt_sha(asked[r.request_id])]) for r in seen]
        with _mock(folder / "fast.jsonl", tokens=TOKENS, one_write=True) as url:
            cell = _measured(folder / "fast", url, load, max(20 * load, 1280), watcher)
            fast = [r for r in cell.records() if r.phase == "measure" and r.timeline]
            last_ns = max(s.t_ns for s in cell.segments())
    if not pairs or not fast:
        raise PoiseError("the mock server on this host did not answer; is a firewall between local ports?")
    first_ns = min(r.timeline.sent_ns for r in fast if r.timeline)
    ttft, gaps = sorted(_ttft_error(r, t) for r, t in pairs), [_gap_error(r, t) for r, t in pairs]
    flown = sum(t["sent_ns"][-1] - t["arrived_ns"] for _, t in pairs)
    over = max(t["sent_ns"][-1] for _, t in pairs) - min(t["arrived_ns"] for _, t in pairs)
    return Floor(
        load,
        ttft[len(ttft) // 2] / 1e9,
        ttft[min(len(ttft) * 99 // 100, len(ttft) - 1)] / 1e9,
        max(gaps) / 1e9,
        flown / over / load,
        sum(len(r.pieces) for r in fast) / (last_ns - first_ns) * 1e9,
        load / GAP_S,
    )


@contextlib.contextmanager
def _mock(truth: Path, **config: Any) -> Iterator[str]:
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in config.items()]
    command = [sys.executable, "-m", "poise.measure.mock_server", f"--truth={truth}", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline().split()
            if not said:
                raise PoiseError("the mock server does not start here; see what `poise mock-server` says")
            yield said[-1]
        finally:
            server.terminate()


def _measured(out: Path, url: str, load: int, n: int, watcher: Watcher) -> CellFolder:
    study = {
        "models": [{"name": "mock", "source": {"api": "mock"}}],
        "deployments": [{"name": "mock", "backend": "openai", "base_url": f"{url}/v1"}],
        "tasks": [{"task": "synthetic", "options": {"n": n, "prompt_tokens": 16, "output_tokens": TOKENS}}],
        "loads": [{"closed": load}],
        "warmup": 1,
    }
    outcome = execute(plan(load_study(study, name="doctor")), out, watcher=watcher, between=lambda _: (None, None))
    if outcome.failed:
        raise PoiseError("; ".join(outcome.failed.values()))
    return open_run(out).cells()[0]


def _truth(path: Path) -> dict[str, Any]:
    return {line["prompt_sha"]: line for line in map(msgspec.json.decode, path.read_bytes().splitlines())}


def _stamps(record: Record) -> list[int]:
    assert record.timeline is not None
    return list(itertools.accumulate(record.timeline.chunk_deltas_ns, initial=record.timeline.sent_ns))[1:]


def _ttft_error(record: Record, truth: dict[str, Any]) -> int:
    assert record.timeline is not None
    seen: int = record.timeline.chunk_deltas_ns[0] - (truth["sent_ns"][0] - truth["arrived_ns"])
    return seen


def _gap_error(record: Record, truth: dict[str, Any]) -> int:
    stamps = _stamps(record)
    return abs(_largest_gap(stamps) - _largest_gap(truth["sent_ns"][: len(stamps)]))


def _largest_gap(times: list[int]) -> int:
    return max((b - a for a, b in itertools.pairwise(times)), default=0)
