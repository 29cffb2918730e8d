"""The run folder: partial batches left out, damage named, refused when it is of another version or not one at all."""

import json
from pathlib import Path

import pytest
from support import write_run

from poise.store.files import Appender
from poise.store.run import CellFolder, iter_jsonl, open_run, open_runs
from poise.types import Batch, Record, UsageError


def test_partial_batches_are_left_out(tmp_path: Path) -> None:
    def batch(name: str, size: int, ids: str) -> list[Record]:
        return [Record(i, i, "ok", batch=Batch(name, size, 0, 1)) for i in ids]

    folder = CellFolder.__new__(CellFolder)
    folder.run = folder.path = tmp_path
    appender = Appender(tmp_path / "records.jsonl")
    appender.write([*batch("0.0", 2, "ab"), *batch("0.1", 3, "cd"), *batch("1.1", 3, "cde"), Record("f", "f", "ok")])
    appender.close()
    assert [r.request_id for r in folder.records()] == ["a", "b", "c", "d", "e", "f"]


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"request_id":"a","sample_id":"a","status":"ok"}\n{"request_id":1}\n')
    with pytest.raises(UsageError, match=r"records\.jsonl, line 2"):
        list(iter_jsonl(path, Record))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "no manifest.json"),
        ("{", "not JSON"),
        ("[]", "format None"),
        ("[1]", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (json.dumps({"format": 99}), "format 99"),
    ],
)
def test_what_is_no_run_folder_is_refused(tmp_path: Path, manifest: str | None, words: str) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match=words):
        open_run(tmp_path)


def test_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder"):
        open_run(tmp_path / "absent")


def test_a_folder_given_twice_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [])
    (tmp_path / "link").symlink_to(run)
    other = write_run(tmp_path / "other", [])
    assert [r.name for r in open_runs([run, open_run(other)])] == ["run", "other"]
    opened = open_run(run)
    for again in ([run, run], [opened, opened], [run, other, opened]):
        with pytest.raises(UsageError, match="run is given twice; name each run folder once"):
            open_runs(again)
    with pytest.raises(UsageError, match=r"link is given twice \(also as .*run\)"):
        open_runs([run, tmp_path / "link"])


@pytest.mark.parametrize("damage", ["{", "[1]", '{"cpu": ' + "[" * 100_000, "\udcff"])
def test_a_damaged_environment_is_named(tmp_path: Path, damage: str) -> None:
    run = open_run(write_run(tmp_path / "run", []))
    (run.path / "environment.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"environment\.json: .*; the file is damaged"):
        _ = run.environment
