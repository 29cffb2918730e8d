"""A server of known truth: an OpenAI-compatible mock with set times, faults and answers, and a log of what it did when.

`python -m poise.measure.mock_server --ttft 0.1 --gap 0.01 --tokens 128 --truth truth.jsonl`. All draws depend only
on the seed and the prompt. Every event is one HTTP chunk and (unless `gap_s` is 0) one write of its own. The truth
log has one line a request, written when the request ends: times are `perf_counter_ns`, comparable on this host.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import heapq
import random
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any, BinaryIO, cast

import httptools
import msgspec
from msgspec import Struct

from poise.measure.wire import run as run_loop
from poise.types import UsageError

FAULTS = ("429", "500", "reset", "wrong-json", "endless", "early-close")


class MockConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the mock behaves. Times in seconds, shares in [0, 1]."""

    ttft_s: float = 0.0
    gap_s: float = 0.0
    jitter: float = 0.0
    """Each gap and TTFT is multiplied by 1 ± this much (uniform)."""
    stall_share: float = 0.0
    stall_s: float = 0.4
    """A share of the streams pauses this much longer once, at a random event."""
    error_share: float = 0.0
    faults: tuple[str, ...] = ("500",)
    """Kinds of failure to draw from: 429, 500, reset, wrong-json, endless, early-close."""
    tokens: int = 16
    """Output tokens, cut by the request's max_tokens; ignored where an answer is known."""
    tokens_per_chunk: int = 1
    reasoning_tokens: int = 0
    capacity: int | None = None
    """Answers at one time; further requests wait in order. None: no limit."""
    usage: str = "option"
    """option (as asked by stream_options), always or none."""
    done: bool = True
    """Whether the stream ends with [DONE]."""
    text: str | None = None
    """The answer to everything; None: `tokens` numbered words."""
    answers: str | None = None
    """JSONL file of {"prompt", "answer"}: a prompt's answer if the prompt's end matches."""
    accuracy: float = 1.0
    """Share of the known answers given rightly; the others are answered with `wrong`."""
    wrong: str = "I do not know."
    seed: int = 0
    truth: str | None = None
    """File of the truth log."""
    keep_alive: bool = True


class _Plan(Struct):
    """What one request will be told: payloads of the events, and when after its start each is due."""

    chunks: list[bytes]
    due_ns: list[int]
    fault: str | None


