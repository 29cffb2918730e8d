"""The published shape of a study: rows model x deployment (x load), columns per task, constants hoisted, footnotes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from poise.report.numbers import count, digits
from poise.report.text import common_prefix, visible
from poise.types import CellSummary, Check, Estimate, ModelSummary, Summary

DIMENSIONS = ("model", "deployment", "load")
NOTHING = Estimate(value=None, reason="not measured")


class System(Struct):
    """One model x deployment x load: its cell of each task, and its marks over all tasks (None: not measured)."""

    model: str
    deployment: str
    load: str
    cells: dict[str, CellSummary]
    overall: ModelSummary | None

    def label(self, dimensions: tuple[str, ...] = DIMENSIONS) -> str:
        return " · ".join(visible(getattr(self, d), newlines=False) for d in dimensions) or "all"

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.model, self.deployment, self.load)


class Grid(Struct):
    """A summary as a table: `varying` dimensions label the rows, `constant` ones go into the caption."""

    systems: list[System]
    tasks: list[str]
    varying: tuple[str, ...]
    constant: dict[str, str]
    leaders: set[tuple[str, str, str]]
    """Keys of the systems with the highest balanced score: the best, and those not told apart from it."""

    def labels(self) -> list[str]:
        return [s.label(self.varying) for s in self.systems]


def grid(summary: Summary) -> Grid:
    """The systems and tasks of a summary in its own order."""
    cells = tabled(summary)
    systems: dict[tuple[str, str, str], System] = {}
    for m in summary.models:
        systems[(m.model, m.deployment, m.load)] = System(m.model, m.deployment, m.load, {}, m)
    for c in cells:
        key = (c.model, c.deployment, c.load)
        system = systems.setdefault(key, System(*key, {}, None))
        system.cells[c.task] = c
    rows = list(systems.values())
    varying = tuple(d for d in DIMENSIONS if len({getattr(s, d) for s in rows}) > 1) or ("model",)
    constant = {d: getattr(rows[0], d) for d in DIMENSIONS if d not in varying} if rows else {}
    tasks = list(dict.fromkeys(c.task for c in cells))
    return Grid(rows, tasks, varying, constant, {s.key for s in leaders(summary, rows)})


def tabled(summary: Summary) -> list[CellSummary]:
    """The cells of the table. Judges only where there is nothing else (then "readable" is known of every one).

    A search has no row: its probes have, and the verdict says what it found.
    """
    cells = [c for c in summary.cells if "knee_rps" not in c.estimates]
    return [c for c in cells if "readable" not in c.estimates] or cells


def caption(summary: Summary, table: Grid) -> str:
    """What all rows share, in one line: sizes of the study, n and failures, hoisted constants."""
    parts = [" × ".join(_sizes(table))]
    cells = [c for s in table.systems for c in s.cells.values()]
    asked, failed = {c.n for c in cells if c.n}, sum(c.failed for c in cells)
    if len(asked) == 1 and len(cells) > 1:
        parts.append(f"n = {count(min(asked))} each")
    elif len(asked) > 1:
        parts.append(f"n = {count(min(asked))} to {count(max(asked))} each")
    else:
        parts.append(f"n = {count(sum(asked))}")
    parts.append(f"{count(failed) if failed else 'none'} failed")
    parts += [visible(v, newlines=False) for v in table.constant.values()]
    repeats = {c.repeats for c in cells if c.repeats}
    if repeats - {1}:
        parts.append(f"{'–'.join(str(r) for r in sorted({min(repeats), max(repeats)}))} repeats")
    return ", ".join(parts)


def _sizes(table: Grid) -> list[str]:
    sets = [(d, list(dict.fromkeys(getattr(s, d) for s in table.systems))) for d in table.varying]
    return [_size(name, found) for name, found in [*sets, ("task", table.tasks)]]


def _size(name: str, found: list[str]) -> str:
    """`3 models (bundled:…)`, or the one name there is."""
    if len(found) == 1:
        return f"{name} {visible(found[0], newlines=False)}"
    prefix = visible(common_prefix(found), newlines=False)
    return f"{len(found)} {name}s" + (f" ({prefix}…)" if prefix else "")


def leaders(summary: Summary, systems: Sequence[System]) -> list[System]:
    """The system with the highest balanced score, and those that the verdict could not tell apart from it.

    Systems under other loads than the verdict's are not compared with it.
    """
    facts = summary.verdict.facts
    scores = {s.key: s.overall.balanced.value or 0.0 for s in systems if s.overall}
    systems = [s for s in systems if scores.get(s.key, 0.0) > 0]
    best, load = facts.get("best"), facts.get("load")
    if not best:
        return sorted(systems, key=lambda s: -scores[s.key])[:1]
    names = {(best["model"], best["deployment"])}
    for other in facts.get("against_best", ()):
        lost = other["balanced_lost"]
        if lost["lo"] is not None and lost["lo"] <= 0:
            names.add((other["model"], other["deployment"]))
    return [s for s in systems if (s.model, s.deployment) in names and s.load == load]


def short_names(names: list[str]) -> dict[str, str]:
    """Each name without the words that all of them start with."""
    prefix = common_prefix(names)
    return {n: visible(n[len(prefix) :], newlines=False) for n in names}


def group_scores(table: Grid) -> list[tuple[str, list[Estimate]]]:
    """`group metric` and its value for every system, for groups of tasks that are averaged."""
    overall = [s.overall.groups if s.overall else {} for s in table.systems]
    names = dict.fromkeys((group, metric) for groups in overall for group, found in groups.items() for metric in found)
    return [(f"{g} {m}", [groups.get(g, {}).get(m, NOTHING) for groups in overall]) for g, m in names]


def quality(cell: CellSummary | None) -> Estimate:
    """The cell's mean mark; else what is there instead, with the reason."""
    return estimate(cell, "quality")


