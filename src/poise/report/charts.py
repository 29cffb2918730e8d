"""Static plots as SVG: the quality-speed plane with its frontier, and distributions; Vega-Lite drawn by vl-convert.

The SVGs carry light colours as plain attributes, from `PALETTE` only; a page restyles them for dark screens by
attribute selectors. No script, no style attribute, no font file, no network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from poise.report.labels import SLOTS, Slot, place
from poise.report.text import visible

PALETTE = {
    "ink": ("#1c2430", "#e6e9ee"), "muted": ("#667080", "#9aa5b4"), "grid": ("#e3e7ec", "#2c343f"),
    "iso": ("#cdd4dc", "#3a4450"), "front": ("#8a94a3", "#7d8899"), "under": ("#f0f3f7", "#1d242d"),
    "paper": ("#ffffff", "#151a21"),
    "s0": ("#0b62c4", "#63a8ff"), "s1": ("#d1490c", "#ff8f5a"), "s2": ("#0a8a5f", "#42d6a0"),
    "s3": ("#9b3fb5", "#d98bf0"),
    "s4": ("#a87400", "#f0c04a"), "s5": ("#0b8fa6", "#4fd3ea"), "s6": ("#b3264a", "#ff7d9c"),
    "s7": ("#5b6675", "#b4bfce"),
}  # fmt: skip
"""Name -> (light, dark)."""
SERIES = tuple(light for name, (light, _) in PALETTE.items() if name.startswith("s"))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [1, 3], [12, 4])
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FACTORS = (1, 2, 5)
CROWD = 8
"""Of more points than these a label must be wholly free: the legend names the others."""


class Point(Struct):
    """A system in a plane: value and interval on both axes (NaN-free; `lo`/`hi` None = no interval)."""

    label: str
    color: str
    shape: str
    x: float
    y: float
    x_lo: float | None = None
    x_hi: float | None = None
    y_lo: float | None = None
    y_hi: float | None = None


SECONDS = (
    "datum.value < 0.00099 ? format(datum.value * 1e6, '~r') + ' µs' : "
    "datum.value < 0.99 ? format(datum.value * 1000, '~r') + ' ms' : format(datum.value, '~r') + ' s'"
)
PLAIN = "format(datum.value, '~r')"


class Plane(Struct):
    """How a plane of points is drawn. `log_x`: x on a reversed log axis (seconds, dollars): up and right is better."""

    title: str
    description: str
    x_title: str
    y_title: str
    width: int
    height: int
    log_x: bool = False
    x_label: str = SECONDS
    """Vega expression that writes a value of a log axis."""
    iso: bool = False
    """Curves of equal balanced score (only for marks)."""


def _light(name: str) -> str:
    return PALETTE[name][0]


def plane(points: Sequence[Point], look: Plane) -> str:
    """SVG of the points with intervals both ways, direct labels and the frontier (what no other beats on both)."""
    x_domain = _time_domain(points) if look.log_x else _mark_domain([(p.x_lo, p.x, p.x_hi) for p in points])
    y_domain = _mark_domain([(p.y_lo, p.y, p.y_hi) for p in points])
    best = front(points, look.log_x)
    layers = [_area(best, x_domain, y_domain, look)]
    layers += _iso(x_domain, y_domain) if look.iso else []
    layers += [_front_line(best, x_domain, y_domain, look), *_bars(points), _dots(points, best)]
    layers += _labels(points, look, x_domain, y_domain)
    scale: dict[str, Any] = {"domain": x_domain, "nice": False, "zero": False}
    axis: dict[str, Any] = {"title": look.x_title, "values": _mark_ticks(x_domain), "format": ".2~f"}
    if look.log_x:
        scale |= {"type": "log", "reverse": True}
        axis = {"title": look.x_title, "values": log_ticks(x_domain), "labelExpr": look.x_label}
    x = {"field": "x", "type": "quantitative", "scale": scale, "axis": axis}
    y = {
        "field": "y", "type": "quantitative", "scale": {"domain": y_domain, "nice": False, "zero": False},
        "axis": {"title": look.y_title, "values": _mark_ticks(y_domain), "format": ".2~f"},
    }  # fmt: skip
    return draw({"layer": layers, "encoding": {"x": x, "y": y}}, look.title, look.description, look.width, look.height)


def front(points: Sequence[Point], smaller_x: bool) -> list[Point]:
    """The points that no other is better than on one axis and as good on the other, from the slowest to the fastest."""
    sign = -1 if smaller_x else 1

    def beats(a: Point, b: Point) -> bool:
        return sign * a.x >= sign * b.x and a.y >= b.y and (a.x, a.y) != (b.x, b.y)

    return sorted((p for p in points if not any(beats(q, p) for q in points)), key=lambda p: sign * p.x)


class Curve(Struct):
    """A share that grows with time: `y` from each of the seconds `x` on, with its interval if it has one."""

    label: str
    color: str
    dash: list[int]
    x: Sequence[float]
    y: Sequence[float]
    lo: Sequence[float] = ()
    hi: Sequence[float] = ()


def distribution(curves: Sequence[Curve], look: Plane) -> str:
    """Shares over a log time axis, as steps; where a curve has an interval, that as a band behind it."""
    times = [t for c in curves for t in c.x if t > 0 and math.isfinite(t)]
    domain = [min(times) / 1.1, max(times) * 1.1] if times else [0.001, 1.0]
    bands, lines = [], []
    for c in curves:
        limits = (c.lo, c.hi) if c.lo else (c.y, c.y)
        values = [
            {"x": x, "y": y, "lo": lo, "hi": hi}
            for x, y, lo, hi in zip(c.x, c.y, *limits, strict=True)
            if x > 0 and math.isfinite(x)
        ]
        if values:  # from nothing, and on to the edge: what did not come by then never came
            values = [{**values[0], "y": 0.0}, *values, {**values[-1], "x": domain[1]}]
        steps = {"interpolate": "step-after", "color": c.color, "description": c.label}
        line = {"type": "line", "strokeDash": c.dash, "strokeWidth": 1.8, **steps}
        lines.append({"data": {"values": values}, "mark": line})
        if c.lo:
            ends = {"y": {"field": "lo", "type": "quantitative"}, "y2": {"field": "hi"}}
            bands.append(
                {"data": {"values": values}, "mark": {"type": "area", "opacity": 0.16, **steps}, "encoding": ends}
            )
    layers = bands + lines
    x = {
        "field": "x", "type": "quantitative", "scale": {"type": "log", "domain": domain, "nice": False},
        "axis": {"title": look.x_title, "values": log_ticks(domain), "labelExpr": SECONDS},
    }  # fmt: skip
    y = {
        "field": "y", "type": "quantitative", "scale": {"domain": [0, 1]},
        "axis": {"title": look.y_title, "values": [0, 0.25, 0.5, 0.75, 1], "format": ".0%"},
    }  # fmt: skip
    return draw({"layer": layers, "encoding": {"x": x, "y": y}}, look.title, look.description, look.width, look.height)


def draw(spec: dict[str, Any], title: str, description: str, width: int, height: int) -> str:
    """A Vega-Lite spec as SVG, titled for screen readers, in the report's look; nothing is fetched."""
    import vl_convert

    axis = {
        "labelColor": _light("muted"), "titleColor": _light("ink"), "gridColor": _light("grid"), "domain": False,
        "ticks": False, "labelFont": FONT, "titleFont": FONT, "labelFontSize": 11, "titleFontSize": 12,
        "titleFontWeight": 500, "labelPadding": 6, "titlePadding": 10, "labelOverlap": True, "labelFlush": False,
    }  # fmt: skip
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json", "background": None, "width": width,
        "height": height, "padding": 2, "autosize": {"type": "fit", "contains": "padding"}, "view": {"stroke": None},
        "config": {"axis": axis, "text": {"font": FONT}}, "data": {"values": []}, **spec,
    }  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    return _named(svg, title, description)


