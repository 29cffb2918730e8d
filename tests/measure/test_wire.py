"""The wire against small scripted servers: framing, reuse, limits, proxies, TLS, unix sockets, IPv6."""

import asyncio
import contextlib
import gzip
import shutil
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain

import pytest

from poise.measure import loop, wire_pool
from poise.measure.presets import PRESETS
from poise.measure.ready import check_reachable
from poise.measure.wire_answer import read_answer, retry_after_s
from poise.measure.wire_pool import Pool
from poise.measure.wire_target import parse_target
from poise.types import UsageError

CAP = 1 << 20
GENERIC = PRESETS["generic"]
REQUEST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
TEXT = b'{"choices": [{"text": "hello", "finish_reason": "stop"}]}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(TEXT), TEXT)


class Script:
    """A server that answers request k with reply k; `seen` holds what it read, by connection. None: hang up."""

    def __init__(self, *replies: bytes | None, pause_s: float = 0.0) -> None:
        self.replies, self.pause_s = list(replies), pause_s
        self.seen: list[list[bytes]] = []
        self.tasks: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine: list[bytes] = []
        self.seen.append(mine)
        self.tasks.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(2) if b"content-length: 2" in head else b""
                mine.append(head + body)
                reply = self.replies.pop(0)
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
                if b"connection: close" in reply:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def pool_for(script, base_url=None, *, host="127.0.0.1", path=None, tls=None, max_bytes=CAP, max_idle_s=4.0):
    if path:
        server = await asyncio.start_unix_server(script, path)
    else:
        server = await asyncio.start_server(script, host, 0, ssl=tls)
    port = 0 if path else server.sockets[0].getsockname()[1]
    pool = Pool(
        parse_target((base_url or "http://127.0.0.1:{port}").format(port=port), GENERIC), max_bytes, 5, max_idle_s
    )
    try:
        yield pool, port
    finally:
        pool.close()
        server.close()
        for writer in script.tasks:
            writer.close()
        await asyncio.sleep(0.01)


def exchanges(script, *, n=1, deadline_s=5.0, **how):
    async def main():
        async with pool_for(script, **how) as (pool, _):
            return [await pool.request(REQUEST, deadline_s) for _ in range(n)]

    return loop.run(main())


def text_of(exchange):
    return "".join(read_answer(exchange, CAP, None)[1].pieces)


def test_keep_alive_uses_one_connection(monkeypatch):
    monkeypatch.setattr(wire_pool, "LINGER_NS", 0)
    script = Script(OK, OK, OK)
    assert [text_of(e) for e in exchanges(script, n=3)] == ["hello"] * 3
    assert script.seen == [[REQUEST] * 3]


def test_works_on_asyncios_own_loop():
    async def main():
        async with pool_for(Script(OK, OK)) as (pool, _):
            await pool.warm(2)
            return text_of(await pool.request(REQUEST, 5)), text_of(await pool.request(REQUEST, 5))

    assert asyncio.run(main()) == ("hello", "hello")


def test_warming_takes_what_it_gets(monkeypatch):
    async def main(allowed):
        async with pool_for(Script(OK)) as (pool, _):
            connect, made = pool.connect, []

            async def limited():
                if len(made) >= allowed:
                    raise ConnectionRefusedError("full")
                made.append(1)
                return await connect()

            monkeypatch.setattr(pool, "connect", limited)
            await pool.warm(50)
            return len(pool.idle)

    assert loop.run(main(10)) == 10
    with pytest.raises(ConnectionRefusedError):
        loop.run(main(0))


def test_a_request_larger_than_the_kernel_takes_at_once():
    body = b"x" * 20_000_000
    received = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        received.append(await reader.readexactly(len(body)))
        writer.write(OK)
        serve.tasks.append(writer)

    async def main():
        serve.tasks = []
        async with pool_for(serve) as (pool, _):
            return text_of(await pool.request(b"POST / HTTP/1.1\r\ncontent-length: 20000000\r\n\r\n" + body, 20))

    assert loop.run(main()) == "hello" and received == [body]


