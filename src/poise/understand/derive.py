"""Times, token counts and texts of a cell's requests as columns, in one pass over its records.

METRICS §1: t0 = sent, t1 = first non-empty text of any kind, tn = last non-empty text, n = output tokens;
ttft = t1 - t0, tpot = (tn - t1)/(n - 1), e2e = tn - t0 (= done where nothing was stamped, or for choices),
wait = t0 - due, response = tn - due, gaps = what lies between successive chunks that carried text.

Only the phase `measure` counts. Latencies come from the first attempt, texts from the last, the balanced score's
time runs from the first attempt's start to the last one's end. A request that was run again in a later segment
(`--retry-failed`, a static batch that was cut) starts over: what earlier segments tried is only counted.

Every turn of a conversation is a row with latencies of its own; the balanced score's time is the whole
conversation's, the sum over its turns, on each of them (infinite where one failed).
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poise.store.lines import Noted
from poise.store.run import CellFolder
from poise.types import Failure
from poise.understand.attempts import NO_TIME, SECOND, Attempts, read
from poise.understand.gaps import Gaps
from poise.understand.lean import Names, Words, lean

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER_SENT = ("dropped", "skipped")


@dataclass(frozen=True, slots=True)
class Columns:
    """One row per request or turn (its attempts joined), of one cell folder or of several repeats joined.

    Times are seconds, NaN where there is none; a timeout's latencies are +inf. Text columns are lists.
    """

    request: Names
    sample: Names
    text: Noted[str]
    """Visible text of the last attempt, read from its record when it is asked for."""
    options: Noted[list[list[float]] | None]
    """Choice: log-probabilities of every token of every continuation, read when they are asked for."""
    failure: Words
    """Kind of failure of the last attempt, None = answered."""
    finish: Words
    repeat: Ints
    draw: Ints
    part: Ints
    """Turn of a conversation, from 0."""
    segment: Ints
    attempts: Ints
    """All attempts, those of earlier segments included."""
    reruns: Ints
    """Attempts in earlier segments, which were replaced."""
    ttft_s: Floats
    ttfvt_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    wait_s: Floats
    response_s: Floats
    spent_s: Floats
    """First attempt sent (open loop: due) to the last attempt's last text, over all turns: the balanced score's."""
    sent_ns: Ints
    """Clock reading of the first attempt; the smallest integer where none was sent."""
    due_ns: Ints
    """When the load wanted the first attempt sent; the smallest integer where it had no due time."""
    batch: Words
    """The static batch of each row; None = not of one."""
    batch_s: Floats
    batch_size: Ints
    """0 = not of a static batch."""
    n_out: Floats
    """Output tokens of the last attempt; NaN = not measurable."""
    n_prompt: Floats
    n_cached: Floats
    """Prompt tokens that the server took from a cache, by its own account; NaN = it says nothing of it."""
    n_source: Words
    """`engine`, `usage` or None."""
    chars: Ints
    """Characters of the answer, visible and reasoning."""
    chunks: Ints
    """Stamped chunks of the first attempt, with text or without."""
    gaps: Gaps
    """Between the chunks with text of first attempts that were answered or timed out."""
    cold_s: Floats
    windows: list[Window]

    @property
    def ok(self) -> NDArray[np.bool_]:
        return self.failure.among(None)

    @property
    def streamed(self) -> bool:
        """Whether any answer came in two or more pieces, or none was long enough to; else there is no first token."""
        return bool((self.chunks >= 2).any()) or bool((self.n_out[self.ok] < 2).all())

    def __len__(self) -> int:
        return len(self.request)

    def why(self, row: int) -> str:
        """What the last attempt's record says of its failure; empty where it says nothing."""
        error = _ERROR.decode(self.text.line(row)).error
        return error.message if error else ""


class _Failed(Struct):
    error: Failure | None = None


class _Ranked(Struct, gc=False):
    option_logprobs: list[list[float]] | None = None


_ERROR = msgspec.json.Decoder(_Failed)


