"""What the mock server says to whom, and when after the start of its answer: pure, decided by seed and prompt."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from poise.measure.mock_config import BLOCK, FAULTS, MockConfig
from poise.registry import did_you_mean
from poise.types import UsageError

LENGTHS = ("max_tokens", "max_completion_tokens", "min_tokens", "ignore_eos")
"""What a request may say of its answer's length."""


class Asked(Struct, frozen=True):
    """How long a request wants its answer, reasoning included: at most, at least, and whether it may end by itself."""

    most: int
    least: int
    ignore_eos: bool

    @classmethod
    def of(cls, body: dict[str, Any]) -> Asked:
        """ValueError where a length is no whole number of 0 or more."""
        most = _length(body, "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens")
        least = _length(body, "min_tokens") or 0
        if most is not None and least > most:
            raise ValueError(f"min_tokens {least} is more than max_tokens {most}")
        return cls(_MOST if most is None else most, least, most is not None and body.get("ignore_eos") is True)


def _length(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST):
        raise ValueError(f"{name} must be a whole number from 0 to {_MOST}")
    return value


_MOST = 1 << 20
"""Tokens of the longest answer: no request makes the server write more."""


class Plan(Struct, frozen=True):
    """All of one answer: the events' payloads (one document if not streamed), when each is due, and what goes wrong."""

    tokens: int
    """Output tokens, reasoning included."""
    chunks: list[bytes]
    frames: list[bytes]
    """`chunks` as they go over the wire: HTTP chunks with the end behind the last, or the document as it is."""
    due_ns: list[int]
    fault: str | None


class Script:
    """Answers for a configuration; UsageError for unknown faults or an unreadable answers file."""

    def __init__(self, config: MockConfig) -> None:
        for fault in config.faults:
            if fault not in FAULTS:
                raise UsageError(f"unknown fault {fault!r}{did_you_mean(fault, FAULTS)}")
        self.config = config
        self.answers = _read_answers(config.answers)
        self.drawn = any((config.jitter, config.stall_share, config.error_share, config.accuracy < 1))
        self.cache: set[int] = set()
        self.memory: dict[tuple[Any, ...], Plan] = {}
        self.said: dict[tuple[Any, ...], tuple[list[bytes], list[bytes], int]] = {}

    def plan(self, body: dict[str, Any], chat: bool) -> Plan:
        """A request's whole answer. What needs no draw is planned once: a burst must not queue behind planning.

        ValueError for lengths that no answer can have.
        """
        config, prompt = self.config, prompt_of(body)
        stream = bool(body.get("stream"))
        asked = bool((body.get("stream_options") or {}).get("include_usage")) or not stream
        usage = config.usage == "always" or (config.usage == "option" and asked)
        length = Asked.of(body)
        read = prompt.split()
        prompt_tokens, cached = len(read), self._cached(read) if config.prefix_cache else 0
        text = self.answers.get(_tail(prompt)) if self.answers else None
        key = (stream, usage, chat, length, prompt_tokens, cached, text)
        if self.drawn or key not in self.memory:
            draw = random.Random(f"{config.seed}/{prompt}") if self.drawn else _NO_DRAW
            fault = draw.choice(config.faults) if draw.random() < config.error_share else None
            if text is not None and draw.random() >= config.accuracy:
                text = config.wrong
            reasoning = [f"r{i} " for i in range(min(config.reasoning_tokens, length.most))]
            words = self._words(text, length, len(reasoning))
            n = len(words) + len(reasoning)
            finish = "length" if n >= length.most else "stop"
            counts: dict[str, Any] = {
                "prompt_tokens": prompt_tokens, "completion_tokens": n, "total_tokens": prompt_tokens + n
            }  # fmt: skip
            if config.prefix_cache and config.cached_usage:
                counts["prompt_tokens_details"] = {"cached_tokens": cached}
            if stream:
                chunks, frames, texts = self._stream(words, reasoning, chat, finish, counts if usage else None)
            else:
                chunks, texts = _document(words, reasoning, chat, finish, counts if usage else None)
                frames = chunks
            plan = Plan(n, chunks, frames, self._times(len(chunks), texts, draw, prompt_tokens - cached), fault)
            if self.drawn:
                return plan
            self.memory[key] = plan
        return self.memory[key]

    def _stream(
        self, words: list[str], reasoning: list[str], chat: bool, finish: str, counts: dict[str, Any] | None
    ) -> tuple[list[bytes], list[bytes], int]:
        """Events, the same as HTTP chunks, and how many carry text. What is said alike is encoded once."""
        key = (chat, finish, *words, None, *reasoning)
        if key not in self.said:
            events = []
            for name, tokens in (("reasoning_content", reasoning), ("content", words)):
                for i in range(0, len(tokens), self.config.tokens_per_chunk):
                    text = "".join(tokens[i : i + self.config.tokens_per_chunk])
                    events.append(_choice_event(chat, {"delta": {name: text}} if chat else {"text": text}, None))
            texts = len(events)
            events.append(_choice_event(chat, {"delta": {}} if chat else {"text": ""}, finish))
            self.said = {key: (events, [chunked(event) for event in events], texts)}
        events, frames, texts = self.said[key]
        tail = (
            [] if counts is None else [_event({**_head(chat, "chat.completion.chunk"), "choices": [], "usage": counts})]
        )
        tail += [b"data: [DONE]\n\n"] * self.config.done
        frames = [*frames, *map(chunked, tail)]
        frames[-1] += END
        return [*events, *tail], frames, texts

    def _words(self, text: str | None, length: Asked, before: int) -> list[str]:
        """The answer's words, after `before` tokens: cut, or continued with numbered words, to the length asked for."""
        text = self.config.text if text is None else text
        if text is None:
            words = [f"w{i} " for i in range(min(self.config.tokens, length.most))]
        else:
            cut = text.split(" ")
            words = [*(w + " " for w in cut[:-1]), *cut[-1:]]
        least = (length.most if length.ignore_eos else length.least) - before
        if len(words) < least and text is not None:
            words[-1] += " "
        words += [f"w{i} " for i in range(len(words), least)]
        return words[: length.most - before]

    def _cached(self, words: list[str]) -> int:
        """How many of a prompt's first words are in the cache; all of its whole blocks are in it from now on."""
        found, known = 0, 0
        for end in range(BLOCK, len(words) + 1, BLOCK):
            known = hash((known, *words[end - BLOCK : end]))
            found += BLOCK if known in self.cache else 0
            self.cache.add(known)
        return min(found, len(words) - 1)  # a server reads at least one token

    def _times(self, chunks: int, texts: int, draw: random.Random, read: int) -> list[int]:
        """Due times after the answer's start: text k comes k gaps after the first, what follows with the last."""
        config = self.config

        def jittered(seconds: float) -> float:
            return seconds * (1 + draw.uniform(-config.jitter, config.jitter)) if config.jitter else seconds

        stalled = draw.randrange(1, texts) if texts > 1 and draw.random() < config.stall_share else -1
        due = jittered(config.ttft_s + read * config.prefill_s)
        out = [int(due * 1e9)]
        for k in range(1, texts):
            due += jittered(config.gap_s) + (config.stall_s if k == stalled else 0.0)
            out.append(int(due * 1e9))
        return [out[-1]] if chunks == 1 else out + [out[-1]] * (chunks - len(out))


