"""A cell's records read in one pass: an entry per attempt, and the chunks of all of them end to end.

Nothing is computed per chunk in Python here, so that a hundred thousand answers are read in seconds.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

from msgspec import Struct, field

from poise.store.run import CellFolder
from poise.types import Batch, Failure, Timeline, UsageError, visible_text

NO_TIME = -(2**63)
"""Stands for "no clock reading" in columns of 64-bit integers."""
EMPTY, VISIBLE, REASONING = 0, 1, 2


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


class Attempts:
    """Columns being filled, one entry per attempt, and the chunks of all of them end to end."""

    def __init__(self) -> None:
        self.request: list[str] = []
        self.sample: list[str] = []
        self.text: list[str] = []
        self.options: list[list[list[float]] | None] = []
        self.failure: list[str | None] = []
        self.finish: list[str | None] = []
        self.source: list[str | None] = []
        self.batch: list[str | None] = []
        self.draw, self.part, self.attempt, self.segment = array("q"), array("q"), array("q"), array("q")
        self.due, self.sent, self.done = array("q"), array("q"), array("q")
        self.batch_ns, self.batch_size, self.batch_end = array("q"), array("q"), array("q")
        self.n_out, self.n_prompt = array("d"), array("d")
        self.chars, self.count = array("q"), array("q")
        self.deltas = array("q")
        self.kinds = bytearray()
        self.cold: list[float] = []

    def add(self, line: Line) -> None:
        """Append one record; nothing is computed per chunk here."""
        timeline, pieces, batch = line.timeline, line.pieces, line.batch
        self.request.append(line.request_id)
        self.sample.append(line.sample_id)
        self.options.append(line.option_logprobs)
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
        self.n_prompt.append(_count((line.usage or {}).get("prompt_tokens")))
        deltas = timeline.chunk_deltas_ns if timeline is not None and line.option_logprobs is None else []
        text = visible_text(pieces, line.piece_kinds)
        self.chars.append(len(text) if line.piece_kinds is None else sum(map(len, pieces)))
        self.text.append(text)
        if len(deltas) > len(pieces):
            deltas = deltas[: len(pieces)]
        self.count.append(len(deltas))
        self.deltas.extend(deltas)
        self.kinds += _kinds(pieces[: len(deltas)] if len(deltas) < len(pieces) else pieces, line.piece_kinds)


def read(folder: CellFolder) -> Attempts:
    """All measured attempts of a cell folder, in order of writing."""
    attempts = Attempts()
    try:
        for line in folder.records(Line):
            if line.phase == "measure":
                attempts.add(line)
            elif line.phase == "cold" and line.status == "ok" and line.timeline is not None:
                attempts.cold.append(max(sum(line.timeline.chunk_deltas_ns), line.timeline.done_ns) / 1e9)
    except OverflowError:
        raise UsageError(f"{folder.path}: a number is out of range; the file is damaged") from None
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
