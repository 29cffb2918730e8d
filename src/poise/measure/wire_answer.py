"""An exchange's bytes as text with times: decompression, JSON, errors. Runs after the clock has stopped.

Understands chat and text completions, streamed or not, with or without usage, `[DONE]` and reasoning fields
(`reasoning_content` of DeepSeek, vLLM, SGLang; `reasoning` of Ollama, OpenRouter, newer vLLM).
"""

from __future__ import annotations

import math
import re
import time
import zlib
from collections.abc import Generator
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from poise.measure.redact import redact
from poise.measure.sse import event_data, split_events
from poise.measure.wire import Exchange
from poise.protocols import Answer
from poise.types import Failure

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that gives way between steps of about 0.1 ms, so that arrivals need not wait for it."""
MESSAGE_CHARS = 500
EVENTS_A_STEP = 64
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TOO_LONG = re.compile(
    r"context.?(length|size|window)|maximum (model|allowed) length|max_new_tokens. must be|prompt is too long",
    re.IGNORECASE,
)
"""How servers (OpenAI, vLLM, SGLang, llama.cpp, TGI, Anthropic) say that a request does not fit the model's context."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class _Text(Struct, gc=False):
    """A streamed `delta` or a complete `message`."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None


class _Choice(Struct, gc=False):
    index: Any = 0
    delta: _Text | None = None
    message: _Text | None = None
    text: Any = None
    logprobs: Any = None
    finish_reason: Any = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Chunk)


def finished(steps: Steps[T]) -> T:
    """The result of steps, taken all at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def read_answer(exchange: Exchange, max_bytes: int, secret: str | None) -> tuple[list[tuple[int, str]], Answer]:
    """(one (ns, text) per piece, the answer). What arrived before a failure is kept."""
    return finished(answer_steps(exchange, max_bytes, secret))


def answer_steps(exchange: Exchange, max_bytes: int, secret: str | None) -> Steps[tuple[list[tuple[int, str]], Answer]]:
    """`read_answer` in steps."""
    answer = Answer(status="timeout" if exchange.timed_out else "ok", error=exchange.failure)
    if exchange.failure is not None and not exchange.timed_out:
        answer.status = "error"
    segments, trouble = body_segments(exchange, max_bytes)
    if exchange.headers_ns is not None and exchange.code != 200:
        answer.status, answer.error = "error", _http_failure(exchange, b"".join(d for _, d in segments), secret)
        return [], answer
    reader = _Reader(answer, secret)
    if trouble:
        reader.fail("parse", trouble)
    kind = exchange.header(b"content-type").partition(";")[0].strip().lower()
    first = segments[0][1].lstrip()[:1] if segments else b""
    if first == b"{" or (kind == "application/json" and not first):  # some servers label their documents as text
        _read_document(reader, segments, complete=exchange.failure is None)
    else:
        yield from _read_stream(reader, segments, complete=exchange.failure is None, framed=exchange.framed)
    answer.pieces = [text for _, text in reader.stamps]
    if "r" in reader.kinds:
        answer.piece_kinds = "".join(reader.kinds)
    if reader.logprobs:
        answer.token_logprobs = reader.logprobs
    return reader.stamps, answer


class _Reader:
    """Collects pieces from decoded chunks into an answer; the first thing that goes wrong stands."""

    def __init__(self, answer: Answer, secret: str | None) -> None:
        self.answer, self.secret = answer, secret
        self.stamps: list[tuple[int, str]] = []
        self.kinds: list[str] = []
        self.logprobs: list[float] = []

    def fail(self, kind: str, message: str) -> None:
        if self.answer.error is None:
            self.answer.status, self.answer.error = "error", Failure(kind, clean(message, self.secret))

    def take(self, ns: int, data: bytes) -> bool:
        """One event's or one document's JSON; False where it is none (or none of the known shape)."""
        if not data:  # an empty event
            return True
        try:
            chunk = _DECODER.decode(data)
        except NOT_JSON as e:
            self.fail("parse", f"the server sent what is no completion ({e}): {data[:200].decode('utf-8', 'replace')}")
            return False
        return self._chunk(ns, chunk)

    def take_all(self, stamps: list[int], datas: list[bytes]) -> bool:
        """`take` for each, False at the first that fails; decoded in one call where all are well-formed."""
        lines = b"\n".join(datas)
        try:  # as many values as lines, and a line feed between values only: so each line is one value
            chunks = _DECODER.decode_lines(lines) if lines.count(b"\n") == len(datas) - 1 else []
        except NOT_JSON:
            chunks = []
        if len(chunks) != len(datas):
            return all(self.take(ns, data) for ns, data in zip(stamps, datas, strict=True))
        return all(map(self._chunk, stamps, chunks))

    def _chunk(self, ns: int, chunk: _Chunk) -> bool:
        if chunk.error is not None:
            said = _error_text(chunk.error)
            self.fail(_reason(said, "engine"), f"the server reported: {said}")
            return False
        if chunk.usage is not None:
            self.answer.usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index:
                continue
            text = choice.delta or choice.message
            if text is not None:
                if reasoning := text.reasoning_content or text.reasoning:
                    self._piece(ns, reasoning, "r")
                if visible := text.content or text.refusal:
                    self._piece(ns, visible, "v")
            if choice.text:
                self._piece(ns, choice.text, "v")
            if choice.logprobs is not None:
                self.logprobs += token_logprobs(choice.logprobs)
            if choice.finish_reason is not None:
                self.answer.finish_reason = str(choice.finish_reason)
        return True

    def _piece(self, ns: int, text: Any, kind: str) -> None:
        if isinstance(text, str):
            self.stamps.append((ns, text))
            self.kinds.append(kind)
        elif isinstance(text, list):  # content parts: [{"type": "text", "text": …}, …]
            for part in text:
                if isinstance(part, dict):
                    self._piece(ns, part.get("text") or [], kind)
                    self._piece(ns, part.get("thinking") or [], "r")


