"""One sentence that says which system to pick, with intervals, and the facts behind it as data.

Compared are the systems under the first load. Differences are paired over items; where an interval of a difference
includes none, the sentence says that the data do not tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.types import CellSummary, Estimate, Verdict
from poise.understand import statistics as st
from poise.understand.balanced import FACTORS, Marks
from poise.understand.frontier import hypervolume
from poise.understand.systems import System

Floats = NDArray[np.float64]


def verdict(systems: Sequence[System], cells: Sequence[CellSummary]) -> Verdict:
    """The verdict over all systems of the first load."""
    if not systems:
        return Verdict("nothing was measured")
    load = systems[0].load
    here = [s for s in systems if s.load == load]
    scored = [s for s in here if s.overall is not None]
    excluded = [{**_name(s), "reason": s.reason} for s in here if s.overall is None]
    label = _labels(here)
    if not scored:
        return Verdict(_speed_only(here, cells, label), {"load": load, "excluded": excluded})
    ranked = sorted(scored, key=lambda s: -_marks(s).score)
    complete = all(c.state != "partial" for c in cells)
    facts = {"complete": complete, **_facts(load, ranked, excluded)}
    several_loads = len({s.load for s in systems}) > 1
    text = "; ".join(
        [_first(ranked, facts, label), *(_others(ranked, facts, label) if _marks(ranked[0]).score else [])]
    )
    if not complete:
        text = f"so far (not all requests are done): {text}"
    if several_loads:
        text = f"under {load}: {text}"
    if excluded:
        names = ", ".join(label[id(s)] for s in here if s.overall is None)
        text += f"; not compared: {names} ({excluded[0]['reason']})"
    return Verdict(text, facts)


# ---------------------------------------------------------------- facts


def _facts(load: str, ranked: Sequence[System], excluded: list[dict[str, Any]]) -> dict[str, Any]:
    best = ranked[0]
    fastest = min(ranked, key=_seconds)
    finest = max(ranked, key=lambda s: _marks(s).mean_q)
    front = sorted((s for s in ranked if s.on_frontier), key=_seconds)
    facts: dict[str, Any] = {
        "load": load,
        "best": {**_name(best), "balanced": _triple(_marks(best), "score")},
        "frontier": [{**_name(s), "p": s.p_frontier} for s in front],
        "fastest": _name(fastest),
        "highest_quality": _name(finest),
        "against_best": [{**_name(s), **_against(best, s)} for s in ranked[1:]],
        "hypervolume": hypervolume(
            np.array([_marks(s).quality for s in ranked]), np.array([_marks(s).speed for s in ranked])
        ),
        "half_and_half": [{**_name(s), "value": 50 * (_marks(s).quality + _marks(s).speed)} for s in ranked],
        "tau_s": {task: items.tau for task, items in best.items.items()},
        "order_changes": _order_changes(ranked),
        "excluded": excluded,
    }
    return facts


def _against(best: System, other: System) -> dict[str, Any]:
    """Paired comparison with the best: lost balanced score and quality in points, and how many times as fast."""
    a, b = _marks(best), _marks(other)
    n = min(len(a.replicates["score"]), len(b.replicates["score"]))

    def drawn(marks: Marks, name: str) -> Floats:
        return marks.replicates[name][:n]

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = drawn(a, "mean_s") / drawn(b, "mean_s")
    return {
        "balanced_lost": _interval(a.score - b.score, drawn(a, "score") - drawn(b, "score")),
        "quality_points_lost": _interval(100 * (a.mean_q - b.mean_q), 100 * (drawn(a, "mean_q") - drawn(b, "mean_q"))),
        "times_as_fast": _interval(a.mean_s / b.mean_s if b.mean_s > 0 else math.nan, ratio),
    }


def _order_changes(ranked: Sequence[System]) -> list[dict[str, Any]]:
    """Systems that overtake one above them within τ/4 … 4τ, with the factor of τ at which they do."""
    return [
        {**_name(other), "over": _name(better), "tau_factor": _crossing(better, other, end)}
        for place, better in enumerate(ranked)
        for other in ranked[place + 1 :]
        for end in (FACTORS["tau/4"], FACTORS["tau*4"])
        if better.score(end) < other.score(end)
    ]


def _crossing(better: System, other: System, end: float) -> float:
    """Factor of τ between 1 and `end` at which both have the same balanced score, by bisection on its logarithm."""
    inside, outside = 0.0, math.log(end)
    for _ in range(40):
        middle = (inside + outside) / 2
        if better.score(math.exp(middle)) >= other.score(math.exp(middle)):
            inside = middle
        else:
            outside = middle
    return math.exp((inside + outside) / 2)


def _interval(value: float, drawn: Floats) -> dict[str, float | None]:
    drawn = drawn[np.isfinite(drawn)]
    lo, hi = st.percentile_interval(drawn) if len(drawn) > 1 and np.ptp(drawn) >= 0 else (None, None)
    return {"value": value if math.isfinite(value) else None, "lo": lo, "hi": hi}


def _triple(marks: Marks, name: str) -> dict[str, float | None]:
    estimate = marks.estimate(name)
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi}


def _name(system: System) -> dict[str, Any]:
    return {"model": system.model, "deployment": system.deployment}


def _seconds(system: System) -> float:
    """Mean seconds per request, infinite where nothing was answered."""
    seconds = _marks(system).mean_s
    return math.inf if math.isnan(seconds) else seconds


def _marks(system: System) -> Marks:
    assert system.overall is not None
    return system.overall


# ---------------------------------------------------------------- words


def _speed_only(systems: Sequence[System], cells: Sequence[CellSummary], label: dict[int, str]) -> str:
    """Where nothing was scored: who answers fastest, by the geometric mean of the tasks' mean times."""
    times: list[tuple[float, str, list[Estimate]]] = []
    for s in systems:
        own = [c for c in cells if (c.model, c.deployment, c.load) == (s.model, s.deployment, s.load)]
        found = [c.estimates["e2e_s.mean"] for c in own]
        known = [math.log(e.value) for e in found if e.value]
        if known and len(known) == len(found):
            times.append((math.exp(sum(known) / len(known)), label[id(s)], found))
    reason = next((s.reason for s in systems if s.reason), "nothing was measured")
    if not times:
        return f"no balanced score: {reason}"
    times.sort(key=lambda t: t[0])
    value, name, found = times[0]
    fastest = _duration(value, *((found[0].lo, found[0].hi) if len(found) == 1 else ()))
    under = f" under {systems[0].load}" if len({c.load for c in cells}) > 1 else ""
    if len(times) == 1:
        return f"quality was not measured ({reason}); a request takes {fastest} on average{under}"
    others = "".join(f", then {other} {_duration(v)}" for v, other, _ in times[1:4])
    return f"quality was not measured ({reason}); fastest{under}: {name}, {fastest} per request{others}"


