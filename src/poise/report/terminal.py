"""The terminal face: the published table in the width there is, the verdict, the doubts, the signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from poise.report import grid as shape
from poise.report import judges, numbers
from poise.report.grid import Grid, Notes, System
from poise.report.measures import others
from poise.report.speeds import speeds, unscored
from poise.report.text import shorten, visible
from poise.types import CellSummary, Estimate, Summary

LEVELS = {"error": ("✗", "red"), "warn": ("!", "yellow"), "info": ("i", "dim")}
GAP = 2
RATES = "tok/s: all output tokens over the wall time of the window"
GOODPUT = "; goodput: requests per second answered within all limits (--slo)"


def print_summary(summary: Summary, console: Console) -> None:
    """Table, footnotes, verdict, doubts and signature of a summary on `console`, fitted to its width."""
    if not summary.cells:
        console.print("nothing was measured yet")
        return
    table = shape.grid(summary)
    notes = Notes()
    lines: list[RenderableType] = [Text(shape.caption(summary, table), "bold"), ""]
    rates = Text(RATES, "dim")
    if any(shape.estimate(c, "goodput_rps").value is not None for c in summary.cells):
        rates.append(GOODPUT)
    if unscored(summary):
        lines += [speeds(summary, console), rates]
    else:
        lines.append(fit(table, notes, console))
        lines.append(Text("quality ± 95 % interval (its farther end); mean seconds per request, end to end", "dim"))
        if any(shape.score_name(table, task).endswith("↓") for task in table.tasks):
            lines.append(Text("↓ less is better; not part of the balanced score", "dim"))
    if groups := shape.group_scores(table):
        heads = ["group of tasks", *(label if len(table.systems) > 1 else "" for label in table.labels())]
        lines += ["", _group_table(heads, groups)]
    for number, note in enumerate(notes.texts, 1):
        lines.append(hanging(f"{shape.superscript(number)} ", Text(note), "dim"))
    if not unscored(summary) and (more := others(table, console)) is not None:
        lines += ["", more]
    if (judged := judges.drawn(summary, console)) is not None:
        lines += ["", judged[0], Text(judged[1], "dim")]
    if "load" in table.varying and not unscored(summary):
        lines += ["", speeds(summary, console), rates]
    if summary.verdict.text:
        first, rest = visible(summary.verdict.text).partition("; ")[::2]
        lines += ["", Text.assemble((first, "bold"), f"; {rest}" if rest else "")]
    if found := doubts(summary):
        lines += ["", *found]
    if line := shape.signature(summary):
        lines += ["", Text(line, "dim")]
    console.print(Trimmed(Group(*lines)))


def _group_table(heads: Sequence[str], groups: Sequence[tuple[str, list[Estimate]]]) -> RenderableType:
    return table(heads, [[name, *(" ".join(numbers.scored("", e)).strip() for e in found)] for name, found in groups])


class Trimmed:
    """A renderable without the blanks that tables pad their lines with: what is copied is what is seen."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in console.render_lines(self.inner, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                last = line.pop()
                line.append(Segment(last.text.rstrip(), last.style))
            yield from line
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.inner)


def doubts(summary: Summary) -> list[RenderableType]:
    """Each check once: the evidence, where, and one thing to do."""
    lines = []
    for doubt in shape.doubts(summary):
        sign, style = LEVELS[doubt.check.level]
        more = f" (and {len(doubt.evidence) - 1} more like it)" if len(doubt.evidence) > 1 else ""
        where = doubt.cells[0] if len(doubt.cells) == 1 else f"{len(doubt.cells)} cells, first {doubt.cells[0]}"
        body = Text.assemble(
            (visible(doubt.check.code, newlines=False), "bold"),
            f" in {where}: {visible(doubt.evidence[0], newlines=False)}{more}. ",
            (f"→ {visible(doubt.check.action, newlines=False)}", "italic"),
        )
        lines.append(hanging(f"{sign} ", body, style))
    return lines


def hanging(lead: str, body: Text, style: str = "") -> RenderableType:
    """`lead`, then `body` wrapped beside it."""
    line = Table.grid(padding=0)
    line.add_column(no_wrap=True, style=style)
    line.add_column(overflow="fold")
    line.add_row(Text(lead), body)
    return line


class Layout(Struct, frozen=True):
    """How roomy the table is: `wide` = one line a row, else two; which columns; longest label."""

    wide: bool
    frontier: bool
    balanced: bool = True
    label_width: int = 40
    name_width: int = 24


LAYOUTS = (Layout(True, True), Layout(True, False), Layout(False, True), Layout(False, False))
NARROW = Layout(False, False, label_width=14, name_width=9)


def fit(table: Grid, notes: Notes, console: Console) -> RenderableType:
    """The roomiest layout that fits: one line a row, else two, else shorter names, else several bands of tasks."""
    for layout in (*LAYOUTS, NARROW):
        drawn = _draw(table, table.tasks, notes, layout)
        if measured(drawn, console) <= console.width:
            return drawn
    return _bands(table, notes, console)