@pytest.mark.parametrize("kind", [b"text/plain", b"application/octet-stream", b"application/json; charset=utf-8"])
def test_a_document_is_known_by_its_first_byte(kind):
    [exchange] = exchanges(Script(OK.replace(b"application/json", kind)))
    assert text_of(exchange) == "hello"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "stream held no answer"),
        (b"<html>hello</html>", "no event stream: <html>"),
        (b'{"object": "list", "data": []}', "holds no choice"),
        (b"[" * 100_000, "no event stream"),
        (b'data: {"error": {"message": "CUDA out of memory"}}\n\n', "the server reported: CUDA out of memory"),
        (b"data: " + b'{"a":' * 50_000 + b"\n\n", "what is no completion"),
    ],
)
def test_a_200_without_an_answer_is_a_failure(body, message):
    [exchange] = exchanges(Script(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)))
    _, answer = read_answer(exchange, CAP, None)
    assert answer.status == "error" and message in answer.error.message and len(answer.error.message) <= 500


def test_connection_close_and_idle_limit_lead_to_a_new_connection():
    script = Script(OK.replace(b"content-length", b"connection: close\r\ncontent-length"), OK, OK)
    assert [text_of(e) for e in exchanges(script, n=3, max_idle_s=0.0)] == ["hello"] * 3
    assert script.seen == [[REQUEST]] * 3


def test_a_server_that_hangs_up_although_it_promised_not_to_loses_nothing():
    """llama.cpp's server does after each stream: what is sent on the old connection meanwhile would be lost."""
    heads = []

    async def hasty(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK.replace(b"content-length", b"keep-alive: timeout=5, max=100\r\ncontent-length"))
        writer.close()

    hasty.tasks = []

    async def lane(pool):
        return [text_of(await pool.request(REQUEST, 5)) for _ in range(5)]

    async def main():
        async with pool_for(hasty) as (pool, _):
            first = await lane(pool)
            await pool.warm(8)
            rest = await asyncio.gather(*(lane(pool) for _ in range(8)))
            return [*first, *chain(*rest)]

    assert loop.run(main()) == ["hello"] * 45 and len(heads) == 45


def test_a_server_that_keeps_connections_is_known_before_the_clock():
    async def main():
        script = Script(*[OK] * 9)
        async with pool_for(script) as (pool, _):
            await pool.request(REQUEST, 5)
            await pool.warm(1)
            for _ in range(8):
                await pool.request(REQUEST, 5)
            return len(script.seen)

    assert loop.run(main()) == 1


def test_after_a_stream_without_a_byte_the_connection_is_not_used_again():
    """llama_cpp.server fails behind its head where a prompt is too long: an empty stream, and soon it hangs up."""
    empty = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"

    async def main():
        script = Script(OK, empty, OK)
        async with pool_for(script) as (pool, _):
            await pool.request(REQUEST, 5)
            await pool.warm(1)
            texts = [text_of(await pool.request(REQUEST, 5)) for _ in range(2)]
            return texts, [len(requests) for requests in script.seen]

    assert loop.run(main()) == (["", "hello"], [2, 1])


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("This model's maximum context length is 1024 tokens. However, you requested 3628 tokens", "context"),
        ("the request exceeds the available context size, try increasing it", "context"),
        ("The decoder prompt (length 10127) is longer than the maximum model length of 8192.", "context"),
        ("The input (61709 tokens) is longer than the model's context length (40960 tokens).", "context"),
        ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048", "context"),
        ("temperature must be at least 0", None),
    ],
)
def test_a_prompt_that_is_too_long_is_known_by_what_the_server_says(message, kind):
    """As OpenAI (and llama_cpp.server), llama-server, vLLM, SGLang and TGI put it."""
    body = b'{"error": {"message": "%s"}}' % message.encode()
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    event = b"data: " + body + b"\n\n"
    stream = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(event), event)
    failures = [read_answer(e, CAP, None)[1].error for e in exchanges(Script(refusal, stream), n=2)]
    assert [f.kind for f in failures] == [kind or "http", kind or "engine"]
    assert all(message in f.message for f in failures)


def test_connections_that_rest_do_not_pile_up():
    async def main():
        script = Script(*[OK] * 200)
        async with pool_for(script) as (pool, _):
            for _ in range(200):
                assert (await pool.request(REQUEST, 5)).code == 200
            return len(script.seen)

    assert loop.run(main()) <= 40


