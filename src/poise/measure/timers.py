"""Many absolute due times on one timer of the event loop: what the mock server sends when."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from time import perf_counter_ns as now


class Timers:
    """One timer for all events, on a heap of absolute times: no drift, and one event-loop timer only."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.handle: asyncio.Handle | None = None
        self.armed_ns = 0
        self.firing = False

    def at(self, due_ns: int, act: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (due_ns, self.count, act))
        if not self.firing and (self.handle is None or due_ns < self.armed_ns):
            self._arm()

    def _arm(self) -> None:
        if self.handle is not None:
            self.handle.cancel()
        loop = asyncio.get_running_loop()
        self.armed_ns = self.heap[0][0]
        delay_ns = self.armed_ns - now()
        self.handle = loop.call_later(delay_ns / 1e9, self._fire) if delay_ns > 500_000 else loop.call_soon(self._fire)

    def _fire(self) -> None:
        """Do what is due, a few at a time, so that arrivals are seen in between."""
        self.handle = None
        horizon_ns = now() + 500_000  # uvloop's timers count milliseconds; the truth log has what really happened
        self.firing = True
        for _ in range(4):
            if not self.heap or self.heap[0][0] > horizon_ns:
                break
            heapq.heappop(self.heap)[2]()
        self.firing = False
        if self.heap:
            self._arm()
