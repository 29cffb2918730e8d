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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.store.run import CellFolder
from poise.understand.attempts import EMPTY, NO_TIME, VISIBLE, Attempts, read

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER_SENT = ("dropped", "skipped")
_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Columns:
    """One row per request or turn (its attempts joined), of one cell folder or of several repeats joined.

    Times are seconds, NaN where there is none; a timeout's latencies are +inf. Text columns are lists.
    """

    request: list[str]
    sample: list[str]
    text: list[str]
    """Visible text of the last attempt."""
    options: list[list[list[float]] | None]
    """Choice: log-probabilities of every token of every continuation."""
    failure: list[str | None]
    """Kind of failure of the last attempt, None = answered."""
    finish: list[str | None]
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
    batch: list[str | None]
    """The static batch of each row; None = not of one."""
    batch_s: Floats
    batch_size: Ints
    """0 = not of a static batch."""
    n_out: Floats
    """Output tokens of the last attempt; NaN = not measurable."""
    n_prompt: Floats
    n_source: list[str | None]
    """`engine`, `usage` or None."""
    chars: Ints
    """Characters of the answer, visible and reasoning."""
    chunks: Ints
    """Stamped chunks of the first attempt, with text or without."""
    gaps_s: Floats
    """All gaps between the chunks of first attempts that were answered or timed out, answer after answer."""
    gap_counts: Ints
    """How many of `gaps_s` each of these answers has, in the order of `gaps_s`."""
    cold_s: Floats
    windows: list[Window]

    @property
    def ok(self) -> NDArray[np.bool_]:
        return np.array([f is None for f in self.failure], dtype=bool)

    @property
    def streamed(self) -> bool:
        """Whether any answer came in two or more pieces, or none was long enough to; else there is no first token."""
        return bool((self.chunks >= 2).any()) or bool((self.n_out[self.ok] < 2).all())

    def __len__(self) -> int:
        return len(self.request)


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
        return (self.end_ns - self.start_ns) / _SECOND


def columns(folder: CellFolder) -> Columns:
    """All measured requests of one cell folder. Memory: 8 bytes a chunk besides the texts."""
    return _join_attempts(read(folder), folder.cell.repeat)


def pooled(parts: Sequence[Columns]) -> Columns:
    """Several repeats of a cell as one."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for name in (f.name for f in dataclasses.fields(Columns)):
        values = [getattr(p, name) for p in parts]
        if isinstance(values[0], np.ndarray):
            joined[name] = np.concatenate(values)
        else:
            joined[name] = [v for part in values for v in part]
    return Columns(**joined)


# ---------------------------------------------------------------- times


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Per attempt, in seconds after `sent`: first text, first visible text, last text; and the gaps between."""

    first: Floats
    first_visible: Floats
    last: Floats
    count: Ints
    gaps: Floats
    gap_counts: Ints


def _chunks(attempts: Attempts) -> _Chunks:
    counts = np.array(attempts.count, dtype=np.int64)
    kinds = np.frombuffer(attempts.kinds, dtype=np.uint8)
    at = np.cumsum(np.array(attempts.deltas, dtype=np.int64))
    ends = np.cumsum(counts)
    base = np.where(ends - counts > 0, at[np.maximum(ends - counts, 1) - 1], 0) if len(at) else np.zeros_like(ends)
    at -= np.repeat(base, counts)
    _, _, first_visible, _ = _only(kinds == VISIBLE, at, counts)
    times, per_row, first, last = _only(kinds != EMPTY, at, counts)
    inside = np.ones(len(times), dtype=bool)
    inside[(np.cumsum(per_row) - per_row)[per_row > 0]] = False
    gaps = np.diff(times, prepend=0)[inside] / _SECOND
    return _Chunks(first, first_visible, last, per_row, gaps, np.maximum(per_row - 1, 0))


def _only(mask: NDArray[np.bool_], at: Ints, counts: Ints) -> tuple[Ints, Ints, Floats, Floats]:
    """Chunks of `mask`: their times, their number per row, and each row's first and last of them in seconds."""
    if not mask.all():
        at, counts = at[mask], np.bincount(np.repeat(np.arange(len(counts)), counts)[mask], minlength=len(counts))
    ends = np.cumsum(counts)
    first, last = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    some = counts > 0
    first[some] = at[(ends - counts)[some]] / _SECOND
    last[some] = at[ends[some] - 1] / _SECOND
    return at, counts, first, last


