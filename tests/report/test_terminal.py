"""The golden files were read line by line when they were written; `make_golden()` writes them anew."""

import io
import re
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from poise.report.markdown import Markdown
from poise.report.terminal import print_summary, table
from poise.types import Estimate, Summary, Verdict

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (60, 80, 100, 160)


def shown(summary, width, **options) -> str:
    file = io.StringIO()
    print_summary(summary, Console(file=file, width=width, **options))
    return file.getvalue()


def make_golden(summary) -> None:
    for width in WIDTHS:
        (GOLDEN / f"terminal-{width}.txt").write_text(shown(summary, width))


@pytest.mark.parametrize("width", WIDTHS)
def test_golden_output(summary, width):
    assert shown(summary, width) == (GOLDEN / f"terminal-{width}.txt").read_text()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_fits_the_width_and_has_no_trailing_blanks(summary, width):
    for line in shown(summary, width).splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_of_every_cell_is_there(summary, width):
    text = shown(summary, width)
    for cell in summary.cells:
        if cell.state != "failed":
            assert f"{cell.estimates['quality'].value:.2f}".removeprefix("0") in text
    for model in summary.models:
        assert f"{model.balanced.value:.1f}" in text
        assert f"[{model.balanced.lo:.1f}, {model.balanced.hi:.1f}]" in text


def test_foreign_text_reaches_the_terminal_disarmed(summary):
    text = shown(summary, 100, force_terminal=True)
    assert "\u202e" not in text
    assert "\u2028" not in text
    assert "[bold]x[/bold]" in text  # not taken as markup
    assert "␛[31m" in text
    assert "\x1b[31m" not in text


def test_no_color_and_no_terminal_mean_no_escapes(summary, monkeypatch):
    assert "\x1b" not in shown(summary, 100)
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = re.findall(r"\x1b\[[0-9;]*m", shown(summary, 100, force_terminal=True))
    assert not any(re.search(r"[\[;]3[0-7]", code) for code in coloured)


def test_failures_and_reasons_stand_below_the_table(summary):
    text = shown(summary, 100)
    assert "2 of 120 failed (1 engine, 1 timeout)" in text
    assert "failed: the engine died" in text


def test_equal_checks_are_told_once_with_evidence_and_action(summary):
    text = shown(summary, 200)
    assert text.count("client_lag") == 1
    assert "2 cells" in text
    assert "event loop lag p99 14 ms" in text
    assert "use fewer streams" in text


def test_constant_dimensions_are_hoisted(summary):
    text = shown(summary, 160)
    assert text.count("closed 1") == 1
    one = msgspec.structs.replace(
        summary,
        cells=[c for c in summary.cells if c.deployment == "onnx"],
        models=[m for m in summary.models if m.deployment == "onnx"],
        verdict=Verdict(""),
    )
    assert shown(one, 160).count("onnx") == 1


def test_nothing_measured_says_so():
    assert "nothing was measured" in shown(Summary(1, [], [], [], Verdict("")), 80)


def test_a_summary_of_a_run_folder(derived):
    text = shown(derived, 120)
    assert "2 models (bundled:…) × 2 deployments × 2 tasks" in text
    assert "1 of 12 failed (1 engine)" in text


def test_generic_table_aligns_and_disarms():
    file = io.StringIO()
    Console(file=file, width=80).print(table(["name", "n"], [["a\x1b", 1], ["[red]b", 20]], right=[1]))
    assert file.getvalue() == "name     n\na␛       1\n[red]b  20\n"


def test_perplexity_stands_where_there_is_no_mark(make_cell):
    found = Estimate(12.34, 11.9, 12.9, 40, "", "lower", "corpus value")
    more = {"primary": "perplexity.token", "signature": ""}
    estimates = {"quality": Estimate(None, reason="no mark"), "perplexity.token": found}
    cells = [
        make_cell("m", "onnx", "wiki", 0.0, 0.1, estimates=estimates, **more),
        make_cell("m", "onnx", "qa", 0.5, 0.1),
    ]
    summary = Summary(1, ["r"], cells, [], Verdict("", {}))
    for width in (100, 40):
        console = Console(width=width)
        with console.capture() as capture:
            print_summary(summary, console)
        text = capture.get()
        assert "12.3 ±0.56" in text and "perplexity.token ↓" in text and ".50 ±" in text
        assert "less is better" in text
    assert "| wiki perplexity.token ↓ | time |" in Markdown().render(summary, []).decode()
    assert "| 12.3 ±0.56 |" in Markdown().render(summary, []).decode()


def one_task(summary, **metrics):
    """The summary's first task alone, its cells with further metrics."""
    task = summary.cells[0].task
    cells = [
        msgspec.structs.replace(c, estimates={"accuracy": c.estimates["quality"], **metrics, **c.estimates})
        for c in summary.cells
        if c.task == task and c.state != "failed"
    ]
    return msgspec.structs.replace(summary, cells=cells)


def test_a_single_task_shows_its_other_metrics_too(summary):
    bleu = Estimate(value=27.4, lo=25.0, hi=30.0, n=120, unit="", better="higher", method="bootstrap 95%")
    text = shown(one_task(summary, **{"f1.macro": summary.cells[0].estimates["quality"], "bleu": bleu}), 100)
    assert "f1.macro" in text and "bleu" in text and "27.4 ±2.6" in text and "accuracy  " not in text
    assert "bleu" not in shown(summary, 100)
    narrow = shown(one_task(summary, **{f"metric_{i}": bleu for i in range(12)}), 60)
    assert all(f"metric_{i}" in narrow for i in range(12)) and max(map(len, narrow.splitlines())) <= 60


def test_a_metric_of_zero_and_one_without_interval_are_shown(summary):
    zero = Estimate(value=0.0, lo=0.0, hi=4.0, n=120, unit="", better="higher", method="bootstrap")
    alone = Estimate(value=1.0, lo=None, hi=None, n=120, unit="", better="higher", method="no interval")
    text = shown(one_task(summary, bleu=zero, f1=alone), 100)
    assert re.search(r" 0 ±4\.00? ", text) and re.search(r" 1\.00$", text, re.MULTILINE)
