"""Does quality fall under load? One system's answers under each load, paired on the same items with the lowest one's.

What got worse is told by its reason: never sent, failed, timed out, cut at the token limit, or simply another text
(engines that batch requests together add numbers in another order, so that a greedy answer can change with the load).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from poise.plan.spec import Load
from poise.types import Check, Estimate
from poise.understand import statistics as st
from poise.understand.compare import asked, difference, means
from poise.understand.estimates import absent
from poise.understand.gather import CellData
from poise.understand.questions import other_targets

Rows = list[list[int]]

KINDS = ("closed", "batch", "open")
REASONS = ("dropped", "timed out", "failed", "cut at the token limit", "another text", "the same text")
ACTIONS = {
    "dropped": "lower the load or raise max_in_flight: what is not asked cannot be right",
    "timed out": "quote the quality of this load with its deadline_s, or lower the load",
    "failed": "see which requests failed (`poise show`), and lower the load or raise the server's limits",
    "cut at the token limit": "compare the lengths of the answers: the server may limit them under load",
    "another text": "answers depend on what is batched with them: quote the quality of the load that you will run",
    "the same text": "the same texts were marked differently: look at the metric",
}


class UnderLoad(Struct, frozen=True):
    """One cell against the same system's cell of the lowest load, over the `n` items that both were asked."""

    against: str
    """The lowest load."""
    n: int
    quality_there: float
    quality_here: float
    difference: Estimate
    p: float
    p_adjusted: float
    """Holm's correction over all cells of the summary."""
    changed: float | None
    """Share of the items answered under both loads whose text differs; None where texts are sampled."""
    cut: tuple[float, float]
    """Share of answers that ended at the token limit: there, here."""
    tokens: float | None
    """Mean output tokens here over those there, of the items answered under both."""
    failed: tuple[float, float]
    timed_out: tuple[float, float]
    worse: int
    better: int
    reasons: dict[str, int]
    """Why the worse items are worse, the most frequent reason first."""

    @property
    def falls(self) -> bool:
        """Whether the data show that quality is lower here."""
        return self.p_adjusted < 0.05 and self.difference.value is not None and self.difference.value < 0


def under_load(cells: Sequence[CellData]) -> dict[int, UnderLoad | None]:
    """By the identity of each cell of a system with several loads; None for the lowest, which the others are held
    against."""
    groups: dict[tuple[str, str, str], list[CellData]] = {}
    for c in cells:
        if len(c.columns) and c.scores.first is not None:
            groups.setdefault((c.cell.model.name, c.deployment, c.cell.task.name), []).append(c)
    found: dict[int, UnderLoad] = {}
    lows: dict[int, UnderLoad | None] = {}
    for members in groups.values():
        lowest, *others = sorted(members, key=lambda c: _height(c.cell.load))
        for other in others:
            if not other_targets([lowest, other]) and (effect := _effect(lowest, other)):
                found[id(other)] = effect
                lows[id(lowest)] = None
    adjusted = st.holm([e.p for e in found.values()])
    return lows | {key: replace(e, p_adjusted=p) for (key, e), p in zip(found.items(), adjusted)}


def _height(load: Load) -> tuple[int, float]:
    return (KINDS.index(load.kind) if load.kind in KINDS else len(KINDS), load.value)


def _effect(low: CellData, high: CellData) -> UnderLoad | None:
    there, here = asked(low), asked(high)
    shared = [k for k in there if k in here]
    rows = [there[k] for k in shared], [here[k] for k in shared]
    if low.scores.first is None or high.scores.first is None:
        return None
    marks = [means(side.scores.first.q, r) for side, r in zip((low, high), rows) if side.scores.first is not None]
    quality = difference(high, (low.cell.load.label, high.cell.load.label), "quality", marks[0], marks[1])
    if quality is None:
        return None
    worse = [i for i, (a, b) in enumerate(zip(*marks)) if b < a]
    reasons = [_reason(low, high, rows[0][i][0], _worst(high, rows[1][i])) for i in worse]
    counted = {r: reasons.count(r) for r in REASONS if r in reasons}
    return UnderLoad(
        against=low.cell.load.label,
        n=quality.n,
        quality_there=quality.value_a,
        quality_here=quality.value_b,
        difference=quality.difference,
        p=quality.p,
        p_adjusted=quality.p,
        changed=_changed(low, high, rows),
        cut=(_share(low, rows[0], _is_cut(low)), _share(high, rows[1], _is_cut(high))),
        tokens=_tokens(low, high, rows),
        failed=(_share(low, rows[0], ~low.columns.ok), _share(high, rows[1], ~high.columns.ok)),
        timed_out=(_share(low, rows[0], _timed_out(low)), _share(high, rows[1], _timed_out(high))),
        worse=len(worse),
        better=int(sum(b > a for a, b in zip(*marks))),
        reasons=dict(sorted(counted.items(), key=lambda kv: -kv[1])),
    )


