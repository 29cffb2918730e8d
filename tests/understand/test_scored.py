"""Kept scores as columns: the same from lines that are held, written or read; odd files are none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from poise.types import PoiseError, Score
from poise.understand.scored import Scored, Table, joined, read, write

LINES = [
    Scored("r0", "yes", {"a": Score(1.0, [1.0, 2.0])}),
    Scored("r1", None, {"a": Score(None, reason="none found"), "b": Score(0.5, [1.0])}),
    Scored("r2", "no\n", {"b": Score(0.25, [1.0, 2.0], item=[1, "x"])}),
]
REQUESTS = ["r0", "r1", "r2"]
SIGNATURE = ["records 7", "a v1"]


def seen(table: Table) -> list[object]:
    columns = [table.values(name, None) for name in (*table.names, "never")]
    stats = [None if c.stats is None else c.stats.tolist() for c in columns]
    values = [np.where(np.isnan(c.values), -1, c.values).tolist() for c in columns]
    return [list(table.answers), table.unfound.tolist(), table.names, values, stats, [c.reasons for c in columns],
            [c.items for c in columns]]  # fmt: skip


def test_columns_have_a_row_for_every_line() -> None:
    answers, unfound, names, values, stats, reasons, items = seen(Table.of(LINES))
    assert answers == ["yes", None, "no\n"] and unfound == [False, True, False] and names == ["a", "b"]
    assert values == [[1.0, -1, -1], [-1, 0.5, 0.25], [-1, -1, -1]]
    assert stats == [[[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], None, None]  # those of b are not equally many
    assert reasons == [[None, "none found", "not scored"], ["not scored", None, None], ["not scored"] * 3]
    assert items == [None, [None, None, [1, "x"]], None]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    written = write(path, SIGNATURE, iter(LINES))
    found = read(path, SIGNATURE, REQUESTS)
    assert found is not None
    assert seen(written) == seen(found) == seen(Table.of(LINES))


def test_what_is_odd_counts_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    assert read(path, SIGNATURE, REQUESTS) is None
    write(path, SIGNATURE, LINES)
    whole = path.read_bytes()
    assert read(path, ["records 8", "a v1"], REQUESTS) is None
    for others in (REQUESTS[:2], [*REQUESTS, "r3"], ["r0", "r2", "r1"]):
        assert read(path, SIGNATURE, others) is None
    for damaged in (whole[:-9], whole.replace(b'"yes"', b"7"), b"", b"\xff\n", whole + b"{}\n"):
        path.write_bytes(damaged)
        assert read(path, SIGNATURE, REQUESTS) is None


def test_a_failure_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    def torn() -> Iterator[Scored]:
        yield LINES[0]
        raise PoiseError("no such extractor")

    path = tmp_path / "scores.jsonl"
    write(path, SIGNATURE, LINES)
    with pytest.raises(PoiseError):
        write(path, SIGNATURE, torn())
    assert [p.name for p in tmp_path.iterdir()] == ["scores.jsonl"]
    assert read(path, SIGNATURE, REQUESTS) is not None


def test_answers_of_several_cells_as_one(tmp_path: Path) -> None:
    kept = [write(tmp_path / name, SIGNATURE, LINES).answers for name in "ab"]
    held = Table.of(LINES).answers
    assert list(joined(kept)) == list(joined([kept[0], held])) == ["yes", None, "no\n"] * 2