@dataclass(frozen=True, slots=True)
class Window:
    """The measured stretch of one segment: first `sent` to last `done`, clock readings in ns."""

    repeat: int
    segment: int
    start_ns: int
    end_ns: int
    sent_ns: Ints
    """When each attempt left, retries included, in order of leaving; what was dropped never left."""
    ended_ns: Ints
    """When the same attempts were done."""

    @property
    def wall_s(self) -> float:
        return (self.end_ns - self.start_ns) / SECOND


def columns(folder: CellFolder) -> Columns:
    """All measured requests of one cell folder. Memory: about 0.2 kB a request, and 1 MB for chunks."""
    return _join_attempts(read(folder), folder.cell.repeat)


def pooled(parts: Sequence[Columns]) -> Columns:
    """Several repeats of a cell as one."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for name in (f.name for f in dataclasses.fields(Columns)):
        values = [getattr(p, name) for p in parts]
        if isinstance(values[0], np.ndarray):
            joined[name] = lean(np.concatenate(values))
        elif isinstance(values[0], Words | Names):
            joined[name] = type(values[0]).joined(values)
        elif isinstance(values[0], Noted):
            joined[name] = values[0].joined(values[1:])
        elif isinstance(values[0], Gaps):
            joined[name] = Gaps.joined(values)
        else:
            joined[name] = [v for part in values for v in part]
    return Columns(**joined)


# ---------------------------------------------------------------- times


def _join_attempts(a: Attempts, repeat: int) -> Columns:
    first, last, attempts, reruns = _rows(a)
    # without retries a row is an attempt: then nothing is copied
    at_first, at_last = (_Rows(rows, len(rows) == len(a.request)) for rows in (first, last))
    first_text, last_text = a.first.view(), a.last.view()
    with_text = a.with_text.view()
    failed_first = at_first.words(a.failure)
    answered, timed_out = failed_first.among(None), failed_first.among("timeout")

    sent, due, done = a.sent.view(), a.due.view(), a.done.view()
    took = np.where(np.isnan(last_text), np.where(done > 0, done / SECOND, np.nan), last_text)
    batch_end = a.batch_end.view()
    unstamped = np.isnan(took) & (batch_end != NO_TIME) & (sent != NO_TIME)
    took[unstamped] = (batch_end[unstamped] - sent[unstamped]) / SECOND
    took[sent == NO_TIME] = np.nan

    def latency(values: Floats) -> Floats:
        picked = np.where(answered, at_first.values(values), np.nan)
        picked[timed_out] = np.inf
        return lean(picked)

    n_out = a.n_out.view()
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot = np.where((n_out >= 2) & (with_text >= 2), (last_text - first_text) / (n_out - 1), np.nan)
    tpot_first = latency(tpot) if not np.isnan(tpot).all() else _all_nan(len(first))
    started = ~a.failure.among(*NEVER_SENT)
    has_due = (due != NO_TIME) & (sent != NO_TIME) & started
    wait = np.where(has_due, (sent - np.where(has_due, due, 0)) / SECOND, np.nan)
    e2e = latency(took)
    between = np.where(first == last, 0.0, (at_last.values(sent) - at_first.values(sent)) / SECOND)
    spent = between + at_last.values(took) + np.where(np.isnan(at_first.values(wait)), 0.0, at_first.values(wait))
    part = at_first.values(a.part.view())
    if part.any():
        draws = a.draw.view()
        spent = _whole(spent, [(a.sample[i], int(draws[i])) for i in first], at_last.words(a.failure))

    used = np.zeros(len(a.request), dtype=bool)
    used[first[answered | timed_out]] = True
    streamed = not np.isnan(first_text).all()
    ttft = latency(first_text) if streamed else _all_nan(len(first))
    ttfvt = latency(a.first_visible.view()) if streamed else ttft
    request = at_first.names(a.request)
    text = a.text if at_last.all else a.text.picked(last)
    return Columns(
        request=request,
        sample=request if a.sample is a.request else at_first.names(a.sample),
        text=text,
        options=text.shown(_Ranked, lambda line: line.option_logprobs),
        failure=at_last.words(a.failure),
        finish=at_last.words(a.finish),
        repeat=lean(np.full(len(first), repeat, dtype=np.int64)),
        draw=at_first.values(a.draw.view()),
        part=part,
        segment=at_first.values(a.segment.view()),
        attempts=lean(attempts),
        reruns=lean(reruns),
        ttft_s=ttft,
        ttfvt_s=ttft if np.array_equal(ttft, ttfvt, equal_nan=True) else ttfvt,
        tpot_s=tpot_first,
        e2e_s=e2e,
        wait_s=lean(at_first.values(wait)),
        response_s=lean(np.where(at_first.values(has_due), e2e + at_first.values(wait), np.nan)),
        spent_s=e2e if np.array_equal(spent, e2e, equal_nan=True) else spent,
        sent_ns=at_first.values(sent),
        due_ns=at_first.values(due),
        batch=at_first.words(a.batch),
        batch_s=lean(at_first.values(a.batch_ns.view()) / SECOND),
        batch_size=at_first.values(a.batch_size.view()),
        n_out=at_last.values(n_out),
        n_prompt=at_last.values(a.n_prompt.view()),
        n_cached=at_last.values(a.n_cached.view()),
        n_source=at_last.words(a.source),
        chars=at_last.values(a.chars.view()),
        chunks=at_first.values(a.count.view()),
        gaps=a.gaps.of(used),
        cold_s=np.array(a.cold, dtype=float),
        windows=_windows(a, sent, done, took, repeat),
    )


class _Rows:
    """Which attempt each row shows; `all` of them, one by one, where none was made again."""

    def __init__(self, rows: Ints, all: bool) -> None:
        self._rows, self.all = rows, all

    def values(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self.all else column[self._rows]

    def words(self, column: Words) -> Words:
        return column if self.all else column.picked(self._rows)

    def names(self, column: Names) -> Names:
        return column if self.all else column.picked(self._rows)


def _all_nan(rows: int) -> Floats:
    return np.broadcast_to(np.nan, rows)


def _whole(spent: Floats, conversation: Sequence[tuple[str, int]], failure: Words) -> Floats:
    """For every turn the time of its conversation; one that broke off never ended."""
    index = {key: i for i, key in enumerate(dict.fromkeys(conversation))}
    at = np.array([index[key] for key in conversation], dtype=np.int64)
    times = np.where(failure.among(None), spent, np.inf)
    return np.asarray(np.bincount(at, weights=times)[at], dtype=np.float64)


def _rows(a: Attempts) -> tuple[Ints, Ints, Ints, Ints]:
    """For each request, in order of first writing: its first and last attempt in the last segment that tried it,
    the number of all attempts, and of those in earlier segments."""
    if a.request.distinct:  # nothing was tried again
        each = np.arange(len(a.request))
        return each, each, np.ones_like(each), np.zeros_like(each)
    row_of: dict[str, int] = {}
    first, last, number, replaced = array("q"), array("q"), array("q"), array("q")
    segments, attempts = a.segment.view(), a.attempt.view()
    for i, request in enumerate(a.request):
        row = row_of.setdefault(request, len(row_of))
        if row == len(first):
            for column, value in ((first, i), (last, i), (number, 1), (replaced, 0)):
                column.append(value)
            continue
        number[row] += 1
        if segments[i] != segments[last[row]]:
            replaced[row] = number[row] - 1
            first[row] = last[row] = i
        elif attempts[i] < attempts[first[row]]:
            first[row] = i
        elif attempts[i] >= attempts[last[row]]:
            last[row] = i
    first_, last_, number_, replaced_ = (np.array(column, dtype=np.int64) for column in (first, last, number, replaced))
    return first_, last_, number_, replaced_


def _windows(a: Attempts, sent: Ints, done: Ints, took: Floats, repeat: int) -> list[Window]:
    segments = a.segment.view()
    ended = sent + np.maximum(done, np.nan_to_num(took * SECOND).round().astype(np.int64))
    known = sent != NO_TIME
    started = ~a.failure.among(*NEVER_SENT)
    found = []
    for segment in np.unique(segments[known]):
        inside = known & (segments == segment)
        start, end = int(sent[inside].min()), int(ended[inside].max())
        left = np.flatnonzero(inside & started)
        left = left[np.argsort(sent[left], kind="stable")]
        found.append(Window(repeat, int(segment), start, end, sent[left], ended[left]))
    return found
