"""Damaged data files of every format: read where nothing is lost, else refused in one sentence that names the file."""

import gzip

import pytest

from poise.tasks.build import get_task
from poise.types import UsageError

FILES = {
    "sst2": ("dev.tsv", "sentence\tlabel\na film\t1\nbad film\t0\n"),
    "classification": ("x.csv", "text,label\nhi,a\nyo,b\n"),
    "nli": ("x.jsonl", '{"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}\n'),
    "gsm8k": ("t.jsonl", '{"question": "1 + 1?", "answer": "It is 2.\\n#### 2"}\n'),
    "deepmind-mathematics": ("algebra__linear_1d.txt", "Solve 2*x = 4 for x.\n2\n"),
    "summarization": ("s.json", '[{"document": "long text", "summary": "short"}]\n'),
    "humaneval": (
        "h.jsonl",
        '{"task_id": "T/0", "prompt": "def one():\\n", "entry_point": "one", "test": "", "canonical_solution": ""}\n',
    ),
    "mbpp": ("m.json", '[{"task_id": 1, "prompt": "one", "code": "def one(): pass", "test_list": ["assert one()"]}]\n'),
    "continuation": ("c.py", "\n".join(f"x{i} = {i}" for i in range(80)) + "\n"),
    "squad": (
        "q.json",
        '{"data": [{"title": "t", "paragraphs": [{"context": "Ann.", "qas": [{"id": "1", "question": "Who?", '
        '"answers": [{"text": "Ann", "answer_start": 0}]}]}]}]}\n',
    ),
    "multiple-choice": ("anatomy_test.csv", '"q",a,b,c,d,A\n"r",a,b,c,d,B\n'),
    "three-tasks": ("mc.jsonl", '{"question": "q", "choices": ["a", "b"], "answer": 1}\n'),
    "truthfulqa": ("t.csv", "Question,Best Answer,Incorrect Answers\nWhat?,this,that; those\n"),
    "bbq": (
        "b.jsonl",
        '{"context": "c", "question": "q", "ans0": "a", "ans1": "b", "ans2": "c", "label": 1, '
        '"context_condition": "ambig"}\n',
    ),
    "xstest": ("x.csv", "id,prompt,type,label\n1,How?,homonyms,safe\n"),
    "toxicity": ("r.jsonl", '{"prompt": {"text": "So"}}\n'),
    "mt_bench": ("q.jsonl", '{"question_id": 81, "category": "writing", "turns": ["a", "b"]}\n'),
    "perplexity": ("w.txt", " = A = \n some text here \n"),
}
SOUND = {
    "as it is": lambda data: data,
    "with a byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "with CRLF": lambda data: data.replace(b"\n", b"\r\n"),
}
BROKEN = {
    "empty": lambda data: b"",
    "blank": lambda data: b"\n\n  \n",
    "Latin-1": lambda data: data + "café\n".encode("latin-1"),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
}
BROKEN_JSON = {
    "cut": lambda data: data[: len(data) * 2 // 3],
    "numbers": lambda data: b"[1, 2, 3]\n",
    "nested": lambda data: b"[" * 200_000,
    "nothing but null": lambda data: b"{%s}\n" % b", ".join(b'"%s": null' % key for key in KEYS),
}
KEYS = (
    b"question answer text label choices prompt turns document summary sentence1 sentence2 gold_label context data "
    b"task_id question_id category ans0 ans1 ans2 context_condition code test_list test entry_point canonical_solution"
).split()


def items(task, path):
    return list(get_task(task).samples(str(path), {}))


@pytest.mark.parametrize("task", list(FILES))
def test_other_line_ends_marks_and_compression_change_nothing(task, tmp_path):
    name, text = FILES[task]
    read = []
    for damage in SOUND.values():
        (tmp_path / name).write_bytes(damage(text.encode()))
        read.append(items(task, tmp_path / name))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    read.append(items(task, tmp_path / f"{name}.gz"))
    assert read[0] and all(others == read[0] for others in read)


@pytest.mark.parametrize("task", list(FILES))
def test_broken_files_are_refused_in_a_sentence(task, tmp_path):
    name, text = FILES[task]
    cases = BROKEN | (BROKEN_JSON if "json" in name else {})
    for how, damage in cases.items():
        (tmp_path / name).write_bytes(damage(text.encode()))
        with pytest.raises(UsageError) as refused:
            items(task, tmp_path / name)
        assert name in str(refused.value) and "\n" not in str(refused.value), how
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode())[:-6])
    for path in (tmp_path / f"{name}.gz", tmp_path / "absent", tmp_path):
        (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises(UsageError):
            items(task, path)


def test_rows_of_mmlu_lack_no_column(tmp_path):
    (tmp_path / "anatomy_test.csv").write_text('"q",a,b,c,d,A\n"r",a\n')
    with pytest.raises(UsageError, match="line 2: 2 columns"):
        items("multiple-choice", tmp_path)


@pytest.mark.parametrize("task", ["continuation", "perplexity"])
def test_files_of_one_name_in_two_folders_are_told_apart(task, tmp_path):
    name, text = FILES[task]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    found = [sample.id for sample in items(task, tmp_path)]
    assert len(found) == len(set(found)) and {i[:2] for i in found} == {"a/", "b/"}
