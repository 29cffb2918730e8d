"""What the commands of idealized runtime and of the roofline print: lines, JSON of finite numbers, a table."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


def print_lines(lines: Iterable[str]) -> None:
    from poise.report.text import visible

    for line in lines:
        print(visible(line, newlines=False))


def print_json(value: Any) -> None:
    """Finite numbers only: an infinite or undefined one becomes null."""
    print(msgspec.json.encode(_finite(msgspec.to_builtins(value))).decode())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


def written(path: Path | None) -> None:
    if path is not None:
        print(f"written: {path}", file=sys.stderr)


def as_table(rows: Iterable[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from poise.report.text import visible

    head, *body = rows
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=i > 0)
    for row in body:
        table.add_row(*(Text(visible(cell, newlines=False)) for cell in row))
    return table
