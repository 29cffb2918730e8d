"""What is written: whole after a kill at any byte and on a full disk."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poise.store.files import Appender
from poise.store.lines import iter_jsonl
from poise.types import PoiseError, Record

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


def test_a_full_disk_is_one_sentence_and_keeps_the_file_whole() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    appender = Appender.__new__(Appender)
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