def _join_attempts(a: Attempts, repeat: int) -> Columns:
    chunks = _chunks(a)
    first, last, attempts, reruns = _rows(a)
    failed_first = [a.failure[i] for i in first]
    answered = np.array([f is None for f in failed_first], dtype=bool)
    timed_out = np.array([f == "timeout" for f in failed_first], dtype=bool)

    sent, due, done = (np.array(x, dtype=np.int64) for x in (a.sent, a.due, a.done))
    took = np.where(np.isnan(chunks.last), np.where(done > 0, done / _SECOND, np.nan), chunks.last)
    batch_end = np.array(a.batch_end, dtype=np.int64)
    unstamped = np.isnan(took) & (batch_end != NO_TIME) & (sent != NO_TIME)
    took[unstamped] = (batch_end[unstamped] - sent[unstamped]) / _SECOND
    took[sent == NO_TIME] = np.nan

    def latency(values: Floats) -> Floats:
        picked = np.where(answered, values[first], np.nan)
        picked[timed_out] = np.inf
        return picked

    n_out = np.array(a.n_out, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot = np.where((n_out >= 2) & (chunks.count >= 2), (chunks.last - chunks.first) / (n_out - 1), np.nan)
    tpot_first = latency(tpot)
    if np.isnan(tpot).all():
        tpot_first[:] = np.nan
    started = np.array([f not in NEVER_SENT for f in a.failure], dtype=bool)
    has_due = (due != NO_TIME) & (sent != NO_TIME) & started
    wait = np.where(has_due, (sent - np.where(has_due, due, 0)) / _SECOND, np.nan)
    e2e = latency(took)
    between = np.where(first == last, 0.0, (sent[last] - sent[first]) / _SECOND)
    spent = between + took[last] + np.where(np.isnan(wait[first]), 0.0, wait[first])
    part = np.array(a.part, dtype=np.int64)[first]
    if part.any():
        spent = _whole(spent, [(a.sample[i], a.draw[i]) for i in first], [a.failure[i] for i in last])

    used = np.zeros(len(a.request), dtype=bool)
    used[first[answered | timed_out]] = True
    gaps = chunks.gaps if used.all() else chunks.gaps[np.repeat(used, chunks.gap_counts)]
    return Columns(
        request=[a.request[i] for i in first],
        sample=[a.sample[i] for i in first],
        text=[a.text[i] for i in last],
        options=[a.options[i] for i in last],
        failure=[a.failure[i] for i in last],
        finish=[a.finish[i] for i in last],
        repeat=np.full(len(first), repeat, dtype=np.int64),
        draw=np.array(a.draw, dtype=np.int64)[first],
        part=part,
        segment=np.array(a.segment, dtype=np.int64)[first],
        attempts=attempts,
        reruns=reruns,
        ttft_s=latency(chunks.first) if not np.isnan(chunks.first).all() else np.full(len(first), np.nan),
        ttfvt_s=latency(chunks.first_visible) if not np.isnan(chunks.first).all() else np.full(len(first), np.nan),
        tpot_s=tpot_first,
        e2e_s=e2e,
        wait_s=wait[first],
        response_s=np.where(has_due[first], e2e + wait[first], np.nan),
        spent_s=spent,
        sent_ns=sent[first],
        due_ns=due[first],
        batch=[a.batch[i] for i in first],
        batch_s=np.array(a.batch_ns, dtype=np.float64)[first] / _SECOND,
        batch_size=np.array(a.batch_size, dtype=np.int64)[first],
        n_out=n_out[last],
        n_prompt=np.array(a.n_prompt, dtype=float)[last],
        n_source=[a.source[i] for i in last],
        chars=np.array(a.chars, dtype=np.int64)[last],
        chunks=np.array(a.count, dtype=np.int64)[first],
        gaps_s=gaps,
        gap_counts=chunks.gap_counts[used],
        cold_s=np.array(a.cold, dtype=float),
        windows=_windows(a, sent, done, took, repeat),
    )


def _whole(spent: Floats, conversation: Sequence[tuple[str, int]], failure: Sequence[str | None]) -> Floats:
    """For every turn the time of its conversation; one that broke off never ended."""
    index = {key: i for i, key in enumerate(dict.fromkeys(conversation))}
    at = np.array([index[key] for key in conversation], dtype=np.int64)
    times = np.where([f is None for f in failure], spent, np.inf)
    return np.asarray(np.bincount(at, weights=times)[at], dtype=np.float64)


def _rows(a: Attempts) -> tuple[Ints, Ints, Ints, Ints]:
    """For each request, in order of first writing: its first and last attempt in the last segment that tried it,
    the number of all attempts, and of those in earlier segments."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    number: dict[str, int] = {}
    replaced: dict[str, int] = {}
    for i, request in enumerate(a.request):
        if request not in first:
            first[request] = last[request] = i
            number[request], replaced[request] = 1, 0
            continue
        number[request] += 1
        if a.segment[i] != a.segment[last[request]]:
            replaced[request] = number[request] - 1
            first[request] = last[request] = i
        elif a.attempt[i] < a.attempt[first[request]]:
            first[request] = i
        elif a.attempt[i] >= a.attempt[last[request]]:
            last[request] = i
    first_, last_, number_, replaced_ = (
        np.array(list(d.values()), dtype=np.int64) for d in (first, last, number, replaced)
    )
    return first_, last_, number_, replaced_


def _windows(a: Attempts, sent: Ints, done: Ints, took: Floats, repeat: int) -> list[Window]:
    segments = np.array(a.segment, dtype=np.int64)
    ended = sent + np.maximum(done, np.nan_to_num(took * _SECOND).round().astype(np.int64))
    known = sent != NO_TIME
    started = np.array([f not in NEVER_SENT for f in a.failure], dtype=bool)
    found = []
    for segment in np.unique(segments[known]):
        inside = known & (segments == segment)
        start, end = int(sent[inside].min()), int(ended[inside].max())
        left = np.flatnonzero(inside & started)
        left = left[np.argsort(sent[left], kind="stable")]
        found.append(Window(repeat, int(segment), start, end, sent[left], ended[left]))
    return found
