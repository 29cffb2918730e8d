"""Recorded traffic to replay: when requests came, and how long they were.

Two public formats, told apart by what the lines look like (not by the name):
CSV of the Azure LLM inference traces (2023 and 2024; Patel et al. 2024, arXiv 2311.18677): a head line, then
`TIMESTAMP,ContextTokens,GeneratedTokens`; JSON lines of Mooncake (Qin et al. 2025, FAST): `{"timestamp": ms,
"input_length", "output_length", "hash_ids"}`, where each hash id is a block of 512 tokens and equal ids equal text.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from poise.counted import counted
from poise.types import Traced, UsageError

_MOST_TOKENS = 10_000_000
_COLUMNS = {"timestamp": "TIMESTAMP", "contexttokens": "ContextTokens", "generatedtokens": "GeneratedTokens"}


class Trace(Struct, frozen=True):
    """Requests in order of arrival, the first at 0, and the hash of the file they come from."""

    rows: tuple[Traced, ...]
    sha: str


def read_trace(path: Path) -> Trace:
    """Read a trace; UsageError that names the file and the line for whatever does not fit."""
    try:
        status = path.stat()
        return _read(str(path), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise UsageError(f"trace {path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=8)
def _read(path: str, changed_ns: int, size: int) -> Trace:
    data = Path(path).read_bytes()
    name = Path(path).name
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"trace {name}, line {line}: not UTF-8 text") from None
    rows = _json_lines(name, text) if text.lstrip().startswith("{") else _csv(name, text)
    if not rows:
        raise UsageError(f"trace {name} has no requests")
    rows.sort(key=lambda row: row.at_s)
    start = rows[0].at_s
    moved = tuple(structs.replace(row, at_s=row.at_s - start) for row in rows)
    return Trace(moved, hashlib.sha256(data).hexdigest())


class _Mooncake(Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def _json_lines(name: str, text: str) -> list[Traced]:
    decode = msgspec.json.Decoder(_Mooncake).decode
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except msgspec.DecodeError as error:
            raise UsageError(f"trace {name}, line {number}: {error}") from None
        rows.append(_traced(name, number, row.timestamp / 1000, row.input_length, row.output_length, row.hash_ids))
    return rows


def _csv(name: str, text: str) -> list[Traced]:
    reader = csv.reader(text.splitlines())
    head = [_COLUMNS.get(column.strip().lower(), column.strip()) for column in next(reader, [])]
    missing = [column for column in _COLUMNS.values() if column not in head]
    if missing:
        raise UsageError(
            f"trace {name}, line 1: no column {missing[0]}; a trace is a CSV with the columns "
            f"{', '.join(_COLUMNS.values())}, or JSON lines with timestamp, input_length, output_length"
        )
    at, read, written = (head.index(column) for column in _COLUMNS.values())
    rows: list[Traced] = []
    when: Callable[[str], float] | None = None
    try:
        for row in reader:
            if not row:
                continue
            if len(row) < len(head):
                raise ValueError(f"{counted(len(row), 'column')} instead of {len(head)}")
            when = when or _clock(row[at])
            rows.append(_traced(name, reader.line_num, when(row[at]), int(row[read]), int(row[written]), ()))
    except (ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"trace {name}, line {reader.line_num}: {error}") from None
    return rows


def _clock(first: str) -> Callable[[str], float]:
    """How times are written: numbers of seconds, or dates (of which the first is the start)."""
    try:
        float(first)
    except ValueError:
        start = datetime.fromisoformat(first.strip())
        return lambda text: (datetime.fromisoformat(text.strip()) - start).total_seconds()
    return float


def _traced(name: str, line: int, at_s: float, read: int, written: int, blocks: tuple[int, ...]) -> Traced:
    if not abs(at_s) < 1e12:
        raise UsageError(f"trace {name}, line {line}: {at_s} is no time")
    for what, count, least in (("input", read, 1), ("output", written, 0)):
        if not least <= count <= _MOST_TOKENS:
            raise UsageError(f"trace {name}, line {line}: {count} {what} tokens are not possible")
    # an answer of no tokens cannot be asked for
    return Traced(at_s=at_s, input_tokens=read, output_tokens=max(1, written), blocks=blocks)
