"""A backend without a model: scripted answers on a virtual clock, so that every statistic can be tested exactly.

Times are computed, not waited for: the clock starts at 0 in each worker and moves by the script alone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from poise.plan.spec import Deployment, Model
from poise.protocols import Answer, Opened, Raw
from poise.types import Failure, Request, UsageError


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    answers: dict[str, str] | str = "echo"
    """`echo` (the prompt), a JSON file, or a mapping: request id or sample id -> text; `*` for all others."""
    logprobs: dict[str, list[list[float]]] = field(default_factory=dict)
    """Request or sample id (or `*`) -> log-probabilities of every token of every continuation."""
    fail: dict[str, str] = field(default_factory=dict)
    """Request or sample id -> how it fails: `timeout`, or a kind of error such as `http`."""
    ttft_s: float = 0.05
    gap_s: float = 0.01
    tokens_per_chunk: int = 1
    crash_after: int | None = None
    """The worker process dies while answering this request (1 = the first)."""
    sleep_s: float = 0.0
    """Real seconds each request takes, for tests that interrupt a run."""


class Scripted:
    name = "scripted"
    reads = ("scripted", "api", "hf", "onnx", "gguf")
    capabilities = frozenset({"stream", "batch", "score", "chat", "exact_length"})
    Options = Options

    def open(self, model: Model, deployment: Deployment) -> Opened:
        self._options = msgspec.convert(deployment.options, Options)
        self._answers = _answers(self._options.answers)
        self._now_ns = 0
        self._asked = 0
        return Opened(versions={"scripted": "1"}, settings={"clock": "virtual"})

    def prepare(self, request: Request) -> tuple[Request, list[str]]:
        """The request and its scripted answer as tokens: words, each with the blanks before it."""
        text = _find(self._answers, request)
        if text is None:
            text = request.prompt if request.messages is None else request.messages[-1].content
        words = _words(text or "")
        if 0 < request.min_tokens >= request.max_tokens:
            words = (words or ["x"]) * (request.max_tokens // max(1, len(words)) + 1)
        return request, words[: request.max_tokens]

    def send(self, batch: list[tuple[Request, list[str]]]) -> list[Raw]:
        sent = self._now_ns
        raws = [self._answer(request, words, sent) for request, words in batch]
        self._now_ns = max((raw.done_ns or sent for raw in raws), default=sent)
        return raws

    def finish(self, prepared: tuple[Request, list[str]], raw: Raw) -> Answer:
        request, words = prepared
        answer = Answer(pieces=[piece for _, piece in raw.stamps], status=raw.status, error=raw.error)
        if raw.status == "error":
            return answer
        prompt = request.prompt if request.messages is None else " ".join(m.content for m in request.messages)
        read = request.prompt_tokens or len(_words(prompt or ""))
        answer.usage = {"prompt_tokens": read, "completion_tokens": 0}
        if request.kind == "choice":
            answer.option_logprobs = raw.data
        elif request.kind == "windows":
            answer.token_logprobs = raw.data
        elif raw.status == "ok":
            answer.output_tokens = answer.usage["completion_tokens"] = len(words)
            answer.finish_reason = "length" if len(words) == request.max_tokens else "stop"
        return answer

    def close(self) -> None:
        pass

    def _answer(self, request: Request, words: list[str], sent: int) -> Raw:
        options = self._options
        self._asked += 1
        if self._asked == options.crash_after:
            os._exit(9)
        if options.sleep_s:
            time.sleep(options.sleep_s)
        first, gap = round(options.ttft_s * 1e9), round(options.gap_s * 1e9)
        raw = Raw(sent_ns=sent, done_ns=sent + first, clock="virtual")
        failure = _find(options.fail, request)
        if failure == "timeout":
            raw.status, raw.done_ns = "timeout", sent + round(request.deadline_s * 1e9)
            raw.error = Failure("timeout", f"the deadline of {request.deadline_s:g} s passed")
        elif failure is not None:
            raw.status, raw.error = "error", Failure(failure, "as scripted")
        elif request.kind == "generate":
            step = options.tokens_per_chunk
            chunks = ["".join(words[i : i + step]) for i in range(0, len(words), step)]
            raw.stamps = [(sent + first + gap * i, chunk) for i, chunk in enumerate(chunks)]
            raw.done_ns = raw.stamps[-1][0] if raw.stamps else sent + first
        else:
            raw.data = _logprobs(options, request)
        return raw


def _answers(answers: dict[str, str] | str) -> dict[str, str]:
    if isinstance(answers, dict):
        return answers
    if answers == "echo":
        return {}
    try:
        return msgspec.json.decode(Path(answers).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"scripted answers {answers!r} cannot be read: {error}") from None


def _find(table: dict[str, Any], request: Request) -> Any:
    for key in (request.id, request.sample_id, "*"):
        if key in table:
            return table[key]
    return None


def _logprobs(options: Options, request: Request) -> Any:
    """The script's, else -1 per word (so that the shortest continuation wins)."""
    given = _find(options.logprobs, request)
    if request.kind == "windows":
        return given[0] if given else [-1.0] * len(_words(request.prompt or ""))
    return given or [[-1.0] * max(1, len(_words(c))) for c in request.continuations]


def _words(text: str) -> list[str]:
    """Text cut before each run of blanks: joined, it is the text again."""
    words: list[str] = []
    for character in text:
        if not words or (character.isspace() and not words[-1][-1].isspace()):
            words.append(character)
        else:
            words[-1] += character
    return words
