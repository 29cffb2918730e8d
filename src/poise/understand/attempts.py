"""A cell's records read in one pass: an entry per attempt, its chunks' times, and the gaps between them end to end.

Nothing is computed per chunk in Python here, so that a hundred thousand answers are read in seconds; and of the texts
only the places are kept, so that they are read in little memory.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from poise.store.lines import Noted, Place
from poise.store.run import CellFolder
from poise.types import Batch, Failure, Timeline, UsageError, visible_text
from poise.understand.gaps import Gaps
from poise.understand.lean import Names, Numbers, Words

NO_TIME = -(2**63)
"""Stands for "no clock reading" in columns of 64-bit integers."""
EMPTY, VISIBLE, REASONING = 0, 1, 2
SECOND = 1e9
_CHUNKS_AT_ONCE = 1 << 15


class Line(Struct, gc=False):
    """The fields of a record that are read here; the rest is skipped while decoding."""

    request_id: str
    sample_id: str
    status: str
    phase: str = "measure"
    draw: int = 0
    part: int = 0
    attempt: int = 1
    segment: int = 0
    due_ns: int | None = None
    timeline: Timeline | None = None
    pieces: list[str] = field(default_factory=list)
    piece_kinds: str | None = None
    output_tokens: int | None = None
    tokens_by: str | None = None
    option_logprobs: list[list[float]] | None = None
    batch: Batch | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    error: Failure | None = None


class Said(Struct, gc=False):
    """The text of a record."""

    pieces: list[str] = field(default_factory=list)
    piece_kinds: str | None = None


def _visible(said: Said) -> str:
    return visible_text(said.pieces, said.piece_kinds)


class Attempts:
    """Columns being filled, one entry per attempt, and the gaps between the chunks of all of them end to end."""

    def __init__(self) -> None:
        self.request, self._sample = Names(), Names()
        self._asks_another = False
        self.text: Noted[str] = Noted(Said, _visible)
        self.failure, self.finish, self.source, self.batch = Words(), Words(), Words(), Words()
        self.draw, self.part, self.attempt, self.segment = Numbers("q"), Numbers("q"), Numbers("q"), Numbers("q")
        self.due, self.sent, self.done = Numbers("q"), Numbers("q"), Numbers("q")
        self.batch_ns, self.batch_size, self.batch_end = Numbers("q"), Numbers("q"), Numbers("q")
        self.n_out, self.n_prompt, self.n_cached = Numbers("d"), Numbers("d"), Numbers("d")
        self.chars, self.count = Numbers("q"), Numbers("q")
        self.first, self.first_visible, self.last = Numbers("d"), Numbers("d"), Numbers("d")
        """First text, first visible text and last text, in seconds after `sent`; NaN where there is none."""
        self.with_text = Numbers("q")
        """Chunks with text of each attempt."""
        self.gaps = Gaps()
        self.cold: list[float] = []
        self._deltas, self._counts, self._kinds = array("q"), array("q"), bytearray()

    def add(self, line: Line, place: Place) -> None:
        """Append one record; nothing is computed per chunk here."""
        timeline, pieces, batch = line.timeline, line.pieces, line.batch
        self.request.append(line.request_id)
        self._ask(line.sample_id, line.request_id)
        self.failure.append(_failure(line))
        self.finish.append(line.finish_reason)
        self.draw.append(line.draw)
        self.part.append(line.part)
        self.attempt.append(line.attempt)
        self.segment.append(line.segment)
        self.due.append(NO_TIME if line.due_ns is None else line.due_ns)
        self.sent.append(NO_TIME if timeline is None else timeline.sent_ns)
        self.done.append(0 if timeline is None else timeline.done_ns)
        self.batch.append(batch.id if batch else None)
        self.batch_size.append(batch.size if batch else 0)
        self.batch_ns.append(batch.end_ns - batch.start_ns if batch else 0)
        self.batch_end.append(batch.end_ns if batch else NO_TIME)
        n, source = output_tokens(line.output_tokens, line.usage, line.tokens_by)
        self.n_out.append(n)
        self.source.append(source)
        usage = line.usage or {}
        self.n_prompt.append(_count(usage.get("prompt_tokens")))
        details = usage.get("prompt_tokens_details")
        self.n_cached.append(_count(details.get("cached_tokens")) if isinstance(details, dict) else math.nan)
        deltas = timeline.chunk_deltas_ns if timeline is not None and line.option_logprobs is None else []
        text = visible_text(pieces, line.piece_kinds)
        self.chars.append(len(text) if line.piece_kinds is None else sum(map(len, pieces)))
        self.text.note(place)
        if len(deltas) > len(pieces):
            deltas = deltas[: len(pieces)]
        self.count.append(len(deltas))
        self._counts.append(len(deltas))
        self._deltas.extend(deltas)
        self._kinds += _kinds(pieces[: len(deltas)] if len(deltas) < len(pieces) else pieces, line.piece_kinds)
        if len(self._deltas) >= _CHUNKS_AT_ONCE:
            self.settle()

    def _ask(self, sample: str, request: str) -> None:
        """A request that has its sample's name, as most do, needs no second one."""
        if sample != request and not self._asks_another:
            self._asks_another = True
            self._sample = self.request[:-1]
        if self._asks_another:
            self._sample.append(sample)

    @property
    def sample(self) -> Names:
        """What each asks."""
        return self._sample if self._asks_another else self.request

    def settle(self) -> None:
        """Turn the chunks that were added since into times and gaps."""
        counts = np.array(self._counts, dtype=np.int64)
        kinds, at = np.frombuffer(bytes(self._kinds), dtype=np.uint8), np.cumsum(np.array(self._deltas, dtype=np.int64))
        ends = np.cumsum(counts)
        base = np.where(ends - counts > 0, at[np.maximum(ends - counts, 1) - 1], 0) if len(at) else np.zeros_like(ends)
        at -= np.repeat(base, counts)
        _, _, first_visible, _ = _only(kinds == VISIBLE, at, counts)
        times, per_row, first, last = _only(kinds != EMPTY, at, counts)
        inside = np.ones(len(times), dtype=bool)
        inside[(np.cumsum(per_row) - per_row)[per_row > 0]] = False
        self.gaps.add(np.diff(times, prepend=0)[inside], np.maximum(per_row - 1, 0))
        self.first.extend(first)
        self.first_visible.extend(first_visible)
        self.last.extend(last)
        self.with_text.extend(per_row)
        del self._deltas[:], self._counts[:]
        self._kinds.clear()


