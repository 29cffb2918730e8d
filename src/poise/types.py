"""All data that is asked, observed and derived, as frozen structs; and the two kinds of expected failure.

Units stand in the names (`_s`, `_ns`, `_bytes`, `_w`, `_j`). Times are `perf_counter_ns` readings, which on one
host are comparable between processes. Nothing here imports anything of poise: this lies under all rooms.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

from msgspec import Struct, field

FORMAT = 1
"""Version of the run folder's format; folders of another version are refused."""


class PoiseError(Exception):
    """An expected failure with one clear sentence for the user; `exit_code` follows CONTRACT §6."""

    exit_code = 3


class UsageError(PoiseError):
    """The user's input is wrong: what, where, what to do next. Exit code 2."""

    exit_code = 2


# ---------------------------------------------------------------- what is asked


class Sample(Struct, frozen=True, omit_defaults=True):
    """One item of a task. `fields` feed the question, `target` is what counts as right (never seen by `measure`).

    A target that is a mapping may say under `shown` what people are to read of it.
    """

    id: str
    fields: dict[str, Any]
    target: Any = None
    choices: tuple[str, ...] | None = None
    category: str | None = None
    """Group for `by category` tables, as "name=value" or a bare value (then the name is `category`)."""
    cluster: str | None = None
    """Items with the same cluster are not independent (clustered standard errors)."""


class Traced(Struct, frozen=True):
    """One request of a recorded trace."""

    at_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Hash ids of its prompt's blocks: prompts that begin with the same ids begin with the same text."""


