"""Machine-readable faces: the summary's JSON, and one long table (a row per estimate) as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from poise.types import CellSummary, Estimate, ModelSummary, Summary, UsageError

COLUMNS = {
    "run": str, "model": str, "deployment": str, "task": str, "load": str, "group": str, "quantity": str,
    "value": float, "lo": float, "hi": float, "n": int, "unit": str, "better": str, "method": str, "reason": str,
    "state": str, "planned": int, "failed": int, "repeats": int, "cell": str, "signature": str,
}  # fmt: skip


def rows(summary: Summary) -> Iterator[dict[str, Any]]:
    """One dict per cell x estimate (and per group of the cell), then per model x mark; keys `COLUMNS`, None = absent.

    Rows of a model have no `task` (all its tasks) or a task and the marks of that task.
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


class Json:
    """The summary as `poise summary --json` prints it."""

    suffix = ".json"

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes:
        from poise.understand.summarize import to_json

        return to_json(summary)


class Csv:
    """`rows` as CSV (UTF-8, comma, a header). Text that a spreadsheet would run as a formula starts with `'`."""

    suffix = ".csv"

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_inert(v) for v in row.values()] for row in rows(summary))
        return text.getvalue().encode("utf-8", "backslashreplace")


def _inert(value: Any) -> Any:
    """Numbers as they are; text that starts like a formula (also behind a blank or a control) quoted with `'`."""
    if isinstance(value, str):
        value = value.replace("\r", "␍")
        return f"'{value}" if value.lstrip().startswith(("=", "+", "-", "@")) or value.startswith("\t") else value
    return value


class Parquet:
    """`rows` as Parquet, written by polars or else by pandas with pyarrow."""

    suffix = ".parquet"

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes:
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for row in rows(summary):
            for name, value in row.items():
                columns[name].append(value)
        for write in (_with_polars, _with_pandas):
            try:
                return write(columns)
            except ImportError:
                continue
        raise UsageError("Parquet needs polars (or pandas with pyarrow): pip install 'poise[frames]'")


def _with_polars(columns: dict[str, list[Any]]) -> bytes:
    import polars as pl

    types = {str: pl.String, float: pl.Float64, int: pl.Int64}
    file = io.BytesIO()
    pl.DataFrame(columns, schema={name: types[kind] for name, kind in COLUMNS.items()}).write_parquet(file)
    return file.getvalue()


def _with_pandas(columns: dict[str, list[Any]]) -> bytes:
    import pandas as pd
    import pyarrow  # type: ignore[import-not-found]  # noqa: F401  # pandas would name a wrong remedy

    types = {str: "string", float: "Float64", int: "Int64"}
    frame = pd.DataFrame({name: pd.Series(columns[name], dtype=types[kind]) for name, kind in COLUMNS.items()})
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()
