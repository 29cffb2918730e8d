"""Drive a concurrent backend under its load: closed loops and open loops at absolute due times, in one event loop.

Only `send` is on the clock; finished streams are parsed in small steps between arrivals. The collector of garbage
rests meanwhile (a full collection can take tens of milliseconds).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from poise.measure.recording import Write, failed, finish, message, not_understood, record, skipped
from poise.plan.spec import Load
from poise.plan.turns import turn
from poise.protocols import Answer, Backend, Raw
from poise.types import Failure, Phase, PoiseError, Record, Request, visible_text

RETRYABLE = ("connect", "reset", "closed")
RETRYABLE_HTTP = (429, 503)
_HEADSTART_NS = 5_000_000
_BACKLOG = 512
"""Finished answers that may wait to be parsed; beyond that, parsing keeps arrivals waiting rather than fill memory."""

_REFUSALS = 20
"""Connections refused one after the other, beyond one for each request in flight, that mean: the server is gone."""


class Concurrent:
    """Drive a concurrent backend: a closed loop of `load.value` in flight, or an open loop at absolute due times."""

    def __init__(
        self,
        backend: Backend,
        write: Write,
        *,
        segment: int,
        attempts: dict[str, int],
        retries: int,
        alive: Callable[[], None],
        phase: Phase = "measure",
    ) -> None:
        self.backend, self.write, self.phase = backend, write, phase
        self.segment, self.attempts, self.retries, self.alive = segment, attempts, retries, alive
        self.lags: list[tuple[int, int]] = []
        """(clock reading, largest lateness of a 10 ms tick since the reading before, at most a second), ns."""
        self._finished: deque[tuple[Request, Any, Raw, int, int | None, asyncio.Future[Record] | None]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._refused, self._most_refused = 0, _REFUSALS

    async def run(
        self,
        requests: Iterable[Request],
        load: Load,
        due_ns: Iterable[int] | None = None,
        start: Callable[[], int] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Send everything and return when all is recorded; PoiseError once the server is gone, the rest unasked.

        `due_ns`: offsets from the start, one a request (open loop). `start` is called when all is ready and gives the
        clock reading to start at (default: now). Where `seconds` are given, nothing more is sent once they are over.
        """
        drain = asyncio.create_task(self._drain())
        ticker = asyncio.create_task(self._tick())
        todo = iter(requests)
        first = list(islice(todo, load.width))  # as many lanes as there are requests for
        width, todo = len(first), chain(first, todo)
        self._most_refused = _REFUSALS + width
        if hasattr(self.backend, "warm"):
            await self.backend.warm(width)
        start_ns = start() if start is not None else time.perf_counter_ns() + _HEADSTART_NS
        if seconds is not None:
            todo = until(todo, seconds)
        sending = asyncio.ensure_future(self._send(todo, width, load.max_in_flight, due_ns, start_ns))
        try:  # whichever ends first: a full disk ends the recording, and then nothing more must be sent
            await asyncio.wait((sending, drain), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ticker.cancel()
            self._closing = True
            self._wake.set()
            if drain.done():
                sending.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        await drain
        await sending
        if self._gone:
            raise PoiseError(
                f"the server is gone: it refused {self._refused} connections one after the other; what was measured "
                "is kept; start the server and give the same command again (--retry-failed asks the refused ones too)"
            )

    @property
    def _gone(self) -> bool:
        return self._refused >= self._most_refused

    async def _send(
        self, todo: Iterator[Request], width: int, cap: int, due_ns: Iterable[int] | None, start_ns: int
    ) -> None:
        if due_ns is not None:
            await self._open(todo, due_ns, cap, start_ns)
            return
        await asyncio.sleep(max(0, start_ns - time.perf_counter_ns()) / 1e9)
        await asyncio.gather(*(self._lane(todo) for _ in range(width)))

    async def _lane(self, todo: Iterator[Request]) -> None:
        for request in todo:
            self.alive()
            await self._ask(request, None)
            if self._gone:
                return

    async def _open(self, requests: Iterator[Request], due_ns: Iterable[int], cap: int, start_ns: int) -> None:
        running: set[asyncio.Task[None]] = set()
        for request, offset in zip(requests, due_ns, strict=True):
            due = start_ns + offset
            while (wait := due - time.perf_counter_ns()) > 0:
                await asyncio.sleep(wait / 1e9)
            self.alive()
            if self._gone:
                break
            if len(running) >= cap:
                raw = Raw(sent_ns=due, done_ns=due, status="dropped")
                self._hand_over(turn(request, ()), None, raw, 1, due)
                if request.turns:
                    self.write(skipped(request, 1, self.phase, self.segment, self.attempts))
                continue
            task = asyncio.create_task(self._ask(request, due))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _ask(self, request: Request, due: int | None) -> None:
        if not request.turns:
            await self._send_one(request, due)
            return
        said: list[str] = []
        for part in range(len(request.parts)):
            written: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
            ended_ns = await self._send_one(turn(request, said), due, written)
            made = await written
            if made.status != "ok":
                self.write(skipped(request, part + 1, self.phase, self.segment, self.attempts))
                return
            said.append(visible_text(made.pieces, made.piece_kinds))
            due = None if due is None else ended_ns  # in an open loop a turn is due when the one before has ended

    async def _send_one(self, request: Request, due: int | None, written: asyncio.Future[Record] | None = None) -> int:
        """One request with its retries; returns when its last attempt ended, whose record goes to `written`."""
        attempt = self.attempts.get(request.id, 0) + 1
        for left in range(self.retries, -1, -1):
            try:
                prepared = self.backend.prepare(request)
            except Exception as error:
                raw = Raw(time.perf_counter_ns())
                self._hand_over(request, error, raw, attempt, due, written)
                break
            try:
                raw = await self.backend.send(prepared)
            except Exception as error:
                raw, answer = failed("engine", error)
                raw.status, raw.error = "error", answer.error
            last = left == 0 or not _retryable(raw)
            self._hand_over(request, prepared, raw, attempt, due, written if last else None)
            if last:
                refused = raw.error is not None and raw.error.kind == "connect"
                self._refused = self._refused + 1 if refused else 0
                break
            attempt += 1
            await asyncio.sleep(_pause_s(attempt, raw.error))
        return raw.done_ns or raw.sent_ns

    def _hand_over(
        self,
        request: Request,
        prepared: Any,
        raw: Raw,
        attempt: int,
        due: int | None,
        written: asyncio.Future[Record] | None = None,
    ) -> None:
        self._finished.append((request, prepared, raw, attempt, due, written))
        self._wake.set()

    async def _drain(self) -> None:
        """Parse and write finished answers step by step, giving way to arrivals after each."""
        hurry = 0
        while True:
            while self._finished:
                request, prepared, raw, attempt, due, written = self._finished.popleft()
                if hurry:
                    hurry -= 1
                else:
                    hurry = max(0, len(self._finished) - _BACKLOG) // 8
                    await asyncio.sleep(0)
                answer = await self._answer(prepared, raw, hurry > 0)
                made = record(request, raw, answer, self.phase, self.segment, attempt, None, due)
                self.write([made])
                if written is not None and not written.done():
                    written.set_result(made)
            if self._closing:
                return
            self._wake.clear()
            await self._wake.wait()

    async def _answer(self, prepared: Any, raw: Raw, hurry: bool) -> Answer:
        if isinstance(prepared, Exception):
            return Answer(status="error", error=Failure("prepare", message(prepared)))
        if raw.status == "dropped":
            return Answer()
        if hurry or not hasattr(self.backend, "finish_steps"):
            return finish(self.backend, prepared, raw)
        steps = self.backend.finish_steps(prepared, raw)
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        except Exception as error:
            return not_understood(raw, error)

    async def _tick(self) -> None:
        """How late a 10 ms tick comes: what an arrival may have waited for in this loop."""
        period = 10_000_000
        due = time.perf_counter_ns() + period
        worst, second = 0, due
        try:
            while True:
                await asyncio.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
                now = time.perf_counter_ns()
                worst = max(worst, now - due)
                due = max(due + period, now)
                if now - second >= 1_000_000_000:
                    self.lags.append((now, worst))
                    worst, second = 0, now
        finally:  # what is left of the last second, so that a short cell has a reading too
            now = time.perf_counter_ns()
            self.lags.append((now, max(worst, now - due)))


def _pause_s(attempt: int, error: Failure | None) -> float:
    """Before attempt 2, 3 …: 1, 2 … seconds, at most 30; longer where the server asks for it, at most a minute."""
    asked_s = error.retry_after_s if error is not None and error.retry_after_s is not None else 0.0
    return max(min(2.0 ** (attempt - 2), 30.0), min(asked_s, 60.0))


def _retryable(raw: Raw) -> bool:
    error = raw.error
    return error is not None and (error.kind in RETRYABLE or error.http_status in RETRYABLE_HTTP)


def until(requests: Iterable[Request], seconds: float) -> Iterator[Request]:
    """The requests as they are taken, until the time is over that runs from the first one on."""
    start = None
    for request in requests:
        now = time.perf_counter_ns()
        start = now if start is None else start
        if now - start >= seconds * 1e9:
            return
        yield request
