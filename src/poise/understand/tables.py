"""A summary as one long table, a row per estimate, and as a frame of whichever library is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.types import CellSummary, Estimate, ModelSummary, Summary, UsageError

COLUMNS = {
    "run": str, "model": str, "deployment": str, "task": str, "load": str, "group": str, "quantity": str,
    "value": float, "lo": float, "hi": float, "n": int, "unit": str, "better": str, "method": str, "reason": str,
    "state": str, "planned": int, "failed": int, "repeats": int, "cell": str, "signature": str,
}  # fmt: skip


def rows(summary: Summary) -> Iterator[dict[str, Any]]:
    """One dict per cell x estimate (and per group of the cell), then per model x mark; keys `COLUMNS`, None = absent.

    Rows of a model have no `task` (all its tasks, or a `group` of them) or a task and the marks of that task.
    """
    for cell in summary.cells:
        own = _own(cell)
        for group, estimates in (("", cell.estimates), *sorted(cell.groups.items())):
            for name, estimate in estimates.items():
                yield _row(own, estimate, group=group, quantity=name)
    for model in summary.models:
        own = {"model": model.model, "deployment": model.deployment, "load": model.load}
        for name, estimate in _marks(model):
            yield _row(own, estimate, quantity=name)
        for group, scores in model.groups.items():
            for name, estimate in scores.items():
                yield _row(own, estimate, group=group, quantity=name)
        for task, marks in model.tasks.items():
            for name, estimate in marks.items():
                yield _row({**own, "task": task}, estimate, quantity=f"mark.{name}")


def _own(cell: CellSummary) -> dict[str, Any]:
    names = ("run", "model", "deployment", "task", "load", "state", "planned", "failed", "repeats", "signature")
    return {**{name: getattr(cell, name) for name in names}, "cell": cell.id}


def _marks(model: ModelSummary) -> Iterator[tuple[str, Estimate]]:
    yield "balanced", model.balanced
    yield "quality_mark", model.quality
    yield "speed_mark", model.speed
    yield "p_frontier", Estimate(model.p_frontier, n=model.balanced.n, better="higher", method="bootstrap")
    for tau, value in model.sensitivity.items():
        yield f"balanced.{tau}", Estimate(value, n=model.balanced.n, better="higher")


def _row(own: dict[str, Any], estimate: Estimate, **names: str) -> dict[str, Any]:
    fields = ("value", "lo", "hi", "n", "unit", "better", "method", "reason")
    row = {**own, **names, **{name: getattr(estimate, name) for name in fields}}
    return {column: row.get(column) for column in COLUMNS}


def frame(summary: Summary) -> Any:
    """`rows` as a Polars frame, else a pandas one; UsageError naming the extra where neither is installed."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row in rows(summary):
        for name, value in row.items():
            columns[name].append(value)
    try:
        import polars as pl

        kinds = {str: pl.String, float: pl.Float64, int: pl.Int64}
        return pl.DataFrame(columns, schema={name: kinds[kind] for name, kind in COLUMNS.items()})
    except ImportError:
        pass
    try:
        import pandas as pd

        types = {str: "string", float: "Float64", int: "Int64"}
        return pd.DataFrame({name: pd.Series(columns[name], dtype=types[kind]) for name, kind in COLUMNS.items()})
    except ImportError:
        raise UsageError("frames need Polars or pandas: pip install 'poise[frames]'") from None