def _named(svg: str, title: str, description: str) -> str:
    """The SVG as one image with a name for assistive software (and without the fixed size: the page sizes it)."""
    from markupsafe import escape

    title, description = (escape(visible(t, newlines=False)) for t in (title, description))
    head, _, body = svg.partition(">")
    box = head[head.index("viewBox=") :].split('"')[1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{title}">'
        f"<title>{title}</title><desc>{description}</desc>"
        f'<g aria-hidden="true">{body.removesuffix("</svg>")}</g></svg>'
    )


# ---------------------------------------------------------------- parts of the plane


def _area(best: Sequence[Point], x_domain: list[float], y_domain: list[float], look: Plane) -> dict[str, Any]:
    """What the frontier leaves below itself, lightly filled."""
    values = [{"x": v["x"], "y": v["y"], "floor": y_domain[0]} for v in _stairs(best, x_domain, y_domain, look)]
    encoding = {"y2": {"field": "floor"}}
    return {"data": {"values": values}, "mark": {"type": "area", "color": _light("under")}, "encoding": encoding}


def _front_line(best: Sequence[Point], x_domain: list[float], y_domain: list[float], look: Plane) -> dict[str, Any]:
    mark = {"type": "line", "color": _light("front"), "strokeWidth": 1.5, "strokeDash": [5, 3]}
    values = _stairs(best, x_domain, y_domain, look)
    return {"data": {"values": values}, "mark": mark, "encoding": {"order": {"field": "i", "type": "quantitative"}}}


