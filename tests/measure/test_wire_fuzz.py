"""Ten thousand byte streams made from known texts: nothing crashes, hangs or is lost, and valid ones are exact."""

import asyncio
import itertools
import random
import zlib
from typing import Any

import msgspec
import pytest

from poise.measure.wire import Connection, Exchange
from poise.measure.wire_answer import read_answer

CAP = 1 << 20
ALPHABET = ["a", "Z", " ", "\n", '"', "\\", "é", "€", "语", "🙂", "\u2028", "data: ", "[DONE]", "\r", "\t", "\x00"]
Valid = tuple[list[str], bytes]


class FakeTransport:
    """Takes what is written; the test plays the server."""

    def __init__(self) -> None:
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return object()  # "sslcontext": the bytes must go through `write`

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def some_text(rng: random.Random) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(1, 8)))


def stream_of(pieces: list[str], rng: random.Random) -> bytes:
    """A valid event stream that says `pieces`, in one of the many spellings the format allows."""
    end = rng.choice(["\n", "\r\n", "\r"])
    chat, ascii_only, space = rng.random() < 0.5, rng.random() < 0.3, rng.choice(["", " "])
    lines: list[str] = []

    def event(document: Any) -> None:
        if rng.random() < 0.2:
            lines.append(rng.choice([": keep-alive", "id: 7", "event: message", "retry: 10", "unknown"]))
        data = msgspec.json.encode(document).decode()
        if ascii_only:
            data = "".join(c if ord(c) < 128 else escaped(c) for c in data)
        if rng.random() < 0.1:
            data = data.replace(',"', ',\n"', 1) if '","' not in data and ',"' in data else data
        lines.extend(f"data:{space}{part}" for part in data.split("\n"))
        lines.append("")
        if rng.random() < 0.1:
            lines.extend([": comment", ""])

    if rng.random() < 0.5:
        event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    for piece in pieces:
        event({"choices": [{"index": 0, **({"delta": {"content": piece}} if chat else {"text": piece})}]})
    event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if rng.random() < 0.5:
        event({"choices": [], "usage": {"completion_tokens": len(pieces)}})
    if rng.random() < 0.7:
        lines.extend([f"data:{space}[DONE]", ""])
    return (end.join(lines) + end).encode()


def escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def cut(data: bytes, rng: random.Random, most: int) -> list[bytes]:
    points = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(most)))
    return [data[a:b] for a, b in itertools.pairwise([0, *points, len(data)]) if b > a]