def _read_stream(reader: _Reader, segments: list[tuple[int, bytes]], complete: bool, framed: bool) -> Steps[None]:
    stamps, datas, rest = split_events(segments)
    done = b"[DONE]" in datas
    end = datas.index(b"[DONE]") if done else len(datas)
    for start in range(0, end, EVENTS_A_STEP):
        yield
        stop = min(start + EVENTS_A_STEP, end)
        if not reader.take_all(stamps[start:stop], datas[start:stop]):
            return
    if not done and rest.strip():
        last = event_data(rest.strip(b"\r\n"))
        if last == b"[DONE]":
            done = True
        elif last is not None and (complete or _is_json(last)):
            reader.take(segments[-1][0], last)
        elif last is None and complete and not rest.lstrip().startswith(b":"):
            reader.fail("parse", f"the server sent no event stream: {rest[:200].decode('utf-8', 'replace')}")
    ended = done or reader.answer.finish_reason is not None
    if complete and not ended and not framed:
        reader.fail("closed", "the server closed the connection before the answer had ended")
    elif complete and not ended and not reader.stamps:
        why = "its log may say why; often the prompt is longer than the model's context"
        reader.fail("parse", f"the server's stream held no answer ({why})")


def _read_document(reader: _Reader, segments: list[tuple[int, bytes]], complete: bool) -> None:
    if not segments:
        return reader.fail("parse", "the server sent an empty answer")
    if complete:
        reader.take(segments[-1][0], b"".join(d for _, d in segments))
        if not reader.stamps and reader.answer.finish_reason is None:
            reader.fail("parse", "the server's answer holds no choice")
    return None


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except NOT_JSON:
        return False
    return True


def token_logprobs(logprobs: Any) -> list[float]:
    """The log-probabilities of generated tokens, of a chat's `content` list or a text completion's `token_logprobs`."""
    if not isinstance(logprobs, dict):
        return []
    content = logprobs.get("content")
    if isinstance(content, list):
        values = [t.get("logprob") for t in content if isinstance(t, dict)]
    else:
        values = logprobs.get("token_logprobs") or []
    return [float(v) for v in values if isinstance(v, int | float)]


def body_segments(exchange: Exchange, max_bytes: int) -> tuple[list[tuple[int, bytes]], str | None]:
    """The body's segments, decompressed where the server insisted, and what went wrong if anything did."""
    segments = exchange.segments()
    coding = exchange.header(b"content-encoding").strip().lower()
    if coding in ("", "identity"):
        return segments, None
    if coding not in ("gzip", "x-gzip", "deflate"):
        return [], f"the server sent content-encoding {coding!r} although none was accepted"
    raw_deflate = coding == "deflate" and segments and segments[0][1][:1] and segments[0][1][0] & 0x0F != 8
    inflater = zlib.decompressobj(-15 if raw_deflate else 47)
    out: list[tuple[int, bytes]] = []
    left = max_bytes
    for ns, data in segments:
        try:
            plain = inflater.decompress(data, left + 1)
        except zlib.error as e:
            return out, f"the compressed answer is damaged ({e})"
        left -= len(plain)
        if left < 0:
            return out, f"the answer decompresses to more than {max_bytes} bytes"
        if plain:
            out.append((ns, plain))
    return out, None


def _http_failure(exchange: Exchange, body: bytes, secret: str | None) -> Failure:
    text = body[:20_000].decode("utf-8", "replace")
    try:
        document = msgspec.json.decode(body)
        text = _error_text(document.get("error", document) if isinstance(document, dict) else document)
    except NOT_JSON:
        text = re.sub(r"<[^>]*>", " ", text)
    facts = [f"HTTP {exchange.code}"]
    if retry := exchange.header(b"retry-after"):
        facts.append(f"retry after {retry}")
    if 300 <= exchange.code < 400:
        facts.append(f"redirect to {exchange.header(b'location')} not followed; put the final address into base_url")
    return Failure(_reason(text, "http"), clean(f"{', '.join(facts)}: {text}", secret), exchange.code)


def _reason(text: str, kind: str) -> str:
    """The kind of a failure by what the server says of it: `context` where the prompt was too long, as in process."""
    return "context" if _TOO_LONG.search(text) else kind


def retry_after_s(exchange: Exchange) -> float | None:
    """Seconds the server asks to wait (RFC 9110 §10.2.3: a number or a date); None where it says nothing of sense."""
    text = exchange.header(b"retry-after").strip()
    try:
        seconds = float(text) if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return round(max(0.0, seconds), 3) if math.isfinite(seconds) else None


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        for key in ("message", "detail", "error"):
            if error.get(key):
                return _error_text(error[key])
    return error if isinstance(error, str) else msgspec.json.encode(error).decode()


def clean(text: str, secret: str | None) -> str:
    """One line of at most 500 characters without control characters and without anything that looks like a key."""
    if secret:
        text = text.replace(secret, "[redacted]")
    text = redact(_CONTROL.sub(" ", text)).strip()
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"
