"""A load sweep: latency against throughput, a line a system; the rate asked against delivered; quality by load."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from msgspec import Struct

from poise.report import charts, numbers
from poise.report import grid as shape
from poise.report.charts import PALETTE, PLAIN, SECONDS, SERIES, SHAPES, Point
from poise.report.labels import SLOTS, place
from poise.report.plots import SMALL, Look
from poise.report.text import visible
from poise.types import CellSummary, Summary

LATENCIES = {
    "ttft_s": "time to first token",
    "tpot_s": "time per token after the first",
    "e2e_s": "time per request",
    "response_s": "time from due to done",
}
THROUGHPUT = {"system_tok_s": "output tokens per second", "requests_s": "answered requests per second"}
NUMBERS = (
    "load_delivered", "requests_s", "goodput_rps", "correct_goodput_rps", "system_tok_s", "ttft_s.p50", "ttft_s.p99",
    "tpot_s.p50", "tpot_s.p99", "e2e_s.p99", "response_s.p99", "chunk_gap_s.max", "failed.share",
)  # fmt: skip


class Line(Struct):
    """One system under several loads of one kind, from the lowest to the highest."""

    look: Look
    cells: list[CellSummary]


class Search(Struct):
    """What a search for the knee tried: a row a rate, the limits it was read by, and whether it met them."""

    title: str
    names: list[str]
    rows: list[tuple[Look, str, list[str]]]


class Sweep(Struct):
    """One task under several loads. The tables' first column is the load, under its system's colour."""

    task: str
    lines: list[Line]
    plots: list[Any]
    names: list[str]
    rows: list[tuple[Look, str, list[str]]]
    quality_names: list[str]
    quality: list[tuple[Look, str, list[str]]]
    lowest: str
    """The load that quality is held against."""
    searches: list[Search]


def sweeps(summary: Summary) -> list[Sweep]:
    """Every task that some system was measured on under several loads."""
    found = []
    for task in dict.fromkeys(c.task for c in summary.cells):
        lines = _lines([c for c in summary.cells if c.task == task and c.n])
        if any(len(line.cells) > 1 for line in lines):
            found.append(_sweep(task, lines, [c for c in summary.cells if c.task == task and "probes" in c.tables]))
    return found


def level(load: str) -> tuple[str, float]:
    """What sort of load it is, and how high, as its label says: ("open /s poisson", 4) of "open 4/s poisson"."""
    number = re.search(r"(?<= )(?:[\d.e+]+-)?(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", load)
    if number is None:
        return load, math.inf
    return load[: number.start()] + load[number.end() :], float(number[1])


def _lines(cells: Sequence[CellSummary]) -> list[Line]:
    groups: dict[tuple[str, str, str], list[CellSummary]] = {}
    for c in cells:
        groups.setdefault((c.model, c.deployment, level(c.load)[0]), []).append(c)
    varying = [i for i in range(3) if len({key[i] for key in groups}) > 1] or [0]
    lines = []
    for number, (key, own) in enumerate(groups.items()):
        label = " · ".join(visible(key[i], newlines=False).replace(" /s", "").strip() for i in varying)
        look = Look(label, number % len(SERIES), number % len(SHAPES))
        lines.append(Line(look, sorted(own, key=lambda c: level(c.load)[1])))
    return lines


def _sweep(task: str, lines: list[Line], searches: Sequence[CellSummary]) -> Sweep:
    every = [c for line in lines for c in line.cells]
    names = [n for n in NUMBERS if any(shape.estimate(c, n).value is not None for c in every)]
    if "response_s.p99" in names:
        names.remove("e2e_s.p99")
    rows = [(line.look, c.load, [_number(c, n) for n in names]) for line in lines for c in line.cells]
    x = next((n for n in THROUGHPUT if all(shape.estimate(c, n).value is not None for c in every)), "requests_s")
    latencies = [n for n in LATENCIES if any(shape.estimate(c, f"{n}.p50").value is not None for c in every)]
    if "response_s" in latencies:
        latencies.remove("e2e_s")
    plots = [plot for n in latencies if (plot := latency(task, lines, x, n))]
    plots += [plot] if (plot := rates(task, lines)) else []
    effects = [(line.look, c) for line in lines for c in line.cells if "under_load" in c.tables]
    quality = [(look, c.load, _effect(c.tables["under_load"])) for look, c in effects]
    return Sweep(
        task, lines, plots, names, rows, *_touched(QUALITY, quality), _lowest(effects), _searches(lines, searches)
    )


def _searches(lines: Sequence[Line], found: Sequence[CellSummary]) -> list[Search]:
    looks = {(c.model, c.deployment): line.look for line in lines for c in line.cells if c.load.startswith("open ")}
    return [_search(c, looks[c.model, c.deployment]) for c in found if (c.model, c.deployment) in looks]


def _search(cell: CellSummary, look: Look) -> Search:
    probes = cell.tables["probes"]
    limits = [name for name, value in probes[0].items() if isinstance(value, dict)]
    rows = []
    for probe in probes:
        verdict = ("yes" if probe["met"] else "no") + ("" if probe["sure"] else ", undecided")
        rows.append((look, f"{probe['rate']:g}/s", [*(_limit(probe[name]) for name in limits), verdict]))
    knee = shape.estimate(cell, "knee_rps")
    title = f"{cell.load}: knee {numbers.ABSENT if knee.value is None else f'{knee.value:g}/s'}"
    title += f" [{_rate(knee.lo, '?')}, {_rate(knee.hi, '∞')}]"
    names = [f"{name} ≤ {numbers.seconds(probes[0][name]['limit'])}" for name in limits]
    return Search(f"{title} ({knee.method})", [*names, "met"], rows)


def _rate(value: float | None, unknown: str) -> str:
    return unknown if value is None or math.isinf(value) else f"{value:g}"


def _limit(found: dict[str, Any]) -> str:
    """The percentile found and its interval; an end that too few requests leave open is ∞."""
    lo, hi = (numbers.ABSENT if v is None else numbers.seconds(v) for v in (found["lo"], found["hi"]))
    value = "∞" if found["value"] is None else numbers.seconds(found["value"])
    return f"{value} [{lo}, {'∞' if found['hi'] is None else hi}]"


def _lowest(effects: Sequence[tuple[Look, CellSummary]]) -> str:
    return ", ".join(dict.fromkeys(visible(c.tables["under_load"]["against"], newlines=False) for _, c in effects))


def _number(cell: CellSummary, name: str) -> str:
    found = shape.estimate(cell, name)
    return numbers.quantity(found.value, found.unit)


# ---------------------------------------------------------------- quality by load

QUALITY = (
    "n", "there → here", "difference", "p", "worse : better", "why worse", "texts that differ", "output tokens",
    "cut at the limit", "failed", "timed out",
)  # fmt: skip
UNTOUCHED = "0 % → 0 %"


def _effect(e: dict[str, Any]) -> list[str]:
    """One row of the table of quality by load."""
    d = e["difference"]
    spread = "" if d["lo"] is None else f" [{numbers.mark(d['lo'], 3)}, {numbers.mark(d['hi'], 3)}]"
    return [
        numbers.count(e["n"]),
        f"{numbers.mark(e['quality_there'], 3)} → {numbers.mark(e['quality_here'], 3)}",
        f"{numbers.mark(d['value'], 3)}{spread}",
        "< .001" if e["p_adjusted"] < 0.001 else numbers.bare(f"{e['p_adjusted']:.3f}"),
        f"{e['worse']} : {e['better']}",
        ", ".join(f"{n} {reason}" for reason, n in e["reasons"].items()) or numbers.ABSENT,
        _per_cent(e["changed"]),
        numbers.ABSENT if e["tokens"] is None else f"{e['tokens']:.2f} ×",
        *(f"{_per_cent(there)} → {_per_cent(here)}" for there, here in (e["cut"], e["failed"], e["timed_out"])),
    ]


def _touched(names: Sequence[str], rows: list[tuple[Look, str, list[str]]]) -> tuple[list[str], list[Any]]:
    """The table without the columns in which nothing happened anywhere."""
    kept = [i for i in range(len(names)) if any(cells[i] != UNTOUCHED for _, _, cells in rows)]
    return [names[i] for i in kept], [(look, load, [cells[i] for i in kept]) for look, load, cells in rows]


def _per_cent(share: float | None) -> str:
    return numbers.ABSENT if share is None else f"{100 * share:.3g} %"


# ---------------------------------------------------------------- plots


def latency(task: str, lines: Sequence[Line], x: str, name: str) -> Any:
    """p50 (solid) and p99 (dashed) of a time against throughput, a point a load; None where no load has it."""
    layers: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    named: list[tuple[int, str]] = []
    said = []
    for line in lines:
        for quantile, dash in (("p50", [1, 0]), ("p99", [5, 3])):
            points: list[dict[str, Any]] = [
                {"x": across, "y": up, "i": i, "t": _short(c.load), "color": line.look.color}
                for i, c in enumerate(line.cells)
                if (up := _finite(c, f"{name}.{quantile}")) and (across := _finite(c, x))
            ]
            layers += _joined(points, line.look, dash)
            named += [(len(seen) + i, p["t"]) for i, p in enumerate(points) if quantile == "p50"]
            seen += points
            told = ", ".join(f"{p['t']}: {numbers.seconds(p['y'])} at {numbers.digits(p['x'])}" for p in points)
            said.append(f"{line.look.label} {quantile} {told}")
    if not seen:
        return None
    wide, y = _linear(THROUGHPUT[x], [p["x"] for p in seen]), charts.log_domain([p["y"] for p in seen])
    layers += _loads(seen, named, wide["scale"]["domain"], y)
    encoding = {
        "x": wide,
        "y": {
            "field": "y", "type": "quantitative", "scale": {"type": "log", "domain": y, "nice": False},
            "axis": {"title": f"{LATENCIES[name]}, p50 and p99", "values": charts.log_ticks(y), "labelExpr": SECONDS},
        },
    }  # fmt: skip
    title = f"{LATENCIES[name].capitalize()} against throughput on {task}"
    return Markup(charts.draw({"layer": layers, "encoding": encoding}, title, "; ".join(said), *SMALL))


def rates(task: str, lines: Sequence[Line]) -> Any:
    """Requests sent (solid) and answered (dashed) per second against the rate asked; None without an open sweep."""
    layers: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    for line in lines:
        for name, dash in (("delivered_rps", [1, 0]), ("requests_s", [5, 3])):
            points: list[dict[str, Any]] = [
                {"x": asked, "y": got, "i": i, "t": _short(c.load), "color": line.look.color}
                for i, c in enumerate(line.cells)
                if (asked := _finite(c, "asked_rps")) and (got := _finite(c, name)) is not None
            ]
            layers += _joined(points, line.look, dash)
            seen += points
    if len({p["x"] for p in seen}) < 2:
        return None
    most = max(p["x"] for p in seen)
    ideal = {
        "data": {"values": [{"x": 0, "y": 0, "i": 0}, {"x": most, "y": most, "i": 1}]},
        "mark": {"type": "line", "color": PALETTE["iso"][0], "strokeWidth": 1.5},
    }
    encoding = {
        "x": _linear("requests per second asked", [p["x"] for p in seen]),
        "y": _linear("sent, and answered (dashed), per second", [p["y"] for p in seen] + [most], "y"),
    }
    said = "; ".join(f"asked {numbers.digits(p['x'])}: {numbers.digits(p['y'])}" for p in seen)
    title = f"Rate asked against delivered on {task}"
    return Markup(charts.draw({"layer": [ideal, *layers], "encoding": encoding}, title, said, *SMALL))


def _finite(cell: CellSummary, name: str) -> float | None:
    value = shape.estimate(cell, name).value
    return value if value is not None and math.isfinite(value) else None


def _short(load: str) -> str:
    """`16` of "closed 16", `4/s` of "open 4/s poisson"."""
    words = load.split()
    return visible(words[1] if len(words) > 1 else load, newlines=False)


def _loads(
    points: list[dict[str, Any]], named: Sequence[tuple[int, str]], x: Sequence[float], y: Sequence[float]
) -> list[dict[str, Any]]:
    """The loads as labels of those points that have room for one: lowest and highest first, then those between."""
    width, height = charts.inside(*SMALL)
    x_px, y_px = charts.pixels(x, width), charts.pixels(y[::-1], height, log=True)
    texts = dict(named)
    shown = [Point(texts.get(i, ""), PALETTE["muted"][0], "", p["x"], p["y"]) for i, p in enumerate(points)]
    most = {p["color"]: max(q["i"] for q in points if q["color"] == p["color"]) for p in points}

    def turn(i: int) -> tuple[bool, int, int]:
        number = points[i]["i"]  # the more halvings it takes to come to it, the later it has its turn
        return (number not in (0, most[points[i]["color"]]), -(number & -number), number)

    places = [(x_px(p.x), y_px(p.y)) for p in shown]
    order, below = sorted(texts, key=turn), [slot for slot in SLOTS if slot.dy > 0]
    slots = place(places, [p.label for p in shown], [], (width, height), order, hidden=0.02, slots=below)
    return charts.labelled(shown, slots, size=10, weight=400)


def _joined(points: list[dict[str, Any]], look: Look, dash: list[int]) -> list[dict[str, Any]]:
    """Points joined in the order of their loads."""
    order = {"order": {"field": "i", "type": "quantitative"}}
    line = {"type": "line", "color": look.color, "strokeDash": dash, "strokeWidth": 1.8}
    dot = {
        "type": "point", "shape": look.shape, "size": 55, "opacity": 1, "stroke": look.color, "strokeWidth": 1.5,
        "fill": look.color if dash == [1, 0] else PALETTE["paper"][0],
    }  # fmt: skip
    return [{"data": {"values": points}, "mark": line, "encoding": order}, {"data": {"values": points}, "mark": dot}]


def _linear(title: str, values: Sequence[float], field: str = "x") -> dict[str, Any]:
    scale = {"domain": [0, 1.08 * max(values)], "nice": False, "zero": True}
    axis = {"title": title, "tickCount": 6, "labelExpr": PLAIN}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}