class Message(Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class Request(Struct, frozen=True, omit_defaults=True):
    """One thing to ask: exactly what a worker needs, and no target."""

    id: str
    sample_id: str
    kind: Literal["generate", "choice", "windows"]
    asked_sha: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    continuations: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    """Choice: the prompt of each continuation, where they have not all the same (`prompt` is then the first)."""
    windows: Literal["overlapping", "disjoint"] = "overlapping"
    """Perplexity: how a text longer than the context is cut; disjoint windows predict the first token too."""
    encoded_as: Literal["lm-eval"] | None = None
    """As that harness makes tokens: what is too long for the context loses its first ones, instead of failing; a
    template's text is treated as any, with a BOS where none is, its last blanks scored with the continuation."""
    stop: tuple[str, ...] = ()
    max_tokens: int = 0
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    deadline_s: float = 120.0
    draw: int = 0
    prompt_tokens: int | None = None
    """Exact prompt length asked for; a backend with `exact_length` cuts or repeats the prompt's tokens to it."""
    turns: tuple[str, ...] = ()
    """What the user says after each answer: message contents, or blocks of text where the prompt is raw."""
    part: int = 0
    """Which turn of its conversation this is, once it is sent on its own."""
    shared_chars: int | None = None
    """Where the shared part of a synthetic prompt ends. Asked again, it differs from there on; None: word for word."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The ids of its records: its own, or `id#k` for every turn of a conversation."""
        return tuple(f"{self.id}#{k}" for k in range(1 + len(self.turns))) if self.turns else (self.id,)


# ---------------------------------------------------------------- what was observed


Clock = Literal["client", "engine", "virtual"]


class Timeline(Struct, frozen=True, omit_defaults=True):
    """When what arrived. `sent_ns` is a clock reading; the rest counts from it (deltas: from the chunk before)."""

    sent_ns: int
    chunk_deltas_ns: list[int] = field(default_factory=list)
    done_ns: int = 0
    headers_ns: int | None = None
    clock: Clock = "client"


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a request has no answer. `kind` is one lower-case word: connect, reset, http, timeout, engine, parse …"""

    kind: str
    message: str
    http_status: int | None = None
    retry_after_s: float | None = None
    """How long the server asked to wait (`Retry-After`, seconds or a date)."""


class Batch(Struct, frozen=True):
    """The static batch a record belongs to; `start_ns`/`end_ns` are clock readings around the whole batch."""

    id: str
    size: int
    start_ns: int
    end_ns: int


Status = Literal["ok", "error", "timeout", "dropped", "skipped"]
Phase = Literal["cold", "warmup", "measure"]


def visible_text(pieces: Sequence[str], kinds: str | None) -> str:
    """The text of an answer without its reasoning; `kinds` is a record's `piece_kinds`."""
    if kinds is None:
        return "".join(pieces)
    return "".join(p for p, k in zip_longest(pieces, kinds, fillvalue="") if k != "r")


class Record(Struct, frozen=True, omit_defaults=True):
    """What one request did, raw. One line of `records.jsonl`; a conversation has one for every turn (`part`)."""

    request_id: str
    sample_id: str
    status: Status
    phase: Phase = "measure"
    draw: int = 0
    part: int = 0
    attempt: int = 1
    segment: int = 0
    due_ns: int | None = None
    timeline: Timeline | None = None
    pieces: list[str] = field(default_factory=list)
    """Text of each chunk, aligned with `timeline.chunk_deltas_ns`; "" where a chunk carried no text yet."""
    piece_kinds: str | None = None
    """One letter a piece: v visible, r reasoning. Absent: all visible."""
    output_tokens: int | None = None
    """Tokens up to the last one that carried text, as the engine counts them; null: see `usage`."""
    tokens_by: Literal["tokenizer"] | None = None
    """Set where neither engine nor server counts: `output_tokens` are then the text's in the model's tokenizer."""
    token_logprobs: list[float] | None = None
    option_logprobs: list[list[float]] | None = None
    """Choice: log-probability of every token of every continuation, in order."""
    option_greedy: list[bool] | None = None
    """Choice: whether greedy decoding would write that continuation."""
    batch: Batch | None = None
    usage: dict[str, Any] | None = None
    """The engine's own accounting, verbatim (`prompt_tokens`, `completion_tokens` = all sampled tokens …)."""
    finish_reason: str | None = None
    rendered: str | None = None
    """The text the model saw, where a chat template made it."""
    error: Failure | None = None


class ResourceSample(Struct, frozen=True, omit_defaults=True):
    """One reading of the monitor. `cpu_s` counts the engine's process tree since its start; `null` = not measurable."""

    t_ns: int
    device: str
    cpu_s: float | None = None
    mem_bytes: int | None = None
    util: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    temp_c: float | None = None
    clock_mhz: float | None = None
    throttled: bool | None = None
    host_cpu: float | None = None
    """Cores busy on the whole host since the last reading: shows other users."""


class LagSample(Struct, frozen=True):
    """How late the client's event loop was at worst since the reading before (about a second earlier)."""

    t_ns: int
    max_lag_ns: int


# ---------------------------------------------------------------- what it means


class Score(Struct, frozen=True, omit_defaults=True):
    """One metric on one answer. `value` in the metric's unit, None = unscorable (with the reason).

    `stats` are sufficient statistics: their sum over items, given to the metric's `reduce`, is the corpus value.
    """

    value: float | None
    stats: list[float] | None = None
    answer: str | None = None
    reason: str | None = None
    item: Any = None
    """What a metric that is no sum (`aggregate`) makes its corpus value of."""


Better = Literal["higher", "lower"]


class Estimate(Struct, frozen=True, omit_defaults=False):
    """A number with its uncertainty. value None = not measurable (or failed): then `reason` says why.

    `hi` may be infinity (a timeout counts as +inf in quantiles); JSON writes it as null with the reason.
    """

    value: float | None
    lo: float | None = None
    hi: float | None = None
    n: int = 0
    unit: str = ""
    better: Better | None = None
    method: str = ""
    reason: str | None = None


Level = Literal["info", "warn", "error"]


class Check(Struct, frozen=True):
    """A doubt about a cell, as data: the facts, and one thing to do."""

    code: str
    level: Level
    evidence: str
    action: str


State = Literal["ok", "partial", "failed", "not_measurable"]


class CellSummary(Struct, frozen=True):
    """Everything derived from one cell (its repeats pooled). CONTRACT §6."""

    id: str
    run: str
    model: str
    deployment: str
    task: str
    load: str
    repeats: int
    state: State
    reason: str | None
    planned: int
    n: int
    failed: int
    failures: dict[str, int]
    primary: str | None
    signature: str
    """What all numbers of the cell depend on, the first metric's own signature in front."""
    items_sha: str
    estimates: dict[str, Estimate] = field(default_factory=dict)
    groups: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    """metric -> its own signature"""
    checks: list[Check] = field(default_factory=list)

    def __getitem__(self, name: str) -> Estimate:
        """The estimate of that name; KeyError names what there is."""
        if name not in self.estimates:
            raise KeyError(f"no estimate {name!r}; there are: {', '.join(self.estimates)}")
        return self.estimates[name]


class ModelSummary(Struct, frozen=True):
    """One model x deployment x load over all its tasks."""

    model: str
    deployment: str
    load: str
    balanced: Estimate
    quality: Estimate
    speed: Estimate
    p_frontier: float | None
    tasks: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """task -> {"balanced", "quality_mark", "speed_mark", "quality", "e2e_s"}"""
    sensitivity: dict[str, float | None] = field(default_factory=dict)
    """balanced at other reference times: {"tau/4", "tau", "tau*4"}"""
    groups: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    """group of tasks -> metric -> its mean over them, where the group says how it is averaged"""


class Verdict(Struct, frozen=True):
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


class Summary(Struct, frozen=True):
    """What `poise summary --json` prints: a pure function of the run folders (no clock, no path)."""

    format: int
    runs: list[str]
    cells: list[CellSummary]
    models: list[ModelSummary]
    verdict: Verdict

    def cell(self, **where: str) -> CellSummary:
        """The one cell whose fields equal `where` (model=, deployment=, task=, load=); KeyError names what there is."""
        hits = [c for c in self.cells if all(getattr(c, k) == v for k, v in where.items())]
        if len(hits) != 1:
            there = ", ".join(f"{c.model}/{c.deployment}/{c.task}/{c.load}" for c in (hits or self.cells))
            raise KeyError(f"{len(hits)} cells match {where}; there are: {there}")
        return hits[0]

    def frame(self) -> Any:
        """One long table, a row per cell and estimate: Polars, else pandas, else a UsageError naming the extra."""
        return importlib.import_module("poise.understand.tables").frame(self)
