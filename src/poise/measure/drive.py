"""Put a cell's requests through a backend in this process, one group after another, and write what happened.

Only `send` is on the clock: one thread prepares, sends and finishes in turn. The collector of garbage rests meanwhile
(a full collection can take tens of milliseconds) and runs where no request is in flight.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from poise.measure.recording import Write, failed, finish, record, skipped
from poise.plan.turns import turn
from poise.protocols import Answer, Backend, Raw
from poise.types import Batch, Phase, Record, Request, visible_text

_COLLECT_EVERY = 512


def groups(requests: Iterable[Request], pending: Callable[[Request], bool], size: int) -> Iterator[list[Request]]:
    """The requests that are sent together. Made from all requests, so that a resumed run has the same batches.

    A batch with one request missing runs again as a whole (CONTRACT §3). Its members are sampled alike: engines take
    one temperature for all rows.
    """
    alike: dict[float, list[Request]] = {}
    for request in requests:
        group = alike.setdefault(request.temperature, [])
        group.append(request)
        if len(group) == size:
            del alike[request.temperature]
            if any(map(pending, group)):
                yield group
    yield from (group for group in alike.values() if any(map(pending, group)))


def length(request: Request) -> int:
    """Characters of the prompt."""
    return len(request.prompt or "") + sum(len(m.content) for m in request.messages or ())


def in_process(
    backend: Backend,
    groups: Iterator[list[Request]],
    write: Write,
    *,
    segment: int,
    batched: bool,
    attempts: dict[str, int],
    alive: Callable[[], None],
    phase: Phase = "measure",
    seconds: float | None = None,
) -> None:
    """Drive a backend that runs in this process, one request or one static batch after another.

    The conversations of a group move on together, a turn at a time. Where `seconds` are given, nothing more is sent
    once they are over on the backend's clock.
    """
    began = None
    for number, group in enumerate(groups):
        said: dict[str, list[str]] = {request.id: [] for request in group}
        for part in range(max(len(request.parts) for request in group)):
            alive()
            asking = [request for request in group if len(request.parts) > part and len(said[request.id]) == part]
            turns = [turn(request, said[request.id]) for request in asking]
            if not turns:
                break
            results = _send_group(backend, turns)
            batch = None
            if batched:
                start = min(raw.sent_ns for raw, _ in results)
                end = max(raw.done_ns or raw.sent_ns for raw, _ in results)
                batch = Batch(f"{segment}.{number}" + (f"#{part}" if part else ""), len(turns), start, end)
            records = [
                record(asked, raw, answer, phase, segment, attempts.get(asked.id, 0) + 1, batch)
                for asked, (raw, answer) in zip(turns, results, strict=True)
            ]
            rest: list[Record] = []
            for request, made in zip(asking, records, strict=True):
                if made.status == "ok":
                    said[request.id].append(visible_text(made.pieces, made.piece_kinds))
                else:
                    rest += skipped(request, part + 1, phase, segment, attempts)
            write(records + rest)
            began = results[0][0].sent_ns if began is None else began
            ended = max(raw.done_ns or raw.sent_ns for raw, _ in results)
        if seconds is not None and began is not None and ended - began >= seconds * 1e9:
            return
        if number % _COLLECT_EVERY == _COLLECT_EVERY - 1:
            gc.collect(1)


def _send_group(backend: Backend, group: list[Request]) -> list[tuple[Raw, Answer]]:
    """One send. What cannot be prepared fails alone; what fails in the engine fails the group: recorded, not raised."""
    prepared: list[Any] = []
    lost: dict[int, tuple[Raw, Answer]] = {}
    for i, request in enumerate(group):
        try:
            prepared.append(backend.prepare(request))
        except Exception as error:
            lost[i] = failed("prepare", error)
    results: Iterator[tuple[Raw, Answer]]
    try:
        raws = backend.send(prepared) if prepared else []
        results = iter([(raw, finish(backend, p, raw)) for p, raw in zip(prepared, raws, strict=True)])
    except Exception as error:
        results = iter([failed("engine", error) for _ in prepared])
    return [lost[i] if i in lost else next(results) for i in range(len(group))]
