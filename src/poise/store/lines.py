"""JSONL files read line by line: in one pass, in several, or single lines when they are asked for; never held whole."""

from __future__ import annotations

import os
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, overload
from weakref import ref

import msgspec
from msgspec import Struct

from poise.types import Sample, UsageError

T = TypeVar("T")
S = TypeVar("S")
MOST_OPEN = 64
"""Files kept open to be read from: a study has more cells than a process may have open files."""


class Place(NamedTuple):
    """Where a line stands: its file and its bytes."""

    path: Path
    start: int
    end: int


def located(path: Path, kind: type[T]) -> Iterator[tuple[T, Place]]:
    """Typed lines of a JSONL file and their places; a torn last line is dropped, a missing file is empty."""
    if not path.is_file():
        return
    decode, end = msgspec.json.Decoder(kind).decode, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            start, end = end, end + len(line)
            try:
                yield decode(line), Place(path, start, end)
            except (ValueError, RecursionError) as error:  # also msgspec's
                raise UsageError(
                    f"{path}, line {number}: {error}; the file is damaged: restore it, or run into a new folder (-o)"
                ) from None


def iter_jsonl(path: Path, kind: type[T]) -> Iterator[T]:
    """`located` without the places."""
    return (value for value, _ in located(path, kind))


class Lines(Iterable[T]):
    """A JSONL file to be gone through as often as wanted."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path, self.kind = path, kind

    def __iter__(self) -> Iterator[T]:
        return iter_jsonl(self.path, self.kind)


class Noted(Sequence[T]):
    """Lines of which only the places are kept; each is read again when it is asked for, and shown as `make` says."""

    def __init__(self, kind: type[Any], make: Callable[[Any], T]) -> None:
        self._decode, self._make = msgspec.json.Decoder(kind).decode, make
        self._files: list[_File] = []
        self._of, self._starts, self._ends = array("I"), array("q"), array("q")

    def note(self, place: Place) -> None:
        """Add a line, which has been read before: it is well-formed."""
        if not self._files or self._files[-1].path != place.path:
            self._files.append(_File(place.path))
        self._add(len(self._files) - 1, place.start, place.end)

    def _add(self, file: int, start: int, end: int) -> None:
        self._of.append(file)
        self._starts.append(start)
        self._ends.append(end)

    def shown(self, kind: type[Any], make: Callable[[Any], S]) -> Noted[S]:
        """The same lines, shown otherwise; none can be added to either any more."""
        found: Noted[S] = object.__new__(Noted)
        found.__dict__ |= self.__dict__
        found._decode, found._make = msgspec.json.Decoder(kind).decode, make
        return found

    def picked(self, rows: Iterable[int]) -> Noted[T]:
        """Those of these rows."""
        return self._joined([(self, rows)])

    def joined(self, others: Sequence[Noted[T]]) -> Noted[T]:
        """These and those of the others."""
        return self._joined([(one, range(len(one))) for one in (self, *others)])

    def _joined(self, parts: Sequence[tuple[Noted[T], Iterable[int]]]) -> Noted[T]:
        found: Noted[T] = object.__new__(Noted)
        found._decode, found._make, found._files = self._decode, self._make, []
        found._of, found._starts, found._ends = array("I"), array("q"), array("q")
        for one, rows in parts:
            first = len(found._files)
            found._files += one._files
            for row in rows:
                found._add(first + one._of[row], one._starts[row], one._ends[row])
        return found

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> Noted[T]: ...
    def __getitem__(self, row: int | slice) -> T | Noted[T]:
        if isinstance(row, slice):
            return self.picked(range(*row.indices(len(self))))
        return self._make(self._decode(self.line(row)))

    def line(self, row: int) -> bytes:
        """The whole line."""
        start, end = self._starts[row], self._ends[row]
        return self._files[self._of[row]].read(start, end - start)


class _File:
    """A file to read from here and there: open while it is among the last few opened and may still be read."""

    _opened: ClassVar[deque[ref[_File]]] = deque()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: _Descriptor | None = None

    def read(self, start: int, size: int) -> bytes:
        descriptor = self._descriptor or self._open()  # held here: another thread may let go of it meanwhile
        return os.pread(descriptor.number, size, start)

    def _open(self) -> _Descriptor:
        self._descriptor = opened = _Descriptor(self.path)
        self._opened.append(ref(self))
        if len(self._opened) > MOST_OPEN and (oldest := self._opened.popleft()()):
            oldest._descriptor = None
        return opened


class _Descriptor:
    """Closed with the last that holds it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class _Head(Struct, gc=False):
    """The fields of a sample that tell with which others it belongs together."""

    id: str
    category: str | None = None
    cluster: str | None = None


class Targets(Mapping[str, Sample]):
    """The samples of a file by their ids; fields and targets are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def cluster(self) -> dict[str, str]:
        """The cluster of each sample that belongs to one."""
        heads = iter_jsonl(self.path, _Head)
        return {head.id: sys.intern(head.cluster) for head in heads if head.cluster is not None}

    @cached_property
    def category(self) -> dict[str, str]:
        """The category of each sample that has one."""
        heads = iter_jsonl(self.path, _Head)
        return {head.id: sys.intern(head.category) for head in heads if head.category is not None}

    @cached_property
    def _found(self) -> tuple[dict[str, int], Noted[Sample]]:
        """The row of each id, and the rows."""
        rows: dict[str, int] = {}
        lines: Noted[Sample] = Noted(Sample, lambda sample: sample)
        for head, place in located(self.path, _Head):
            rows[head.id] = len(lines)
            lines.note(place)
        return rows, lines

    def __getitem__(self, name: str) -> Sample:
        rows, lines = self._found
        return lines[rows[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._found[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found[0])

    def __len__(self) -> int:
        return len(self._found[0])
