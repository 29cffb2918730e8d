"""The gaps between the chunks of answers: millions of them, in four bytes each, and their quantiles without a copy.

A gap is kept as whole nanoseconds. Those that do not fit into 32 bits (4.29 s and more) are few and stand apart. Of
more than a quarter of a million the rest lies in a file without a name, which is read some at a time and goes with
the process: the answers to a long document have as many gaps as tokens.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import BinaryIO
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Held = NDArray[np.uint32]
LONG = 2**32 - 1
"""Stands where a gap is long."""
AT_ONCE = 1 << 18
MOST_HELD = 1 << 18


class Gaps:
    """All gaps of some answers in seconds, from the shortest to the longest; and how many each answer has."""

    def __init__(self) -> None:
        self._ns, self._long_ns, self._counts = _Numbers(), array("q"), array("q")
        self._known: dict[int, float] = {}

    def add(self, ns: Ints, counts: Ints) -> None:
        """Gaps of some more answers, in their order; a clock that ran backwards gives none below 0."""
        short = np.clip(ns, 0, LONG)
        self._add(short.astype(np.uint32), ns[short == LONG], counts)

    def _add(self, ns: Held, long_ns: Ints, counts: Ints) -> None:
        self._ns.extend(ns)
        self._long_ns.frombytes(long_ns.tobytes())
        self._counts.frombytes(counts.tobytes())

    @property
    def counts(self) -> Ints:
        """Gaps of each answer, in the order of the answers."""
        return np.array(self._counts, dtype=np.int64)

    def of(self, rows: NDArray[np.bool_]) -> Gaps:
        """The gaps of these answers alone."""
        return self if rows.all() else self.joined([self], [rows])

    @staticmethod
    def joined(parts: Sequence[Gaps], rows: Sequence[NDArray[np.bool_]] | None = None) -> Gaps:
        """Those of several, one after the other; of some `rows` of each."""
        found = Gaps()
        for number, part in enumerate(parts):
            for start, stop, counts, ns, long_ns in part._answers():
                wanted = np.ones(len(counts), dtype=bool) if rows is None else rows[number][start:stop]
                inside = np.repeat(wanted, counts)
                found._add(ns[inside], long_ns[inside[ns == LONG]], counts[wanted])
        return found

    def _answers(self) -> Iterator[tuple[int, int, Ints, Held, Ints]]:
        """Some answers at a time: the first, the one after the last, their counts, their gaps and the long of these."""
        counts = self.counts
        ends = np.cumsum(counts)
        row = start = seen = 0
        while row < len(ends):
            stop = max(row + 1, int(np.searchsorted(ends, start + AT_ONCE, side="right")))
            ns = self._ns.between(start, int(ends[stop - 1]))
            long = int((ns == LONG).sum())
            yield row, stop, counts[row:stop], ns, np.array(self._long_ns[seen : seen + long], dtype=np.int64)
            row, start, seen = stop, int(ends[stop - 1]), seen + long

    def _blocks(self) -> Iterator[Held]:
        return (self._ns.between(start, start + AT_ONCE) for start in range(0, len(self._ns), AT_ONCE))

    def in_order(self) -> NDArray[np.float64]:
        """Answer after answer, as they were."""
        found = self._ns.between(0, len(self._ns)).astype(np.float64)
        found[found == LONG] = self._long_ns
        return found / 1e9

    def over(self, limit_s: float) -> Ints:
        """How many gaps of each answer that has any are longer."""
        found = []
        for *_, counts, ns, long_ns in self._answers():
            over = ns / 1e9 > limit_s
            over[ns == LONG] = long_ns / 1e9 > limit_s
            some = counts > 0
            if some.any():
                found.append(np.add.reduceat(over, (np.cumsum(counts) - counts)[some], dtype=np.int64))
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

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
            return sorted(self._long_ns)[long]
        upto = np.cumsum(self._upper)
        upper = int(np.searchsorted(upto, rank, side="right"))
        lower = np.zeros(1 << 16, dtype=np.int64)
        for block in self._blocks():
            lower += np.bincount(block[block >> 16 == upper] & 0xFFFF, minlength=1 << 16)
        before = int(upto[upper] - self._upper[upper])
        return upper << 16 | int(np.searchsorted(np.cumsum(lower), rank - before, side="right"))

    @cached_property
    def _upper(self) -> Ints:
        """How many gaps have which upper 16 bits; asked for once all are there."""
        found = np.zeros(1 << 16, dtype=np.int64)
        for block in self._blocks():
            found += np.bincount(block >> 16, minlength=1 << 16)
        return found


class _Numbers:
    """Numbers of 32 bits in their order: the last ones held, those before in a file."""

    def __init__(self) -> None:
        self._held = array("I")
        self._filed = 0
        self._file: BinaryIO | None = None
        self._full = False

    def extend(self, numbers: Held) -> None:
        self._held.frombytes(numbers.tobytes())
        if len(self._held) < MOST_HELD or self._full:
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed below
                finalize(self, self._file.close)
            self._full = os.pwrite(self._file.fileno(), self._held, 4 * self._filed) < 4 * len(self._held)
        except OSError:
            self._full = True
        if self._full:  # no room there: then they are held after all
            return
        self._filed += len(self._held)
        self._held = array("I")

    def __len__(self) -> int:
        return self._filed + len(self._held)

    def between(self, start: int, stop: int) -> Held:
        """Those from `start` on, before `stop`."""
        held = np.array(self._held[max(0, start - self._filed) : max(0, stop - self._filed)], dtype=np.uint32)
        if self._file is None or start >= self._filed:
            return held
        size = 4 * (min(stop, self._filed) - start)
        filed = np.frombuffer(os.pread(self._file.fileno(), size, 4 * start), dtype=np.uint32)
        return np.concatenate([filed, held]) if len(held) else filed