def _duration(value: float, lo: float | None = None, hi: float | None = None) -> str:
    """In seconds or milliseconds, whichever keeps the digits that tell."""
    factor, unit = (1, " s") if value >= 1 else (1e3, " ms")
    scaled = {k: None if v is None else v * factor for k, v in {"value": value, "lo": lo, "hi": hi}.items()}
    return _number(scaled, unit)


def _labels(systems: Sequence[System]) -> dict[int, str]:
    """Short names by identity: what all share is left out."""
    models, deployments = len({s.model for s in systems}), len({s.deployment for s in systems})
    if deployments == 1:
        return {id(s): s.model for s in systems}
    if models == 1:
        return {id(s): s.deployment for s in systems}
    return {id(s): f"{s.model} on {s.deployment}" for s in systems}


def _first(ranked: Sequence[System], facts: dict[str, Any], label: dict[int, str]) -> str:
    best = ranked[0]
    score = f"B {_number(facts['best']['balanced'], least=1)}"
    if len(ranked) == 1:
        return f"{label[id(best)]}: {score}, the only system compared"
    if _marks(best).score == 0:
        return "no system is better than guessing: every balanced score is 0"
    level = [
        label[id(s)]
        for s, against in zip(ranked[1:], facts["against_best"])
        if (low := against["balanced_lost"]["lo"]) is None or low <= 0
    ]
    if not level:
        return f"{label[id(best)]} is best balanced, {score}"
    difference = _number(facts["against_best"][0]["balanced_lost"], least=1)
    return (
        f"{label[id(best)]} has the highest balanced score, {score}, but these data do not tell it apart from "
        f"{_listed(level)} (difference to the next: {difference})"
    )


