"""The plots of the report: the points and curves of a summary that each shows, and how systems look in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, structs

from poise.report import charts, numbers
from poise.report import grid as shape
from poise.report.charts import DASHES, PLAIN, SECONDS, SERIES, SHAPES, Curve, Plane, Point
from poise.report.grid import Grid, System
from poise.types import Estimate

SMALL = (400, 310)
LABELLED = 4
"""Up to so many systems are labelled in small plots; more are told apart by the legend."""


class Look(Struct, frozen=True):
    """How a system looks everywhere: a colour class per model, a shape and dash per deployment and load."""

    label: str
    series: int
    variant: int

    @property
    def color(self) -> str:
        return SERIES[self.series]

    @property
    def shape(self) -> str:
        return SHAPES[self.variant]

    @property
    def dash(self) -> list[int]:
        return DASHES[self.variant]


def look(table: Grid) -> dict[tuple[str, str, str], Look]:
    """A colour for each model and a shape for each deployment x load; by deployment where there is one model."""
    models = list(dict.fromkeys(s.model for s in table.systems))
    variants = list(dict.fromkeys((s.deployment, s.load) for s in table.systems))
    short = {d: shape.short_names(list(dict.fromkeys(getattr(s, d) for s in table.systems))) for d in shape.DIMENSIONS}
    found = {}
    for s in table.systems:
        label = " · ".join(short[d][getattr(s, d)] for d in table.varying)
        place = (s.deployment, s.load)
        series = models.index(s.model) if len(models) > 1 else variants.index(place)
        found[s.key] = Look(label, series % len(SERIES), variants.index(place) % len(SHAPES))
    return found


def overall(systems: Sequence[tuple[System, Look]], width: int, height: int) -> Any:
    """The plane of quality mark and speed mark over all tasks; None where no system has both."""
    points = []
    for system, how in systems:
        if system.overall is not None:
            points += _point(how, system.overall.speed, system.overall.quality)
    described = "; ".join(f"{p.label}: speed mark {p.x:.2f}, quality mark {p.y:.2f}" for p in points)
    look = Plane(
        "Quality against speed, all tasks", described, "speed mark  (1 = instant, ½ = the reference time) →",
        "quality mark  (1 = all right, 0 = guessing) →", width, height, iso=True,
    )  # fmt: skip
    return _markup(charts.plane(points, look)) if points else None


def _point(how: Look, x: Estimate, y: Estimate) -> list[Point]:
    if x.value is None or y.value is None:
        return []
    high = x.hi if x.hi is not None and math.isfinite(x.hi) else None
    low = x.lo if high is not None else None
    return [Point(how.label, how.color, how.shape, x.value, y.value, low, high, y.lo, y.hi)]


def task_plane(task: str, systems: Sequence[tuple[System, Look]]) -> Any:
    """Quality against mean seconds per request on one task; None where nothing has both."""
    return _against(task, systems, "e2e_s.mean", "time", "seconds per request, mean  (faster →)", SECONDS)


def task_cost(task: str, systems: Sequence[tuple[System, Look]]) -> Any:
    """Quality against dollars per request on one task; None where no deployment states a price."""
    return _against(task, systems, "cost_usd.mean", "cost", "US dollars per request  (cheaper →)", PLAIN)


def task_energy(task: str, systems: Sequence[tuple[System, Look]]) -> Any:
    """Quality against joules per request on one task; None where no energy counter was read."""
    return _against(task, systems, "energy_j.request", "energy", "joules per request  (thriftier →)", PLAIN)


def _against(
    task: str, systems: Sequence[tuple[System, Look]], name: str, what: str, x_title: str, x_label: str
) -> Any:
    """Quality against an estimate of which less is better, on a log axis; None where nothing has both."""
    points = []
    for system, how in systems:
        cell = system.cells.get(task)
        spent = shape.estimate(cell, name)
        if spent.value:
            points += _point(how, spent, shape.quality(cell))
    unit = numbers.seconds if name.endswith("_s.mean") else numbers.digits
    described = "; ".join(f"{p.label}: {unit(p.x)}, quality {p.y:.2f}" for p in points)
    if len(points) > LABELLED:  # the legend names them
        points = [structs.replace(p, label="") for p in points]
    look = Plane(
        f"Quality against {what} on {task}", described, x_title, "quality →", *SMALL, log_x=True, x_label=x_label
    )
    return _markup(charts.plane(points, look)) if points else None


def task_distribution(task: str, systems: Sequence[tuple[System, Look]]) -> Any:
    """Share of requests answered within a time; None where no cell has times."""
    return _curves(task, systems, "e2e_s", "Time per request", "share of requests answered")


def task_deadline(task: str, systems: Sequence[tuple[System, Look]]) -> Any:
    """Share of requests answered right within a time (METRICS: deadline accuracy); None where nothing is scored."""
    return _curves(task, systems, "deadline", "Right within a time", "share answered and right")


def _curves(task: str, systems: Sequence[tuple[System, Look]], name: str, title: str, y_title: str) -> Any:
    curves = []
    for system, how in systems:
        cell = system.cells.get(task)
        curve = cell.curves.get(name) if cell else None
        if curve and curve.get("x"):
            band = (curve.get("lo", ()), curve.get("hi", ())) if len(systems) <= LABELLED else ((), ())
            curves.append(Curve(how.label, how.color, how.dash, curve["x"], curve["y"], *band))
    described = "; ".join(f"{c.label}: {c.y[-1]:.0%} within {numbers.seconds(c.x[-1])}" for c in curves)
    look = Plane(f"{title} on {task}", described, "within seconds per request", y_title, *SMALL)
    return _markup(charts.distribution(curves, look)) if curves else None


def _markup(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)  # drawn by vl-convert, which escapes all text