def test_a_connection_that_died_while_idle_is_replaced_before_bytes_are_sent():
    async def main():
        script = Script(OK, OK)
        async with pool_for(script) as (pool, _):
            first = await pool.request(REQUEST, 5)
            script.tasks[0].close()
            await asyncio.sleep(0.05)
            return text_of(first), text_of(await pool.request(REQUEST, 5)), script.seen

    assert loop.run(main()) == ("hello", "hello", [[REQUEST], [REQUEST]])


def test_nothing_is_repeated_after_bytes_were_sent():
    script = Script(OK, None, OK)
    first, second, third = exchanges(script, n=3)
    assert text_of(first) == text_of(third) == "hello"
    assert second.failure.kind == "closed" and "before it answered" in second.failure.message
    assert sum(map(len, script.seen)) == 3


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 2_100_000, "too_large"),
        (
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"h%d: %s\r\n" % (i, b"y" * 1000) for i in range(300)) + b"\r\n",
            "protocol",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\nconnection: close\r\n\r\nshort", "closed"),
    ],
)
def test_what_is_no_proper_reply_is_named(reply, kind):
    script = Script(reply, OK)
    bad, good = exchanges(script, n=2)
    assert bad.failure.kind == kind
    assert text_of(good) == "hello", "the next request gets a fresh connection"


def test_interim_replies_are_passed_over():
    script = Script(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
    [exchange] = exchanges(script)
    assert exchange.code == 200 and text_of(exchange) == "hello"


def test_a_second_unasked_reply_is_not_the_next_answer():
    other = OK.replace(b"hello", b"WRONG")
    first, second = exchanges(Script(OK + other, OK), n=2)
    assert text_of(first) == text_of(second) == "hello"


def test_body_ended_by_the_connection():
    script = Script(
        b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {"choices":[{"text":"hello"}]}\n\ndata: [DONE]\n\n'
    )
    [exchange] = exchanges(script)
    assert exchange.failure is None and text_of(exchange) == "hello"


def test_deadline_keeps_what_arrived_and_frees_the_wire():
    stuck = b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\ndata: {"choices":[{"text":"hel"}]}\n\n'
    late, fine = exchanges(Script(stuck, OK), n=2, deadline_s=0.2)
    _, answer = read_answer(late, CAP, None)
    assert (answer.status, answer.error.kind, answer.pieces) == ("timeout", "timeout", ["hel"])
    assert text_of(fine) == "hello"


def test_redirects_are_not_followed():
    script = Script(b"HTTP/1.1 307 Moved\r\nlocation: http://evil.example/v1\r\ncontent-length: 0\r\n\r\n")
    [exchange] = exchanges(script)
    _, answer = read_answer(exchange, CAP, None)
    assert answer.error.http_status == 307 and "http://evil.example/v1 not followed" in answer.error.message


def test_compressed_replies_are_read_and_bombs_refused():
    def zipped(body):
        data = gzip.compress(body)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
        return b"%scontent-length: %d\r\n\r\n%s" % (head, len(data), data)

    small, bomb = exchanges(Script(zipped(TEXT), zipped(b" " * (CAP + 1) + TEXT)), n=2)
    assert text_of(small) == "hello"
    _, answer = read_answer(bomb, CAP, None)
    assert answer.error.kind == "parse" and "decompresses to more than" in answer.error.message


def test_errors_are_one_clean_line_without_keys():
    body = b'{"error": {"message": "bad key sk-abcdefghijklmnop and my-secret\\n\\u001b[31mred"}}'
    script = Script(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    [exchange] = exchanges(script)
    message = read_answer(exchange, CAP, "my-secret")[1].error.message
    assert message == "HTTP 401: bad key [redacted] and [redacted] [31mred"


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (b"2", 2, 2),
        (b" 0.5 ", 0.5, 0.5),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True).encode(), 3000, 3601),
    ],
)
def test_how_long_a_server_asks_to_wait(text, least, most):
    script = Script(b"HTTP/1.1 503 Busy\r\nRetry-After: %s\r\ncontent-length: 0\r\n\r\n" % text)
    assert least <= retry_after_s(exchanges(script)[0]) <= most