def _others(ranked: Sequence[System], facts: dict[str, Any], label: dict[int, str]) -> list[str]:
    """The frontier, what the fastest and the finest trade, and who leads at other reference times."""
    if len(ranked) == 1:
        return []
    best = ranked[0]
    by_name = {(s.model, s.deployment): s for s in ranked}

    def named(fact: dict[str, Any]) -> System:
        return by_name[(fact["model"], fact["deployment"])]

    front = [named(f) for f in facts["frontier"]]
    fastest, finest = named(facts["fastest"]), named(facts["highest_quality"])
    against = {id(named(a)): a for a in facts["against_best"]}
    if len(front) > 1:
        parts = [f"on the frontier, fastest first: {_listed([label[id(s)] for s in front])}"]
    else:
        parts = [f"only {label[id(front[0])]} is on the frontier"]
    if fastest is not best:
        parts.append(f"the fastest, {label[id(fastest)]}, {_trade(against[id(fastest)])}")
    elif len(front) > 1:
        parts.append("it is also the fastest")
    if finest is not best and finest is not fastest:
        parts.append(f"the one of highest quality, {label[id(finest)]}, {_trade(against[id(finest)])}")
    overtakes = [c for c in facts["order_changes"] if c["over"] == _name(best)]
    sooner = max((c for c in overtakes if c["tau_factor"] < 1), key=lambda c: c["tau_factor"], default=None)
    later = min((c for c in overtakes if c["tau_factor"] >= 1), key=lambda c: c["tau_factor"], default=None)
    for change in (c for c in (sooner, later) if c is not None):
        side = "less" if change["tau_factor"] < 1 else "more"
        factor = f"{change['tau_factor']:.2g}× the reference time or {side}"
        parts.append(f"{label[id(named(change))]} would lead it at {factor}")
    return parts


def _trade(against: dict[str, Any]) -> str:
    """What choosing this system instead of the best costs and brings."""
    lost, speed = against["quality_points_lost"], against["times_as_fast"]
    if lost["lo"] is None or lost["lo"] <= 0 <= lost["hi"]:
        quality = f"shows no difference in quality, {_number(_negated(lost), ' points')}"
        joint = "at"
    elif lost["value"] > 0:
        quality, joint = f"gives up {_number(lost, ' points of quality')}", "for"
    else:
        quality, joint = f"gains {_number(_negated(lost), ' points of quality')}", "at"
    if speed["value"] is None:
        return quality
    if speed["lo"] is not None and speed["lo"] <= 1 <= speed["hi"]:
        return f"{quality}, and none in speed, {_number(speed, '×')}"
    return f"{quality} {joint} {_number(speed, '×', least=1)} the speed"


def _negated(x: dict[str, float | None]) -> dict[str, Any]:
    flip = {k: None if v is None else -v for k, v in x.items()}
    return {"value": flip["value"], "lo": flip["hi"], "hi": flip["lo"]}


def _number(x: dict[str, Any], after: str = "", least: int = 0) -> str:
    """`31 points [28, 34]`: as many decimals as the interval's half width has to its first digit, 3 at most.

    Three digits of what has no interval, or one without width.
    """
    if x["lo"] is None or x["hi"] is None or math.isclose(x["lo"], x["hi"], rel_tol=1e-9, abs_tol=1e-12):
        return np.format_float_positional(x["value"], precision=3, fractional=False, trim="-") + after
    digits = min(3, max(least, -math.floor(math.log10((x["hi"] - x["lo"]) / 2))))
    value, lo, hi = (f"{v + 0.0:.{digits}f}" for v in (x["value"], x["lo"], x["hi"]))
    return f"{value}{after}" if value == lo == hi else f"{value}{after} [{lo}, {hi}]"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
