"""The Markdown face: verdict, the published table, balanced scores, doubts; foreign text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from poise.report import grid as shape
from poise.report import judges, numbers
from poise.report.grid import Grid, Notes, System
from poise.report.text import visible
from poise.types import CellSummary, Estimate, Summary

SPEED = ("ttft_s.p50", "tpot_s.p50", "e2e_s.p50", "e2e_s.p99", "system_tok_s", "mem_bytes.peak")


class Markdown:
    """A GitHub-flavoured Markdown page without any raw HTML, link or image."""

    suffix = ".md"

    def render(self, summary: Summary, runs: Sequence[Any]) -> bytes:
        return "\n".join(_page(summary)).encode("utf-8", "backslashreplace") + b"\n"


def escape(text: object) -> str:
    """Foreign text on one line, with everything that Markdown or HTML would read as markup escaped."""
    line = visible(text, newlines=False)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", line)
    return re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])", r"\1&#8203;", line)  # bare addresses would become links


def _page(summary: Summary) -> Iterable[str]:
    table = shape.grid(summary)
    notes = Notes()
    yield f"# {escape(', '.join(summary.runs) or 'poise')}"
    if not summary.cells:
        yield "\nNothing was measured yet."
        return
    yield f"\n**{escape(summary.verdict.text)}**\n" if summary.verdict.text else ""
    yield escape(shape.caption(summary, table)) + "\n"
    yield from _lines(*_main(table, notes))
    yield "\nQuality with its 95 % interval; time = mean seconds per request, end to end.\n"
    yield from (f"{shape.superscript(i)} {escape(note)}  " for i, note in enumerate(notes.texts, 1))
    if groups := shape.group_scores(table):
        yield "\n## Groups of tasks\n"
        labels = [escape(label) for label in table.labels()]
        rows = [[escape(name), *(" ".join(numbers.scored("", e)).strip() for e in found)] for name, found in groups]
        yield from _lines(["group", *labels], rows)
    yield "\n## Balanced score\n"
    yield from _lines(*_balanced(table))
    yield "\n## Speed and memory\n"
    yield from _lines(*_speed(summary, table))
    if told := judges.judges(summary):
        yield "\n## Judges\n"
        names = judges.heads(told)
        rows = [
            [escape(judge), *(escape(numbers.with_interval(of[n])) if n in of else "" for n in names)]
            for judge, of in told.items()
        ]
        yield from _lines(["judge", *map(escape, names)], rows)
        yield f"\n{escape(judges.key(told))}"
    if found := shape.doubts(summary):
        yield "\n## Checks\n"
        for doubt in found:
            where = escape("; ".join(doubt.cells))
            evidence = escape("; ".join(doubt.evidence))
            name = f"**{doubt.check.level}: {escape(doubt.check.code)}**"
            yield f"- {name}: {evidence} ({where}). {escape(doubt.check.action)}"
    if line := shape.signature(summary):
        yield f"\n{escape(line)}"


def _lines(headers: list[str], rows: list[list[str]]) -> Iterable[str]:
    yield "| " + " | ".join(headers) + " |"
    yield "|" + "|".join("---" for _ in headers) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def _names(system: System, table: Grid) -> list[str]:
    return [escape(getattr(system, d)) for d in table.varying]


def _main(table: Grid, notes: Notes) -> tuple[list[str], list[list[str]]]:
    headers = [*table.varying]
    for task in table.tasks:
        headers += [f"{escape(task)} {escape(shape.score_name(table, task))}", "time"]
    rows = []
    for system in table.systems:
        row = _names(system, table)
        for task in table.tasks:
            row += _pair(system.cells.get(task), shape.score_name(table, task), notes)
        rows.append([*row, _plain(system.overall.balanced if system.overall else shape.NOTHING)])
    return [*headers, "balanced (0–100)"], rows


def _pair(cell: CellSummary | None, name: str, notes: Notes) -> list[str]:
    value, spread = numbers.scored(name, shape.score(cell))
    return [f"{value} {spread}{notes.for_cell(cell)}", numbers.seconds(shape.estimate(cell, "e2e_s.mean").value)]


def _plain(value: Estimate) -> str:
    if value.value is None or value.lo is None or value.hi is None:
        return numbers.ABSENT if value.value is None else f"{value.value:.1f}"
    return f"{value.value:.1f} \\[{value.lo:.1f}, {value.hi:.1f}\\]"


def _balanced(table: Grid) -> tuple[list[str], list[list[str]]]:
    headers = [*table.varying, "balanced", "quality mark", "speed mark", "at τ/4", "at 4τ", "on the frontier"]
    rows = []
    for system in table.systems:
        if (marks := system.overall) is None:
            continue
        quality, speed = (
            f"{numbers.mark(e.value)} {numbers.half_width(e)}".rstrip() for e in (marks.quality, marks.speed)
        )
        taus = [marks.sensitivity.get(name) for name in ("tau/4", "tau*4")]
        shown = [numbers.ABSENT if v is None else f"{v:.1f}" for v in taus]
        share = numbers.ABSENT if marks.p_frontier is None else f"{100 * marks.p_frontier:.0f} %"
        rows.append([*_names(system, table), _plain(marks.balanced), quality, speed, *shown, share])
    return headers, rows


def _speed(summary: Summary, table: Grid) -> tuple[list[str], list[list[str]]]:
    rows = []
    for system in table.systems:
        for task, cell in system.cells.items():
            found = [shape.estimate(cell, name) for name in SPEED]
            rows.append([*_names(system, table), escape(task), *(numbers.quantity(e.value, e.unit) for e in found)])
    return [*table.varying, "task", *SPEED], rows
