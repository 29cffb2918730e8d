"""The judges themselves: verdicts that could not be read, what the order changed, κ with people and with each other."""

from __future__ import annotations

from collections.abc import Sequence

from poise.counted import counted
from poise.types import Better, Check, Estimate, Level
from poise.understand import statistics as st
from poise.understand.agreement import kappa_estimate
from poise.understand.gather import CellData
from poise.understand.judged import Key, Verdicts, verdicts


def agreement(data: CellData, cells: Sequence[CellData]) -> dict[str, Estimate]:
    """For a judge's cell: readable verdicts, change with the order, κ with the human labels and with other judges."""
    own = verdicts(data)
    if own is None:
        return {}
    readable = sum(v is not None for v in own.values.values())
    found = {"readable": _share(readable, len(own.values), "higher")}
    if not own.rubric:
        found["swapped"] = _share(own.swapped, own.pairs, "lower")
    if own.human:
        found |= _kappas("human", own, own.human)
    for other in cells:
        same = other is not data and other.judges and other.cell.task.name == data.cell.task.name
        if same and (theirs := verdicts(other)) is not None and theirs.rubric == own.rubric:
            name = theirs.judge if theirs.judge != own.judge else f"{theirs.judge}@{other.deployment}"
            found |= _kappas(name, own, {k: v for k, v in theirs.values.items() if v is not None})
    return found


def _kappas(name: str, own: Verdicts, other: dict[Key, float]) -> dict[str, Estimate]:
    both = [(k, v) for k, v in own.values.items() if v is not None and k in other]
    units, ours, theirs = [own.unit[k] for k, _ in both], [v for _, v in both], [other[k] for k, _ in both]
    if own.rubric:
        a, b = ([round(v) - 1 for v in side] for side in (ours, theirs))
        found = {f"kappa.{name}": kappa_estimate(a, b, units, 10)}
        return found | {f"kappa_quadratic.{name}": kappa_estimate(a, b, units, 10, quadratic=True)}
    a, b = ([round(2 * v) for v in side] for side in (ours, theirs))
    return {f"kappa.{name}": kappa_estimate(a, b, units, 3)}


def _share(count: int, n: int, better: Better) -> Estimate:
    if not n:
        return Estimate(None, better=better, reason="nothing was judged")
    lo, hi = st.wilson(count, n)
    return Estimate(count / n, lo, hi, n, "", better, "proportion, Wilson")


def judge_checks(data: CellData) -> list[Check]:
    """Doubts about a judge: verdicts that could not be read, and verdicts that changed with the order."""
    own = verdicts(data)
    if own is None:
        return []
    found = []
    unreadable = sum(v is None and key not in own.failed for key, v in own.values.items())
    if unreadable:
        evidence = f"{unreadable} of {len(own.values)} answers got no readable verdict; they are left out"
        longer = "; raise --max-tokens" if data.columns.finish.among("length").any() else ""
        action = (
            f"read some with `poise show`{longer}" if own.spoke else "give a stronger judge: this one marks nothing"
        )
        found.append(Check("unreadable_verdicts", "warn", evidence, action))
    if own.swapped:
        evidence = f"{own.swapped} of {own.pairs} pairs got another verdict in the other order and count as ties"
        evidence += f" ({own.first_shown} for whichever was shown first)"
        level: Level = "warn" if own.swapped > own.pairs / 5 else "info"
        found.append(Check("position_bias", level, evidence, "give several judges, or a stronger one"))
    return found


def sentence(cells: Sequence[CellData]) -> str | None:
    """Who judged how much, and how well they agree with people: a clause of the verdict."""
    said = []
    for c in cells:
        if (own := verdicts(c)) is None or not own.values:
            continue
        readable = sum(v is not None for v in own.values.values())
        human = next((e for n, e in agreement(c, []).items() if n.startswith("kappa") and n.endswith("human")), None)
        words = f"{c.cell.model.name} judged {counted(len(own.values), 'answer')} to {own.task}"
        words += f" against {own.against}" if own.against else ""
        words += "" if readable == len(own.values) else f" ({len(own.values) - readable} without a verdict)"
        if human is not None and human.value is not None:
            words += f", κ with people {human.value:.2f}"
            words += "" if human.lo is None else f" [{human.lo:.2f}, {human.hi:.2f}]"
        said.append(words)
    return "; ".join(said) or None
