"""The face of a pure speed run: where nothing was scored, times and rates take the place of quality."""

from __future__ import annotations

from rich.console import RenderableType

from poise.report import grid as shape
from poise.report import numbers
from poise.types import Summary

COLUMNS = {
    "ttft p50": "ttft_s.p50",
    "ttft p99": "ttft_s.p99",
    "tpot p50": "tpot_s.p50",
    "gap max": "chunk_gap_s.max",
    "e2e p50": "e2e_s.p50",
    "e2e p99": "e2e_s.p99",
}


def unscored(summary: Summary) -> bool:
    """Whether no cell has a quality: a run of prompts without targets."""
    return bool(summary.cells) and all(shape.quality(c).value is None for c in summary.cells)


def speeds(summary: Summary) -> RenderableType:
    """One line a cell: first token, time per token, stalls, end to end, tokens per second of the whole window."""
    from poise.report.terminal import table

    rows = []
    for cell in summary.cells:
        times = [numbers.seconds(shape.estimate(cell, name).value) for name in COLUMNS.values()]
        rate = shape.estimate(cell, "system_tok_s").value
        counted = f"{cell.n}" + (f" ({cell.failed} failed)" if cell.failed else "")
        place = (cell.model, cell.deployment, cell.task, cell.load, counted)
        rows.append([*place, *times, numbers.ABSENT if rate is None else numbers.digits(rate)])
    headers = ["model", "deployment", "task", "load", "n", *COLUMNS, "tok/s"]
    varied = [i for i, h in enumerate(headers) if h not in headers[:4] or len({row[i] for row in rows}) > 1 or i == 0]
    picked = [[row[i] for i in varied] for row in rows]
    return table([headers[i] for i in varied], picked, right=range(sum(i < 4 for i in varied), len(varied)))
