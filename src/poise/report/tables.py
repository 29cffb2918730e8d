"""Machine-readable faces: the summary's JSON, and one long table (a row per estimate) as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from poise.types import Summary, UsageError
from poise.understand.tables import COLUMNS, frame, rows


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
        target = io.BytesIO()
        try:
            table = frame(summary)
            table.write_parquet(target) if hasattr(table, "write_parquet") else table.to_parquet(target)
        except (UsageError, ImportError):
            raise UsageError("Parquet needs polars (or pandas with pyarrow): pip install 'poise[frames]'") from None
        return target.getvalue()