class _Timers:
    """One timer for all events, on a heap of absolute times: no drift, and one event-loop timer only."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.handle: asyncio.TimerHandle | None = None
        self.armed_ns = 0

    def at(self, due_ns: int, act: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (due_ns, self.count, act))
        if self.handle is None or due_ns < self.armed_ns:
            self._arm()

    def _arm(self) -> None:
        if self.handle is not None:
            self.handle.cancel()
        self.armed_ns = self.heap[0][0]
        delay_s = max(self.armed_ns - now(), 0) / 1e9
        self.handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self.handle = None
        horizon_ns = now() + 500_000  # uvloop's timers count milliseconds; the truth log has what really happened
        heap = self.heap
        while heap and heap[0][0] <= horizon_ns:
            heapq.heappop(heap)[2]()
        if heap and self.handle is None:
            self._arm()


class MockServer:
    """State shared by all connections: configuration, known answers, the queue, the truth log."""

    def __init__(self, config: MockConfig) -> None:
        unknown = set(config.faults) - set(FAULTS)
        if unknown:
            raise UsageError(f"unknown fault {unknown.pop()!r}; there are: {', '.join(FAULTS)}")
        self.config = config
        self.answers = _read_answers(config.answers)
        self.timers = _Timers()
        self.active = 0
        self.waiting: deque[_Reply] = deque()
        self.served = 0
        self.connections: set[_Connection] = set()
        self.log: BinaryIO | None = Path(config.truth).open("ab") if config.truth else None  # noqa: SIM115
        self.encode = msgspec.json.Encoder().encode
        self._words: dict[tuple[int, int, bool, bool], list[bytes]] = {}

    def start(self, reply: _Reply) -> None:
        if self.config.capacity is not None and self.active >= self.config.capacity:
            self.waiting.append(reply)
            return
        self.active += 1
        reply.begin()

    def end(self, reply: _Reply) -> None:
        self.active -= 1
        if self.log is not None:
            self.log.write(self.encode(reply.truth()) + b"\n")
            self.log.flush()
        while self.waiting:
            following = self.waiting.popleft()
            if not following.connection.lost:
                self.active += 1
                following.begin()
                break

    def plan(self, body: dict[str, Any], chat: bool) -> _Plan:
        """All of a request's answer, decided by the seed and the prompt."""
        config = self.config
        prompt = prompt_of(body)
        draw = random.Random(f"{config.seed}/{prompt}")
        fault = draw.choice(config.faults) if draw.random() < config.error_share else None
        words, reasoning = self._answer(prompt, body, draw)
        stream = bool(body.get("stream"))
        counts = {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": len(words) + len(reasoning),
            "total_tokens": len(prompt.split()) + len(words) + len(reasoning),
        }
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        usage = counts if config.usage == "always" or (config.usage == "option" and (asked or not stream)) else None
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        finish = "length" if limit and limit <= len(words) + len(reasoning) else "stop"
        if stream:
            chunks = self._stream(words, reasoning, chat, usage, finish)
            texts = -(-len(words) // config.tokens_per_chunk) + -(-len(reasoning) // config.tokens_per_chunk)
        else:
            chunks = [_document("".join(words), "".join(reasoning), chat, usage, finish)]
            texts = len(words) + len(reasoning)
        return _Plan(chunks, self._times(len(chunks), texts, stream, draw), fault)

    def _answer(self, prompt: str, body: dict[str, Any], draw: random.Random) -> tuple[list[str], list[str]]:
        config = self.config
        reasoning = [f"r{i} " for i in range(config.reasoning_tokens)]
        known = self.answers.get(prompt[-200:].strip())
        if known is not None:
            text = known if draw.random() < config.accuracy else config.wrong
        elif config.text is not None:
            text = config.text
        else:
            limit = body.get("max_tokens") or body.get("max_completion_tokens") or config.tokens
            return [f"w{i} " for i in range(min(config.tokens, limit))], reasoning
        words = [w for w in _split_words(text) if w]
        return words, reasoning

    def _stream(
        self, words: list[str], reasoning: list[str], chat: bool, usage: dict[str, int] | None, finish: str
    ) -> list[bytes]:
        key = (len(words), len(reasoning), chat, finish == "stop")
        plain = self.config.text is None and not self.answers
        if plain and key in self._words:
            chunks = list(self._words[key])
        else:
            chunks = _text_events(words, reasoning, chat, finish, self.config.tokens_per_chunk)
            if plain:
                self._words[key] = list(chunks)
        if usage is not None:
            chunks.append(_event({"object": "x", "choices": [], "usage": usage}))
        if self.config.done:
            chunks.append(b"data: [DONE]\n\n")
        return chunks

    def _times(self, chunks: int, texts: int, stream: bool, draw: random.Random) -> list[int]:
        """Due times after the answer's start: text chunk k comes k gaps after the first, the tail with the last."""
        config = self.config

        def jittered(seconds: float) -> float:
            return seconds * (1 + draw.uniform(-config.jitter, config.jitter)) if config.jitter else seconds

        stalled = draw.randrange(1, max(texts, 2)) if draw.random() < config.stall_share else -1
        due, out = jittered(config.ttft_s), []
        for k in range(texts):
            if k:
                due += jittered(config.gap_s) + (config.stall_s if k == stalled else 0.0)
            out.append(int(due * 1e9))
        out = out or [int(due * 1e9)]
        if not stream:
            return [out[-1]]
        return out[:chunks] + [out[-1]] * (chunks - len(out))


class _Reply:
    """One request being answered on a connection."""

    def __init__(self, server: MockServer, connection: _Connection, body: dict[str, Any], chat: bool) -> None:
        self.server, self.connection, self.body, self.chat = server, connection, body, chat
        self.arrived_ns = connection.read_ns
        self.started_ns = 0
        self.sent_ns: list[int] = []
        self.stream = bool(body.get("stream"))
        self.plan: _Plan | None = None
        self.outcome = "ok"

    def begin(self) -> None:
        self.started_ns = self.arrived_ns if self.server.config.capacity is None else now()
        self.plan = plan = self.server.plan(self.body, self.chat)
        if plan.fault in ("429", "500"):
            return self._refuse(plan.fault)
        if plan.due_ns[-1] == 0:
            return self._at_once(plan)
        if self.stream:
            self.connection.write(_head(200, b"text/event-stream", None, self.server.config.keep_alive))
        return self._wait()

    def _wait(self) -> None:
        assert self.plan is not None
        due = self.plan.due_ns[len(self.sent_ns)]
        self.server.timers.at(self.started_ns + due, self._next)

    def _next(self) -> None:
        """Send the event whose time has come; a fault strikes halfway."""
        plan, k = self.plan, len(self.sent_ns)
        assert plan is not None
        if self.connection.lost:
            self.outcome = "client left"
            return self.server.end(self)
        if plan.fault and k >= len(plan.chunks) // 2:
            return self._strike(plan, k)
        self.sent_ns.append(now())
        if not self.stream:
            self.connection.write(_head(200, b"application/json", len(plan.chunks[0]), True) + plan.chunks[0])
            return self._finished()
        last = k + 1 == len(plan.chunks)
        self.connection.write(_chunked(plan.chunks[k]) + (b"0\r\n\r\n" if last else b""))
        return self._finished() if last else self._wait()

    def _at_once(self, plan: _Plan) -> None:
        """Everything in one write: the server as fast as it can be."""
        if plan.fault:
            return self._strike(plan, 0)
        self.sent_ns = [now()] * len(plan.chunks)
        if self.stream:
            head = _head(200, b"text/event-stream", None, self.server.config.keep_alive)
            self.connection.write(head + b"".join(map(_chunked, plan.chunks)) + b"0\r\n\r\n")
        else:
            self.connection.write(_head(200, b"application/json", len(plan.chunks[0]), True) + plan.chunks[0])
        return self._finished()

    def _strike(self, plan: _Plan, k: int) -> None:
        """Fail as planned: reset, wrong JSON, end without an end, or never end at all."""
        self.outcome = plan.fault or "ok"
        connection = self.connection
        if not self.sent_ns and (not self.stream or plan.due_ns[-1] == 0):
            connection.write(_head(200, b"text/event-stream", None, True))
        if plan.fault == "endless":
            event = _chunked(plan.chunks[0] if self.stream else b": wait\n\n")
            self.sent_ns.append(now())
            connection.write(event)
            if connection.lost:
                return self.server.end(self)
            gap_ns = max(int(self.server.config.gap_s * 1e9), 1_000_000)
            return self.server.timers.at(now() + gap_ns, lambda: self._strike(plan, k))
        if plan.fault == "wrong-json":
            connection.write(_chunked(b'data: {"choices": [{"delta": \n\n') + b"0\r\n\r\n")
            return self._finished()
        if plan.fault == "reset":
            connection.reset()
        else:
            connection.hang_up()
        return self.server.end(self)

    def _refuse(self, fault: str) -> None:
        self.outcome = fault
        code = int(fault)
        words = {429: "rate limit reached", 500: "internal error"}[code]
        body = self.server.encode({"error": {"message": words, "type": "mock", "code": code}})
        self.connection.write(_head(code, b"application/json", len(body), True) + body)
        self._finished()

    def _finished(self) -> None:
        self.server.served += 1
        self.connection.reply = None
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
        }


