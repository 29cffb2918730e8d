"""A server of known truth: an OpenAI-compatible mock with set times, faults and answers, and a log of what it did when.

`python -m poise.measure.mock_server --ttft 0.1 --gap 0.01 --tokens 128 --truth truth.jsonl`. All draws depend only
on the seed and the prompt. Every event is one HTTP chunk and a write of its own. The truth log has one line a request,
added when the request ends: times are `perf_counter_ns`, comparable on this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any, BinaryIO, cast

import httptools
import msgspec

from poise.measure.loop import run
from poise.measure.mock_answers import END, LENGTHS, Script, chunked, prompt_of, prompt_sha
from poise.measure.mock_config import MockConfig, from_flags
from poise.measure.timers import Timers
from poise.measure.wire_answer import NOT_JSON
from poise.types import UsageError

_JSON, _STREAM = b"application/json", b"text/event-stream"


class MockServer:
    """State shared by all connections: configuration, known answers, the queue, the truth log."""

    def __init__(self, config: MockConfig) -> None:
        self.config = config
        self.script = Script(config)
        self.timers = Timers()
        self.active = 0
        self.inbox: deque[_Reply] = deque()
        self.waiting: deque[_Reply] = deque()
        self.served = 0
        self.connections: set[_Connection] = set()
        self.log: BinaryIO | None = Path(config.truth).open("ab") if config.truth else None  # noqa: SIM115
        self.encode = msgspec.json.Encoder().encode

    def arrive(self, reply: _Reply) -> None:
        """Queue a request; one is planned per turn of the loop, so that in a burst arrivals are seen when they come."""
        if not self.inbox:
            asyncio.get_running_loop().call_soon(self._take)
        self.inbox.append(reply)

    def _take(self) -> None:
        reply = self.inbox.popleft()
        if self.inbox:
            asyncio.get_running_loop().call_soon(self._take)
        if self.config.capacity is not None and self.active >= self.config.capacity:
            self.waiting.append(reply)
            return
        self.active += 1
        reply.begin()

    def end(self, reply: _Reply) -> None:
        self.active -= 1
        if self.log is not None:
            self.log.write(self.encode(reply.truth()) + b"\n")
            if self.active == 0:
                self.log.flush()
        while self.waiting:
            following = self.waiting.popleft()
            if not following.connection.lost:
                self.active += 1
                following.begin()
                break


class _Reply:
    """One request being answered on a connection."""

    def __init__(self, server: MockServer, connection: _Connection, body: bytes, chat: bool) -> None:
        self.server, self.connection, self.raw, self.chat = server, connection, body, chat
        self.arrived_ns = connection.read_ns
        self.started_ns = 0
        self.sent_ns: list[int] = []
        self.outcome = "ok"
        self.begun = False
        self.tokens = 0
        self.body: dict[str, Any] = {}

    def begin(self) -> None:
        self.started_ns = self.arrived_ns if self.server.config.capacity is None else now()
        try:
            self.body = msgspec.json.decode(self.raw, type=dict[str, Any])
            self.plan = plan = self.server.script.plan(self.body, self.chat)
        except (*NOT_JSON, ValueError) as e:
            return self._refuse(400, str(e))
        self.tokens, self.stream = plan.tokens, bool(self.body.get("stream"))
        if self.connection.lost:
            self.outcome = "client left"
            return self.server.end(self)
        if plan.fault and plan.fault.isdigit():
            return self._refuse(int(plan.fault), "this error was asked for")
        if plan.due_ns[-1] == 0 and not plan.fault:
            return self._at_once()
        return self._wait()

    def _wait(self) -> None:
        self.server.timers.at(self.started_ns + self.plan.due_ns[len(self.sent_ns)], self._next)

    def _next(self) -> None:
        """Send the event whose time has come; a fault strikes halfway."""
        chunks, k = self.plan.chunks, len(self.sent_ns)
        if self.connection.lost:
            self.outcome = "client left"
            return self.server.end(self)
        if self.plan.fault and k >= len(chunks) // 2:
            self.outcome = self.plan.fault
            return self._strike()
        self.sent_ns.append(now())
        self._send(self.plan.frames[k])
        return self._finished() if k + 1 == len(chunks) else self._wait()

    def _at_once(self) -> None:
        """The server as fast as it can be: event by event, each a write of its own unless one write is asked for."""
        first, *rest = self.plan.frames
        if self.server.config.one_write:
            first, rest = first + b"".join(rest), []
        self.sent_ns.append(now())
        self._send(first)
        send, sent = self.connection.send, self.sent_ns.append
        for frame in rest:
            sent(now())
            send(frame)
        self.sent_ns += self.sent_ns[-1:] * (len(self.plan.frames) - len(self.sent_ns))
        self._finished()

    def _send(self, frame: bytes) -> None:
        """One event or the whole document; the head goes with the first."""
        head = b"" if self.begun else self._head(len(frame))
        self.begun = True
        self.connection.send(head + frame)

    def _head(self, length: int) -> bytes:
        keep = self.server.config.keep_alive
        return _head(200, _STREAM, None, keep) if self.stream else _head(200, _JSON, length, keep)

    def _strike(self) -> None:
        """Fail as planned: wrong JSON, a reset, an end before the end, or no end at all."""
        fault, connection = self.plan.fault, self.connection
        if fault == "endless":
            return self._go_on()
        if fault == "wrong-json":
            self._send(chunked(b'data: {"choices": [{"delta": \n\n') + END if self.stream else b'{"choices": [{')
            return self._finished()
        if not self.begun:
            head = self._head(1000)
            connection.write(head)
        if fault == "reset":
            connection.reset()
        else:
            connection.hang_up()
        return self.server.end(self)

    def _go_on(self) -> None:
        if self.connection.lost:
            return self.server.end(self)
        if self.stream:
            self.sent_ns.append(now())
            self._send(chunked(self.plan.chunks[0]))
        gap_ns = max(int(self.server.config.gap_s * 1e9), 1_000_000)
        return self.server.timers.at(now() + gap_ns, self._go_on)

    def _refuse(self, code: int, message: str) -> None:
        self.outcome = str(code)
        body = self.server.encode({"error": {"message": message, "type": "mock", "code": code}})
        self.connection.write(_head(code, _JSON, len(body), True) + body)
        self._finished()

    def _finished(self) -> None:
        self.server.served += 1
        if self.server.config.coalesce:
            self.connection.at_once(True)
            self.connection.at_once(False)
        if not self.server.config.keep_alive:
            self.connection.hang_up()
        self.server.end(self)

    def truth(self) -> dict[str, Any]:
        """One line of the truth log."""
        return {
            "prompt_sha": prompt_sha(prompt_of(self.body)),
            "arrived_ns": self.arrived_ns,
            "started_ns": self.started_ns,
            "sent_ns": self.sent_ns,
            "outcome": self.outcome,
            "asked": {k: self.body[k] for k in LENGTHS if k in self.body},
            "tokens": self.tokens,
        }


class _Connection(asyncio.Protocol):
    """Reads requests off one connection; one answer at a time."""

    def __init__(self, server: MockServer) -> None:
        self.server = server
        self.lost = False
        self.read_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass
        self.server.connections.add(self)
        self.write = self.transport.write
        self.fd = self.transport.get_extra_info("socket").fileno()
        self.parser = httptools.HttpRequestParser(self)
        if self.server.config.coalesce:
            self.at_once(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.read_ns = now()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.hang_up()

    def on_message_begin(self) -> None:
        self.url = b""
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        path = self.url.split(b"?")[0]
        if self.parser.get_method() == b"GET":
            return self._get(path)
        chat = path.endswith(b"/chat/completions")
        if not chat and not path.endswith(b"/completions"):
            return self._plain(404, {"error": {"message": "no such path"}})
        reply = _Reply(self.server, self, b"".join(self.body), chat)
        return self.server.arrive(reply)

    def _get(self, path: bytes) -> None:
        if path == b"/health":
            return self._plain(200, {"status": "ok", "served": self.server.served})
        if path.endswith(b"/models"):
            return self._plain(200, {"object": "list", "data": [{"id": "mock", "object": "model"}]})
        return self._plain(404, {"error": {"message": "no such path"}})

    def _plain(self, code: int, document: dict[str, Any]) -> None:
        body = self.server.encode(document)
        self.write(_head(code, _JSON, len(body), True) + body)

    def send(self, data: bytes) -> None:
        """Hand `data` to the kernel at once, or queue it behind what the kernel could not take."""
        if not self.transport.get_write_buffer_size():
            with contextlib.suppress(OSError):  # full, or broken: the transport finds out
                data = data[os.write(self.fd, data) :]
        if data:
            self.write(data)

    def at_once(self, wanted: bool) -> None:
        """Whether the kernel sends every write at once, also what it holds back now."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, wanted)

    def hang_up(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """Close with a TCP reset: unread data or not, the client sees the connection break."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _head(code: int, kind: bytes, length: int | None, keep_alive: bool) -> bytes:
    size = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    extra = (b"retry-after: 1\r\n" if code in (429, 503) else b"") + (b"" if keep_alive else b"connection: close\r\n")
    return b"HTTP/1.1 %d mock\r\ncontent-type: %s\r\n%s\r\n%s\r\n" % (code, kind, size, extra)


@contextlib.asynccontextmanager
async def running(config: MockConfig, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[MockServer, int]]:
    """A mock on this event loop: (server, port); port 0 takes a free one. Closes its connections at the end."""
    server = MockServer(config)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Connection(server), host, port, backlog=4096)
    try:
        yield server, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for connection in list(server.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        if server.log is not None:
            server.log.close()


def serve(host: str, port: int, config: MockConfig) -> None:
    """Serve until interrupted or terminated; prints `listening on http://HOST:PORT` when ready."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with running(config, host, port) as (_, actual):
            gc.collect()
            gc.freeze()
            gc.set_threshold(200_000, 20, 20)  # a full collection would be a stall that nobody asked for
            print(f"listening on http://{f'[{host}]' if ':' in host else host}:{actual}", flush=True)
            await stop.wait()

    run(main())


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; a wrong word ends the process with one sentence and exit code 2."""
    config, host, port = from_flags(argv)
    try:
        serve(host, port, config)
    except (UsageError, OSError) as error:
        print(f"poise mock-server: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
