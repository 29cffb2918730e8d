"""A summary as one long table, a row per cell and estimate, in whichever frame library is installed."""

from __future__ import annotations

from typing import Any

from poise.types import Summary, UsageError


def rows(summary: Summary) -> dict[str, list[Any]]:
    """The table's columns: where the number belongs, its name, value, interval, n, unit, direction, method, reason."""
    where = ("run", "model", "deployment", "task", "load")
    what = ("value", "lo", "hi", "n", "unit", "better", "method", "reason")
    table: dict[str, list[Any]] = {name: [] for name in (*where, "name", *what)}
    for cell in summary.cells:
        for name, estimate in cell.estimates.items():
            for key in where:
                table[key].append(getattr(cell, key))
            table["name"].append(name)
            for key in what:
                table[key].append(getattr(estimate, key))
    return table


def frame(summary: Summary) -> Any:
    """The long table as a Polars frame, else a pandas one; UsageError naming the extra where neither is installed."""
    table = rows(summary)
    try:
        import polars

        numbers = dict.fromkeys(("value", "lo", "hi"), polars.Float64)
        return polars.DataFrame(table, schema_overrides={**numbers, "better": polars.String, "reason": polars.String})
    except ImportError:
        pass
    try:
        import pandas

        return pandas.DataFrame(table)
    except ImportError:
        raise UsageError("frames need Polars or pandas: pip install 'poise[frames]'") from None
