"""Columns of which little is held: what is alike in all rows once, words as numbers, whole numbers in few bytes.

A cell of a hundred thousand requests, or of a long document's windows, has some thirty columns; in most of them every
row says the same.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]


class Numbers:
    """A column of numbers being filled: `typecode` as in `array`. As long as all are alike one of them is held."""

    def __init__(self, typecode: str) -> None:
        self._dtype = np.dtype(typecode)
        self._one: Any = None
        self._alike = 0
        self._many: array[Any] | None = None
        self.append: Callable[[float], None] = self._compared
        """Add a number; the array's own from the first that differs on."""

    def _compared(self, value: float) -> None:
        if not self._alike:
            self._one, self._alike = array(self._dtype.char, [value])[0], 1  # OverflowError as for any later one
        elif value == self._one or (math.isnan(value) and math.isnan(self._one)):
            self._alike += 1
        else:
            self._spread().append(value)

    def extend(self, values: NDArray[Any]) -> None:
        """Many at once, of the column's own type."""
        if not len(values):
            return
        if not self._alike:
            self._one = values[0].item()
        if self._many is None and _all_are(values, self._one):
            self._alike += len(values)
        else:
            self._spread().frombytes(values.astype(self._dtype, copy=False).tobytes())

    def _spread(self) -> array[Any]:
        """All of them one by one, from the first that differs on."""
        if self._many is None:
            self._many = array(self._dtype.char, [self._one] if self._alike else []) * self._alike
            self.append = self._many.append
        return self._many

    def __len__(self) -> int:
        return self._alike if self._many is None else len(self._many)

    def view(self) -> NDArray[Any]:
        """The numbers as they are held, not to be written to; nothing can be added to them any more."""
        if self._many is not None:
            return np.frombuffer(self._many, dtype=self._dtype)
        return np.broadcast_to(np.array(self._one if self._alike else 0, dtype=self._dtype), self._alike)


def lean(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers; where all are alike one of them, shown in every row (not to be written to)."""
    if len(values) > 1 and values.strides != (0,) and _all_are(values, values[0]):
        return np.broadcast_to(values[0].copy(), len(values))
    return values


def _all_are(values: NDArray[Any], one: Any) -> bool:
    return bool((np.isnan(values) if math.isnan(one) else values == one).all())


class Words(Sequence[str | None]):  # noqa: PLW1641 (compared, as lists are, and no key either)
    """A column of words of which there are few different ones."""

    def __init__(self, words: Iterable[str | None] = ()) -> None:
        self._number: dict[str | None, int] = {}
        self._words: list[str | None] = []
        self._filled = Numbers("i")
        for word in words:
            self.append(word)

    def append(self, word: str | None) -> None:
        number = self._number.get(word)
        if number is None:
            number = self._number[word] = len(self._words)
            self._words.append(word)
        self._filled.append(number)

    @classmethod
    def _of(cls, words: list[str | None], numbers: Codes) -> Words:
        found = cls()
        found._words, found._number = words, {word: i for i, word in enumerate(words)}
        found._filled.extend(numbers)
        return found

    def picked(self, rows: NDArray[np.int64]) -> Words:
        """Those of these rows."""
        return self._of(list(self._words), self._filled.view()[rows])

    @staticmethod
    def joined(parts: Iterable[Words]) -> Words:
        """Those of several, one after the other."""
        found = Words()
        for part in parts:
            numbers = [found._number.setdefault(word, len(found._number)) for word in part._words]
            found._words = list(found._number)
            if len(part):
                found._filled.extend(np.array(numbers, dtype=np.int32)[part._filled.view()])
        return found

    def among(self, *words: str | None) -> NDArray[np.bool_]:
        """In which rows one of these stands."""
        wanted = [number for number, word in enumerate(self._words) if word in words]
        return np.isin(self._filled.view(), wanted)

    def __len__(self) -> int:
        return len(self._filled)

    def __iter__(self) -> Iterator[str | None]:
        if len(self._words) == 1:
            return repeat(self._words[0], len(self))
        return map(self._words.__getitem__, self._filled.view().tolist())

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> Words: ...
    def __getitem__(self, row: int | slice) -> str | Words | None:
        if isinstance(row, slice):
            return self.picked(np.arange(len(self))[row])
        return self._words[int(self._filled.view()[row])]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)


class Names(Sequence[str]):  # noqa: PLW1641 (as above)
    """A column of names, most of them different ones: their letters end to end."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._letters, self._ends = bytearray(), array("Q")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        self._letters += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._letters))

    def picked(self, rows: Iterable[int]) -> Names:
        """Those of these rows."""
        return Names(self[row] for row in rows)

    @staticmethod
    def joined(parts: Iterable[Names]) -> Names:
        """Those of several, one after the other."""
        return Names(name for part in parts for name in part)

    @cached_property
    def distinct(self) -> bool:
        """Whether no name stands twice; asked for once all are there."""
        hashes = np.fromiter(map(hash, self), np.int64, len(self))
        hashes.sort()
        return not (hashes[1:] == hashes[:-1]).any() or len(set(self)) == len(self)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._letters[start:end].decode("utf-8", "surrogatepass")
            start = end

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Names: ...
    def __getitem__(self, row: int | slice) -> str | Names:
        if isinstance(row, slice):
            return self.picked(range(*row.indices(len(self))))
        end = self._ends[row]
        row = row % len(self)
        return self._letters[self._ends[row - 1] if row else 0 : end].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)


class Counts:
    """Rows of equally many numbers being filled: whole ones, as counts are, in as few bytes as the largest needs."""

    def __init__(self) -> None:
        self._new = array("d")
        self._packed: list[NDArray[Any]] = []
        self.width = 0
        """Numbers a row; 0 = of no row yet."""
        self.even = True
        """Whether all rows had as many."""

    def append(self, row: Sequence[float]) -> None:
        self.width = self.width or len(row)
        self.even = self.even and len(row) == self.width
        if self.even:
            self._new.extend(row)
        if len(self._new) >= _PACK_AT:
            self._pack()

    def _pack(self) -> None:
        if self._new:
            rows = np.frombuffer(self._new).reshape(-1, self.width)
            whole = next((t for t in _WHOLE if (_fits(rows, t))), None)
            self._packed.append(rows.astype(whole or np.float64))
            self._new = array("d")

    def rows(self) -> NDArray[Any]:
        """All of them, [rows, width], of the smallest type that holds each exactly."""
        self._pack()
        return np.concatenate(self._packed) if self._packed else np.zeros((0, self.width))


_PACK_AT = 1 << 15
_WHOLE = (np.uint8, np.uint16, np.uint32)


def _fits(rows: NDArray[np.float64], whole: type[np.unsignedinteger[Any]]) -> bool:
    within = (rows >= 0) & (rows <= np.iinfo(whole).max)
    return bool(within.all() and (rows == np.trunc(rows)).all())
