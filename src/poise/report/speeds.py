"""Times and rates in the terminal: the face of a run without targets, and of a load sweep beside its quality."""

from __future__ import annotations

from rich.console import Console, RenderableType

from poise.report import grid as shape
from poise.report import numbers
from poise.types import CellSummary, Summary

LABELS = ("model", "deployment", "task", "load")
COLUMNS = {
    "ttft p50": "ttft_s.p50",
    "ttft p99": "ttft_s.p99",
    "tpot p50": "tpot_s.p50",
    "gap max": "chunk_gap_s.max",
    "e2e p50": "e2e_s.p50",
    "e2e p99": "e2e_s.p99",
}
DUE = {"e2e p50": ("response p50", "response_s.p50"), "e2e p99": ("response p99", "response_s.p99")}
"""What takes the place of the time from sending where requests were due: a user waits from then on (a closed loop's
are due when they are sent)."""
SPARED = ("e2e p50", "response p50", "gap max", "tpot p50", "ttft p50", "req/s", "USD/1000", "e2e p99", "response p99")
"""Left out one after the other where the terminal is too narrow."""


def unscored(summary: Summary) -> bool:
    """Whether no cell has a score: a run of prompts without targets."""
    return bool(summary.cells) and all(shape.score(c).value is None for c in summary.cells)


def speeds(summary: Summary, console: Console) -> RenderableType:
    """One line a cell: times and rates, and under several loads how much of the load was delivered."""
    from poise.report.terminal import measured, table

    cells = shape.tabled(summary)
    sweep = len({c.load for c in cells}) > 1
    due = any(shape.estimate(c, "response_s.p50").value is not None for c in cells)
    columns = {name: [getattr(c, name) for c in cells] for name in LABELS}
    varying = {name: texts for name, texts in columns.items() if len(set(texts)) > 1}
    columns = varying or {"model": columns["model"]}
    left = len(columns)
    columns["n"] = [f"{c.n}" + (f" ({c.failed} failed)" if c.failed else "") for c in cells]
    if sweep:
        columns["delivered"] = [_share(c) for c in cells]
    for head, name in COLUMNS.items():
        shown, from_due = DUE.get(head, (head, name)) if due else (head, name)
        columns[shown] = [numbers.seconds(_either(c, from_due, name)) for c in cells]
    if sweep:
        columns["req/s"] = [_rate(c, "requests_s") for c in cells]
    if any(shape.estimate(c, "goodput_rps").value is not None for c in cells):
        columns["goodput"] = [_rate(c, "goodput_rps") for c in cells]
    columns["tok/s"] = [_rate(c, "system_tok_s") for c in cells]
    if any(costs := [shape.usd_per_1000([c]) for c in cells]):
        columns["USD/1000"] = [cost or numbers.ABSENT for cost in costs]
    spare = [name for name in SPARED if name in columns]
    while True:
        drawn = table(list(columns), list(zip(*columns.values())), right=range(left, len(columns)))
        if not spare or measured(drawn, console) <= console.width:
            return drawn
        del columns[spare.pop(0)]


def _either(cell: CellSummary, name: str, other: str) -> float | None:
    value = shape.estimate(cell, name).value
    return shape.estimate(cell, other).value if value is None else value


def _share(cell: CellSummary) -> str:
    value = shape.estimate(cell, "load_delivered").value
    return numbers.ABSENT if value is None else f"{100 * value:.0f} %"


def _rate(cell: CellSummary, name: str) -> str:
    value = shape.estimate(cell, name).value
    return numbers.ABSENT if value is None else numbers.digits(value)
