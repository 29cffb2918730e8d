"""Times and throughputs as estimates: windows, quantiles, rates, goodput."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import asked, cell, write_run

from poise.plan.spec import Analysis, Load
from poise.store.run import open_run
from poise.types import Estimate
from poise.understand.estimates import throughput, times
from poise.understand.gather import CellData, gather


def data(path: Path, items: list[Any], analysis: Analysis | None = None, **more: Any) -> CellData:
    return gather([open_run(write_run(path / "run", [cell("m", "t", items, **more)], analysis=analysis))])[0]


def streamed(i: int, first_s: float, gap_s: float, n: int, sent_s: float, **more: Any) -> Any:
    at = [first_s + k * gap_s for k in range(n)]
    return asked(f"i{i}", "x", list("abcdefgh")[:n], sent_s=sent_s, at_s=at, output_tokens=n, **more)


def test_every_time_of_a_stream(tmp_path: Path) -> None:
    got = times(data(tmp_path, [streamed(i, 0.5 + 0.1 * i, 0.1 * (1 + i), 5, 10.0 * i) for i in range(3)]))
    assert got["ttft_s.p50"].value == pytest.approx(0.6)
    assert got["tpot_s.p50"].value == pytest.approx(0.2) and got["decode_tok_s"].value == pytest.approx(5)
    assert got["e2e_s.mean"].value == pytest.approx(np.mean([0.9, 1.4, 1.9]))
    assert got["request_tok_s"].value == pytest.approx(5 / 1.4)
    assert got["chunk_gap_s.max"].value == pytest.approx(0.3) and got["chunk_gap_s.max"].n == 12
    assert got["output_tokens.mean"].value == 5


def test_a_stall_shows_in_the_tail_of_the_gaps(tmp_path: Path) -> None:
    at = [0.1, 0.11, 0.12, 0.52, 0.53]
    items = [asked(f"i{i}", "x", list("abcde"), at_s=at, output_tokens=5) for i in range(50)]
    got = times(data(tmp_path, items))
    assert got["chunk_gap_s.p50"].value == pytest.approx(0.01)
    assert got["chunk_gap_s.p99"].value == pytest.approx(0.4) == got["chunk_gap_s.max"].value


def test_quantiles_with_timeouts(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "x", "a", e2e_s=1.0 + i) for i in range(8)]
    items += [asked(f"t{i}", "x", status="timeout", done_s=60) for i in range(2)]
    items += [asked("e", "x", status="error", done_s=1)]
    got = times(data(tmp_path, items))
    assert got["e2e_s.p50"].value == pytest.approx(5.5) and got["e2e_s.p50"].n == 10
    assert got["e2e_s.p99"].value == np.inf and got["e2e_s.p99"].reason == "infinite: 2 of 10 timed out"
    assert "2 timed out count as +∞; 1 of 11 requests without it left out" in got["e2e_s.p50"].method
    assert got["e2e_s.mean"].value == pytest.approx(4.5) and "3 of 11 requests" in got["e2e_s.mean"].method


def test_windows_of_segments_are_summed(tmp_path: Path) -> None:
    items = [streamed(i, 1.0, 1.0, 4, 100.0 * (i // 2) + 4.0 * (i % 2), segment=i // 2) for i in range(4)]
    got = throughput(data(tmp_path, items))
    # two windows of 8 s: from the first sent to the last done, the pause between the segments left out
    assert got["task_s"].value == pytest.approx(16)
    assert got["system_tok_s"].value == pytest.approx(16 / 16)
    assert got["requests_s"].value == pytest.approx(4 / 16)
    assert got["chars_s"].value == pytest.approx(16 / 16)


def test_concurrent_requests_share_the_window(tmp_path: Path) -> None:
    got = throughput(data(tmp_path, [streamed(i, 1.0, 1.0, 4, 0.0) for i in range(8)]))
    assert got["system_tok_s"].value == pytest.approx(32 / 4), "never mean(n)/mean(latency)"


def test_unknown_counts_make_no_throughput(tmp_path: Path) -> None:
    items = [asked("a", "x", "a", e2e_s=1.0, output_tokens=3), asked("b", "x", "a", e2e_s=1.0)]
    got = throughput(data(tmp_path, items))["system_tok_s"]
    assert got.value is None and got.reason == "output tokens of 1 of 2 answers are unknown"


def test_static_batches_give_own_and_shared_times(tmp_path: Path) -> None:
    batch = ("0.0", 2, 0.0, 4.0)
    items = [
        asked("a", "x", list("ab"), at_s=[1, 2], batch=batch, done_s=2),
        asked("b", "x", list("ab"), at_s=[1, 4], batch=batch, done_s=4),
    ]
    got = times(data(tmp_path, items, load=Load("batch", 2)))
    assert got["e2e_s.mean"].value == 3.0
    assert (got["batch_s"].value, got["amortized_s"].value) == (4.0, 2.0)


def test_times_of_a_static_batch_are_not_independent(tmp_path: Path) -> None:
    walls = [1.0, 2.0, 3.0, 4.0]
    items = [
        asked(f"i{b}-{k}", "x", "x", sent_s=10.0 * b, e2e_s=wall, batch=(f"0.{b}", 10, 10.0 * b, 10.0 * b + wall))
        for b, wall in enumerate(walls)
        for k in range(10)
    ]
    got = times(data(tmp_path, items, load=Load("batch", 10)))
    mean, median = got["e2e_s.mean"], got["e2e_s.p50"]
    # four observations said ten times each: Miller's SE is the one of four values with n in place of n - 1
    half = 1.959964 * np.std(walls) / 2
    assert mean.lo is not None and mean.value - mean.lo == pytest.approx(half, rel=0.01)
    assert mean.method == "mean, normal interval clustered by batch"
    assert median.method.startswith("Woodruff interval by batch")


@pytest.mark.parametrize(
    ("order", "expected"), [("drifting", "block of 13 successive"), ("shuffled", "order statistics")]
)
def test_times_under_load_are_grouped_only_if_they_drift(tmp_path: Path, order: str, expected: str) -> None:
    seconds = np.sin(np.arange(160) / 12) + 2
    if order == "shuffled":
        np.random.default_rng(0).shuffle(seconds)
    items = [asked(f"i{i}", "x", "x", sent_s=0.1 * i, e2e_s=float(s)) for i, s in enumerate(seconds)]
    median = times(data(tmp_path, items, load=Load("closed", 8)))["e2e_s.p50"]
    assert expected in median.method


def test_goodput_needs_every_limit_and_correct_goodput_the_right_answer(tmp_path: Path) -> None:
    def one(i: int, text: str, ttft: float, gap: float, **more: Any) -> Any:
        pieces = [text, "\n", "\n"]
        at = [ttft, ttft + gap, ttft + 2 * gap]
        return asked(f"i{i}", "x", pieces, sent_s=0, at_s=at, output_tokens=3, **more)

    items = [
        one(0, "x", 0.5, 0.1),
        one(1, "y", 0.5, 0.1),  # in time, wrong
        one(2, "x", 2.0, 0.1),  # late
        one(3, "x", 0.5, 0.9),  # slow
        asked("single", "x", ["x", ""], sent_s=0, at_s=[0.5, 0.6], output_tokens=1),  # no time between tokens
        asked("lost", "x", status="error", done_s=10),
    ]
    got = throughput(data(tmp_path, items, Analysis(slo={"ttft_s": 1.0, "tpot_s": 0.2, "percentile": 99})))
    assert got["goodput_rps"].value == pytest.approx(3 / 10)
    assert got["correct_goodput_rps"].value == pytest.approx(2 / 10)
    got = throughput(data(tmp_path / "2", items, Analysis(slo={"wait_s": 1.0})))
    assert got["goodput_rps"].reason == "the limit on wait_s cannot be checked here"


def test_open_loops_have_waits(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "x", "a", due_s=1.0 * i, sent_s=1.0 * i + 0.25, e2e_s=1.0) for i in range(4)]
    got = times(data(tmp_path, items, load=Load("open", 1)))
    assert got["wait_s.p50"].value == 0.25 and got["response_s.mean"].value == 1.25
    assert isinstance(got["wait_s.p99"], Estimate)
