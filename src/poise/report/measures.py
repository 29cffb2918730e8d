"""The quality measures of a cell beside its primary one: in the terminal below the table of a single task."""

from __future__ import annotations

from itertools import takewhile

from rich.console import Console, Group, RenderableType
from rich.text import Text

from poise.report import numbers
from poise.report.grid import NOTHING, Grid, short_names
from poise.report.text import visible
from poise.types import CellSummary, Estimate


def measures(cell: CellSummary) -> dict[str, Estimate]:
    """The metrics of a cell, which stand before the mean mark `quality` (the first of them, from 0 to 1)."""
    return dict(takewhile(lambda item: item[0] != "quality", cell.estimates.items()))


def others(table: Grid, console: Console) -> RenderableType | None:
    """A line a system with every metric but the primary one; None unless there is one task and such a metric."""
    from poise.report.terminal import measured
    from poise.report.terminal import table as drawn

    if len(table.tasks) != 1:
        return None
    cells = {k: cell for k, s in zip(_labels(table), table.systems) if (cell := s.cells.get(table.tasks[0]))}
    rest = list(dict.fromkeys(name for c in cells.values() for name in measures(c) if name != c.primary))
    bands: list[RenderableType] = []
    while rest:
        taken = len(rest)
        while True:
            rows = [[k, *(_value(c.estimates.get(n, NOTHING)) for n in rest[:taken])] for k, c in cells.items()]
            band = drawn(["", *rest[:taken]], rows)
            if taken == 1 or measured(band, console) <= console.width:
                break
            taken -= 1
        bands += ["", band] if bands else [band]
        rest = rest[taken:]
    return Group(*bands) if bands else None


def _labels(table: Grid) -> list[str]:
    columns = [[getattr(s, dimension) for s in table.systems] for dimension in table.varying]
    return [" ".join(names) for names in zip(*([short_names(c)[name] for name in c] for c in columns))]


def _value(estimate: Estimate) -> Text:
    value, spread = numbers.scored("quality" if _is_mark(estimate) else "", estimate)
    return Text(visible(f"{numbers.bare(value)} {spread}".rstrip()))


def _is_mark(estimate: Estimate) -> bool:
    ends = (estimate.value, estimate.lo, estimate.hi)
    return estimate.unit == "" and all(v is None or abs(v) <= 1 for v in ends)
