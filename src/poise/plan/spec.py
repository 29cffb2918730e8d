"""The study as data: what a study file may say, with every default (here and nowhere else), and what a cell is.

CONTRACT §1 describes the fields. `plan/read.py` turns YAML, TOML and dicts into these structs.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

SCHEMA = 1

Format = Literal["auto", "chat", "raw"]
Mode = Literal["generate", "choice", "perplexity"]


class Model(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model and where engines find it: `source` maps a kind (hf, onnx, gguf, api, bundled, any) to a path or name."""

    name: str
    source: dict[str, str | dict[str, str]]
    revision: str | None = None
    adapter: str | None = None
    weights: Literal["trained", "random"] = "trained"
    format: Format = "auto"
    system: str | None = None


class Server(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A server that poise starts itself: by preset, or by a command (which needs --allow-code)."""

    preset: str | None = None
    args: list[str] = field(default_factory=list)
    command: str | None = None
    ready: str = "/health"


class Price(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the deployment costs; read only when summarising, never part of a cell's id."""

    per_hour_usd: float | None = None
    input_per_mtok_usd: float | None = None
    output_per_mtok_usd: float | None = None
    cached_per_mtok_usd: float | None = None
    date: str | None = None


class Deployment(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How and where a model runs."""

    name: str
    backend: str
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    preset: str | None = None
    key_env: str | None = None
    server: Server | None = None
    optional: bool = False
    price: Price | None = None
    python: str | None = None


class Generation(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to generate; `None` = the task's own value."""

    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    min_tokens: Annotated[int, Meta(ge=0)] = 0
    ignore_eos: bool = False
    """Write exactly `max_tokens`: no end of text, no stop string ends an answer before."""
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    stop: list[str] | None = None
    draws: Annotated[int, Meta(ge=1)] = 1
    deadline_s: Annotated[float, Meta(gt=0, le=1e6)] = 120.0


class TaskUse(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One use of a task in a study: which data, how many items, which mode."""

    task: str
    name: str
    data: str | list[str] | None = None
    limit: int | None = None
    balance: str | None = None
    mode: Mode | None = None
    """None = the first of the task's modes."""
    shots: int | None = None
    prompt: dict[str, str] = field(default_factory=dict)
    extract: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)


class Load(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One load, of one kind; `plan/loads.py` says how it is written in a study.

    `value`: closed = requests in flight, batch = sequences, open = requests per second, ramp = the rate it ends with,
    trace = what its times are multiplied by, search = the highest rate to try, mlperf = the rate of scenario server.
    """

    kind: Literal["closed", "batch", "open", "ramp", "trace", "search", "mlperf"]
    value: float
    low: float | None = None
    """ramp: the rate it begins with; search: the lowest rate to try."""
    scenario: Literal["singlestream", "server", "offline"] | None = None
    """mlperf: one at a time, at Poisson arrivals, or everything at once."""
    at_once: int | None = None
    """mlperf offline: sequences that an engine in process takes at once; None: a server takes what it is sent."""
    trace: str | None = None
    """trace: the file, relative to the study."""
    trace_sha: str = ""
    """Hash of the file; a cell's load has it."""
    order: Literal["plan", "length"] = "plan"
    arrivals: Literal["constant", "poisson", "gamma"] = "poisson"
    burstiness: float = 1.0
    requests: int | None = None
    duration_s: float | None = None
    max_in_flight: int = 1024

    @property
    def form(self) -> Literal["closed", "batch", "open"]:
        """How it is driven: so many in flight, static batches, or absolute due times."""
        if self.kind in ("closed", "batch"):
            return self.kind
        if self.at_once is not None:
            return "batch"
        return "closed" if self.scenario in ("singlestream", "offline") else "open"

    @property
    def width(self) -> int:
        """Requests that start at once: connections worth opening beforehand."""
        if self.at_once is not None:
            return self.at_once
        if self.scenario is not None and self.form == "closed":
            return 1 if self.scenario == "singlestream" else self.max_in_flight
        return 64 if self.form == "open" else int(self.value)

    @property
    def timed(self) -> bool:
        """Sends until a time is over, whatever number that makes: how much is asked shows only afterwards."""
        return self.form != "open" and self.duration_s is not None

    @property
    def label(self) -> str:
        number = f"{self.value:g}" if self.low is None else f"{self.low:g}-{self.value:g}"
        if self.scenario is not None:
            size = f" at once {self.at_once}" if self.at_once is not None else ""
            return f"mlperf {self.scenario}" + (f" {number}/s" if self.form == "open" else size)
        if self.trace is not None:
            return f"trace {PurePath(self.trace).name}" + ("" if self.value == 1 else f" x{number}")
        if self.form != "open":
            return f"{self.kind} {number}"
        kind = "search open" if self.kind == "search" else self.kind
        burstiness = f" {self.burstiness:g}" if self.arrivals == "gamma" else ""
        return f"{kind} {number}/s {self.arrivals}{burstiness}"


class Analysis(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How results are read; changing it never re-runs anything."""

    tau: str | float = "auto"
    """A profile (conversational, interactive, batch, miniature), seconds, or `auto`: each task's own profile."""
    weight: float = 0.5
    slo: dict[str, float] = field(default_factory=dict)
    stall_s: float | None = None
    """A gap between chunks longer than this is a stall; None: ten times the cell's median gap, at least 0.1 s."""
    gates: list[str] = field(default_factory=list)
    reference: dict[str, str | float] = field(default_factory=dict)
    """What MLPerf-like scenarios are held against: a cell, by model, deployment, load or run; or its numbers, as
    `{quality: 0.71, output_tokens: 52}`. `share`: how much of its quality must be reached (.99)."""


class Override(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    when: dict[str, str]
    generation: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    prompt: dict[str, str] = field(default_factory=dict)


class Study(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Models x deployments x tasks x loads x repeats."""

    name: str
    models: list[Model]
    deployments: list[Deployment]
    tasks: list[TaskUse]
    loads: list[Load] = field(default_factory=lambda: [Load("closed", 1)])
    schema: int = SCHEMA
    seed: int = 0
    repeats: int = 1
    warmup: int = 2
    retries: int = 0
    client_processes: int | Literal["auto"] = 1
    """Processes that share the load on a server; what is asked, and when, stays the same."""
    budget_usd: float | None = None
    until: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    include: list[dict[str, str]] = field(default_factory=list)
    exclude: list[dict[str, str]] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    analysis: Analysis = Analysis()
    base_dir: str = "."
    """Folder that relative paths start from; never stored in a run folder, never part of an id."""


class CellTask(Struct, frozen=True, omit_defaults=True):
    """A task as a cell uses it: all that re-scoring needs, so that the run folder is self-sufficient."""

    name: str
    task: str
    version: int
    mode: Mode
    data_sha: str
    target_sha: str
    items_sha: str
    extract: str
    metrics: tuple[str, ...]
    chance: float
    n_ref: float
    tau: str
    shots: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    prompt: dict[str, str] = field(default_factory=dict)
    scoring: dict[str, Any] = field(default_factory=dict)
    """How the task scores its answers itself: `by` names the scorer; empty: by `extract` and `metrics`."""
    fitted_by: str | None = None
    """Hash of the tokenizer by which prompts for a server were cut to length; None: a word stands for a token."""


class Cell(Struct, frozen=True, omit_defaults=True):
    """One model x deployment x task x load: what `cell.json` holds. `id` hashes what can change an answer or a time."""

    id: str
    model: Model
    deployment: Deployment
    task: CellTask
    load: Load
    generation: Generation
    seed: int
    planned: int
    """Requests planned per repeat: items x draws, or more (then these again); every turn of a conversation is one.

    A timed load may come to ask more or fewer.
    """
    source_kind: str
    """Which of the model's sources this backend reads."""
    source_sha: str = ""
    """Digest or revision of the model's artefact."""
    state: Literal["planned", "not_measurable", "skipped"] = "planned"
    reason: str | None = None
    repeat: int = 0

    @property
    def folder(self) -> str:
        return f"{self.id}-r{self.repeat}"
