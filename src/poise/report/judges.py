"""The judges of a summary: how much each gave a verdict on, what the order changed, how far it agrees with others."""

from __future__ import annotations

from rich.console import Console, RenderableType

from poise.report.measures import bands
from poise.report.text import visible
from poise.types import Estimate, Summary

KEY = "readable: share of answers with a verdict"
SWAPPED = "; swapped: pairs whose verdict changed with the order"
KAPPA = "; κ: agreement beyond chance, quadratically weighted as κ²"


def judges(summary: Summary) -> dict[str, dict[str, Estimate]]:
    """What is told of each judge, under the heads of its columns; a judge is named by what tells it from the others."""
    cells = [c for c in summary.cells if "readable" in c.estimates]
    varying = [d for d in ("deployment", "load", "task") if len({getattr(c, d) for c in cells}) > 1]
    names = [" · ".join(visible(getattr(c, d), newlines=False) for d in ("model", *varying)) for c in cells]
    return {name: {h: e for n, e in c.estimates.items() if (h := _head(n))} for name, c in zip(names, cells)}


def key(found: dict[str, dict[str, Estimate]]) -> str:
    """What the columns mean."""
    names = heads(found)
    return KEY + SWAPPED * ("swapped" in names) + KAPPA * any(name.startswith("κ") for name in names)


def heads(found: dict[str, dict[str, Estimate]]) -> list[str]:
    """The columns, in order of first mention."""
    return list(dict.fromkeys(head for told in found.values() for head in told))


def drawn(summary: Summary, console: Console) -> tuple[RenderableType, str] | None:
    """A table with a line a judge, and what stands under it; None where nobody judged."""
    found = judges(summary)
    table = bands("judge", found, console)
    return None if table is None else (table, key(found))


def _head(name: str) -> str | None:
    base, _, other = name.partition(".")
    if name in ("readable", "swapped"):
        return name
    sign = {"kappa": "κ", "kappa_quadratic": "κ²"}.get(base)
    return sign and f"{sign} {'people' if other == 'human' else visible(other, newlines=False)}"
