"""Sequences that are gone through more than once but not held: eight bytes of memory a thing, whatever its size."""

from __future__ import annotations

import os
import pickle
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from tempfile import TemporaryFile
from typing import IO, Any, Generic, TypeVar, overload

import msgspec

from poise.types import PoiseError

T = TypeVar("T")
IN_MEMORY_BYTES = 1 << 20
"""More than this goes to a nameless file among the system's temporary ones."""
TOGETHER = 64
"""As many are read from it at a time, where they lie side by side."""


class Kept(Sequence[T]):
    """Things as they were, in the given order; slices and other orders of them share what is kept."""

    def __init__(self, things: Iterable[T], kind: type[T] | None = None) -> None:
        """`kind`: a struct whose fields are all of known types, which saves two thirds of the time."""
        self._store = _Store(things, kind)
        self._order: Sequence[int] = range(len(self._store.starts) - 1)

    def _shared(self, order: Sequence[int]) -> Kept[T]:
        found: Kept[T] = object.__new__(Kept)
        found._store, found._order = self._store, order
        return found

    def picked(self, places: Iterable[int]) -> Kept[T]:
        """Those at these places, in the order of the places."""
        return self._shared(array("q", (self._order[place] for place in places)))

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Kept[T]: ...
    def __getitem__(self, place: int | slice) -> T | Kept[T]:
        if isinstance(place, slice):
            return self._shared(self._order[place])
        return self._store.read(self._order[place])

    def __iter__(self) -> Iterator[T]:
        if isinstance(self._order, range) and self._order.step == 1:
            for first in self._order[::TOGETHER]:
                yield from self._store.read_on(first, min(first + TOGETHER, self._order.stop))
        else:
            yield from map(self._store.read, self._order)


class _Store(Generic[T]):
    """Things as bytes end to end, and where each begins. Nothing but this process writes or reads them."""

    def __init__(self, things: Iterable[T], kind: type[T] | None) -> None:
        encode: Callable[[Any], bytes] = pickle.dumps if kind is None else msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], T] = pickle.loads if kind is None else msgspec.msgpack.Decoder(kind).decode
        self._few, self._file, self.starts = bytearray(), None, array("q", [0])
        for thing in things:
            data = encode(thing)
            self._few += data
            self.starts.append(self.starts[-1] + len(data))
            if len(self._few) > IN_MEMORY_BYTES:
                self._write()
        if self._file:
            self._write()

    _file: IO[bytes] | None

    def _write(self) -> None:
        try:
            self._file = self._file or TemporaryFile(buffering=0)  # noqa: SIM115 (closed with this store)
            written, few = 0, bytes(self._few)
            while written < len(few):  # a disk that is nearly full takes a part
                written += self._file.write(few[written:])
        except OSError as error:
            raise PoiseError(f"the plan cannot be kept in a temporary file: {error.strerror}; set TMPDIR") from None
        self._few.clear()

    def read(self, number: int) -> T:
        return self._decode(self._bytes(self.starts[number], self.starts[number + 1]))

    def read_on(self, first: int, stop: int) -> Iterator[T]:
        """Things that lie side by side."""
        starts = self.starts[first : stop + 1]
        data = self._bytes(starts[0], starts[-1])
        return (self._decode(data[a - starts[0] : b - starts[0]]) for a, b in pairwise(starts))

    def _bytes(self, start: int, end: int) -> bytes:
        if self._file is None:
            return bytes(self._few[start:end])
        return os.pread(self._file.fileno(), end - start, start)

    def __del__(self) -> None:
        if self._file:
            self._file.close()
