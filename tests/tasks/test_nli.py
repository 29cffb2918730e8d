"""Pairs of sentences from the files as they are published; rows made up in their formats."""

import pytest

from poise.tasks.build import get_task
from poise.types import UsageError


def asked(tmp_path, file, text, **options):
    (tmp_path / file).write_text(text)
    task = get_task("nli")
    return task, list(task.samples(str(tmp_path / file), options))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("snli_1.0_test.txt", "gold_label\tsentence1\tsentence2\tpairID\nneutral\ta\tb\t1\n-\ta\tb\t2\n"),
        (
            "dev_matched.tsv",
            "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n0\tx\ta\tb\tentailment\tneutral\n",
        ),
        ("ocnli.json", '{"sentence1": "a", "sentence2": "b", "label": "neutral"}\n' * 2),  # lines, for all its name
    ],
)
def test_three_labels(tmp_path, file, text):
    task, [first, *_] = asked(tmp_path, file, text)
    assert (first.target, len(first.choices), task.chance) == ("neutral", 3, pytest.approx(1 / 3))
    assert task.question(first) == "First: a\nSecond: b"


def test_two_labels_are_yes_and_no(tmp_path):
    rte = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\ta\tc\tnot_entailment\n"
    task, items = asked(tmp_path, "dev.tsv", rte)
    assert [(s.target, s.choices, s.fields["label"]) for s in items] == [
        ("yes", ("yes", "no"), "entailment"), ("no", ("yes", "no"), "not_entailment"),
    ]  # fmt: skip
    assert task.instruction.startswith("Does the first sentence entail the second?") and task.chance == 0.5
    qnli = "index\tquestion\tsentence\tlabel\n0\tWho?\tAnn did.\tentailment\n"
    task, [item] = asked(tmp_path, "dev.tsv", qnli)
    assert task.question(item) == "Sentence: Ann did.\nQuestion: Who?" and "answer the question" in task.instruction
    numbers = '{"sentence1": "a", "sentence2": "b", "label": 1}\n'  # of three labels neutral, of RTE's two the other
    assert asked(tmp_path, "x.jsonl", numbers)[1][0].target == "neutral"
    assert asked(tmp_path, "x.jsonl", numbers, labels=2)[1][0].target == "no"
    with pytest.raises(UsageError, match="labels must be 2 or 3, not 4"):
        asked(tmp_path, "x.jsonl", numbers, labels=4)


def test_xnli_has_its_pairs_in_many_languages(tmp_path):
    head, rows = (
        "language\tgold_label\tsentence1\tsentence2\tpairID\n",
        ("en\tneutral\ta\tb\t1\n", "zh\tneutral\t一\t二\t1\n"),
    )
    items = asked(tmp_path, "xnli.dev.tsv", head + "".join(rows))[1]
    assert [s.id for s in items] == ["en/1", "zh/1"]
    [item] = asked(tmp_path, "xnli.dev.tsv", head + "".join(rows), language="zh")[1]
    assert item.fields["first"] == "一"
    with pytest.raises(UsageError, match="no pair of the language 'de' with a gold label"):
        asked(tmp_path, "xnli.dev.tsv", head + "".join(rows), language="de")
    with pytest.raises(UsageError, match="has no pair with a gold label; those of hidden test sets"):
        asked(tmp_path, "test.jsonl", '{"sentence1": "a", "sentence2": "b", "label": -1}\n')
