"""The HTML face: one self-contained page without script, the quality-speed plot first, foreign text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from poise.report import charts, judges, numbers
from poise.report import grid as shape
from poise.report import page as view
from poise.report.text import cap, visible
from poise.types import Summary

if TYPE_CHECKING:
    from jinja2 import Environment

    from poise.store.run import Run
    from poise.understand.idealize_apply import Applied


class Html:
    """A page that opens from a mail attachment: styles inside, plots as inline SVG, nothing fetched or executed."""

    suffix = ".html"

    def render(self, summary: Summary, runs: Sequence[Run]) -> bytes:
        """The page of `summary`; samples, environment and command come from the opened `runs`."""
        from poise.understand.idealize_apply import applied

        environment = _jinja()
        style = environment.get_template("style.css.j2").render(palette=charts.PALETTE)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        html = environment.get_template("page.html.j2").render(
            style=Markup(style),
            style_sha=digest,
            page=view.page(summary, runs),
            text_chars=view.TEXT_CHARS,
            rates=view.RATES,
            idealized=[_beside(done) for run in runs if (done := applied(run)) is not None],
        )
        return html.encode("utf-8", "backslashreplace")


def _beside(done: Applied) -> dict[str, Any]:
    """Idealized runtime beside measured: a table and what stands under it."""
    from poise.report.idealized import applied_lines, applied_rows

    header, *rows = applied_rows(done)
    return {"run": done.run, "header": header, "rows": rows, "lines": [line.strip() for line in applied_lines(done)]}


@cache
def _jinja() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("poise.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_shown,
    )  # fmt: skip
    environment.globals |= {
        "new_notes": shape.Notes, "superscript": shape.superscript, "cells_of": view.table_cells,
        "score_name": shape.score_name, "group_scores": shape.group_scores,
        "judge_heads": judges.heads, "judge_key": judges.key,
        "scored": lambda e: " ".join(numbers.scored("", e)).strip(),
        "balanced": lambda e: view.score(e.value), "balanced_interval": view.score_interval, "plain": view.score,
        "share": view.share,
    }  # fmt: skip
    environment.filters |= {
        "seconds": numbers.seconds, "mark": numbers.mark, "quantity": numbers.quantity, "interval": numbers.interval,
        "half": numbers.half_width, "count": numbers.count, "cap": cap,
        "one_line": lambda t: visible(t, newlines=False),
    }  # fmt: skip
    return environment


def _shown(value: Any) -> Any:
    """Every text that a template prints passes here: controls and bidi marks become visible; None is a mistake."""
    if value is None:
        raise ValueError("a template printed a missing value")
    return visible(value) if type(value) is str else value