def score(cell: CellSummary | None) -> Estimate:
    """What a table shows of a cell's answers: its mean mark, or its first metric where it has none (perplexity)."""
    mark = quality(cell)
    if mark.value is not None or cell is None or cell.primary is None:
        return mark
    first = estimate(cell, cell.primary)
    return mark if first.value is None else first


def score_name(table: Grid, task: str) -> str:
    """The head of a task's scores: `quality`, or the metric shown instead, with an arrow where less is better."""
    cells = [c for s in table.systems if (c := s.cells.get(task)) is not None]
    if any(quality(c).value is not None for c in cells):
        return "quality"
    first = next((c for c in cells if score(c).value is not None), None)
    if first is None or first.primary is None:
        return "quality"
    return first.primary + (" ↓" if score(first).better == "lower" else "")


def estimate(cell: CellSummary | None, name: str) -> Estimate:
    """A cell's estimate of that name, or an absent one with the reason."""
    if cell is None:
        return NOTHING
    found = cell.estimates.get(name)
    if found is None:
        return Estimate(value=None, reason=cell.reason or f"{name} was not estimated")
    return found if found.value is not None or found.reason else Estimate(value=None, reason=cell.reason)


def usd_per_1000(cells: Iterable[CellSummary]) -> str:
    """What 1 000 requests of these cells cost, from the cheapest to the dearest; "" where no price is known."""
    means = [estimate(c, "cost_usd.mean").value for c in cells]
    shown = [digits(1000 * usd) for usd in sorted(usd for usd in means if usd is not None)]
    return "–".join(dict.fromkeys((shown[0], shown[-1]))) if shown else ""


class Notes:
    """Footnotes numbered in order of use; the same sentence gets the same mark."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return superscript(self.texts.index(text) + 1)

    def for_cell(self, cell: CellSummary | None) -> str:
        """Marks for what is wrong with a cell as a whole: absent, failed, partly failed; empty where all is well."""
        if cell is None:
            return self.mark("not part of this study")
        if cell.state in ("failed", "not_measurable"):
            word = "failed" if cell.state == "failed" else "not measurable"
            return self.mark(f"{word}: {visible(cell.reason or 'no reason recorded', newlines=False)}")
        if cell.failed:
            return self.mark(failures(cell))
        if cell.state == "partial":
            return self.mark(visible(cell.reason or f"{cell.n} of {cell.planned} requests done", newlines=False))
        return ""


def failures(cell: CellSummary) -> str:
    """`3 of 120 failed (2 timeout, 1 http)`."""
    found = sorted(cell.failures.items(), key=lambda kv: (-kv[1], kv[0]))
    kinds = ", ".join(f"{n} {visible(kind, newlines=False)}" for kind, n in found)
    return f"{cell.failed} of {cell.n} failed" + (f" ({kinds})" if kinds else "")


def superscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


class Doubt(Struct):
    """One check and all the cells it was raised for."""

    check: Check
    cells: list[str]
    evidence: list[str]


def doubts(summary: Summary) -> list[Doubt]:
    """Checks of all cells, equal ones (same code, level and action) folded into one; the gravest first."""
    folded: dict[tuple[str, str, str], Doubt] = {}
    table = grid(summary)
    tasks = short_names(list(dict.fromkeys(c.task for c in summary.cells)))
    for c in summary.cells:
        where = System(c.model, c.deployment, c.load, {}, None).label(table.varying)
        for check in c.checks:
            doubt = folded.setdefault((check.level, check.code, check.action), Doubt(check, [], []))
            doubt.cells.append(f"{where} · {tasks[c.task]}")
            if check.evidence not in doubt.evidence:
                doubt.evidence.append(check.evidence)
    grave = {"error": 0, "warn": 1, "info": 2}
    return sorted(folded.values(), key=lambda d: grave[d.check.level])


def signature(summary: Summary) -> str:
    """What the signatures of all cells share, and how many differ in the rest."""
    signatures = list(dict.fromkeys(c.signature for c in tabled(summary) if c.signature))
    if not signatures:
        return ""
    parts = [[p.strip() for p in s.split("|")] for s in signatures]
    shared = [p for p in parts[0] if all(p in other for other in parts)]
    text = visible(" | ".join(shared), newlines=False)
    return text if len(signatures) == 1 else f"{text} (+ {len(signatures)} cells' own parts, in the JSON)"
