"""What the HTML page shows, as plain data: tables of estimates, samples, plots. Computes no statistic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec import field as empty

from poise.report import grid as shape
from poise.report import numbers
from poise.report.facts import RunFacts, run_facts
from poise.report.glossary import GLOSSARY, SECTIONS, place, section
from poise.report.grid import Grid, Notes, System
from poise.report.judges import judges
from poise.report.plots import Look, look, overall, task_cost, task_deadline, task_distribution, task_energy, task_plane
from poise.report.samples import Answer, Asked, Item, asked, chosen, items, verdict
from poise.report.sweep import Sweep, sweeps
from poise.report.text import visible
from poise.types import CellSummary, Estimate, Summary

if TYPE_CHECKING:
    from poise.store.run import Run

SAMPLES, ANSWERS = 10, 800
"""Samples shown of each task, and answers in the whole page: it must stay small enough to be mailed."""
STRIP = 600
TEXT_CHARS = 1_500


class Cell(Struct):
    """One table cell: the number, its interval below it, and a footnote mark."""

    text: str
    below: str = ""
    note: str = ""


class Table(Struct):
    """A table of estimates: rows are systems."""

    title: str
    headers: list[str]
    rows: list[tuple[Look, list[Cell]]]
    notes: list[str] = empty(default_factory=list)
    absent: list[str] = empty(default_factory=list)
    """Quantities that no system has, with the reason."""


class Confusion(Struct):
    """Counts of targets (rows) against answers (columns), and each label's own counts and rates."""

    look: Look
    rows: list[str]
    columns: list[str]
    counts: list[list[int]]
    rates: list[list[str]]


RATES = ("tp", "fp", "fn", "tn", "precision", "recall", "f1")


class TaskView(Struct):
    """Everything about one task."""

    name: str
    anchor: str
    plane: Any
    distribution: Any
    deadline: Any
    spent: list[Any]
    """Quality against cost and against energy, where they are known."""
    tables: list[Table]
    confusions: list[Confusion]
    groups: list[Table]
    items: list[ItemView]


class Strip(Struct):
    """When the chunks of an answer came: positions on an axis of `STRIP` up to the sample's longest answer."""

    ticks: list[int]
    end: int
    label: str


class AnswerView(Struct):
    """One system's answer to a sample, ready to be drawn."""

    look: Look
    answer: Answer
    verdict: str
    strip: Strip | None
    took: str


class ItemView(Struct):
    """A sample with its answers."""

    item: Item
    answers: list[AnswerView]


class Bar(Struct):
    """A balanced score drawn in a row: positions on a 0-200 axis; `others` = the same at other reference times."""

    value: float
    lo: float
    hi: float
    others: list[float]


class Page(Struct):
    """The whole page."""

    title: str
    caption: str
    verdict: list[str]
    """Its clauses, the main one first."""
    systems: list[tuple[System, Look]]
    table: Grid
    names: dict[str, str]
    wide: Any
    narrow: Any
    bars: list[Bar | None]
    unbalanced: str
    """Why no system has a balanced score, if none has."""
    rivals: Table | None
    taus: list[tuple[str, str]]
    tasks: list[TaskView]
    sweeps: list[Sweep]
    judges: dict[str, dict[str, Estimate]]
    doubts: list[shape.Doubt]
    signature: str
    runs: list[RunFacts]
    glossary: list[tuple[str, str]]


