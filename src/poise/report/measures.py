"""The quality measures of a cell beside its primary one: in the terminal below the table of a single task."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from rich.console import Console, Group, RenderableType
from rich.text import Text

from poise.report import numbers
from poise.report.grid import Grid, short_names
from poise.report.text import visible
from poise.types import CellSummary, Estimate


def measures(cell: CellSummary) -> dict[str, Estimate]:
    """The metrics of a cell, which stand before the mean mark `quality` (the first of them, from 0 to 1)."""
    return dict(takewhile(lambda item: item[0] != "quality", cell.estimates.items()))


def others(table: Grid, console: Console) -> RenderableType | None:
    """A line a system with every metric but the primary one; None unless there is one task and such a metric."""
    if len(table.tasks) != 1:
        return None
    cells = {k: cell for k, s in zip(_labels(table), table.systems) if (cell := s.cells.get(table.tasks[0]))}
    return bands("", {k: {n: e for n, e in measures(c).items() if n != c.primary} for k, c in cells.items()}, console)


def bands(head: str, rows: Mapping[str, Mapping[str, Estimate]], console: Console) -> RenderableType | None:
    """Rows of estimates by name, in as many tables below each other as the width asks; None without any estimate."""
    from poise.report.terminal import measured, table

    rest = list(dict.fromkeys(name for found in rows.values() for name in found))
    made: list[RenderableType] = []
    while rest:
        taken = len(rest)
        while True:
            shown = [[k, *(_value(found[n]) if n in found else "" for n in rest[:taken])] for k, found in rows.items()]
            band = table([head, *rest[:taken]], shown)
            if taken == 1 or measured(band, console) <= console.width:
                break
            taken -= 1
        made += ["", band] if made else [band]
        rest = rest[taken:]
    return Group(*made) if made else None


def _labels(table: Grid) -> list[str]:
    columns = [[getattr(s, dimension) for s in table.systems] for dimension in table.varying]
    return [" ".join(names) for names in zip(*([short_names(c)[name] for name in c] for c in columns))]


def _value(estimate: Estimate) -> Text:
    value, spread = numbers.scored("quality" if _is_mark(estimate) else "", estimate)
    return Text(visible(f"{numbers.bare(value)} {spread}".rstrip()))


def _is_mark(estimate: Estimate) -> bool:
    ends = (estimate.value, estimate.lo, estimate.hi)
    return estimate.unit == "" and all(v is None or abs(v) <= 1 for v in ends)
