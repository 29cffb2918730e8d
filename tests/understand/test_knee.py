"""The knee of hand-written probes: what meets the limits, what is undecided, what cannot be known."""

from pathlib import Path
from typing import Any

from tests.support import asked, cell, write_run

import poise
from poise.plan.spec import Analysis, Load
from poise.types import CellSummary, Estimate

SEARCH = Load("search", 8, low=1)


def probe(rate: float, ttft_s: list[float], wait_s: float = 0.0, **more: Any) -> Any:
    items = [
        asked(str(i), "x", ["x", "x"], sent_s=i + wait_s, due_s=i, at_s=[t, t + 0.1], output_tokens=2, **more)
        for i, t in enumerate(ttft_s)
    ]
    return cell("m", "t", items, load=Load("open", rate), metrics=())


def searched(path: Path, *probes: Any, slo: dict[str, float] | None = None) -> CellSummary:
    cells = [cell("m", "t", [], load=SEARCH, metrics=(), planned=0), *probes]
    write_run(path / "r", cells, Analysis(slo=slo or {"ttft_s": 1.0, "percentile": 90}))
    return poise.summarize(path / "r").cell(load=SEARCH.label)


def knee(path: Path, *probes: Any, **more: Any) -> Estimate:
    return searched(path, *probes, **more)["knee_rps"]


GOOD, BAD = [0.5] * 100, [0.5] * 50 + [1.5] * 50


def test_the_highest_rate_that_passed_and_the_lowest_that_failed(tmp_path: Path) -> None:
    found = knee(tmp_path, probe(1, GOOD), probe(4, GOOD), probe(4.2, BAD), probe(8, BAD))
    assert (found.value, found.lo, found.hi, found.n) == (4, 4, 4.2, 4)
    assert "p90 of ttft_s ≤ 1 s" in found.method and found.reason is not None and "not over" in found.reason


def test_undecided_probes_widen_the_interval(tmp_path: Path) -> None:
    # 95 of 1000: p90 lies below the limit, and its interval above and below it (binomial: 90 % ± 1.9 %)
    close = [0.5] * 905 + [1.5] * 95
    found = knee(tmp_path, probe(2, GOOD), probe(4, close), probe(8, BAD))
    assert (found.value, found.lo, found.hi) == (4, 2, 8)
    assert "undecided at 4/s" in str(found.reason)


def test_the_ends(tmp_path: Path) -> None:
    low = knee(tmp_path / "a", probe(1, BAD))
    assert (low.value, low.lo, low.hi) == (None, None, 1) and low.reason == "not even 1/s meets the limits"
    high = knee(tmp_path / "b", probe(1, GOOD), probe(8, GOOD))
    assert (high.value, high.hi) == (8, None) and "hold up to 8/s" in str(high.reason)


def test_waiting_counts_and_so_do_failures(tmp_path: Path) -> None:
    late = knee(tmp_path / "a", probe(1, GOOD), probe(2, GOOD, wait_s=0.6))
    assert (late.value, late.hi) == (1, 2)
    failed = knee(tmp_path / "b", probe(1, GOOD), probe(2, GOOD, status="error", kind="http"))
    assert (failed.value, failed.hi) == (1, 2)


def test_every_limit_must_hold(tmp_path: Path) -> None:
    found = knee(tmp_path, probe(1, GOOD), slo={"ttft_s": 1.0, "tpot_s": 0.05, "percentile": 50})
    assert found.value is None and "not even" in str(found.reason)


def test_what_rises_again_is_said(tmp_path: Path) -> None:
    found = knee(tmp_path, probe(1, GOOD), probe(2, BAD), probe(3, GOOD))
    assert found.value == 1 and "not monotone: 2/s fails, 3/s meets" in str(found.reason)


def test_a_limit_without_times_cannot_be_checked(tmp_path: Path) -> None:
    items = [asked(str(i), "x", "x", sent_s=i, due_s=i, e2e_s=0.5, output_tokens=1) for i in range(9)]
    one_token = cell("m", "t", items, load=Load("open", 1.0), metrics=())
    found = knee(tmp_path, one_token, slo={"tpot_s": 1.0})
    assert found.value is None and found.reason == "the limit on tpot_s cannot be checked here"


def test_it_stands_in_the_verdict_and_no_table_has_a_row_for_it(tmp_path: Path) -> None:
    summary_cell = searched(tmp_path, probe(1, GOOD), probe(8, GOOD))
    summary = poise.summarize(tmp_path / "r")
    assert "knee of m on onnx, t: 8 requests/s [8, ∞]" in summary.verdict.text
    assert [row["met"] for row in summary_cell.tables["probes"]] == [True, True]
    page = poise.render(tmp_path / "r", tmp_path / "r.md").read_text()
    assert "search open" not in page.split("## Checks")[0].split("\n\n", 3)[-1] and "8 requests/s" in page
    assert len(summary.models) == 2