# ---------------------------------------------------------------- reasons


def _worst(c: CellData, rows: list[int]) -> int:
    """Of an item's repeats one without an answer, if any, else the one of the lowest mark."""
    assert c.scores.first is not None
    q = c.scores.first.q
    return min(rows, key=lambda r: (c.columns.failure[r] is None, float(np.nan_to_num(q[r], nan=1.0))))


def _reason(low: CellData, high: CellData, there: int, here: int) -> str:
    failure = high.columns.failure[here]
    if failure is not None:
        return {"dropped": "dropped", "timeout": "timed out"}.get(failure, "failed")
    if high.columns.finish[here] == "length" and low.columns.finish[there] != "length":
        return "cut at the token limit"
    return "another text" if _said(low, there) != _said(high, here) else "the same text"


def _said(c: CellData, row: int) -> str | None:
    """What was answered: the text, or the option chosen."""
    return c.scores.answers[row] if c.cell.task.mode == "choice" else c.columns.text[row]


def _changed(low: CellData, high: CellData, rows: tuple[Rows, Rows]) -> float | None:
    if any(r.temperature > 0 for r in low.folder.requests()):
        return None
    ok_there, ok_here = low.columns.ok, high.columns.ok
    both = [(a[0], b[0]) for a, b in zip(*rows) if ok_there[a[0]] and ok_here[b[0]]]
    return sum(_said(low, a) != _said(high, b) for a, b in both) / len(both) if both else None


def _tokens(low: CellData, high: CellData, rows: tuple[Rows, Rows]) -> float | None:
    there, here = (means(np.where(c.columns.ok, c.columns.n_out, np.nan), r) for c, r in zip((low, high), rows))
    both = ~np.isnan(there) & ~np.isnan(here)
    total = float(there[both].sum())
    return float(here[both].sum()) / total if total else None


def _is_cut(c: CellData) -> NDArray[np.bool_]:
    return c.columns.finish.among("length")


def _timed_out(c: CellData) -> NDArray[np.bool_]:
    return c.columns.failure.among("timeout")


def _share(c: CellData, rows: Rows, which: NDArray[np.bool_]) -> float:
    return float(which[[r for item in rows for r in item]].mean())


# ---------------------------------------------------------------- what is said of it


def quality_estimate(effect: UnderLoad | None) -> Estimate:
    """The paired difference to the lowest load, as an estimate of the cell."""
    if effect is None:
        return absent("this is the lowest load, which the others are held against", "", "higher")
    method = f"against {effect.against}, {effect.difference.method}; p = {effect.p_adjusted:.2g} after Holm"
    return replace(effect.difference, method=method)


def falls(effect: UnderLoad | None) -> Check | None:
    """`quality_falls`, where the data show it."""
    if effect is None or not effect.falls:
        return None
    d = effect.difference
    spread = "" if d.lo is None or d.hi is None else f" [{d.lo:.3f}, {d.hi:.3f}]"
    listed = ", ".join(f"{n} {reason}" for reason, n in effect.reasons.items())
    evidence = (
        f"quality {effect.quality_there:.3f} under {effect.against}, {effect.quality_here:.3f} here, on the same "
        f"{effect.n} items (difference {d.value:.3f}{spread}); {effect.worse} got worse ({listed}), "
        f"{effect.better} better"
    )
    return Check("quality_falls", "warn", evidence, ACTIONS[next(iter(effect.reasons))])
