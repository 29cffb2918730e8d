"""Lines that are read when they are asked for are the lines of the file."""

import gc
from pathlib import Path

import msgspec
import pytest

from poise.store.lines import MOST_OPEN, Lines, Noted, Targets, iter_jsonl, located
from poise.types import Sample

SAMPLES = [
    Sample("a", {"text": "é" * 5}, "x", ("x", "y"), category="topic=1", cluster="c"),
    Sample("b", {}, ["t", None]),
    Sample("c", {"n": 3}, 4.5, cluster="c"),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "targets.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(s) + b"\n" for s in SAMPLES) + b'{"id": "torn')
    return path


def test_again_and_again(file):
    lines = Lines(file, Sample)
    assert [s.id for s in lines] == [s.id for s in lines] == ["a", "b", "c"]
    assert not list(Lines(file.with_name("none"), Sample))


def test_targets_are_a_dictionary_of_samples(file):
    there = Targets(file)
    assert list(there) == ["a", "b", "c"] and len(there) == 3 and "b" in there and "torn" not in there
    assert [there["a"].fields, there["b"].target, there["a"].choices] == [{"text": "é" * 5}, ["t", None], ("x", "y")]
    assert there.get("d") is None and there.category == {"a": "topic=1"} and there.cluster == {"a": "c", "c": "c"}
    assert not Targets(file.with_name("none"))


def test_lines_of_more_files_than_two_bytes_can_number(file, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_bytes(msgspec.json.encode(Sample("d", {})) + b"\n")
    [(_, first), *_], [(_, only)] = located(file, Sample), located(other, Sample)
    noted = Noted(Sample, lambda sample: sample.id)
    for _ in range(2**15 + 1):  # each change of the file is counted as another
        noted.note(first)
        noted.note(only)
    assert noted[0] == noted[2**16] == "a" and noted[1] == noted[-1] == "d"
    twice = noted.joined([noted])
    assert len(twice) == 2 * len(noted) and twice[-1] == "d" == twice[2**16 + 1]


def test_noted_lines_of_several_files(file, tmp_path):
    second = tmp_path / "more.jsonl"
    second.write_bytes(msgspec.json.encode(Sample("d", {})) + b"\n")

    def noted(*paths):
        found = Noted(Sample, lambda sample: sample.id)
        for path in paths:
            for _, place in located(path, Sample):
                found.note(place)
        return found

    one, both = noted(file), noted(file, second)
    assert list(both) == ["a", "b", "c", "d"] and both[-1] == "d" and list(both[1:3]) == ["b", "c"]
    assert list(both.picked([3, 0])) == ["d", "a"]
    assert list(one.joined([both[2:], one])) == ["a", "b", "c", "c", "d", "a", "b", "c"]
    assert [s.id for s in iter_jsonl(second, Sample)] == ["d"]


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="open files cannot be counted here")
def test_lines_of_more_files_than_a_process_may_have_open(tmp_path):
    """Each cell of a study has files of its own, and a summary reads from all of them."""

    def opened():
        return sum(1 for _ in Path("/dev/fd").iterdir())

    gc.collect()
    before, found = opened(), Noted(Sample, lambda sample: sample.id)
    for i in range(3 * MOST_OPEN):
        path = tmp_path / f"{i}.jsonl"
        path.write_bytes(msgspec.json.encode(Sample(f"s{i}", {})) + b"\n")
        for _, place in located(path, Sample):
            found.note(place)
    for _ in range(2):
        assert list(found) == [f"s{i}" for i in range(3 * MOST_OPEN)]
        assert opened() - before <= MOST_OPEN
    del found
    gc.collect()
    assert opened() <= before