def page(summary: Summary, runs: Sequence[Run]) -> Page:
    """The page of a summary and its runs."""
    table = shape.grid(summary)
    looks = look(table)
    systems = [(s, looks[s.key]) for s in table.systems]
    cells: dict[str, list[Asked]] = {}
    for cell in asked(runs):
        cells.setdefault(cell.task, []).append(cell)
    names = shape.short_names(table.tasks)
    limit = max(3, min(SAMPLES, ANSWERS // max(1, len(systems) * len(table.tasks))))
    return Page(
        title=", ".join(summary.runs),
        caption=shape.caption(summary, table) if summary.cells else "nothing was measured yet",
        verdict=[c for c in summary.verdict.text.split("; ") if c],
        systems=systems,
        table=table,
        names=names,
        wide=overall(systems, 940, 480),
        narrow=overall(systems, 400, 400),
        rivals=_rivals(summary, systems),
        taus=[(names.get(t, t), numbers.seconds(tau)) for t, tau in summary.verdict.facts.get("tau_s", {}).items()],
        bars=[_bar(s) for s in table.systems if s.overall],
        unbalanced="; ".join(dict.fromkeys(s.overall.balanced.reason or "" for s in table.systems if s.overall)),
        tasks=[_task(i, t, names[t], systems, cells.get(t, []), limit) for i, t in enumerate(table.tasks)],
        sweeps=sweeps(summary),
        judges=judges(summary),
        doubts=shape.doubts(summary),
        signature=shape.signature(summary),
        runs=[run_facts(run) for run in runs],
        glossary=list(GLOSSARY.items()),
    )


# ---------------------------------------------------------------- all systems


def _bar(system: System) -> Bar | None:
    marks = system.overall
    if marks is None or marks.balanced.value is None:
        return None
    value = marks.balanced.value
    lo, hi = (value if v is None else v for v in (marks.balanced.lo, marks.balanced.hi))
    others = [v for k, v in marks.sensitivity.items() if v is not None and k != "tau"]
    return Bar(2 * value, 2 * lo, 2 * hi, [2 * v for v in others])


def _rivals(summary: Summary, systems: Sequence[tuple[System, Look]]) -> Table | None:
    """Paired differences to the system of the highest balanced score, as the verdict holds them."""
    facts = summary.verdict.facts
    looks = {(s.model, s.deployment): how for s, how in systems if s.load == facts.get("load")}
    rows = []
    for other in facts.get("against_best", ()):
        how = looks.get((other["model"], other["deployment"]))
        if how is not None:
            names = ("balanced_lost", "quality_points_lost", "times_as_fast")
            rows.append((how, [_difference(other[n], "×" if n == "times_as_fast" else "") for n in names]))
    best = looks.get((facts["best"]["model"], facts["best"]["deployment"])) if facts.get("best") else None
    if not rows or best is None:
        return None
    headers = ["balanced: lost", "quality: points lost", "times as fast"]
    return Table(f"Against {best.label}, on the same items", headers, rows)


def _difference(found: dict[str, float | None], unit: str) -> Cell:
    if found["value"] is None:
        return Cell(numbers.ABSENT)
    low, high = found["lo"], found["hi"]
    below = "" if low is None or high is None else f"[{numbers.digits(low)}{unit}, {numbers.digits(high)}{unit}]"
    return Cell(f"{numbers.digits(found['value'])}{unit}", below)


# ---------------------------------------------------------------- one task


def _task(
    number: int, task: str, name: str, systems: Sequence[tuple[System, Look]], cells: Sequence[Asked], limit: int
) -> TaskView:
    mine = [(s.cells[task], how) for s, how in systems if task in s.cells]
    looks = {s.key: how for s, how in systems}
    found = items(cells, chosen(cells, limit)) if cells else []
    return TaskView(
        name=name,
        anchor=f"task-{number}",
        plane=task_plane(task, systems),
        distribution=task_distribution(task, systems),
        deadline=task_deadline(task, systems),
        spent=[plot for plot in (task_cost(task, systems), task_energy(task, systems)) if plot is not None],
        tables=[t for title in SECTIONS if (t := estimates(title, mine))],
        confusions=[c for cell, how in mine if (c := _confusion(cell, how))],
        groups=_groups(mine),
        items=[_item(i, looks) for i in found],
    )


def estimates(title: str, cells: Sequence[tuple[CellSummary, Look]]) -> Table | None:
    """The estimates of one section of the glossary that any of the cells has; None where there are none."""
    every = list(dict.fromkeys(n for c, _ in cells for n in c.estimates if section(n) == title))
    names = [n for n in every if any(c.estimates[n].value is not None for c, _ in cells if n in c.estimates)]
    if not names:
        return None
    shown = sorted((n for n in names if not _repeats_first_text(n, cells)), key=place)
    notes = Notes()
    own = [(c, how) for c, how in cells if any(n in c.estimates for n in names)]
    rows = [(how, [_number(c, n, notes) if n in c.estimates else Cell("") for n in shown]) for c, how in own]
    return Table(title, shown, rows, notes.texts, _absent([n for n in every if n not in names], cells))


def _absent(names: Sequence[str], cells: Sequence[tuple[CellSummary, Look]]) -> list[str]:
    """`ttft_s, tpot_s: answers came in one piece`, one line per reason."""
    found: dict[str, list[str]] = {}
    for name in names:
        reason = next((e.reason for c, _ in cells if (e := c.estimates.get(name)) and e.reason), None)
        bases = found.setdefault(reason or "no reason recorded", [])
        if (base := name.partition(".")[0]) not in bases:
            bases.append(base)
    return [f"{', '.join(bases)}: {reason}" for reason, bases in found.items()]


def _repeats_first_text(name: str, cells: Sequence[tuple[CellSummary, Look]]) -> bool:
    """Whether a time to the first visible text only says again when the first text came: nothing was hidden."""
    twin = name.replace("ttfvt_s", "ttft_s")
    return twin != name and all(shape.estimate(c, name).value == shape.estimate(c, twin).value for c, _ in cells)


def _number(cell: CellSummary, name: str, notes: Notes) -> Cell:
    found = shape.estimate(cell, name)
    if found.value is None:
        return Cell(numbers.ABSENT, note=notes.mark(visible(found.reason or "no reason given", newlines=False)))
    note = notes.mark(shape.failures(cell)) if cell.failed else ""
    return Cell(numbers.quantity(found.value, found.unit), numbers.interval(found), note)


def _groups(cells: Sequence[tuple[CellSummary, Look]]) -> list[Table]:
    """By category: one table per quantity, groups as columns."""
    groups = list(dict.fromkeys(g for c, _ in cells for g in c.groups))
    quantities = list(dict.fromkeys(q for c, _ in cells for g in c.groups.values() for q in g))
    tables = []
    for quantity in quantities:
        rows = []
        for cell, how in cells:
            found = [cell.groups.get(g, {}).get(quantity, shape.NOTHING) for g in groups]
            rows.append((how, [Cell(numbers.quantity(e.value, e.unit), numbers.interval(e)) for e in found]))
        tables.append(Table(f"{quantity} by category", [g.removeprefix("category=") for g in groups], rows))
    return tables


def _confusion(cell: CellSummary, how: Look) -> Confusion | None:
    table = cell.tables.get("confusion")
    if not table:
        return None
    own = table.get("per_label", {})
    rates = [[_rate(own[label].get(name)) for name in RATES] for label in table["labels"] if label in own]
    return Confusion(how, table["labels"], table["columns"], table["counts"], rates)


def _rate(value: float | None) -> str:
    return str(value) if isinstance(value, int) else numbers.mark(value)


# ---------------------------------------------------------------- samples


def _item(item: Item, looks: dict[tuple[str, str, str], Look]) -> ItemView:
    longest = max((end for a in item.answers if (end := _end(a))), default=0.0)
    known = [a for a in item.answers if a.key in looks]
    return ItemView(item, [_answer(a, looks[a.key], longest) for a in known])


def _end(answer: Answer) -> float:
    return max([*answer.stamps_s[-1:], answer.done_s or 0.0])


def _answer(answer: Answer, how: Look, longest: float) -> AnswerView:
    stamps = [t for t, piece in zip(answer.stamps_s, answer.pieces) if piece]
    took = numbers.seconds(stamps[-1] if stamps else answer.done_s)
    strip = None
    if stamps and longest > 0:
        ticks = sorted({round(STRIP * t / longest) for t in stamps})
        label = f"after {took}"
        if len(stamps) > 1:
            label = f"first text after {numbers.seconds(stamps[0])}, last after {took}, {len(stamps)} chunks"
        strip = Strip(ticks, round(STRIP * stamps[-1] / longest), label)
    return AnswerView(how, answer, verdict(answer.mark, bool(answer.failure)), strip, took)


# ---------------------------------------------------------------- cells of the main tables


def table_cells(system: System, table: Grid, notes: Notes) -> list[tuple[str, str, str, str]]:
    """For each task: quality, its interval, seconds per request, footnote mark."""
    found = []
    for task in table.tasks:
        cell = system.cells.get(task)
        time = numbers.seconds(shape.estimate(cell, "e2e_s.mean").value)
        found.append((*numbers.scored(shape.score_name(table, task), shape.score(cell)), time, notes.for_cell(cell)))
    return found


def score(value: float | None) -> str:
    """A balanced score: `61.9`."""
    return numbers.ABSENT if value is None else f"{value:.1f}"


def score_interval(estimate: Estimate) -> str:
    """`[59.3, 64.5]`, or nothing."""
    if estimate.value is None or estimate.lo is None or estimate.hi is None:
        return ""
    return f"[{estimate.lo:.1f}, {estimate.hi:.1f}]"


def share(value: float | None) -> str:
    """A probability in per cent."""
    return numbers.ABSENT if value is None else f"{100 * value:.0f} %"