def _stairs(best: Sequence[Point], x_domain: list[float], y_domain: list[float], look: Plane) -> list[dict[str, float]]:
    """Corners of the frontier from the slow edge to the fast one, down to the floor."""
    slow_edge = x_domain[1] if look.log_x else x_domain[0]
    corners: list[tuple[float, float]] = []
    for p in best:
        corners += [(corners[-1][0] if corners else slow_edge, p.y), (p.x, p.y)]
    if best:
        corners.append((best[-1].x, y_domain[0]))
    return [{"x": x, "y": y, "i": i} for i, (x, y) in enumerate(corners)]


def _iso(x_domain: list[float], y_domain: list[float]) -> list[dict[str, Any]]:
    """Curves of equal balanced score B = 100·sqrt(Q·S), each labelled where it leaves the plot."""
    layers: list[dict[str, Any]] = []
    for score, (first, last) in _iso_ends(x_domain, y_domain).items():
        product = (score / 100) ** 2
        xs = [first * (last / first) ** (i / 40) for i in range(41)] if first > 0 else [last]
        values = [{"x": x, "y": product / x} for x in xs]
        mark = {"type": "line", "color": _light("iso"), "strokeWidth": 1}
        layers.append({"data": {"values": values}, "mark": mark})
        text = {"type": "text", "text": str(score), "color": _light("muted"), "fontSize": 10, "align": "right"}
        layers.append({"data": {"values": values[-1:]}, "mark": {**text, "dx": -3, "dy": -7}})
    return layers


def _iso_ends(x_domain: list[float], y_domain: list[float]) -> dict[int, tuple[float, float]]:
    """Balanced score -> the x between which its curve runs through the plot."""
    found = {}
    for score in range(10, 100, 10):
        product = (score / 100) ** 2
        first, last = max(x_domain[0], product / y_domain[1]), min(x_domain[1], product / max(y_domain[0], 1e-9))
        if first < last and last > 0:
            found[score] = (first, last)
    return found


