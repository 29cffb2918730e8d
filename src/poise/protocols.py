"""The extension points: what a task, a metric, a scorer, a backend and a reporter are, and what they take and give.

Protocols, not base classes: an extension is whatever has these attributes, registered or named as `file.py:Name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct, field

from poise.types import Better, Clock, Failure, Request, Sample, Score, Status, Summary

# ---------------------------------------------------------------- what is asked, and what counts as right


class Task(Protocol):
    """What is asked and what counts as right. Optional attributes, with their meaning where absent:

    `stop` (("\\n\\n",) in raw), `tau` ("conversational"), `shots` (0), `shot_samples` (()), `modes` (("generate",)),
    `options` (names of accepted options), `temperature(sample)` (0), `generation` (settings that a study may change),
    `asks(sample, format, system)` (prompt or messages, continuations … as they are sent), `take_shots(count)` (shots
    of its own making), `fit(options, context)` (the options with which items fit into `context()` tokens, the least
    that a model of the study takes, None = unknown), `scoring` (`by`: a registered scorer of its own; the rest is for
    that scorer) …

    A question that is a list is a conversation: each entry is asked with the answers to those before it. The target
    of such a sample is a list too, an entry a turn.
    """

    name: str
    version: int
    instruction: str
    answer_prefix: str
    extract: str
    metrics: tuple[str, ...]
    chance: float
    n_ref: float
    max_tokens: int

    def samples(self, data: Any, options: dict[str, Any]) -> Iterable[Sample]: ...
    def question(self, sample: Sample) -> str | list[str]: ...
    def answer(self, sample: Sample) -> str: ...


class Metric(Protocol):
    """`score` on one answer (None = nothing extracted); `reduce` turns summed stats into the corpus value, or is None.

    With `reduce` None the corpus value is the mean of the values; with `aggregate` it is made of the scores' items.
    """

    name: str
    version: int
    unit: str
    better: Better | None

    def score(self, answer: str | None, sample: Sample) -> Score: ...


class Given(Struct, frozen=True):
    """One answered or failed request as a task's own scorer sees it."""

    sample: str
    draw: int
    failure: str | None
    text: str
    options: list[list[float]] | None = None
    greedy: list[bool] | None = None
    tokens: list[float] | None = None


class Scorer(Protocol):
    """How a task scores all answers of a cell itself: made of what the task said (`scoring`) and the samples."""

    def metric(self, name: str) -> Metric: ...
    def score(self, given: Sequence[Given]) -> list[tuple[str | None, dict[str, Score]]]: ...


# ---------------------------------------------------------------- who answers


class Opened(Struct, frozen=True):
    """A loaded engine: what it is (`versions`), what it can do here, and how it is set (threads, dtype, device …)."""

    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    tokenizer_sha: str | None = None
    template_sha: str | None = None


class Raw(Struct):
    """What `send` saw: stamps and payloads, uninterpreted. `data` is the backend's own business."""

    sent_ns: int
    stamps: list[tuple[int, Any]] = field(default_factory=list)
    done_ns: int | None = None
    headers_ns: int | None = None
    status: Status = "ok"
    error: Failure | None = None
    data: Any = None
    clock: Clock = "client"


class Answer(Struct):
    """What `finish` made of a `Raw`: one piece of text per stamp, and the engine's own accounting."""

    pieces: list[str] = field(default_factory=list)
    piece_kinds: str | None = None
    output_tokens: int | None = None
    tokens_by: Literal["tokenizer"] | None = None
    token_logprobs: list[float] | None = None
    option_logprobs: list[list[float]] | None = None
    option_greedy: list[bool] | None = None
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    rendered: str | None = None
    status: Status = "ok"
    error: Failure | None = None


@runtime_checkable
class Backend(Protocol):
    """`prepare` / `send` / `finish`: only `send` is on the clock.

    In process (`concurrent` not in capabilities): `send(list of prepared) -> list[Raw]`, all of one batch, in order.
    Concurrent: `async send(prepared) -> Raw`, one request; the driver keeps many in flight on one event loop. There
    `finish_steps(prepared, raw)`, where given, is a generator that returns what `finish` would and yields about every
    0.1 ms; `warm(n)` opens n connections before the clock.
    """

    name: str
    reads: tuple[str, ...]
    """Source kinds it reads, in order of preference: onnx, hf, gguf, api …"""
    capabilities: frozenset[str]
    Options: type

    def open(self, model: Any, deployment: Any) -> Opened: ...
    def prepare(self, request: Request) -> Any: ...
    def send(self, batch: Any) -> Any: ...
    def finish(self, prepared: Any, raw: Raw) -> Answer: ...
    def close(self) -> None: ...


# ---------------------------------------------------------------- how it is shown


class Reporter(Protocol):
    """One face of a summary: `render` gives the file's bytes."""

    suffix: str

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes: ...
