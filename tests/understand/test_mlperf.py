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


# ---------------------------------------------------------------- the rule on quality


def scenario(
    path: Path, reference: dict[str, Any], *, right: int = 95, tokens: int = 50, name: str = "offline"
) -> CellSummary:
    """A system with `right` of 100 answers against one with 95 of 100 and 50 tokens an answer."""
    load = Load("mlperf", 1, scenario=name)  # type: ignore[arg-type]

    def items(right: int, tokens: int) -> list[Any]:
        return [
            asked(str(i), "x", "x" if i < right else "y", sent_s=float(i), e2e_s=0.5, output_tokens=tokens)
            for i in range(100)
        ]

    cells = [
        cell("m", "t", items(right, tokens), load=load, deployment="int8"),
        cell("m", "t", items(95, 50), deployment="fp16"),
    ]
    write_run(path / "r", cells, Analysis(reference=reference))
    return poise.summarize(path / "r").cell(deployment="int8")


REFERENCES: list[dict[str, Any]] = [{"deployment": "fp16"}, {"exact_match": 0.95, "output_tokens": 50}]


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(
    ("right", "tokens", "missed"),
    [
        (95, 50, []),
        (100, 54, []),
        (94, 50, ["exact_match 0.94 is 98.9% [", "of the reference's 0.95 (at least 0.99 of it)"]),
        (95, 44, ["output_tokens 44 is 88.0% [88.0%, 88.0%] of the reference's 50 (90% to 110%)"]),
        (95, 56, ["output_tokens 56 is 112.0%"]),
        (90, 56, ["exact_match 0.9 is 94.7%", "output_tokens 56"]),
    ],
)
def test_a_speed_counts_only_with_the_references_quality_and_length(
    tmp_path: Path, reference: dict[str, Any], right: int, tokens: int, missed: list[str]
) -> None:
    found = scenario(tmp_path, reference, right=right, tokens=tokens)
    [check] = [c for c in found.checks if c.code == "mlperf_reference"]
    if missed:
        assert check.level == "warn" and all(part in check.evidence for part in missed)
        assert found["mlperf_samples_s"].value is None
        assert str(found["mlperf_samples_s"].reason).startswith("not valid: ")
    else:
        assert check.level == "info" and check.evidence.startswith("valid: exact_match")
        assert found["mlperf_samples_s"].value == found["requests_s"].value
    share = found["mlperf_share.exact_match"]
    assert share.value == pytest.approx(right / 95)
    assert ("taken as exact" if "output_tokens" in reference else "paired bootstrap") in share.method


def test_the_interval_is_paired_with_a_reference_that_was_asked_the_same(tmp_path: Path) -> None:
    paired = scenario(tmp_path / "a", {"deployment": "fp16"}, right=94)["mlperf_share.exact_match"]
    # the two differ on one item: 1 - K/95 with K, how often it is drawn, Poisson of mean 1, whose .975 quantile is 3
    assert paired.hi == 1 and paired.lo == pytest.approx(1 - 3 / 95, abs=0.003)
    same = scenario(tmp_path / "b", {"deployment": "fp16"}, right=95)["mlperf_share.exact_match"]
    assert (same.lo, same.hi) == (1, 1)
    exact = scenario(tmp_path / "c", {"exact_match": 0.95}, right=95)
    assert "leave undecided" in next(c.evidence for c in exact.checks if c.code == "mlperf_reference")


def test_a_corpus_metric_is_paired_too(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat today", "a dog ran over the green hill", "we saw a red boat at sea"] * 4
    load = Load("mlperf", 1, scenario="offline")
    said = [
        [asked(str(i), t, t if i % 4 or full else t[:-6], e2e_s=0.5) for i, t in enumerate(texts)] for full in (1, 0)
    ]
    cells = [
        cell("m", "t", items, deployment=name, metrics=("bleu",), **more)
        for items, name, more in ((said[1], "int8", {"load": load}), (said[0], "fp16", {}))
    ]
    write_run(tmp_path / "r", cells, Analysis(reference={"deployment": "fp16"}))
    found = poise.summarize(tmp_path / "r").cell(deployment="int8")
    share = found["mlperf_share.bleu"]
    assert share.value == pytest.approx(found["bleu"].value / 100)  # type: ignore[operator]
    assert share.lo is not None and share.hi is not None and share.lo < share.value <= share.hi  # type: ignore[operator]
    assert "paired" in share.method


def test_a_reference_that_was_asked_other_items_is_taken_as_exact(tmp_path: Path) -> None:
    load = Load("mlperf", 1, scenario="offline")
    cells = [
        cell("m", "t", [asked(str(i), "x", "x", e2e_s=0.5) for i in range(n)], deployment=name, target_sha=name, **more)
        for n, name, more in ((40, "int8", {"load": load}), (60, "fp16", {}))
    ]
    write_run(tmp_path / "r", cells, Analysis(reference={"deployment": "fp16"}))
    share = poise.summarize(tmp_path / "r").cell(deployment="int8")["mlperf_share.exact_match"]
    assert "taken as exact" in share.method


def test_the_share_may_be_another_one(tmp_path: Path) -> None:
    strict = scenario(tmp_path / "a", {"deployment": "fp16", "share": 0.999}, right=95)
    loose = scenario(tmp_path / "b", {"deployment": "fp16", "share": 0.9}, right=90)
    assert strict["mlperf_samples_s"].value and loose["mlperf_samples_s"].value
    assert scenario(tmp_path / "c", {"deployment": "fp16", "share": 0.999}, right=94)["mlperf_samples_s"].value is None


def test_a_reference_that_is_not_one_cell_is_none(tmp_path: Path) -> None:
    for number, (reference, said) in enumerate(
        [({"deployment": "bf16"}, "0 cells"), ({"model": "m"}, None), ({"deployment": "*", "load": "closed*"}, None)]
    ):
        found = scenario(tmp_path / str(number), reference)
        reason = found["mlperf_samples_s"].reason
        assert reason is None if said is None else said in str(reason)
    unknown = scenario(tmp_path / "u", {"rouge1": 44.0})
    assert "rouge1 is not known here" in str(unknown["mlperf_tok_s"].reason)


def test_without_a_reference_the_rule_is_said_to_be_open(tmp_path: Path) -> None:
    found = scenario(tmp_path, {}, name="singlestream")
    [check] = [c for c in found.checks if c.code == "mlperf_reference"]
    assert check.level == "info" and "no reference is named" in check.evidence
    assert found["mlperf_latency_s"].value == pytest.approx(0.5)