def _bars(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Intervals: one layer of horizontal bars, one of vertical ones."""
    color = {"field": "color", "type": "nominal", "scale": None}
    mark = {"type": "rule", "strokeWidth": 1.6, "opacity": 0.55, "strokeCap": "round"}
    across = [
        {"x": p.x_lo, "y": p.y, "x2": p.x_hi, "color": p.color}
        for p in points
        if p.x_lo is not None and p.x_hi is not None
    ]
    along = [
        {"x": p.x, "y": p.y_lo, "y2": p.y_hi, "color": p.color}
        for p in points
        if p.y_lo is not None and p.y_hi is not None
    ]
    return [
        {"data": {"values": across}, "mark": mark, "encoding": {"x2": {"field": "x2"}, "color": color}},
        {"data": {"values": along}, "mark": mark, "encoding": {"y2": {"field": "y2"}, "color": color}},
    ]


def _dots(points: Sequence[Point], best: Sequence[Point]) -> dict[str, Any]:
    values = [
        {"x": p.x, "y": p.y, "shape": p.shape, "edge": p.color, "fill": p.color if p in best else _light("paper")}
        for p in points
    ]
    encoding = {
        "shape": {"field": "shape", "type": "nominal", "scale": None},
        "fill": {"field": "fill", "type": "nominal", "scale": None},
        "stroke": {"field": "edge", "type": "nominal", "scale": None},
    }
    mark = {"type": "point", "size": 105, "opacity": 1, "strokeWidth": 2}
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def _labels(points: Sequence[Point], look: Plane, x_domain: list[float], y_domain: list[float]) -> list[dict[str, Any]]:
    """Direct labels."""
    width, height = inside(look.width, look.height)
    x_px = pixels(x_domain[::-1] if look.log_x else x_domain, width, look.log_x)
    y_px = pixels(y_domain[::-1], height)
    places = [(x_px(p.x), y_px(p.y)) for p in points]
    bars = []
    for p, (x, y) in zip(points, places):
        ends = sorted(x_px(v) for v in (p.x_lo or p.x, p.x_hi or p.x))
        bars.append((ends[0], y - 2, ends[1], y + 2))
        bars.append((x - 2, y_px(p.y_hi or p.y), x + 2, y_px(p.y_lo or p.y)))
    if look.iso:
        for score, (_, last) in _iso_ends(x_domain, y_domain).items():
            x, y = x_px(last), y_px((score / 100) ** 2 / last)
            bars.append((x - 18, y - 14, x, y))
    best = front(points, look.log_x)
    order = sorted(range(len(points)), key=lambda i: points[i] not in best)
    hidden = 1 / 3 if len(points) <= CROWD else 0.02
    slots = place(places, [p.label for p in points], bars, (width, height), order, hidden)
    return labelled(points, slots)


def inside(width: int, height: int) -> tuple[float, float]:
    """Pixels of a plot without its axes."""
    return width - 60, height - 50


def pixels(domain: Sequence[float], length: float, log: bool = False) -> Callable[[float], float]:
    """Where a value of a domain stands on an axis of so many pixels, from its first value on."""
    scaled = math.log if log else float
    first, last = (scaled(end) for end in domain)
    return lambda value: (scaled(value) - first) / (last - first) * length


def labelled(
    points: Sequence[Point], slots: Sequence[Slot | None], size: int = 12, weight: int = 600
) -> list[dict[str, Any]]:
    """A layer of labels for each slot that is used."""
    used = [slot for slot in SLOTS if slot in slots]
    chosen = [(slot, [p for p, own in zip(points, slots) if own == slot and p.label]) for slot in used]
    return [_label(own, slot, size, weight) for slot, own in chosen]


def _label(points: Sequence[Point], slot: Slot, size: int, weight: int) -> dict[str, Any]:
    mark = {
        "type": "text", "dx": slot.dx, "dy": slot.dy, "align": slot.align, "baseline": "middle", "fontSize": size,
        "fontWeight": weight,
    }  # fmt: skip
    values = [{"x": p.x, "y": p.y, "t": p.label, "color": p.color} for p in points]
    color = {"field": "color", "type": "nominal", "scale": None}
    return {
        "data": {"values": values},
        "mark": mark,
        "encoding": {"text": {"field": "t", "type": "nominal"}, "color": color},
    }


# ---------------------------------------------------------------- domains and ticks


def _mark_domain(values: Sequence[tuple[float | None, float, float | None]]) -> list[float]:
    """The tenths around all intervals, at least .3 wide, within [0, 1] where the values are marks."""
    if not values:
        return [0.0, 1.0]
    low = min(v if lo is None else lo for lo, v, _ in values)
    high = max(v if hi is None else hi for _, v, hi in values)
    low, high = max(0.0, math.floor(10 * (low - 0.04)) / 10), math.ceil(10 * (high + 0.04)) / 10
    high = min(1.0, high) if high <= 1.1 else high
    while high - low < 0.3:
        low, high = max(0.0, low - 0.1), min(1.0, high + 0.1)
    return [low, high]


def _mark_ticks(domain: Sequence[float]) -> list[float]:
    """Tenths, or twentieths in a narrow domain."""
    step = 0.1 if domain[1] - domain[0] > 0.45 else 0.05
    first, last = round(domain[0] / step), round(domain[1] / step)
    return [round(i * step, 2) for i in range(first, last + 1)][:25]


def _time_domain(points: Sequence[Point]) -> list[float]:
    """All times with room for labels at both ends."""
    return log_domain([v for p in points for v in (p.x, p.x_lo, p.x_hi) if v is not None and 0 < v < math.inf])


def log_domain(values: Sequence[float]) -> list[float]:
    """Positive values with room for labels at both ends of a log axis."""
    low, high = (min(values), max(values)) if values else (0.001, 1.0)
    margin = max(1.5, (high / low) ** 0.18)
    return [low / margin, high * margin]


def log_ticks(domain: Sequence[float]) -> list[float]:
    """1, 2, 5 x powers of ten within the domain; only powers where there are many, every digit where there are few."""
    decades = range(math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1])) + 1)

    def ticks(factors: Sequence[float]) -> list[float]:
        return [f * 10.0**d for d in decades for f in factors if domain[0] <= f * 10.0**d <= domain[1]]

    usual = ticks(FACTORS)
    return ticks((1,)) if len(usual) > 8 else usual if len(usual) > 2 else ticks(range(1, 10))
