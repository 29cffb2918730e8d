"""The quality-speed plot alone, as an SVG or PNG file: for a README, a slide, a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poise.report import grid as shape
from poise.report.charts import PALETTE
from poise.report.plots import look, overall
from poise.types import Summary, UsageError

SIZE = (940, 480)
MARGIN = 12


class Svg:
    """The plane of quality mark and speed mark over all tasks, on white."""

    suffix = ".svg"

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes:
        """UsageError where no system has both marks."""
        table = shape.grid(summary)
        looks = look(table)
        drawn = overall([(s, looks[s.key]) for s in table.systems], *SIZE)
        if drawn is None:
            raise UsageError("there is no plot: no system has both a quality mark and a speed mark")
        return _on_paper(str(drawn)).encode("utf-8", "backslashreplace")


class Png:
    """The same, in pixels at twice the size."""

    suffix = ".png"

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes:
        """UsageError where no system has both marks."""
        import vl_convert

        return bytes(vl_convert.svg_to_png(Svg().render(summary, runs).decode(), scale=2))


def _on_paper(svg: str) -> str:
    """The SVG with a white ground and a margin: alone it may stand on any colour."""
    head, _, body = svg.partition(">")
    box = head[head.index("viewBox=") :].split('"')[1]
    x, y, width, height = (float(v) for v in box.split())
    x, y, width, height = x - MARGIN, y - MARGIN, width + 2 * MARGIN, height + 2 * MARGIN
    size = f'viewBox="{x:g} {y:g} {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    ground = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{PALETTE["paper"][0]}"/>'
    old = f'viewBox="{box}"'
    return f"{head.replace(old, size)}>{ground}{body}"
