"""What conversations mean: latencies a turn, marks a turn, and the whole conversation's time for the balanced score."""

from pathlib import Path
from typing import Any

import pytest

import poise
from poise.store.run import open_run
from poise.understand.gather import gather

TASK = """
from poise.types import Sample

class Two:
    name, version, instruction, answer_prefix = "two", 1, "", "Answer:"
    extract, metrics, chance, n_ref, max_tokens = "first_line", ("exact_match",), 0.0, 10.0, 8
    def samples(self, data, options):
        for name, second in (("p", "yes"), ("q", "no"), ("r", "yes")):
            yield Sample(name, {"first": "Say yes.", "second": "Again?"}, ["yes", second])
    def question(self, sample):
        return [sample.fields["first"], sample.fields["second"]]
    def answer(self, sample):
        return ""
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three conversations answered "yes" twice; the second turn of r fails. A token takes .1 s, the first .5 s."""
    home = tmp_path_factory.mktemp("two")
    (home / "two.py").write_text(TASK)
    options = {"answers": {"*": "yes"}, "fail": {"r#1": "http"}, "ttft_s": 0.5, "gap_s": 0.1}
    study = {
        "models": [{"name": "m", "source": {"api": "m"}, "format": "raw"}],
        "deployments": [{"backend": "scripted", "options": options}],
        "tasks": [{"task": f"{home}/two.py:Two", "name": "two"}],
    }
    return poise.run(study, home / "run", quiet=True, allow_code=True)


def test_every_turn_is_a_row_and_the_time_is_the_conversation_s(run: Any) -> None:
    (data,) = gather([run])
    rows = dict(zip(data.columns.request, range(len(data.columns))))
    assert set(rows) == {"p#0", "p#1", "q#0", "q#1", "r#0", "r#1"}
    assert data.columns.e2e_s[rows["p#0"]] == pytest.approx(0.5) == data.columns.ttft_s[rows["p#1"]]
    assert data.columns.spent_s[rows["p#0"]] == pytest.approx(1.0) == data.columns.spent_s[rows["p#1"]]
    assert data.columns.spent_s[rows["r#0"]] == float("inf")


def test_marks_go_by_turn_and_average_in_the_conversation(run: Any) -> None:
    cell = poise.summarize(run).cells[0]
    assert cell["quality"].value == pytest.approx((1 + 0.5 + 0.5) / 3) and cell["quality"].n == 3
    assert {g: cell.groups[g]["exact_match"].value for g in ("turn=1", "turn=2")} == {
        "turn=1": 1.0, "turn=2": pytest.approx(1 / 3)
    }  # fmt: skip
    assert cell.failures == {"http": 1}


def test_the_balanced_score_takes_the_conversation_s_time(run: Any) -> None:
    system = poise.summarize(run).models[0]
    tau = 2 + 0.1 * 10  # METRICS §4: conversational
    assert system.speed.value == pytest.approx(2 * (tau / (tau + 1.0)) / 3)  # r broke off: worth 0


def test_a_sample_shows_every_turn(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from poise.report.show import show

    show([open_run(Path(run.path))], "r", Console(width=100))
    shown = capsys.readouterr().out
    assert "turn 2: Again?" in shown and "m, turn 1" in shown and "m, turn 2" in shown and "as scripted" in shown
