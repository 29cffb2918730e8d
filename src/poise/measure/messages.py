"""What the parent and a worker say to each other: one JSON line a message.

To the worker: a `Job` once, then a `Command` for each cell. From it: `ready` or `failed` once, then `done` or `failed`
for each cell. Where several workers share a cell, each says `armed` when it could start, and starts when told `Go`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from poise.plan.spec import Deployment, Model
from poise.types import Request


class Job(Struct, frozen=True):
    """What a worker is started with."""

    model: Model
    deployment: Deployment
    allow_code: bool
    retries: int
    parent: int
    started_ns: int
    """Clock reading just before the process was started: load_s counts from here."""


class Command(Struct, frozen=True):
    """One cell to run."""

    run: str
    folder: str
    segment: int = 0
    part: int = 0
    parts: int = 1
    """This process takes part `part` of `parts` of the cell's requests."""
    warmup: list[Request] = field(default_factory=list)
    retry_failed: bool = False
    due_ns: list[int] | None = None


class Go(Struct, frozen=True):
    """The common start of the processes that share a cell."""

    start_ns: int


class Event(Struct, frozen=True, omit_defaults=True):
    """What a worker answers; `error` says why it failed."""

    event: Literal["ready", "armed", "done", "failed"]
    error: str | None = None
