"""Passages and questions from other files than SQuAD's own; rows made up in their formats."""

import json

import pytest

from poise.registry import lookup
from poise.tasks.build import get_task
from poise.types import UsageError


def samples(path, text):
    path.write_text(text)
    return list(get_task("squad").samples(str(path), {}))


def test_cmrc_2018_has_its_own_names(tmp_path):
    asked = {"query_text": "谁？", "query_id": "DEV_0_QUERY_0", "answers": ["小安", "小安", "安"]}
    parts = [{"context_id": "DEV_0", "context_text": "小安坐下。", "qas": [asked], "title": "安"}]
    [sample] = samples(tmp_path / "cmrc2018_dev.json", json.dumps(parts))
    assert (sample.id, sample.target, sample.cluster) == ("DEV_0_QUERY_0", ["小安", "安"], "安")
    assert get_task("squad").question(sample) == "Passage: 小安坐下。\n\nQuestion: 谁？"
    assert lookup("metric", "f1")().score("安", sample).value == 1
    parts[0]["qas"] = ["谁？"]
    with pytest.raises(UsageError, match="not SQuAD's format"):
        samples(tmp_path / "cmrc2018_dev.json", json.dumps(parts))


def test_rows_of_a_question_each(tmp_path):
    row = {
        "id": "1",
        "title": "A",
        "context": "Ann sat.",
        "question": "Who?",
        "answers": {"text": ["Ann"], "answer_start": [0]},
    }
    none = row | {"id": "2", "answers": {"text": [], "answer_start": []}}
    first, second = samples(tmp_path / "x.jsonl", f"{json.dumps(row)}\n{json.dumps(none)}\n")
    assert (first.target, second.target, second.category) == (["Ann"], [""], "answer=no")
    with pytest.raises(UsageError, match=r"not SQuAD's format \(TypeError"):
        samples(tmp_path / "x.jsonl", json.dumps(row | {"answers": ["Ann"]}))