END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class _NoDraw(random.Random):
    """Seeding a generator costs more than answering; where nothing is drawn, nothing is seeded."""

    def random(self) -> float:
        return 0.0


_NO_DRAW = _NoDraw()


def prompt_of(body: dict[str, Any]) -> str:
    """The text asked: the prompt, or the last message's content."""
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return str(messages[-1].get("content", ""))
    return str(body.get("prompt", ""))


def prompt_sha(prompt: str) -> str:
    """Key of a request in the truth log: the first 16 hex digits of the SHA-256 of `prompt_of`."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _tail(prompt: str) -> str:
    return prompt[-200:].strip()


def _read_answers(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        rows = [msgspec.json.decode(line) for line in Path(path).read_bytes().splitlines() if line.strip()]
        return {_tail(str(r["prompt"])): str(r["answer"]) for r in rows}
    except (OSError, ValueError, msgspec.DecodeError, KeyError, TypeError) as e:
        raise UsageError(f'answers file {path}: expected one {{"prompt", "answer"}} a line ({e})') from None


def _head(chat: bool, kind: str) -> dict[str, Any]:
    """What every document begins with; strict clients read nothing without its `object`."""
    return {"id": "mock", "object": kind if chat else "text_completion"}


def _choice_event(chat: bool, said: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, **said, "finish_reason": finish}
    return _event({**_head(chat, "chat.completion.chunk"), "choices": [choice]})


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _document(
    words: list[str],
    reasoning: list[str],
    chat: bool,
    finish: str,
    counts: dict[str, Any] | None,
) -> tuple[list[bytes], int]:
    message = {"role": "assistant", "content": "".join(words)}
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    choice = {"index": 0, "finish_reason": finish, **({"message": message} if chat else {"text": "".join(words)})}
    document = {**_head(chat, "chat.completion"), "choices": [choice], **({"usage": counts} if counts else {})}
    return [msgspec.json.encode(document)], len(words) + len(reasoning)
