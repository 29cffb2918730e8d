"""MLPerf's rule on quality: a speed counts only if answers are as good, and as long, as a named reference's.

Every metric of the task must reach 99 % of the reference's (or the share that the study says), and the mean number of
output tokens must lie within 90 to 110 % of it. Source: MLCommons inference rules, LLM benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from poise.registry import did_you_mean
from poise.types import Check, Estimate
from poise.understand.estimates import output_tokens
from poise.understand.gather import CellData
from poise.understand.quality import quality
from poise.understand.shares import asked_alike, paired_share

QUALITY_SHARE, LENGTH_SHARE = 0.99, (0.9, 1.1)
OUTPUT, MEAN = "output_tokens", "output_tokens.mean"


class Held(Struct, frozen=True):
    """A scenario's quality and answer lengths against its reference's: what was missed, and all in words."""

    shares: dict[str, Estimate]
    missed: list[str]
    said: list[str]


def held(data: CellData, cells: Sequence[CellData], numbers: Mapping[str, Estimate]) -> Held | None:
    """Every metric of a scenario's task against the reference's; None where no reference is named."""
    asked = data.analysis.reference
    if data.cell.load.scenario is None or not asked or not len(data.columns):
        return None
    task = data.cell.task.name
    chosen = {k: v for k, v in asked.items() if isinstance(v, str)}
    wanted: dict[str, float] = {k: v for k, v in asked.items() if not isinstance(v, str)}
    share = wanted.pop("share", QUALITY_SHARE)
    alike: CellData | None = None
    given = set(wanted)
    if chosen:
        others = _chosen(chosen, data, cells)
        if len(others) != 1:
            which = ", ".join(f"{k} {v}" for k, v in chosen.items())
            there = sorted({f"{c.cell.model.name} on {c.deployment}" for c in cells if c.cell.task.name == task})
            return Held({}, [f"{len(others)} cells of this task are the reference {which}: {', '.join(there)}"], [])
        wanted = _numbers(others[0]) | wanted
        alike = others[0] if asked_alike(data, others[0]) else None
    shares, missed, said = {}, [], []
    for name, reference in wanted.items():
        own = numbers.get(MEAN if name == OUTPUT else name)
        if own is None or own.value is None:
            missed.append(f"{name} is not known here{did_you_mean(name, numbers)}, {reference:.4g} in the reference")
            continue
        least, most = LENGTH_SHARE if name == OUTPUT else (share, math.inf)
        between = paired_share(data, alike, name) if alike is not None and name not in given else None
        part = _part(own, reference, between)
        assert part.value is not None
        rule = f"{least:.0%} to {most:.0%}" if name == OUTPUT else f"at least {least:.4g} of it"
        open_end = any(end is not None and not least <= end <= most for end in (part.lo, part.hi))
        rule += ", which these data leave undecided" if open_end and least <= part.value <= most else ""
        fact = f"{name} {own.value:.4g} is {part.value:.1%}{_between(part)} of the reference's {reference:.4g} ({rule})"
        if not least <= part.value <= most:
            missed.append(fact)
        said.append(fact)
        shares[f"mlperf_share.{name}"] = part
    return Held(shares, missed, said)


def _chosen(asked: Mapping[str, str], data: CellData, cells: Sequence[CellData]) -> list[CellData]:
    """The cells of this task that the reference's names match; of several the one under the same load."""

    def fits(c: CellData) -> bool:
        names = {"model": c.cell.model.name, "deployment": c.deployment, "load": c.cell.load.label, "run": c.run}
        return all(fnmatchcase(names[k], pattern) for k, pattern in asked.items())

    task = data.cell.task.name
    found = [c for c in cells if c.cell.task.name == task and len(c.columns) and fits(c)]
    same = [c for c in found if c.cell.load.label == data.cell.load.label]
    return same if len(found) > 1 and same else found


def _numbers(reference: CellData) -> dict[str, float]:
    """What the rule looks at: every metric of the task, and the mean length of an answer."""
    found = quality(reference)
    names = [*reference.cell.task.metrics] or ["quality"]
    values = {name: found[name].value for name in names if name in found} | {OUTPUT: output_tokens(reference).value}
    return {name: value for name, value in values.items() if value}


def _part(own: Estimate, reference: float, paired: tuple[float, float] | None) -> Estimate:
    """A number as a share of the reference's; of what is better lower, the inverse.

    `paired`: the interval of own ÷ reference over the items of both; without it the reference is taken as exact.
    """
    assert own.value is not None
    value = own.value / reference
    lo, hi = paired or (None if end is None else end / reference for end in (own.lo, own.hi))
    method = f"share of the reference's {reference:.6g}, "
    method += "paired bootstrap over the items of both" if paired else f"which is taken as exact; {own.method}"
    if own.better == "lower":
        value, lo, hi = (1 / value if value else math.inf), *(None if not end else 1 / end for end in (hi, lo))
    return Estimate(value, lo, hi, own.n, "", "higher", method)


def _between(share: Estimate) -> str:
    return "" if share.lo is None or share.hi is None else f" [{share.lo:.1%}, {share.hi:.1%}]"


def rule_check(data: CellData, against: Held | None) -> Check | None:
    """`mlperf_reference`: whether the scenario's speed counts, with the evidence; or that nobody has looked."""
    if data.cell.load.scenario is None or not len(data.columns):
        return None
    if against is None:
        if data.scores.first is None:
            return None
        said = "no reference is named: MLPerf counts a speed only at 99 % of a reference's quality"
        action = "name it: analysis: {reference: {deployment: …}}, or --reference quality=0.71,output_tokens=52"
        return Check("mlperf_reference", "info", said, action)
    if against.missed:
        action = "this speed does not count: raise the quality (precision, format, limits), or name another reference"
        return Check("mlperf_reference", "warn", "not valid: " + "; ".join(against.missed), action)
    return Check("mlperf_reference", "info", "valid: " + "; ".join(against.said), "quote it with the speed")