def _only(
    mask: NDArray[np.bool_], at: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Chunks of `mask`: their times, their number per row, and each row's first and last of them in seconds."""
    if not mask.all():
        at, counts = at[mask], np.bincount(np.repeat(np.arange(len(counts)), counts)[mask], minlength=len(counts))
    ends = np.cumsum(counts)
    first, last = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    some = counts > 0
    first[some] = at[(ends - counts)[some]] / SECOND
    last[some] = at[ends[some] - 1] / SECOND
    return at, counts, first, last


def read(folder: CellFolder) -> Attempts:
    """All measured attempts of a cell folder, in order of writing."""
    attempts = Attempts()
    try:
        for line, place in folder.located(Line):
            if line.phase == "measure":
                attempts.add(line, place)
            elif line.phase == "cold" and line.status == "ok" and line.timeline is not None:
                attempts.cold.append(max(sum(line.timeline.chunk_deltas_ns), line.timeline.done_ns) / 1e9)
    except OverflowError:
        raise UsageError(f"{folder.path}: a number is out of range; the file is damaged") from None
    attempts.settle()
    return attempts


def _kinds(pieces: list[str], letters: str | None) -> bytes:
    """One byte a piece: empty, visible or reasoning."""
    if letters is None:
        return bytes(map(bool, pieces)) if "" in pieces else b"\x01" * len(pieces)
    kinds = [(REASONING if k == "r" else VISIBLE) if p else EMPTY for p, k in zip(pieces, letters)]
    return bytes(kinds + [int(bool(p)) for p in pieces[len(kinds) :]])


def _failure(line: Line) -> str | None:
    if line.status == "ok":
        return None
    if line.status == "error" and line.error is not None:
        return line.error.kind
    return line.status


def output_tokens(own: int | None, usage: dict[str, Any] | None, by: str | None = None) -> tuple[float, str | None]:
    """Output tokens and who counted them: the engine, the server's usage, the tokenizer; never the number of chunks."""
    if own is not None:
        return float(own), by or "engine"
    counted = _count((usage or {}).get("completion_tokens"))
    return (counted, None if math.isnan(counted) else "usage")


def _count(value: Any) -> float:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else math.nan
