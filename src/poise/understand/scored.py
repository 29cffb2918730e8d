"""The scores of a cell's answers: kept line by line in `derived/scores/`, held as columns.

Of what was extracted only the places of the lines are held; an answer is read again when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from poise.protocols import Metric
from poise.store.files import write_atomic
from poise.store.lines import Noted, Place
from poise.types import Score
from poise.understand.lean import Counts, Numbers, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Answers = Sequence[str | None]


class Scored(Struct, frozen=True, omit_defaults=True):
    """One line of the cache: what was taken as the answer of a request, and each metric's score of it."""

    request_id: str
    answer: str | None
    scores: dict[str, Score] = field(default_factory=dict)


class _Header(Struct, frozen=True):
    signature: list[str]


class _Answer(Struct, gc=False):
    answer: str | None


@dataclass(frozen=True, slots=True)
class Values:
    """One metric over the rows of a cell."""

    name: str
    metric: Metric
    values: Floats
    """NaN = unscorable; failed requests hold 0."""
    stats: NDArray[Any] | None
    """[rows, k] sufficient statistics, where the metric gives as many for every item; of whole numbers perhaps of few
    bits, so that `sums` adds them up."""
    reasons: Sequence[str | None]
    items: list[Any] | None = None
    """What a metric that is no sum makes its corpus value of; None where an answer gives nothing to it."""

    @property
    def reduce(self) -> Callable[[Any], Any] | None:
        """From summed statistics to the corpus value; None = the corpus value is the mean."""
        found: Callable[[Any], Any] | None = getattr(self.metric, "reduce", None)
        return found if self.stats is not None else None

    def sums(self, units: Ints, count: int, inside: NDArray[np.bool_] | None = None) -> Floats:
        """Statistics of the rows that have a value (of those `inside`) over each of `count` units: [count, k]."""
        assert self.stats is not None
        known = ~np.isnan(self.values) if inside is None else inside & ~np.isnan(self.values)
        summed = [np.bincount(units, weights=column * known, minlength=count) for column in self.stats.T]
        return np.stack(summed, axis=1)

    @property
    def aggregate(self) -> Callable[[list[Any]], float] | None:
        """From the items to the corpus value, where that is no sum."""
        found: Callable[[list[Any]], float] | None = getattr(self.metric, "aggregate", None)
        return found

    @property
    def scale(self) -> float:
        return float(getattr(self.metric, "scale", 1.0))

    @property
    def q(self) -> Floats:
        """Values as marks between 0 and 1."""
        mark = getattr(self.metric, "mark", None)
        return np.clip(mark(self.values) if mark else self.values / self.scale, 0.0, 1.0)


class Table:
    """The lines of a cell as columns, taken in one after the other."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._unfound = Numbers("b")
        self._noted: Noted[str | None] = Noted(_Answer, lambda line: line.answer)
        self._held: list[str | None] = []

    @classmethod
    def of(cls, lines: Iterable[Scored]) -> Table:
        """Of lines that are kept nowhere."""
        table = cls()
        for line in lines:
            table.add(line)
        return table

    def add(self, line: Scored, place: Place | None = None) -> None:
        """The next line, and where it is kept; without a place its answer is held."""
        for name, score in line.scores.items():
            if name not in self._columns:
                self._columns[name] = _Column()
            self._columns[name].add(len(self._unfound), score)
        self._unfound.append(line.answer is None)
        if place is None:
            self._held.append(line.answer)
        else:
            self._noted.note(place)

    @property
    def names(self) -> list[str]:
        """The metrics that there are scores of, in the order of their first."""
        return list(self._columns)

    @property
    def answers(self) -> Answers:
        return self._held or self._noted

    @property
    def unfound(self) -> NDArray[np.bool_]:
        """Where no answer was extracted."""
        return self._unfound.view().astype(bool)

    def values(self, name: str, metric: Metric) -> Values:
        """One metric's column; rows without a score have the reason."""
        return self._columns.get(name, _Column()).values(name, metric, len(self._unfound))


class _Column:
    """One metric's scores, so far."""

    def __init__(self) -> None:
        self._values, self._reasons, self._items = Numbers("d"), Words(), dict[int, Any]()
        self._stats, self._with_stats = Counts(), Numbers("b")

    def add(self, row: int, score: Score) -> None:
        self._fill(row)
        self._values.append(math.nan if score.value is None else score.value)
        self._reasons.append(score.reason)
        self._with_stats.append(bool(score.stats))
        if score.item is not None:
            self._items[row] = score.item
        if score.stats:
            self._stats.append(score.stats)

    def _fill(self, rows: int) -> None:
        """Rows that no score was given for."""
        for _ in range(rows - len(self._values)):
            self._values.append(math.nan)
            self._reasons.append("not scored")
            self._with_stats.append(False)

    def values(self, name: str, metric: Metric, rows: int) -> Values:
        self._fill(rows)
        stats = None
        if self._stats.width and self._stats.even:
            stats = given = self._stats.rows()
            if len(given) < rows:
                stats = np.zeros((rows, given.shape[1]), dtype=given.dtype)
                stats[self._with_stats.view().astype(bool)] = given
        items = [self._items.get(row) for row in range(rows)] if self._items else None
        return Values(name, metric, self._values.view(), stats, self._reasons, items)


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several cells as one."""
    noted = [part for part in parts if isinstance(part, Noted)]
    if len(noted) == len(parts):
        return noted[0].joined(noted[1:])
    return [answer for part in parts for answer in part]


def read(path: Path, signature: list[str], requests: Sequence[str]) -> Table | None:
    """What was kept for these requests; None where nothing was, it is stale, or anything about it is odd."""
    decode, table = msgspec.json.Decoder(Scored).decode, Table()
    try:
        with path.open("rb") as file:
            head = file.readline()
            if msgspec.json.decode(head, type=_Header).signature != signature:
                return None
            end = len(head)
            for row, line in enumerate(file):
                start, end = end, end + len(line)
                scored = decode(line)
                if scored.request_id != requests[row]:
                    return None
                table.add(scored, Place(path, start, end))
    except (OSError, ValueError, IndexError, msgspec.DecodeError):
        return None
    return table if len(table.unfound) == len(requests) else None


def write(path: Path, signature: list[str], lines: Iterable[Scored]) -> Table:
    """Keep the lines as they come, and hold them as columns. OSError, PoiseError: they cannot be kept here."""
    encode, table = msgspec.json.Encoder().encode, Table()

    def encoded() -> Iterator[bytes]:
        head = encode(_Header(signature)) + b"\n"
        yield head
        end = len(head)
        for scored in lines:
            line = encode(scored) + b"\n"
            start, end = end, end + len(line)
            table.add(scored, Place(path, start, end))
            yield line

    write_atomic(path, encoded())
    return table
