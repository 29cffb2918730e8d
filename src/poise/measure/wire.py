"""HTTP/1.1 on the clock: pre-built bytes out, every arrival stamped, nothing interpreted before the end.

One `asyncio.Protocol` per connection, llhttp (httptools) for the framing only. `perf_counter_ns` is read once
per `data_received`, first thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from time import perf_counter_ns as now
from typing import cast

import httptools

from poise.types import Failure

_POSIX = os.name == "posix"
MAX_HEADER_BYTES = 256 * 1024


class Exchange:
    """One request's answer as it came: `parts` of the body; after each read, its time and how many parts there were.

    `failure` is None when the message was complete; else what ended it, with whatever arrived before kept.
    """

    __slots__ = (
        "code", "done_ns", "failure", "framed", "headers", "headers_ns", "parts", "sent_ns", "stops", "timed_out",
        "times",
    )  # fmt: skip

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.times: list[int] = []  # of objects: an array parses each number that is put into it
        self.stops: list[int] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.code = 0
        self.framed = False
        self.sent_ns = 0
        self.headers_ns: int | None = None
        self.done_ns: int | None = None
        self.failure: Failure | None = None
        self.timed_out = False

    def segments(self) -> list[tuple[int, bytes]]:
        """The body with its times: one entry per read that brought any."""
        out, start = [], 0
        for ns, stop in zip(self.times, self.stops, strict=True):
            if stop == start + 1:
                out.append((ns, self.parts[start]))
            elif stop > start:
                out.append((ns, b"".join(self.parts[start:stop])))
            start = stop
        return out

    def header(self, name: bytes) -> str:
        """A response header's value (lower-case name), or an empty string."""
        return next((v.decode("latin-1") for n, v in self.headers if n.lower() == name), "")


class Connection(asyncio.Protocol):
    """One keep-alive connection; carries one exchange at a time."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.reusable = True
        self.used = False
        """Whether it has carried an answer."""
        self.idle_since_ns = now()
        self.lost_ns: int | None = None
        """When a server that had promised to keep it open closed it, between two exchanges."""

    @property
    def alive(self) -> bool:
        return self.reusable and self.transport is not None and not self.transport.is_closing()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass

    def data_received(self, data: bytes) -> None:
        self.read_ns = ns = now()
        exchange = self.exchange
        if exchange is None:
            self.close()  # a server that speaks unasked
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return self._fail("protocol", "the server wants to switch protocols")
        except httptools.HttpParserError as e:
            self.reusable = False
            if not self.complete:
                exchange.times.append(ns)
                exchange.stops.append(len(exchange.parts))
                return self._fail("protocol", f"the reply is not HTTP/1.1 ({type(e).__name__})")
        exchange.times.append(ns)
        exchange.stops.append(len(exchange.parts))
        if self.complete:
            exchange.done_ns = ns
            return self._end()
        self.left -= len(data)
        if self.left < 0:
            return self._fail("too_large", f"the reply exceeds {self.max_bytes} bytes; the rest was not read")
        return None

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        promised, self.reusable = self.reusable, False
        exchange = self.exchange
        if exchange is None:
            self.lost_ns = now() if promised else None
            return
        if exc is None and exchange.headers_ns is not None and not exchange.framed:
            exchange.done_ns = exchange.times[-1]  # a body that the end of the connection delimits
            self._end()
        elif exc is None:
            self._fail("closed", f"the server closed the connection {_when(exchange)}")
        else:
            self._fail("reset", f"the connection broke {_when(exchange)} ({type(exc).__name__})")

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            exchange.framed = True
        self.header_left -= len(name) + len(value)
        if self.header_left < 0:
            raise ValueError("response headers too large")

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.code = self.parser.get_status_code()
        if exchange.code < 200:  # 100 Continue, 103 Early Hints: the real head follows
            exchange.headers.clear()
            exchange.framed = False
            return
        exchange.headers_ns = self.read_ns
        if exchange.code in (204, 304):
            exchange.framed = True

    def on_message_complete(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        if exchange.code >= 200:
            self.complete = True
            self.reusable = self.parser.should_keep_alive()

    # -- one exchange

    async def run(self, payload: bytes, deadline_s: float) -> Exchange:
        """Write `payload` and wait for the end of the answer, a failure, or the deadline; never raises for these."""
        transport = self.transport
        assert transport is not None
        loop = asyncio.get_running_loop()
        exchange = Exchange()
        self.on_body = exchange.parts.append  # looked up once by the parser: no Python call per chunk
        self.parser = httptools.HttpResponseParser(self)
        self.complete = False
        self.left, self.header_left = self.max_bytes, MAX_HEADER_BYTES
        self.exchange = exchange
        self.waiter = waiter = loop.create_future()
        timer = loop.call_later(deadline_s, self._expire, deadline_s)
        exchange.sent_ns = now()
        send_now(transport, payload)
        try:
            await waiter
        finally:
            timer.cancel()
            if self.exchange is not None:  # cancelled: the rest of the answer must not meet the next request
                self.exchange = None
                self.close()
        return exchange

    def close(self) -> None:
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    def _expire(self, deadline_s: float) -> None:
        if self.exchange is not None:
            self.exchange.timed_out = True
            self._fail("timeout", f"no complete answer after {deadline_s:g} s")

    def _fail(self, kind: str, message: str) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        exchange.failure = Failure(kind, message, exchange.code or None)
        exchange.done_ns = now()
        self._end()
        self.close()

    def _end(self) -> None:
        self.exchange = None
        self.used = True
        self.idle_since_ns = now()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


def send_now(transport: asyncio.Transport, data: bytes) -> None:
    """Hand `data` to the kernel at once, so that a stamp taken just before is the time of sending.

    uvloop would collect it with everything else this turn of the loop writes; in a burst that is milliseconds.
    """
    if _POSIX and transport.get_write_buffer_size() == 0 and transport.get_extra_info("sslcontext") is None:
        with contextlib.suppress(OSError):  # full, or broken: the transport finds out and says so
            data = data[os.write(transport.get_extra_info("socket").fileno(), data) :]
    if data:
        transport.write(data)


def _when(exchange: Exchange) -> str:
    if not exchange.times:
        return "before it answered"
    return "within its answer" if exchange.headers_ns is not None else "within the reply's head"
