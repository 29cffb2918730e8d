"""The report of a load sweep: one line a system, what was delivered, what load did to quality."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import asked, cell, write_run

from poise.plan.spec import Analysis, Load
from poise.report.html import Html
from poise.report.sweep import level, sweeps
from poise.report.terminal import print_summary
from poise.store.run import Run, open_run
from poise.types import Summary
from poise.understand.summarize import summarize


def answers(took_s: float, step_s: float, late: int = 0, due: bool = False) -> list[Any]:
    """40 streamed answers, one sent every `step_s`; the last `late` of them time out."""
    items = []
    for i in range(40):
        more: dict[str, Any] = {"sent_s": 10 + i * step_s, "output_tokens": 3}
        more |= {"due_s": 10 + i * step_s} if due else {}
        if i >= 40 - late:
            items.append(asked(f"i{i}", "xyz", status="timeout", done_s=9.0, **more))
        else:
            items.append(asked(f"i{i}", "xyz", list("xyz"), at_s=[took_s / 2, took_s * 3 / 4, took_s], **more))
    return items


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Run:
    cells = []
    for name, factor in (("fast", 1.0), ("slow", 3.0)):
        cells += [
            cell("m", "t", answers(0.2 * factor, 0.2 * factor), deployment=name, load=Load("closed", 1)),
            cell("m", "t", answers(0.4 * factor, 0.05 * factor), deployment=name, load=Load("closed", 8)),
            cell("m", "t", answers(2.0, 0.1, 12 if name == "slow" else 0), deployment=name, load=Load("closed", 64)),
        ]
    cells += [
        cell("m", "t", answers(0.2, 1 / rate, due=True), deployment="fast", load=Load("open", rate)) for rate in (2, 4)
    ]
    return open_run(write_run(tmp_path_factory.mktemp("runs") / "loads", cells))


@pytest.fixture(scope="module")
def summary(swept: Run) -> Summary:
    return summarize(swept)


def test_a_loads_sort_and_height() -> None:
    assert level("closed 16") == ("closed ", 16.0)
    assert level("open 0.5/s poisson") == ("open /s poisson", 0.5)
    assert level("ramp 1-20/s poisson") == ("ramp /s poisson", 20.0)
    assert level("open 4/s gamma 0.5") == ("open /s gamma 0.5", 4.0)
    assert level("trace azure") == ("trace azure", float("inf"))


def test_one_line_a_system_and_sort_of_load_from_the_lowest_up(summary: Summary) -> None:
    (sweep,) = sweeps(summary)
    assert [line.look.label for line in sweep.lines] == ["fast · closed", "fast · open poisson", "slow · closed"]
    assert [c.load for c in sweep.lines[0].cells] == ["closed 1", "closed 8", "closed 64"]
    assert len({(line.look.color, line.look.shape) for line in sweep.lines}) == 3


def test_its_plots_are_latencies_against_throughput_and_rates(summary: Summary) -> None:
    (sweep,) = sweeps(summary)
    titles = [re.search(r"<title>(.*?)</title>", plot)[1] for plot in sweep.plots]  # type: ignore[index]
    assert titles == [
        "Time to first token against throughput on t",
        "Time per token after the first against throughput on t",
        "Time from due to done against throughput on t",
        "Rate asked against delivered on t",
    ]
    first = sweep.plots[0]
    # 200 ms answers have their first token after 100 ms; 40 answers of 3 tokens in 39 · .2 + .2 s
    assert "fast · closed p50 1: 100 ms at 15.0, 8: 200 ms" in first
    # the slow one's p99 under 64 is infinite: no point, no number
    assert "slow · closed p99 1: 300 ms at 5.00, 8: 600 ms at 17.0;" in first.replace("</desc>", ";")


def test_the_loads_of_a_long_sweep_are_named_where_there_is_room(tmp_path: Path) -> None:
    loads = [cell("m", "t", answers(0.2, max(2 / n, 0.1)), load=Load("closed", n)) for n in range(1, 34, 2)]
    (sweep,) = sweeps(summarize(write_run(tmp_path / "run", loads)))
    found = re.findall(r'; t: (\d+)".*?text-anchor="(\w+)" transform="translate\(([-\d.]+),([-\d.]+)\)', sweep.plots[0])
    assert {"1", "33"} < {load for load, *_ in found} and len(found) < len(loads)
    width = 6.0  # of a digit, at most
    boxes = []
    for load, anchor, x, y in found:
        left = float(x) - len(load) * width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        boxes.append((left, float(y), left + len(load) * width))
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not [(a, b) for a, b in pairs if abs(a[1] - b[1]) < 8 and a[0] < b[2] and b[0] < a[2]]


def test_the_table_shows_what_was_delivered_and_lost(summary: Summary) -> None:
    (sweep,) = sweeps(summary)
    rows = {(look.label, load): dict(zip(sweep.names, cells)) for look, load, cells in sweep.rows}
    assert rows["slow · closed", "closed 64"]["failed.share"] == "0.300"
    assert rows["slow · closed", "closed 64"]["ttft_s.p99"] == "∞"
    assert rows["fast · open poisson", "open 4/s poisson"]["load_delivered"] == "1.000"


def test_quality_under_load_is_told_with_its_reason(summary: Summary) -> None:
    (sweep,) = sweeps(summary)
    rows = {(look.label, load): dict(zip(sweep.quality_names, cells)) for look, load, cells in sweep.quality}
    assert sweep.lowest == "closed 1" and ("fast · closed", "closed 1") not in rows
    lost = rows["slow · closed", "closed 64"]
    assert lost["there → here"] == "1.000 → 0.700" and lost["worse : better"] == "12 : 0"
    assert lost["why worse"] == "12 timed out" and lost["timed out"] == "0 % → 30 %" and lost["p"] == ".003"
    assert "cut at the limit" not in lost  # nothing was, anywhere


def test_the_page_has_the_section(summary: Summary, swept: Run) -> None:
    page = Html().render(summary, [swept]).decode()
    assert '<h2 id="load">Load</h2>' in page and '<a href="#load">' in page
    assert "Quality under load, on the same items as under closed 1" in page and "12 timed out" in page


def test_one_load_has_no_sweep(page: str, derived: Summary) -> None:
    assert sweeps(derived) == [] and 'id="load"' not in page


def test_the_terminal_adds_a_compact_table(summary: Summary) -> None:
    for width in (80, 100, 160):
        console = Console(width=width)
        with console.capture() as capture:
            print_summary(summary, console)
        lines = capture.get().splitlines()
        assert max(map(len, lines)) <= width
        (head,) = [line for line in lines if "delivered" in line and "ttft p99" in line]
        row = next(line for line in lines if line.startswith("slow") and "closed 64" in line and "∞" in line)
        assert "40 (12 failed)" in row and ("response p99" in head) == (width > 80)
        assert ("gap max" in head) == (width == 160)


def test_a_search_shows_what_it_tried_and_scenarios_have_a_table_of_their_own(tmp_path: Path) -> None:
    took = {2: 0.2, 4: 1.2}
    cells = [cell("m", "t", answers(took[rate], 1 / rate, due=True), load=Load("open", rate)) for rate in took]
    cells.append(cell("m", "t", answers(0.2, 0.2), load=Load("mlperf", 1, scenario="offline")))
    cells.append(cell("m", "t", [], load=Load("search", 4, low=2), planned=0))
    run = open_run(write_run(tmp_path / "r", cells, Analysis(slo={"ttft_s": 0.5, "percentile": 90})))
    (sweep,) = sweeps(summarize(run))
    (search,) = sweep.searches
    page = Console(width=160)
    with page.capture() as capture:
        print_summary(summarize(run), page)
    (head,) = [line for line in capture.get().splitlines() if "ttft p99" in line]
    assert "goodput" in head and "goodput: requests per second" in capture.get()
    assert search.title.startswith("search open 2-4/s poisson: knee 2/s [2, 4]")
    assert search.names == ["ttft_s ≤ 500 ms", "met"]
    assert [(load, row[-1]) for _, load, row in search.rows] == [("2/s", "yes"), ("4/s", "no")]
    assert search.rows[0][2][0].startswith("100 ms [")
    text = re.sub(r"<[^>]+>", " ", Html().render(summarize(run), [run]).decode())
    assert "knee 2/s" in text and "MLPerf-like scenarios" in text and "was not estimated" not in text


def test_where_nothing_is_scored_there_is_no_empty_table_of_balanced_scores(tmp_path: Path) -> None:
    cells = [cell("m", "t", answers(0.2, 0.2), load=Load("closed", n), metrics=()) for n in (1, 2)]
    run = open_run(write_run(tmp_path / "r", cells))
    page = Html().render(summarize(run), [run]).decode()
    assert 'aria-label="Balanced score"' not in page and "None: " in page
