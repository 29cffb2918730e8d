"""The face of `poise doctor`: what was found out about this host, what to do, and what the client can measure on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.text import Text

from poise.types import Check

if TYPE_CHECKING:
    from poise.measure.calibrate import Floor

_MARKS = {"info": ("  ", ""), "warn": ("! ", "yellow"), "error": ("x ", "red")}


def fit(checks: Sequence[Check], floor: Floor | None) -> bool:
    """Whether nothing stands against measuring here: no error, and the planned load within what the client can."""
    return not any(c.level == "error" for c in checks) and (floor is None or not floor.shortcomings)


def print_doctor(checks: Sequence[Check], floor: Floor | None, console: Console) -> None:
    """One line a fact, with what to do; then the client's floor at the planned load."""
    for check in checks:
        mark, style = _MARKS[check.level]
        line = Text(f"{mark}{check.code:10}{check.evidence}", style)
        if check.action:
            line.append(f"\n{'':12}{check.action}", "bold")
        console.print(line)
    if floor is None:
        return
    ttft = f"{floor.ttft_error_p50_s * 1e3:+.2f} ms (p50), {floor.ttft_error_p99_s * 1e3:+.2f} ms (p99)"
    rates = f"{floor.chunks_per_s:,.0f} chunks/s, parsed and recorded; the load brings {floor.needed_chunks_per_s:,.0f}"
    console.print(
        f"\nThe client at {floor.load} streams (100 ms to the first token, 10 ms between), against the truth:"
    )
    console.print(f"  time to first token   {ttft}")
    console.print(f"  largest chunk gap     wrong by {floor.gap_error_max_s * 1e3:.2f} ms at most")
    console.print(f"  delivered             {floor.delivered:.1%} of the load")
    console.print(f"  at most               {rates}")
    if not floor.shortcomings:
        console.print(f"{floor.load} streams can be measured here; differences below these are the client's own.")
        return
    console.print(f"{floor.load} streams cannot be trusted here: {'; '.join(floor.shortcomings)}.")
    console.print("Use a smaller load, more --client-processes, or more cores for client and server.")


def print_json(checks: Sequence[Check], floor: Floor | None) -> None:
    """The same as one document."""
    found: dict[str, Any] = {"fit": fit(checks, floor), "checks": checks, "floor": floor}
    if floor is not None:
        found["shortcomings"] = floor.shortcomings
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
