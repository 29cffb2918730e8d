import io

import pytest
from rich.console import Console
from support import asked, cell, write_run

from poise.report.show import show
from poise.store.run import open_run
from poise.types import UsageError


def shown(run, sample=None, **options) -> str:
    file = io.StringIO()
    show([run], sample, Console(file=file, width=100, **options))
    return file.getvalue()


def test_the_list_starts_with_disagreements(run):
    lines = shown(run).splitlines()
    head = lines.index("words")
    assert lines[head + 2].split() == ["sample", "onnx", "transformers", "onnx", "transformers"]
    assert lines[head + 3].split() == ["w00", "✗", "✗", "✓", "✓"]
    assert lines[head + 6].split() == ["w07", "✓", "✓", "✓", "!", "engine"]


def test_one_sample_in_full(run):
    text = shown(run, "w03")
    assert "words / w03" in text
    assert "more characters" in text
    assert "word 3" in text
    assert "first after 40.0 ms, last after 80.0 ms, 3 tokens" in text


def test_what_failed_everywhere_comes_before_what_was_answered(tmp_path):
    lost = [asked("a", "x", "x", e2e_s=1.0), asked("b", "x", status="error", kind="reset")]
    text = shown(open_run(write_run(tmp_path / "run", [cell("m", "t", lost)])))
    assert [line.split() for line in text.splitlines() if line[:2] in ("a ", "b ")] == [["b", "!", "reset"], ["a", "✓"]]


def test_hostile_answers_are_disarmed(run):
    text = shown(run, "words/w00", force_terminal=True, color_system=None)
    assert "<script>alert(1)</script>␛[31m⟨U+202E⟩evil⟨U+2028⟩[bold]x[/bold]" in text.replace("\n", "")
    assert "\u202e" not in text


def test_failures_say_why(run):
    assert "engine: it failed" in shown(run, "w07")


def test_unknown_samples_are_refused_with_a_suggestion(run):
    with pytest.raises(UsageError, match=r"no sample 'w3'.*did you mean 'w"):
        shown(run, "w3")


def test_an_empty_run_says_so(tmp_path):
    from support import write_run

    from poise.store.run import open_run

    with pytest.raises(UsageError, match="nothing was measured"):
        shown(open_run(write_run(tmp_path / "r", [])))


def test_a_narrow_terminal_numbers_the_systems_and_keeps_the_ids(run):
    file = io.StringIO()
    show([run], None, Console(file=file, width=40))
    lines = file.getvalue().splitlines()
    assert lines[:4] == ["1  s · onnx", "2  s · transformers", "3  m · onnx", "4  m · transformers"]
    assert lines[lines.index("words") + 2].split() == ["w00", "✗", "✗", "✓", "✓"]
