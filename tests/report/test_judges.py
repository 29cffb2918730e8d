"""What is told of judges, beside what they judge: the same in the terminal, in Markdown and in HTML."""

import io

import msgspec
import pytest
from rich.console import Console

from poise.report.html import Html
from poise.report.judges import judges
from poise.report.markdown import Markdown
from poise.report.terminal import print_summary
from poise.types import Estimate


def agrees(value, lo, hi) -> Estimate:
    return Estimate(value, lo, hi, 40, "", "higher", "Cohen's κ")


@pytest.fixture
def judged(summary, make_cell):
    """The summary, and two judges of one of its tasks: both agree with each other, one was compared with people."""
    both, people, turned = agrees(0.62, 0.5, 0.71), agrees(-0.05, -0.2, 0.1), agrees(0.25, 0.19, 0.33)
    of_j = {"readable": agrees(0.975, 0.87, 0.99), "swapped": turned, "kappa.human": people, "kappa.k": both}
    of_k = {
        "readable": agrees(1.0, 0.91, 1.0),
        "kappa.j": both,
        "kappa_quadratic.j": Estimate(None, reason="one label"),
    }
    cells = [
        make_cell(name, "server", "judge-qa", 0.5, 0.1, estimates=found) for name, found in (("j", of_j), ("k", of_k))
    ]
    return msgspec.structs.replace(summary, cells=[*summary.cells, *cells])


def terminal(summary, width=100) -> str:
    file = io.StringIO()
    print_summary(summary, Console(file=file, width=width))
    return file.getvalue()


def test_the_terminal_has_a_line_a_judge(judged):
    lines = terminal(judged).splitlines()
    start = lines.index("judge  readable   swapped   κ people    κ k       κ j       κ² j")
    assert lines[start + 1 : start + 3] == [
        "j      .97 ±.11   .25 ±.08  −0.05 ±.15  .62 ±.12",
        "k      1.00 ±.09                                  .62 ±.12  –",
    ]
    assert lines[start + 3].startswith("readable: share of answers with a verdict; swapped: ")


def test_a_narrow_terminal_has_them_in_several_tables(judged):
    lines = terminal(judged, 40).splitlines()
    assert len([line for line in lines if line.startswith("judge ")]) == 2


def test_the_pages_have_intervals(judged):
    markdown = Markdown().render(judged, []).decode()
    assert "## Judges" in markdown and "| j | 0.975 \\[0.870, 0.990\\] |" in markdown
    html = Html().render(judged, []).decode()
    assert '<h2 id="judges">' in html and '<a href="#judges">' in html
    assert '<td class="num">−0.05<span class="ci below">[−0.200, 0.100]</span></td>' in html


def test_judges_alike_in_name_are_told_apart(judged, make_cell):
    twin = make_cell("j", "other", "judge-qa", 0.5, 0.1, estimates={"readable": agrees(1.0, 0.9, 1.0)})
    more = msgspec.structs.replace(judged, cells=[*judged.cells, twin])
    assert list(judges(more)) == ["j · server", "k · server", "j · other"]


def test_without_judges_there_is_no_word_of_them(summary):
    assert "judge" not in terminal(summary)
    assert "Judges" not in Markdown().render(summary, []).decode()
    assert 'id="judges"' not in Html().render(summary, []).decode()