def _bands(table: Grid, notes: Notes, console: Console) -> RenderableType:
    """As many tables one below the other as the width asks for; the balanced score stands in the last."""
    bands: list[RenderableType] = []
    rest = list(table.tasks)
    while rest:
        taken = len(rest)
        while True:
            layout = Layout(False, False, balanced=taken == len(rest), label_width=14, name_width=12)
            drawn = _draw(table, rest[:taken], notes, layout)
            if taken == 1 or measured(drawn, console) <= console.width:
                break
            taken -= 1
        bands += [drawn] if layout.balanced else [drawn, ""]
        rest = rest[taken:]
    return Group(*bands)


def measured(drawn: RenderableType, console: Console) -> int:
    """Columns a table would take if the terminal were endless."""
    return Measurement.get(console, console.options.update(width=10_000), drawn).maximum


def _draw(table: Grid, tasks: list[str], notes: Notes, layout: Layout) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    columns = [*_labels(table, layout), *(_task_column(table, task, notes, layout) for task in tasks)]
    if layout.balanced:
        columns.append(_balanced_column(table, layout))
        costs = [shape.usd_per_1000(s.cells.values()) for s in table.systems]
        if any(costs):
            columns.append(("USD per\n1000 req.", [Text(cost or numbers.ABSENT) for cost in costs]))
    if (
        layout.balanced
        and layout.frontier
        and any(s.overall and s.overall.p_frontier is not None for s in table.systems)
    ):
        columns.append(("on the\nfrontier", [Text(_share(s)) for s in table.systems]))
    for head, _ in columns:
        drawn.add_column(Text(head), no_wrap=True)
    for system, *row in zip(table.systems, *(cells for _, cells in columns)):
        drawn.add_row(*row, style="bold" if system.key in table.leaders else "")
    return drawn


Column = tuple[str, list[Text]]


def _labels(table: Grid, layout: Layout) -> list[Column]:
    """One column per varying dimension; in two-line rows all in one column, the first above the rest."""
    columns: list[Column] = []
    for dimension in table.varying:
        names = shape.short_names([getattr(s, dimension) for s in table.systems])
        cells = [Text(shorten(names[getattr(s, dimension)], layout.label_width)) for s in table.systems]
        columns.append((dimension, cells))
    if layout.wide or len(columns) == 1:
        return columns
    first, *others = columns
    below = [Text(" ").join(parts) for parts in zip(*(cells for _, cells in others))]
    stacked = [Text.assemble(a, "\n", (b.plain, "dim")) for a, b in zip(first[1], below)]
    return [(f"{first[0]}\n{' '.join(head for head, _ in others)}", stacked)]


def _task_column(table: Grid, task: str, notes: Notes, layout: Layout) -> Column:
    """A task's quality with its interval, and its seconds per request."""
    scored = shape.score_name(table, task)
    pairs = [_pair(s.cells.get(task), scored, notes) for s in table.systems]
    left, right = (max(len(text) for text in side) for side in zip(*pairs))
    name = shape.short_names(table.tasks)[task]
    if not layout.wide:
        below = "" if scored == "quality" else f"\n{scored}"
        return shorten(name, max(left, right, layout.name_width)) + below, [
            Text.assemble(q, "\n", (t, "cyan")) for q, t in pairs
        ]
    left = max(left, len(scored))
    head = f"{shorten(name, left + 1 + right)}\n{scored:<{left}} {'time':>{right}}"
    return head, [Text.assemble(f"{q:<{left}} ", (f"{t:>{right}}", "cyan")) for q, t in pairs]


def _pair(cell: CellSummary | None, name: str, notes: Notes) -> tuple[str, str]:
    mark = notes.for_cell(cell)
    time = shape.estimate(cell, "e2e_s.mean")
    value, spread = numbers.scored(name, shape.score(cell))
    left = f"{numbers.bare(value)} {spread}".rstrip() + mark
    if time.value is None and not mark and time.reason:
        return left, numbers.ABSENT + notes.mark(f"time: {visible(time.reason, newlines=False)}")
    return left, numbers.seconds(time.value)


def _balanced_column(table: Grid, layout: Layout) -> Column:
    cells = []
    for system in table.systems:
        value = system.overall.balanced if system.overall else shape.NOTHING
        if value.value is None:
            cells.append(Text(numbers.ABSENT))
            continue
        spread = "" if value.lo is None or value.hi is None else f"[{value.lo:.1f}, {value.hi:.1f}]"
        number = (f"{value.value:.1f}", "green" if system.key in table.leaders else "")
        cells.append(Text.assemble(number, " " if layout.wide else "\n", (spread, "dim")))
    return "balanced\n0–100", cells


def _share(system: System) -> str:
    p = system.overall.p_frontier if system.overall else None
    return numbers.ABSENT if p is None else f"{100 * p:.0f} %"


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    right: Iterable[int] = (),
    show: Callable[..., str] = visible,
) -> RenderableType:
    """A plain aligned table for any command; `right` = indices of right-aligned columns. Foreign text is made safe."""
    aligned = set(right)
    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for i, header in enumerate(headers):
        drawn.add_column(Text(header), justify="right" if i in aligned else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(v if isinstance(v, Text) else Text(show(v)) for v in row))
    return Trimmed(drawn)
