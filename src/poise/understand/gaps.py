"""The gaps between the chunks of answers: millions of them, in four bytes each, and their quantiles without a copy.

A gap is kept as whole nanoseconds. Those that do not fit into 32 bits (4.29 s and more) are few and stand apart.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
LONG = 2**32 - 1
"""Stands where a gap is long."""
AT_ONCE = 1 << 18


class Gaps:
    """All gaps of some answers in seconds, from the shortest to the longest; and how many each answer has."""

    def __init__(self, ns: NDArray[np.uint32], long_ns: Ints, counts: Ints) -> None:
        self._ns, self._long_ns = ns, long_ns
        self.counts = counts
        """Gaps of each answer, in the order of the answers."""
        self._known: dict[int, float] = {}

    def of(self, rows: NDArray[np.bool_]) -> Gaps:
        """The gaps of these answers alone."""
        if rows.all():
            return self
        inside = np.repeat(rows, self.counts)
        return Gaps(self._ns[inside], self._long_ns[inside[self._ns == LONG]], self.counts[rows])

    @staticmethod
    def joined(parts: Sequence[Gaps]) -> Gaps:
        """Those of several, one after the other."""
        return Gaps(*(np.concatenate(same) for same in zip(*((p._ns, p._long_ns, p.counts) for p in parts))))

    def _blocks(self) -> Iterator[NDArray[np.uint32]]:
        return (self._ns[start : start + AT_ONCE] for start in range(0, len(self._ns), AT_ONCE))

    def in_order(self) -> NDArray[np.float64]:
        """Answer after answer, as they were."""
        found = self._ns.astype(np.float64)
        found[self._ns == LONG] = self._long_ns
        return found / 1e9

    def over(self, limit_s: float) -> Ints:
        """How many gaps of each answer that has any are longer."""
        counts = self.counts[self.counts > 0]
        ends = np.cumsum(counts)
        found = np.zeros(len(counts), dtype=np.int64)
        row = start = seen = 0
        while row < len(counts):  # some answers at a time
            stop = max(row + 1, int(np.searchsorted(ends, start + AT_ONCE, side="right")))
            gaps = self._ns[start : ends[stop - 1]]
            over, long = gaps / 1e9 > limit_s, np.flatnonzero(gaps == LONG)
            over[long] = self._long_ns[seen : seen + len(long)] / 1e9 > limit_s
            found[row:stop] = np.add.reduceat(over, ends[row:stop] - counts[row:stop] - start, dtype=np.int64)
            row, start, seen = stop, int(ends[stop - 1]), seen + len(long)
        return found

    # -- by rank

    def __len__(self) -> int:
        return len(self._ns)

    def __getitem__(self, rank: int) -> float:
        """The gap of that rank, from 0: found by counting, the upper 16 bits first and then the lower ones."""
        rank = range(len(self))[rank]
        if rank not in self._known:
            self._known[rank] = self._find(rank) / 1e9
        return self._known[rank]

    def _find(self, rank: int) -> int:
        long = rank - (len(self) - len(self._long_ns))
        if long >= 0:
            return int(np.sort(self._long_ns)[long])
        upto = np.cumsum(self._upper)
        upper = int(np.searchsorted(upto, rank, side="right"))
        lower = np.zeros(1 << 16, dtype=np.int64)
        for block in self._blocks():
            lower += np.bincount(block[block >> 16 == upper] & 0xFFFF, minlength=1 << 16)
        before = int(upto[upper] - self._upper[upper])
        return upper << 16 | int(np.searchsorted(np.cumsum(lower), rank - before, side="right"))

    @cached_property
    def _upper(self) -> Ints:
        """How many gaps have which upper 16 bits."""
        found = np.zeros(1 << 16, dtype=np.int64)
        for block in self._blocks():
            found += np.bincount(block >> 16, minlength=1 << 16)
        return found


class Collected:
    """Gaps being gathered, answers after answers."""

    def __init__(self) -> None:
        self._ns, self._long_ns, self._counts = array("I"), array("q"), array("q")

    def add(self, ns: Ints, counts: Ints) -> None:
        """Gaps of some more answers; a clock that ran backwards gives none below 0."""
        short = np.clip(ns, 0, LONG)
        self._ns.frombytes(short.astype(np.uint32).tobytes())
        self._long_ns.frombytes(ns[short == LONG].tobytes())
        self._counts.frombytes(counts.tobytes())

    def gaps(self) -> Gaps:
        return Gaps(
            np.asarray(memoryview(self._ns), dtype=np.uint32),
            np.array(self._long_ns, dtype=np.int64),
            np.array(self._counts, dtype=np.int64),
        )
