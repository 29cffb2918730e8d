"""Summaries from the files as they are published, and against several references."""

import json

import pytest
from rouge_score.rouge_scorer import RougeScorer

from poise.registry import lookup
from poise.tasks.build import get_task
from poise.tasks.data import data_sha
from poise.types import Sample, UsageError

DIALOGUE = "#Person1#: The bus is late.\n#Person2#: Let's walk then."
SUMMARIES = ("They decide to walk.", "As the bus is late, #Person2# wants to walk.", "The bus is late.")


def samples(path, **options):
    return list(get_task("summarization").samples(str(path), options))


def test_dialogsum_test_set_has_three_references(tmp_path):
    row = {"fname": "test_0", "dialogue": DIALOGUE}
    for k, summary in enumerate(SUMMARIES, 1):
        row |= {f"summary{k}": summary, f"topic{k}": "bus"}
    (tmp_path / "dialogsum.test.jsonl").write_text(json.dumps(row) + "\n")
    [sample] = samples(tmp_path / "dialogsum.test.jsonl")
    assert (sample.id, sample.target) == ("test_0", list(SUMMARIES))
    for summary in (*SUMMARIES, get_task("summarization").answer(sample)):
        assert lookup("metric", "rouge_l")().score(summary, sample).value == 1


SAID = (
    "They walk because the bus is late.",
    "The bus was late. They decided to walk.\nIt is not far.",
    "Nothing of this.",
    "#Person2# wants a bus.",
)


@pytest.mark.parametrize("said", SAID)
def test_several_references_as_rouge_scores_own_score_multi(said):
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score_multi(list(SUMMARIES), said)
    # a text without lines is cut after full stops, which only Lsum sees: theirs needs it done before
    lines = [text if "\n" in text else text.replace(". ", ".\n") for text in (*SUMMARIES, said)]
    theirs |= RougeScorer(["rougeLsum"], use_stemmer=True).score_multi(lines[:-1], lines[-1])
    for kind, value in theirs.items():
        metric = lookup("metric", kind.lower().replace("rouge", "rouge_"))()
        assert metric.score(said, Sample("1", {}, list(SUMMARIES))).value == pytest.approx(value.fmeasure), kind


def test_length_is_that_of_the_nearest_reference():
    ratio, sample = lookup("metric", "length_ratio")(), Sample("1", {}, ["a" * 10, "a" * 20, "a" * 40])
    assert [ratio.score("b" * n, sample).stats for n in (4, 15, 24, 90)] == [[4, 10], [15, 10], [24, 20], [90, 40]]


def test_a_story_of_cnn_is_a_file(tmp_path):
    (tmp_path / "cnn").mkdir()
    story = "(CNN) -- A bridge was opened.\n\nIt is long.\n\n@highlight\n\nA bridge opens\n\n@highlight\n\nIt is long\n"
    for name in ("00ff", "01ab"):
        (tmp_path / "cnn" / f"{name}.story").write_text(story)
    first, second = samples(tmp_path / "cnn")
    assert (first.id, second.id) == ("00ff", "01ab")
    assert first.fields["text"] == "(CNN) -- A bridge was opened.\n\nIt is long."
    assert first.target == "A bridge opens\nIt is long"
    kinds = get_task("summarization").suffixes
    assert data_sha(str(tmp_path / "cnn"), kinds) != data_sha(str(tmp_path / "cnn" / "00ff.story"), kinds)
    (tmp_path / "cnn" / "02.story").write_text("A text.\n")
    with pytest.raises(UsageError, match=r"02.story: no highlights in it"):
        samples(tmp_path / "cnn")


@pytest.mark.parametrize(
    ("tag", "first", "suffix"), [("SN", "FIRST-SENTENCE", "summary"), ("XSUM", "INTRODUCTION", "data")]
)
def test_an_article_of_xsum_is_a_file(tmp_path, tag, first, suffix):
    parts = {"URL": "http://news.example/1", first: "A bridge was opened.", "RESTBODY": "It is long.\nIt is wide."}
    text = "\n".join(f"[{tag}]{name}[{tag}]\n{part}\n" for name, part in parts.items())
    (tmp_path / f"29604402.{suffix}").write_text(text)
    [sample] = samples(tmp_path)
    assert sample.id == "29604402" and sample.target == "A bridge was opened."
    assert sample.fields["text"] == "It is long.\nIt is wide."


def test_a_hidden_test_set_is_refused(tmp_path):
    (tmp_path / "hidden.jsonl").write_text(json.dumps({"fname": "hiddentest_0", "dialogue": DIALOGUE}) + "\n")
    with pytest.raises(UsageError, match=r"hidden.jsonl, row 1: no summary, so nothing to score answers by; it has"):
        samples(tmp_path / "hidden.jsonl")
