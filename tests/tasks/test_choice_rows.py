"""Questions with options from the files as they are published; rows made up in their formats."""

import json

import pytest

from poise.tasks.build import get_task
from poise.types import UsageError


def asked(data, task="multiple-choice", **options):
    made = get_task(task)
    items = list(made.samples(data, options))
    return made, items


ROWS = {  # file name, its text, the question as it is asked, the target
    "CMMLU": ("a.csv", ",Question,A,B,C,D,Answer\n0,一加一,一,二,三,四,B\n", "一加一\nA. 一\nB. 二\nC. 三\nD. 四", "B"),
    "C-Eval": ("a.csv", "id,question,A,B,answer,explanation\n0,一加一,一,二,B,因为\n", "一加一\nA. 一\nB. 二", "B"),
    "AGIEval": (
        "a.jsonl",
        '{"passage": "Ann has 2.", "question": "How many?", "options": ["(A)1", "(B)2"], "label": "B", "other": null}',
        "Ann has 2.\nHow many?\nA. 1\nB. 2",
        "B",
    ),
    "AQuA-RAT": (
        "a.jsonl", '{"question": "1+1", "options": ["A)1", "B)2"], "rationale": "", "correct": "B"}',
        "1+1\nA. 1\nB. 2", "B",
    ),
    "MMLU-Pro": (
        "a.jsonl",
        '{"question_id": 70, "question": "1+1", "options": ["2", "1"], "answer": "A", "answer_index": 0}',
        "1+1\nA. 2\nB. 1",
        "A",
    ),
    "WinoGrande": (
        "a.jsonl", '{"qID": "3-2", "sentence": "Not Bo: _ won.", "option1": "Ann", "option2": "Bo", "answer": "1"}',
        "Not Bo: _ won.\nA. Ann\nB. Bo", "A",
    ),
    "BoolQ": (
        "a.jsonl", '{"question": "is it wet", "title": "Rain", "answer": false, "passage": "Dry."}',
        "Dry.\nis it wet\nA. yes\nB. no", "B",
    ),
    "MMLU with indices": ("a.csv", "question,A,B,C,answer\n1+2,2,3,1,1\n2-1,3,2,1,2\n", "1+2\nA. 2\nB. 3\nC. 1", "B"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_published_layouts(tmp_path, name):
    file, text, question, target = ROWS[name]
    (tmp_path / file).write_text(text + "\n")
    task, [first, *_] = asked(str(tmp_path / file))
    assert task.question(first) == f"Question: {question}"
    assert first.target == target


def test_answers_in_a_file_of_their_own(tmp_path):
    rows = [{"id": k, "goal": f"Do {k}", "sol1": "so", "sol2": "thus"} for k in "ab"]
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "valid-labels.lst").write_text("1\n0\n")
    files = [str(tmp_path / "valid.jsonl"), str(tmp_path / "valid-labels.lst")]
    for task in ("multiple-choice", "three-tasks"):
        assert [(s.id, s.target) for s in asked(files, task)[1]] == [("a", "B"), ("b", "A")]
    with pytest.raises(UsageError, match="it has 'id', 'goal', 'sol1', 'sol2'; answers in a file of their own"):
        asked(files[0])
    (tmp_path / "valid-labels.lst").write_text("1\n")
    with pytest.raises(UsageError, match="a line for each row is needed, but to 1 label there are more rows"):
        asked(files)


def test_of_a_folder_each_file_is_a_subject(tmp_path):
    for name in ("law_val", "tax_val"):
        (tmp_path / f"{name}.csv").write_text("id,question,A,B,answer\n0,q,a,b,A\n1,r,a,b,B\n")
    items = asked(str(tmp_path))[1]
    assert [s.id for s in items] == ["law/0", "law/1", "tax/0", "tax/1"]
    assert [s.category for s in items] == ["subject=law"] * 2 + ["subject=tax"] * 2


def test_options_keep_what_is_no_letter_of_theirs(tmp_path):
    row = {"question": "Who?", "options": ["A. Lincoln", "G. Washington"], "answer": "A"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    assert asked(str(tmp_path / "a.jsonl"))[1][0].fields["options"] == row["options"]


TARGETS = {"It is wet.": 1, "It is dry.": 0, "It is red.": 0}


@pytest.mark.parametrize("targets", [TARGETS, {"choices": list(TARGETS), "labels": list(TARGETS.values())}])
def test_truthfulqa_from_mc_task_and_the_hub(tmp_path, targets):
    row = {"question": "How is water?", "mc1_targets": targets, "mc2_targets": targets}
    (tmp_path / "mc_task.json").write_text(json.dumps([row]))
    [item] = asked(str(tmp_path / "mc_task.json"), "truthfulqa", answer_with="text")[1]
    assert item.target == "It is wet." and sorted(item.choices) == sorted(TARGETS)
    with pytest.raises(UsageError, match=r"for binary give TruthfulQA.csv"):
        asked(str(tmp_path / "mc_task.json"), "truthfulqa", choices="binary")
    (tmp_path / "mc_task.json").write_text(json.dumps([row | {"mc1_targets": {"a": 1, "b": 1}}]))
    with pytest.raises(UsageError, match="row 1: mc1_targets has not one answer that is right"):
        asked(str(tmp_path / "mc_task.json"), "truthfulqa")
