"""Files of the idealized runtime: points as CSV, coefficients in HELM's JSON form, both ways.

HELM's form: {model: {"runtime_per_output_token": s, "runtime_for_prompt_tokens": {"p": s}, "overhead"?: s}}. What
poise knows beyond that (context, how it was made, its error) stands under "poise", which other readers pass over.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from poise.registry import did_you_mean
from poise.store.files import encode_pretty, write_atomic
from poise.types import UsageError
from poise.understand.idealize import Coefficients, Point, check_point

COLUMNS = ("prompt_tokens", "output_tokens", "runtime_s")


def read_points(path: Path, model: str | None = None) -> list[Point]:
    """Points of a CSV with the columns prompt_tokens, output_tokens, runtime_s and optionally model, at_s.

    Raises UsageError, with the line, for a missing column or a value that is no number of tokens or seconds.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the points {path}: {error}") from None
    rows = csv.DictReader(text.splitlines())
    missing = [c for c in COLUMNS if c not in (rows.fieldnames or ())]
    if missing:
        raise UsageError(
            f"{path}: no column {', '.join(missing)}; a points file has {','.join(COLUMNS)}[,model][,at_s]"
        )
    points = [_point(path, rows.line_num, row, model or path.stem) for row in rows]
    if not points:
        raise UsageError(f"{path}: no points below the header")
    return points


def write_points(path: Path, points: Sequence[Point]) -> None:
    """One line a trial, times in full precision; `at_s` where known."""
    lines = ["prompt_tokens,output_tokens,runtime_s,model,at_s"]
    for p in points:
        at = "" if p.at_s is None else f"{p.at_s:.6f}"
        name = '"' + p.model.replace('"', '""') + '"'
        lines.append(f"{p.prompt_tokens},{p.output_tokens},{p.runtime_s!r},{name},{at}")
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def read_coefficients(path: Path) -> dict[str, Coefficients]:
    """All models of a coefficient file; UsageError where it is not HELM's form or holds impossible numbers."""
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the coefficients {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is not JSON ({error}); a coefficient file is what `poise idealize fit -o` writes"
        ) from None
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{path}: a coefficient file is an object of models, and this holds none")
    return {name: _coefficients(f"{path}, model {name!r}", name, entry) for name, entry in document.items()}


def pick(models: dict[str, Coefficients], name: str | None) -> Coefficients:
    """The model asked for, or the only one there is; UsageError otherwise."""
    if name is not None and name in models:
        return models[name]
    if name is not None:
        raise UsageError(f"the coefficients have no model {name!r}{did_you_mean(name, models)}")
    if len(models) > 1:
        raise UsageError(
            f"the coefficients are of several models; choose one with --model: {', '.join(sorted(models))}"
        )
    return next(iter(models.values()))


def write_coefficients(
    path: Path, models: Sequence[Coefficients], notes: dict[str, dict[str, Any]] | None = None
) -> None:
    """Write HELM's JSON form; `notes[model]` joins the context under that model's "poise"."""
    document: dict[str, Any] = {}
    for c in models:
        entry: dict[str, Any] = {
            "runtime_per_output_token": c.per_output_token_s,
            "runtime_for_prompt_tokens": {str(p): s for p, s in c.prompt_s},
        }
        if c.overhead_s is not None:
            entry["overhead"] = c.overhead_s
        known: dict[str, float | None] = {"context_tokens": c.context_tokens}
        if c.per_cached_token_s:
            known |= {"runtime_per_cached_token": c.per_cached_token_s, "cached_tokens": c.cached_tokens}
        if c.onset:
            known |= {"onset": c.onset}
        extra = {k: v for k, v in {**known, **(notes or {}).get(c.model, {})}.items() if v is not None}
        if extra:
            entry["poise"] = extra
        document[c.model] = entry
    write_atomic(path, encode_pretty(document))


def _point(path: Path, line: int, row: dict[str, Any], model: str) -> Point:
    try:
        p, o = int(row["prompt_tokens"]), int(row["output_tokens"])
        runtime = float(row["runtime_s"])
        at = float(row["at_s"]) if row.get("at_s") else None
    except (TypeError, ValueError):
        raise UsageError(
            f"{path}, line {line}: {','.join(str(row.get(c)) for c in COLUMNS)} is not a whole number of tokens, "
            "another, and seconds"
        ) from None
    try:
        check_point(p, o, runtime)
    except UsageError as error:
        raise UsageError(f"{path}, line {line}: {error}") from None
    return Point(p, o, runtime, row.get("model") or model, at)


def _coefficients(where: str, name: str, entry: Any) -> Coefficients:
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: expected an object with runtime_per_output_token and runtime_for_prompt_tokens")
    beta = _seconds(where, entry, "runtime_per_output_token")
    table = entry.get("runtime_for_prompt_tokens")
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{where}: no runtime_for_prompt_tokens (an object of prompt lengths and seconds)")
    if not all(k.isascii() and k.isdigit() for k in table):
        raise UsageError(f"{where}: a prompt length in runtime_for_prompt_tokens is not a whole number")
    prompt = sorted((int(k), _seconds(where, table, k)) for k in table)
    overhead = _seconds(where, entry, "overhead") if entry.get("overhead") is not None else None
    notes = entry.get("poise")
    notes = notes if isinstance(notes, dict) else {}
    context = notes.get("context_tokens")
    gamma = _seconds(where, notes, "runtime_per_cached_token") if "runtime_per_cached_token" in notes else 0.0
    centre = _seconds(where, notes, "cached_tokens") if gamma else 0.0
    if gamma * centre > beta * (1 + 1e-9):
        raise UsageError(f"{where}: runtime_per_cached_token is so large that decoding would take negative time")
    onset = notes.get("onset", 0.0)
    if isinstance(onset, bool) or not isinstance(onset, int | float) or not 0 <= onset < math.inf:
        raise UsageError(f"{where}: onset must be a share, 0 or more, not {onset!r}")
    limit = context if isinstance(context, int) and not isinstance(context, bool) else None
    return Coefficients(name, beta, tuple(prompt), overhead, gamma, centre, float(onset), limit)


def _seconds(where: str, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}: {key} must be a number of seconds, not {value!r}")
    if value < 0 and key != "overhead":
        raise UsageError(f"{where}: {key} is {value:g}, but a time is never negative")
    return float(value)
