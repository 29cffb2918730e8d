"""Translation of whole documents: windows of lines, realigned answers, scores over lines."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from poise.registry import lookup
from poise.tasks.build import get_task
from poise.tasks.metrics.lines import align
from poise.tasks.translation import WINDOW_LINES
from poise.types import Sample, UsageError

SAID = ["我们去河边。", "", "今天很冷。", "他有三本书。", "门开着。"]
WANTED = ["We go to the river.", "A heading", "It is cold today.", "He has three books.", "The door is open."]


def windows(tmp_path, **options):
    (tmp_path / "a.zh").write_text("\n".join(SAID) + "\n")
    (tmp_path / "b.en").write_text("\n".join(WANTED) + "\n")
    task = get_task("translation")
    data = [str(tmp_path / "a.zh"), str(tmp_path / "b.en")]
    return task, list(task.samples(data, {"unit": "document", **options}))


def test_windows_hold_successive_lines_within_both_limits(tmp_path):
    task, samples = windows(tmp_path, lines=3)
    assert [(s.id, s.fields[WINDOW_LINES]) for s in samples] == [("0", 3), ("4", 1)]
    assert samples[0].target == "We go to the river.\nIt is cold today.\nHe has three books."
    assert task.question(samples[0]).endswith("\n\n1. 我们去河边。\n2. 今天很冷。\n3. 他有三本书。")
    assert task.n_ref == 64 and task.max_tokens == 1500 + 24
    assert [s.fields[WINDOW_LINES] for s in windows(tmp_path, chars=12)[1]] == [2, 2]
    assert [s.fields[WINDOW_LINES] for s in windows(tmp_path, chars=1)[1]] == [1] * 4
    for bad in ({"unit": "page"}, {"lines": 0}, {"chars": "many"}):
        with pytest.raises(UsageError, match=r"translation: (unit|lines|chars) must be"):
            windows(tmp_path, **bad)


def corpus(name, answers, samples):
    metric = lookup("metric", name)()
    return float(metric.reduce(np.sum([metric.score(a, s).stats for a, s in zip(answers, samples)], axis=0)))


def test_scores_run_over_lines_as_sacrebleu_gives_them(tmp_path):
    task, samples = windows(tmp_path, lines=3)
    answers = ["1. We went to the river.\n3. He has books.", "The door is open."]
    lines, references = ["We went to the river.", "", "He has books.", "The door is open."], [WANTED[0], *WANTED[2:]]
    for name in ("bleu", "chrf", "ter"):
        theirs = getattr(sacrebleu, f"corpus_{name}")(lines, [references]).score
        assert corpus(name, answers, samples) == pytest.approx(theirs, abs=1e-9)
    assert corpus("exact_match", answers, samples) == 1 / 4
    # sentence chrF of the four lines by sacrebleu.sentence_chrf: 68.6, 0, 45.1, 100
    assert corpus("chrf_50", answers, samples) == 2 / 4
    assert corpus("lines.missing", answers, samples) == 1 / 4 and corpus("lines.extra", answers, samples) == 0
    assert lookup("metric", "chrf")().score(answers[0], samples[0]).reason == "1 of 3 lines missing, 0 too many"
    for name in task.metrics[:4]:
        assert corpus(name, [task.answer(s) for s in samples], samples) == lookup("metric", name)().scale
        assert corpus(name, [None, None], samples) == 0


@pytest.mark.parametrize(
    ("text", "lines", "missing", "extra"),
    [
        ("1. a\n2. b\n3. c", ["a", "b", "c"], 0, 0),
        ("a\nb\nc\nd", ["a", "b", "c"], 0, 1),
        ("a", ["a", "", ""], 2, 0),
        ("3: c\n\n1: a", ["a", "", "c"], 1, 0),
        ("Here you are:\n1) a\n2) b\nof two lines\n3) c", ["a", "b of two lines", "c"], 0, 1),
        ("1. a\n2. b\n2. again\n4. d", ["a", "b", ""], 1, 2),
        ("2010. a year\n1999. b\nc", ["2010. a year", "1999. b", "c"], 0, 0),
        ("", ["", "", ""], 3, 0),
        (None, ["", "", ""], 3, 0),
    ],
)
def test_lines_go_to_their_numbers_else_by_position(text, lines, missing, extra):
    assert align(text, 3) == (lines, missing, extra)


@given(st.text("ab12. \n:", max_size=60), st.integers(1, 5))
def test_any_text_gives_as_many_lines_as_asked_for(text, count):
    found = align(text, count)
    assert len(found.lines) == count and found.missing >= 0 and found.extra >= 0
    said = [line for line in text.split("\n") if line.strip()]
    assert count - found.missing <= len(said)


def test_single_sentences_have_no_lines():
    assert lookup("metric", "lines.missing")().score("x", Sample("1", {}, "x")).value is None
