"""What the commands of idealized runtime and of the roofline print: lines, and JSON of finite numbers."""

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
