"""The run folder: whole after a kill at any byte, refused when it is of another version or not one at all."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poise.store.run import Appender, CellFolder, iter_jsonl, open_run
from poise.types import Batch, PoiseError, Record, UsageError

text = st.text(st.characters(codec="utf-8"), max_size=20)
records = st.lists(
    st.builds(Record, request_id=text, sample_id=text, status=st.just("ok"), pieces=st.lists(text)), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(records, st.data())
def test_a_kill_at_any_byte_loses_only_the_line_it_hit(tmp_path: Path, made: list[Record], data: st.DataObject) -> None:
    path = tmp_path / "r.jsonl"
    path.unlink(missing_ok=True)
    appender = Appender(path)
    appender.write(made)
    appender.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert list(iter_jsonl(path, Record)) == made[:kept]
    again = Appender(path)
    again.write(made[kept:])
    again.close()
    assert path.read_bytes() == whole


def test_partial_batches_are_left_out(tmp_path: Path) -> None:
    def batch(name: str, size: int, ids: str) -> list[Record]:
        return [Record(i, i, "ok", batch=Batch(name, size, 0, 1)) for i in ids]

    folder = CellFolder.__new__(CellFolder)
    folder.run = folder.path = tmp_path
    appender = Appender(tmp_path / "records.jsonl")
    appender.write([*batch("0.0", 2, "ab"), *batch("0.1", 3, "cd"), *batch("1.1", 3, "cde"), Record("f", "f", "ok")])
    appender.close()
    assert [r.request_id for r in folder.records()] == ["a", "b", "c", "d", "e", "f"]


def test_a_full_disk_is_one_sentence_and_keeps_the_file_whole() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    appender = Appender.__new__(Appender)
    import os

    import msgspec

    appender.path = Path("/dev/full")
    appender._encode = msgspec.json.Encoder().encode
    appender._fd, appender._end = os.open("/dev/full", os.O_WRONLY), 0
    real = os.ftruncate
    os.ftruncate = lambda *_: None  # type: ignore[assignment]  # a device cannot be truncated
    try:
        with pytest.raises(PoiseError, match="the disk is full"):
            appender.write([Record("a", "a", "ok")])
    finally:
        os.ftruncate = real
        appender.close()


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
