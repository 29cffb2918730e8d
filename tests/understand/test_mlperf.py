"""MLPerf's early stopping against its published numbers, and the scenarios' results on hand-written records."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from tests.support import asked, cell, write_run

import poise
from poise.plan.spec import Analysis, Load
from poise.types import CellSummary
from poise.understand.mlperf import allowed_over, reported, smallest_n


@pytest.mark.parametrize(
    ("p", "t", "n"),
    [
        # MLCommons inference policies, table of early stopping (confidence .99, tolerance 0)
        (0.9, 0, 44), (0.9, 1, 64), (0.9, 2, 81), (0.9, 5, 127), (0.9, 10, 197),
        (0.99, 0, 459), (0.99, 1, 662), (0.99, 2, 838),
    ],
)  # fmt: skip
def test_smallest_numbers_of_requests(p: float, t: int, n: int) -> None:
    assert smallest_n(t, p) == n
    # the same by the Beta distribution: P(X ≤ t) = P(Beta(t + 1, n − t) > 1 − p)
    assert beta.sf(1 - p, t + 1, n - t) <= 0.01 < beta.sf(1 - p, t + 1, n - 1 - t)


@pytest.mark.parametrize(
    ("n", "discarded"), [(201, 9), (659, 47), (708, 51), (2048, 172), (2116, 178), (2145, 181), (79944, 7796)]
)
def test_as_many_are_discarded_as_loadgen_says(n: int, discarded: int) -> None:
    # lines "Processed at least 64 queries (n)" and "Would discard d highest latency queries" of published
    # mlperf_log_summary.txt files: d is t − 1
    assert allowed_over(n, 0.9) == discarded + 1
    values = np.arange(n, dtype=float)
    assert reported(np.random.default_rng(0).permutation(values), 0.9).value == n - 1 - discarded


@pytest.mark.parametrize(("p", "least"), [(0.9, 64), (0.99, 662)])
def test_too_few_requests(p: float, least: int) -> None:
    assert reported(np.ones(least), p).value == 1.0
    short = reported(np.ones(least - 1), p)
    assert short.value is None and short.reason == f"{least - 1} requests: early stopping of p{100 * p:g} needs {least}"
    assert allowed_over(43, 0.9) is None and allowed_over(44, 0.9) == 0 and reported(np.array([]), p).value is None


def measured(
    path: Path, load: Load, ttft_s: list[float], slo: dict[str, float] | None = None, **more: Any
) -> CellSummary:
    open_ = load.form == "open"
    items = [
        asked(str(i), "x", ["x", "x"], sent_s=i + 0.1 * open_, at_s=[t, t + 0.01], output_tokens=2,
              **({"due_s": i} if open_ else {}), **more)
        for i, t in enumerate(ttft_s)
    ]  # fmt: skip
    write_run(path, [cell("m", "t", items, load=load, metrics=())], Analysis(slo=slo or {}))
    return poise.summarize(path).cells[0]


def test_single_stream_reports_a_latency(tmp_path: Path) -> None:
    found = measured(tmp_path / "r", Load("mlperf", 1, scenario="singlestream"), [i / 100 for i in range(64)])
    assert found["mlperf_latency_s"].value == pytest.approx(0.64)  # the largest of 64: 0.63 + 0.01
    late = measured(tmp_path / "f", Load("mlperf", 1, scenario="singlestream"), [0.5] * 64, status="error")
    assert late["mlperf_latency_s"].value == float("inf") and "64 of 64" in str(late["mlperf_latency_s"].reason)


def test_server_holds_its_limits_from_the_scheduled_time_or_has_no_rate(tmp_path: Path) -> None:
    server = Load("mlperf", 1, scenario="server")
    slo = {"ttft_s": 0.65, "tpot_s": 0.04, "percentile": 90}
    good = measured(tmp_path / "a", server, [0.5] * 63 + [0.9], slo)
    assert good["mlperf_ttft_s"].value == pytest.approx(1.0)  # 0.9 and the 0.1 s it waited
    assert good["mlperf_samples_s"].value is not None
    late = measured(tmp_path / "b", server, [0.5] * 62 + [0.6, 0.9], slo)  # 0.6 + 0.1 is over, too
    reason = str(late["mlperf_samples_s"].reason)
    assert reason == "not valid: 2 of 64 requests are over ttft_s 0.65 s, which takes 81 to pass"
    free = measured(tmp_path / "c", server, [0.5] * 64)
    assert "names no limits" in str(free["mlperf_samples_s"].reason) and free["mlperf_ttft_s"].value is None


def test_offline_is_throughput(tmp_path: Path) -> None:
    found = measured(tmp_path / "r", Load("mlperf", 1, scenario="offline"), [0.5] * 9)
    assert found["mlperf_samples_s"].value == found["requests_s"].value
    assert found["mlperf_tok_s"].value == found["system_tok_s"].value
