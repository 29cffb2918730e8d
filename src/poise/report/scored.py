"""The face of outputs scored without a run: every quality measure with its interval, groups, doubts, signature."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from poise.report import grid as shape
from poise.report import numbers
from poise.report.measures import measures
from poise.report.terminal import doubts, table
from poise.report.text import visible
from poise.types import Estimate, Summary


def print_scores(summary: Summary, console: Console) -> None:
    """The one cell of `summary` on `console`."""
    [cell] = summary.cells
    failed = shape.failures(cell) if cell.failed else "none failed"
    console.print(Text(visible(f"{cell.model} · {cell.task} · n = {numbers.count(cell.n)}, {failed}"), "bold"))
    console.print()
    found = cell.estimates.get("none_found")
    shown = measures(cell) | ({"no answer found": found} if found else {})
    console.print(table(["", "", "95 % interval", "method"], [_row(*item) for item in shown.items()], right=[1]))
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


def _row(name: str, estimate: Estimate) -> list[str]:
    if estimate.value is None:
        return [name, numbers.ABSENT, "", estimate.reason or ""]
    value = numbers.quantity(estimate.value, estimate.unit)
    return [name, value, numbers.interval(estimate), f"n = {estimate.n}, {estimate.method}"]