def reply_of(body: bytes, rng: random.Random) -> bytes:
    """An HTTP/1.1 reply with this body: chunked, of known length, or ended by the connection; maybe compressed."""
    coding = rng.choice([None, None, None, "gzip", "deflate"])
    if coding:
        squeeze = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
        body = squeeze.compress(body) + squeeze.flush()
    head = [b"HTTP/1.1 200 OK", b"content-type: text/event-stream; charset=utf-8"]
    if coding:
        head.append(f"Content-Encoding: {coding}".encode())
    framing = rng.choice(["chunked", "chunked", "length", "close"])
    if framing == "chunked":
        head.append(b"transfer-encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in cut(body, rng, 12)) + b"0\r\n\r\n"
    elif framing == "length":
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def damage(data: bytes, rng: random.Random) -> bytes:
    kind, at = rng.randrange(4), rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
    return data[:at] + data[rng.randrange(at, len(data)) :]


async def played(reply: bytes, rng: random.Random) -> Exchange:
    """The exchange that results when a server sends `reply` in random reads and then closes."""
    connection = Connection(CAP)
    transport: Any = FakeTransport()
    connection.connection_made(transport)
    task = asyncio.create_task(connection.run(b"request", 30.0))
    await asyncio.sleep(0)
    for part in cut(reply, rng, 20):
        if connection.exchange is None:
            break
        connection.data_received(part)
    if connection.exchange is not None:
        connection.connection_lost(rng.choice([None, ConnectionResetError()]))
    return await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("block", range(10))
def test_no_crash_no_hang_nothing_lost_and_valid_streams_exact(block: int) -> None:
    async def main() -> int:
        exact = 0
        for seed in range(block * 1000, block * 1000 + 1000):
            rng = random.Random(seed)
            pieces = [some_text(rng) for _ in range(rng.randrange(0, 12))]
            whole = reply_of(stream_of(pieces, rng), rng)
            damaged = rng.random() < 0.5
            reply = damage(whole, rng) if damaged else whole
            exchange = await played(reply, rng)
            stamps, answer = read_answer(exchange, CAP, None)
            assert len(stamps) == len(answer.pieces), seed
            assert all(a <= b for (a, _), (b, _) in itertools.pairwise(stamps)), seed
            assert (answer.status == "ok") == (answer.error is None), seed
            if not damaged or reply == whole:
                if exchange.failure is None:
                    assert (answer.status, answer.pieces) == ("ok", pieces), seed
                    exact += 1
                else:  # ended by a reset where only the connection's end could have told that all was there
                    assert answer.pieces == pieces and answer.error.kind == "reset", seed
            elif reply == whole[: len(reply)]:
                assert answer.pieces == pieces[: len(answer.pieces)], seed
        return exact

    assert asyncio.run(main()) > 400, "most undamaged streams must have been read to their end"


def test_an_event_has_the_time_of_the_read_that_completed_it() -> None:
    """Every way to cut a stream in two: each event belongs to the read with the last byte of its blank line."""
    body = b'data: {"choices": [{"text": "\xc3\xa9"}]}\r\n\r\ndata: {"choices": [{"text": "b"}]}\n\ndata: [DONE]\n\n'
    ends = [body.index(b"\r\n\r\n") + 4, body.index(b'"b"}]}\n\n') + 8]
    for at in range(1, len(body)):
        exchange = Exchange()
        exchange.code, exchange.headers_ns = 200, 1
        exchange.parts = [body[:at], body[at:]]
        exchange.times.extend([10, 20])
        exchange.stops.extend([1, 2])
        stamps, answer = read_answer(exchange, CAP, None)
        assert answer.pieces == ["é", "b"]
        assert [ns for ns, _ in stamps] == [10 if end <= at else 20 for end in ends], at


def read_events(datas: list[str]) -> tuple[list[str], str]:
    exchange = Exchange()
    exchange.code, exchange.headers_ns, exchange.framed = 200, 1, True
    for i, data in enumerate(datas):
        exchange.parts.append(f"data: {data}\n\n".encode())
        exchange.times.append(i)
        exchange.stops.append(i + 1)
    _, answer = read_answer(exchange, CAP, None)
    return answer.pieces, answer.status


@pytest.mark.parametrize("at", [0, 63, 64, 150])
def test_events_read_in_one_go_are_those_read_one_by_one(at: int) -> None:
    """Decoding many lines in one call must not accept what one by one would be refused."""
    good = [f'{{"choices": [{{"text": "{i}"}}]}}' for i in range(200)]
    pieces = [str(i) for i in range(200)]
    assert read_events([*good, "[DONE]"]) == (pieces, "ok")
    two, halves = '{"choices": []}, {"choices": []}', ['{"choices": [', "]}"]
    for bad in (["nonsense"], ["1"], [two], halves, [*halves, two], [two, *halves], ['{"error": "out of memory"}']):
        assert read_events([*good[:at], *bad, *good[at:], "[DONE]"]) == (pieces[:at], "error"), bad
    spread = ['{"choices":\ndata: [{"text": "x"}]}', "", '{"choices": [{"text": "y"}], "n": [1,\ndata: 2]}']
    assert read_events([*good[:at], *spread, *good[at:], "[DONE]"]) == ([*pieces[:at], "x", "y", *pieces[at:]], "ok")