class _Connection(asyncio.Protocol):
    """Reads requests off one connection; one answer at a time."""

    def __init__(self, server: MockServer) -> None:
        self.server = server
        self.reply: _Reply | None = None
        self.lost = False
        self.read_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass
        self.server.connections.add(self)
        self.write = self.transport.write
        self.parser = httptools.HttpRequestParser(self)

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
        try:
            body = msgspec.json.decode(b"".join(self.body), type=dict[str, Any])
        except msgspec.DecodeError as e:
            return self._plain(400, {"error": {"message": str(e)}})
        self.reply = _Reply(self.server, self, body, chat)
        return self.server.start(self.reply)

    def _get(self, path: bytes) -> None:
        if path == b"/health":
            return self._plain(200, {"status": "ok", "served": self.server.served})
        if path.endswith(b"/models"):
            return self._plain(200, {"object": "list", "data": [{"id": "mock", "object": "model"}]})
        return self._plain(404, {"error": {"message": "no such path"}})

    def _plain(self, code: int, document: dict[str, Any]) -> None:
        body = self.server.encode(document)
        self.write(_head(code, b"application/json", len(body), True) + body)

    def hang_up(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """Close with a TCP reset: unread data or not, the client sees the connection break."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            import socket
            import struct

            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def prompt_of(body: dict[str, Any]) -> str:
    """The text asked: the prompt, or the last message's content."""
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return str(messages[-1].get("content", ""))
    return str(body.get("prompt", ""))


def prompt_sha(prompt: str) -> str:
    """Key of a request in the truth log: the first 16 hex digits of the SHA-256 of `prompt_of`."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read_answers(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = Path(path).read_bytes().splitlines()
        rows = [msgspec.json.decode(line) for line in lines if line.strip()]
        return {str(r["prompt"])[-200:].strip(): str(r["answer"]) for r in rows}
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as e:
        raise UsageError(f'answers file {path}: expected one {{"prompt", "answer"}} a line ({e})') from None


def _split_words(text: str) -> list[str]:
    words = text.split(" ")
    return [w + " " for w in words[:-1]] + words[-1:]


def _text_events(words: list[str], reasoning: list[str], chat: bool, finish: str, per_chunk: int) -> list[bytes]:
    parts = [("reasoning_content", "".join(reasoning[i : i + per_chunk])) for i in range(0, len(reasoning), per_chunk)]
    parts += [("content", "".join(words[i : i + per_chunk])) for i in range(0, len(words), per_chunk)]
    events = []
    for name, text in parts:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        choice.update({"delta": {name: text}} if chat else {"text": text})
        events.append(_event({"id": "mock", "object": "chunk", "choices": [choice]}))
    tail: dict[str, Any] = {"index": 0, "finish_reason": finish, **({"delta": {}} if chat else {"text": ""})}
    return [*events, _event({"id": "mock", "object": "chunk", "choices": [tail]})]


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _document(text: str, reasoning: str, chat: bool, usage: dict[str, int] | None, finish: str) -> bytes:
    message = {"role": "assistant", "content": text, **({"reasoning_content": reasoning} if reasoning else {})}
    choice = {"index": 0, "finish_reason": finish, **({"message": message} if chat else {"text": text})}
    return msgspec.json.encode({"id": "mock", "choices": [choice], **({"usage": usage} if usage else {})})


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _head(code: int, kind: bytes, length: int | None, keep_alive: bool) -> bytes:
    size = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    extra = (b"retry-after: 1\r\n" if code == 429 else b"") + (b"" if keep_alive else b"connection: close\r\n")
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
            print(f"listening on http://{f'[{host}]' if ':' in host else host}:{actual}", flush=True)
            await stop.wait()

    run_loop(main())


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: one flag per field of `MockConfig`, plus `--host` and `--port`."""
    parser = argparse.ArgumentParser("poise mock-server", description="An OpenAI-compatible server of known truth.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    for info in msgspec.structs.fields(MockConfig):
        names = dict.fromkeys(
            (f"--{info.name.replace('_', '-')}", f"--{info.name.removesuffix('_s').replace('_', '-')}")
        )
        parser.add_argument(*names, dest=info.name, default=None, metavar="V")
    found = vars(parser.parse_args(argv))
    host, port = found.pop("host"), found.pop("port")
    given: dict[str, Any] = {k: v for k, v in found.items() if v is not None}
    if "faults" in given:
        given["faults"] = given["faults"].split(",")
    try:
        config = msgspec.convert(given, MockConfig, strict=False)
        serve(host, port, config)
    except (msgspec.ValidationError, UsageError, OSError) as e:
        sys.exit(f"mock-server: {e}")


if __name__ == "__main__":
    main()
