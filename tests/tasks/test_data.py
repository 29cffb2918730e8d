import gzip
import hashlib
import json
import sys
import types

import pytest

from poise.tasks.data import data_sha, need, parse_hub, read_rows
from poise.types import UsageError


def rows(path, *columns):
    return list(read_rows(path, columns))


def test_same_rows_from_every_format(tmp_path):
    want = [{"text": "a b", "label": "1"}, {"text": "c, d", "label": "0"}]
    (tmp_path / "x.tsv").write_text("text\tlabel\na b\t1\nc, d\t0\n")
    (tmp_path / "x.csv").write_text('text,label\na b,1\n"c, d",0\n')
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, want)) + "\n\n")
    (tmp_path / "x.json").write_text(json.dumps({"version": 1, "data": want}))
    (tmp_path / "y.json").write_text("\n".join(json.dumps(r, indent=2) for r in want))
    (tmp_path / "z.tsv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbftext\tlabel\r\na b\t1\r\nc, d\t0\r\n"))
    for path in sorted(tmp_path.iterdir()):
        assert rows(path, "text", "label") == want, path.name
    assert len(rows(tmp_path)) == 12


def test_long_fields_and_lone_carriage_returns(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'text,label\n"' + b"word " * 60_000 + b'",1\n')
    assert len(rows(tmp_path / "x.csv")[0]["text"]) == 300_000
    (tmp_path / "x.txt").write_bytes(b"a\rb\r\nc\n")
    assert rows(tmp_path / "x.txt") == [{"text": "a\rb"}, {"text": "c"}]


def test_glue_tsv_has_no_quoting(tmp_path):
    (tmp_path / "x.tsv").write_text('sentence\tlabel\n" an open quote\t1\nnext\t0\n')
    assert rows(tmp_path / "x.tsv")[0]["sentence"] == '" an open quote'


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.tsv", "a\tb\n1\t2\n1\t2\t3\n", "x.tsv, line 3: 3 columns"),
        ("x.csv", 'a,b\n1,"2\n', "x.csv, line"),
        ("x.jsonl", '{"a": 1}\n{"a":\n', "x.jsonl, line 2: not JSON"),
        ("x.jsonl", '{"a": 1}\n[1]\n', "x.jsonl, line 2: a list where an object"),
        ("x.json", '[{"a": 1},\n 3]', "item 2: a number"),
        ("x.json", '[{"a": 1},\n', "x.json, line"),
        ("x.jsonl", "", "no rows"),
        ("x.tsv", "a\tb\n", "no rows"),
        ("x.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("x.parquet", "?", "unknown kind of data file"),
    ],
)
def test_errors_say_where(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=says.replace("[", r"\[")):
        rows(tmp_path / name)


def test_wrong_column_names_those_there(tmp_path):
    (tmp_path / "x.csv").write_text("sentence,lable\na,1\n")
    with pytest.raises(UsageError, match=r"no column 'label'; it has 'sentence', 'lable'; did you mean 'lable'"):
        rows(tmp_path / "x.csv", "sentence", "label")


def test_missing_file_and_bad_bytes(tmp_path):
    (tmp_path / "dev.tsv").write_bytes(b"a\tb\n\xff\xfe\t1\n")
    with pytest.raises(UsageError, match=r"no file or folder .*; did you mean 'dev.tsv'"):
        rows(tmp_path / "def.tsv")
    with pytest.raises(UsageError, match="not UTF-8"):
        rows(tmp_path / "dev.tsv")
    (tmp_path / "torn.tsv.gz").write_bytes(gzip.compress(b"a\tb\n" + b"1\t2\n" * 1000)[:-20])
    with pytest.raises(UsageError, match="damaged"):
        rows(tmp_path / "torn.tsv.gz")


def test_data_sha_is_of_the_bytes(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a\n1\n")
    assert data_sha(str(tmp_path / "x.csv")) == hashlib.sha256(b"a\n1\n").hexdigest()
    assert data_sha([str(tmp_path / "x.csv")] * 2) == hashlib.sha256(b"a\n1\na\n1\n").hexdigest()
    assert data_sha(None) == ""


def test_need_explains():
    assert need(["x.tsv"], "t", "dev.tsv") == "x.tsv"
    with pytest.raises(UsageError, match="task t needs data: give --data"):
        need(None, "t", "dev.tsv")


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("hub:stanfordnlp/sst2:validation", ("stanfordnlp/sst2", None, None, "validation")),
        ("hub:glue/sst2@abc:train", ("nyu-mll/glue", "sst2", "abc", "train")),
        ("hub:a/b/c", ("a/b", "c", None, "test")),
    ],
)
def test_hub_names(source, want):
    assert parse_hub(source) == want


def test_hub_rows_and_missing_extra(monkeypatch):
    asked = []
    fake = types.ModuleType("datasets")
    fake.load_dataset = lambda *a, **k: asked.append((a, k)) or [{"sentence": "x", "label": 1}]
    fake.disable_progress_bars = lambda: None
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert rows("hub:stanfordnlp/sst2@r1:validation", "sentence") == [{"sentence": "x", "label": 1}]
    assert asked == [(("stanfordnlp/sst2", None), {"revision": "r1", "split": "validation"})]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'poise\[hub\]'"):
        rows("hub:stanfordnlp/sst2:validation")


def test_a_folder_of_several_splits_is_refused(tmp_path):
    for name in ("test/anatomy_test.csv", "test/law_test.csv", "dev/law_dev.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\nlatest\n")
    with pytest.raises(UsageError, match="holds dev, test: give the files of one of them"):
        list(read_rows(tmp_path))
    assert len(list(read_rows(tmp_path / "test"))) == 2