@pytest.mark.parametrize("text", [b"", b"soon", b"-3", b"9" * 400, b"Wed, 99 Oct 99999 07:28:00 GMT", b"1e3x", b"\xff"])
def test_a_wait_that_makes_no_sense_is_none(text):
    script = Script(b"HTTP/1.1 503 Busy\r\nRetry-After: %s\r\ncontent-length: 0\r\n\r\n" % text)
    assert retry_after_s(exchanges(script)[0]) is None


def test_cancelling_a_request_gives_its_connection_up():
    async def main():
        script = Script(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", OK)
        async with pool_for(script) as (pool, _):
            task = asyncio.create_task(pool.request(REQUEST, 5))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return text_of(await pool.request(REQUEST, 5)), len(script.seen)

    assert loop.run(main()) == ("hello", 2)


def test_unix_socket(tmp_path):
    path = str(tmp_path / "s")
    for url in (f"unix:{path}", "http+unix://" + path.replace("/", "%2F") + "/v1"):
        [exchange] = exchanges(Script(OK), path=path, base_url=url)
        assert text_of(exchange) == "hello"


def test_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this host has no IPv6 loopback")
    [exchange] = exchanges(Script(OK), host="::1", base_url="http://[::1]:{port}/v1")
    assert text_of(exchange) == "hello"


def test_plain_proxy_gets_the_absolute_address(monkeypatch):
    async def main():
        script = Script(OK)
        async with pool_for(script) as (_, port):
            monkeypatch.setenv("http_proxy", f"http://me:pw@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "direct.example")
            target = parse_target("http://far.example:8000/v1", GENERIC)
            assert parse_target("http://direct.example/v1", GENERIC).proxy is None
            assert parse_target("http://localhost:1/v1", GENERIC).proxy is None
            assert target.line_path("/completions") == "http://far.example:8000/v1/completions"
            assert target.proxy_auth == "Basic bWU6cHc="  # base64 of "me:pw"
            check_reachable(target, 5, None)
            pool = Pool(target, CAP, 5, 4)
            out = text_of(await pool.request(REQUEST, 5))
            pool.close()
            return out

    assert loop.run(main()) == "hello"


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = "subjectAltName=DNS:localhost,DNS:far.example"
    command = ["openssl", *how.split(), "-keyout", key, "-out", cert, "-addext", names]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    return context


def test_tls_verifies_and_works(certificate, monkeypatch):
    [exchange] = exchanges(Script(OK), tls=certificate, base_url="https://localhost:{port}/v1")
    assert text_of(exchange) == "hello"
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ssl.SSLCertVerificationError):
        exchanges(Script(OK), tls=certificate, base_url="https://localhost:{port}/v1")


def test_a_server_without_trust_or_tls_is_one_sentence_that_says_what_to_do(certificate, monkeypatch):
    async def refuse(reader, writer):  # as an HTTP server does that is greeted in TLS
        await reader.read(1024)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def knocked(**how):
        async with await asyncio.start_server(refuse, "127.0.0.1", 0, **how) as server:
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
            await asyncio.to_thread(check_reachable, parse_target(url, GENERIC), 5, None)

    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UsageError, match=r"is not trusted .*SSL_CERT_FILE"):
        loop.run(knocked(ssl=certificate))
    with pytest.raises(UsageError, match="say http://"):
        loop.run(knocked())


def test_tls_through_a_proxy_tunnel(certificate, monkeypatch):
    asked = []

    async def proxy(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0])
        if b"forbidden.example" in head:
            writer.write(b"HTTP/1.1 403 no\r\n\r\n")
            return writer.close()
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", asked_port[0])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        return None

    asked_port = []

    async def main():
        async with pool_for(Script(OK), tls=certificate) as (_, port):
            asked_port.append(port)
            server = await asyncio.start_server(proxy, "127.0.0.1", 0)
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            pool = Pool(parse_target("https://far.example/v1", GENERIC), CAP, 5, 4)
            out = text_of(await pool.request(REQUEST, 5))
            pool.close()
            with pytest.raises(ConnectionError, match=r"the proxy refused \(403\)"):
                await Pool(parse_target("https://forbidden.example/v1", GENERIC), CAP, 5, 4).request(REQUEST, 5)
            server.close()
            await asyncio.sleep(0.05)
            return out

    assert loop.run(main()) == "hello"
    assert asked[0] == b"CONNECT far.example:443 HTTP/1.1"
