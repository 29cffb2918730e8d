"""The face of a plan: what would run, how long it may take, and whether it fits this machine."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console

from poise.counted import counted
from poise.plan.build import Plan
from poise.plan.estimate import CellEstimate, estimate, rough_size, rough_time
from poise.plan.spec import Cell
from poise.plan.weights import model_bytes
from poise.report import numbers
from poise.report.terminal import table


def print_plan(
    plan: Plan,
    problems: dict[tuple[str, str], str],
    memory_available: int | None,
    console: Console,
    as_json: bool = False,
) -> None:
    """Cells, requests, rough time, disk and dollars; memory each model needs against what is free."""
    cells = estimate(plan)
    memory = _memory(plan)
    if as_json:
        sys.stdout.buffer.write(_json(plan, cells, memory, memory_available, problems))
        return
    asked = f"{counted(len(cells), 'cell')}, {counted(plan.requests, 'request')}"
    console.print(f"{asked}, {_time(cells)}, {_disk(cells)}{_usd(cells)}\n")
    console.print(
        table(
            ["model", "deployment", "task", "load", "requests", "about", ""],
            [
                [
                    c.cell.model.name,
                    c.cell.deployment.name,
                    c.cell.task.name,
                    c.cell.load.label,
                    str(c.requests),
                    rough_time(c.seconds) if c.requests else numbers.ABSENT,
                    problems.get((c.cell.model.name, c.cell.deployment.name)) or _unmeasurable(c.cell),
                ]
                for c in cells
                if c.cell.repeat == 0
            ],
            right=(4, 5),
        )
    )
    if plan.study.repeats > 1:
        console.print(f"each {plan.study.repeats} times, in fresh processes, interleaved")
    console.print()
    rows = [
        [
            m,
            rough_size(size) if size else "unknown (not local)",
            rough_size(memory_available) if memory_available else "unknown",
        ]
        for m, size in memory.items()
    ]
    console.print(table(["model", "weights", "memory free"], rows, right=(1, 2)))
    console.print("\ntimes are guesses from the size of the weights; nothing was started")


def _unmeasurable(cell: Cell) -> str:
    return f"not measurable: {cell.reason}" if cell.reason else ""


def _memory(plan: Plan) -> dict[str, int | None]:
    from pathlib import Path

    found: dict[str, int | None] = {}
    for (model, _), (_, source) in plan.sources.items():
        size = model_bytes(source) if Path(source).exists() else None
        found[model] = max(found.get(model) or 0, size or 0) or None
    return found


def _json(
    plan: Plan,
    cells: list[CellEstimate],
    memory: dict[str, int | None],
    free: int | None,
    problems: dict[tuple[str, str], str],
) -> bytes:
    rows: list[dict[str, Any]] = [
        {
            "id": c.cell.id,
            "repeat": c.cell.repeat,
            "model": c.cell.model.name,
            "deployment": c.cell.deployment.name,
            "task": c.cell.task.name,
            "load": c.cell.load.label,
            "state": c.cell.state,
            "reason": problems.get((c.cell.model.name, c.cell.deployment.name)) or c.cell.reason,
            "requests": c.requests,
            "estimated_s": c.seconds,
            "estimated_disk_bytes": c.disk_bytes,
            "estimated_usd": c.usd,
        }
        for c in cells
    ]
    data = {"requests": plan.requests, "cells": rows, "model_bytes": memory, "memory_free_bytes": free}
    return msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n"


def _time(cells: list[CellEstimate]) -> str:
    return "about " + rough_time(sum(c.seconds for c in cells))


def _disk(cells: list[CellEstimate]) -> str:
    return f"{rough_size(sum(c.disk_bytes for c in cells))} of records"


def _usd(cells: list[CellEstimate]) -> str:
    priced = [c.usd for c in cells if c.usd is not None]
    return f", about ${sum(priced):.2f}" if priced else ""
