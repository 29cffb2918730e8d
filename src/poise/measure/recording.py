"""What happened to a request, as a record: from what was seen and what it meant, and the failures between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from poise.protocols import Answer, Backend, Raw
from poise.types import Batch, Failure, Phase, Record, Request, Timeline

Write = Callable[[list[Record]], None]


def record(
    request: Request,
    raw: Raw,
    answer: Answer,
    phase: Phase,
    segment: int,
    attempt: int,
    batch: Batch | None = None,
    due_ns: int | None = None,
) -> Record:
    """One line of records.jsonl from what was seen and what it meant."""
    stamps = [raw.sent_ns, *(stamp for stamp, _ in raw.stamps)]
    return Record(
        request_id=request.id,
        sample_id=request.sample_id,
        status=raw.status if raw.status != "ok" else answer.status,
        phase=phase,
        draw=request.draw,
        part=request.part,
        attempt=attempt,
        segment=segment,
        due_ns=due_ns,
        timeline=Timeline(
            sent_ns=raw.sent_ns,
            chunk_deltas_ns=[b - a for a, b in pairwise(stamps)],
            done_ns=(raw.done_ns if raw.done_ns is not None else stamps[-1]) - raw.sent_ns,
            headers_ns=None if raw.headers_ns is None else raw.headers_ns - raw.sent_ns,
            clock=raw.clock,
        ),
        pieces=answer.pieces,
        piece_kinds=answer.piece_kinds,
        output_tokens=answer.output_tokens,
        tokens_by=answer.tokens_by,
        token_logprobs=answer.token_logprobs,
        option_logprobs=answer.option_logprobs,
        option_greedy=answer.option_greedy,
        batch=batch,
        usage=answer.usage,
        finish_reason=answer.finish_reason,
        rendered=answer.rendered,
        error=raw.error or answer.error,
    )


def skipped(request: Request, first: int, phase: Phase, segment: int, attempts: dict[str, int]) -> list[Record]:
    """Records of the turns from `first` on, which were never asked, because the one before failed."""
    return [
        Record(
            request_id=name,
            sample_id=request.sample_id,
            status="skipped",
            phase=phase,
            draw=request.draw,
            part=part,
            attempt=attempts.get(name, 0) + 1,
            segment=segment,
            error=Failure("skipped", "the turn before it failed"),
        )
        for part, name in enumerate(request.parts)
        if part >= first
    ]


def finish(backend: Backend, prepared: Any, raw: Raw) -> Answer:
    """`backend.finish`; a failure to understand the answer is recorded as such."""
    try:
        return backend.finish(prepared, raw)
    except Exception as error:
        return not_understood(raw, error)


def not_understood(raw: Raw, error: Exception) -> Answer:
    raw.stamps = []
    return Answer(status="error", error=Failure("parse", message(error)))


def failed(kind: str, error: Exception) -> tuple[Raw, Answer]:
    now = time.perf_counter_ns()
    return Raw(sent_ns=now, done_ns=now), Answer(status="error", error=Failure(kind, message(error)))


def message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
