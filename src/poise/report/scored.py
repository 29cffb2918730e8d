"""The face of outputs scored without a run: every quality measure with its interval, groups, doubts, signature."""

from __future__ import annotations

from itertools import takewhile

from rich.console import Console
from rich.text import Text

from poise.report import grid as shape
from poise.report import numbers
from poise.report.terminal import doubts, table
from poise.report.text import visible
from poise.types import CellSummary, Estimate, Summary


def print_scores(summary: Summary, console: Console) -> None:
    """The one cell of `summary` on `console`."""
    [cell] = summary.cells
    failed = shape.failures(cell) if cell.failed else "none failed"
    console.print(Text(visible(f"{cell.model} · {cell.task} · n = {numbers.count(cell.n)}, {failed}"), "bold"))
    console.print()
    console.print(table(["", "", "95 % interval", "method"], [_row(*item) for item in _measures(cell)], right=[1]))
    if cell.groups:
        first = str(cell.primary)
        rows = [_row(name, group[first]) for name, group in cell.groups.items() if first in group]
        console.print()
        console.print(table([first, "", "95 % interval", "method"], rows, right=[1]))
    for doubt in doubts(summary):
        console.print(doubt)
    console.print()
    for name, signature in cell.signatures.items():
        if name != cell.primary and not signature.startswith(f"{name} v"):
            console.print(Text(visible(f"{name}: {signature}"), "dim"))
    console.print(Text(visible(cell.signature), "dim"))


def _measures(cell: CellSummary) -> list[tuple[str, Estimate]]:
    """The metrics, which stand before the mean mark `quality` (the first of them, from 0 to 1)."""
    metrics = list(takewhile(lambda item: item[0] != "quality", cell.estimates.items()))
    found = cell.estimates.get("none_found")
    return [*metrics, *([("no answer found", found)] if found else [])]


def _row(name: str, estimate: Estimate) -> list[str]:
    if estimate.value is None:
        return [name, numbers.ABSENT, "", estimate.reason or ""]
    value = numbers.quantity(estimate.value, estimate.unit)
    return [name, value, numbers.interval(estimate), f"n = {estimate.n}, {estimate.method}"]
