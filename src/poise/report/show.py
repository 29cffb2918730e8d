"""`poise show`: one sample across all systems on the terminal, or the list of samples, disagreements first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from poise.counted import counted
from poise.registry import did_you_mean
from poise.report import numbers
from poise.report.grid import short_names
from poise.report.samples import Answer, Asked, Item, Key, asked, by_disagreement, items, verdict
from poise.report.terminal import GAP, Trimmed
from poise.report.text import cap, visible
from poise.store.run import Run
from poise.types import UsageError

if TYPE_CHECKING:
    from poise.understand.judged import Said

SIGNS = {
    "right": ("✓", "green"), "wrong": ("✗", "red"), "partly": ("◐", "yellow"), "failed": ("!", "red"),
    "unscored": ("?", "yellow"),
}  # fmt: skip
BLOCKS = "▁▂▃▄▅▆▇█"
LISTED = 25
TEXT_CHARS = 4_000


def show(runs: Sequence[Run], sample: str | None, console: Console) -> None:
    """Print a sample (its id, or `task/id`) with every system's answer; without one, the list of samples.

    Where a run judges another of them, its words stand below the answers they are about, and not for themselves.
    UsageError where no cell was asked such a sample.
    """
    where = " or ".join(str(run.path) for run in runs)
    cells = asked(runs)
    tasks: dict[str, list[Asked]] = {}
    for cell in [c for c in cells if not c.data.judges] or cells:
        tasks.setdefault(cell.task, []).append(cell)
    if not tasks:
        raise UsageError(f"nothing was measured in {where} yet")
    labels = _labels([c for cells in tasks.values() for c in cells])
    if sample is None:
        console.print(Trimmed(Group(*_list(tasks, labels, console))))
        return
    found = [(t, s) for t, cells in tasks.items() for s in by_disagreement(cells) if sample in (s, f"{t}/{s}")]
    if not found:
        known = [s for cells in tasks.values() for s in by_disagreement(cells)]
        near = did_you_mean(sample, known) if len(known) <= 10 else did_you_mean(sample, known).partition("; there")[0]
        raise UsageError(f"no sample {sample!r} in {where}{near} (without an id, all are listed)")
    for task, sample_id in found:
        (item,) = items(tasks[task], [sample_id])
        console.print(Trimmed(Group(*_item(item, labels))))


def _labels(cells: Sequence[Asked]) -> dict[Key, str]:
    """A short name for each system: what all share is left out."""
    keys = list(dict.fromkeys(c.key for c in cells))
    columns = [list(dict.fromkeys(k[i] for k in keys)) for i in range(3)]
    varying = [i for i, column in enumerate(columns) if len(column) > 1] or [0]
    short = [short_names(column) for column in columns]
    return {k: " · ".join(short[i][k[i]] for i in varying) for k in keys}


# ---------------------------------------------------------------- the list


def _list(tasks: dict[str, list[Asked]], labels: dict[Key, str], console: Console) -> list[RenderableType]:
    """Each task's samples with every system's mark; on a terminal only the first ones."""
    names = list(labels.values())
    numbered = sum(max(map(len, n.split(" · "))) + GAP for n in names) > console.width - 24
    lines: list[RenderableType] = []
    if numbered:
        lines += [Text(f"{i}  {name}") for i, name in enumerate(names, 1)] + [""]
    for task, cells in tasks.items():
        ids = by_disagreement(cells)
        shown = ids[:LISTED] if console.is_terminal else ids
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        table.add_column("sample", overflow="ellipsis", no_wrap=True, min_width=16)
        for cell in cells:
            label = labels[cell.key]
            table.add_column(
                Text(str(names.index(label) + 1) if numbered else label.replace(" · ", "\n")), no_wrap=True
            )
        for sample in shown:
            table.add_row(Text(visible(sample, newlines=False)), *(_listed(c, sample) for c in cells))
        lines += [Text(visible(task), "bold"), table]
        if len(shown) < len(ids):
            lines.append(Text(f"… {len(ids) - len(shown)} more; all of them with `poise show … | less`", "dim"))
        lines.append("")
    first = next(iter(tasks))
    example = visible(by_disagreement(tasks[first])[0], newlines=False)
    lines.append(Text(f"one sample in full: poise show RUN {example}", "dim"))
    return lines


def _listed(cell: Asked, sample: str) -> Text:
    """A sample's sign in the list, with the kind of its failure."""
    failure = cell.failure(sample)
    sign = _sign(cell.mark(sample), failure is not None)
    return sign.append(f" {visible(failure, newlines=False)}") if failure else sign


def _sign(mark: float | None, failed: bool = False) -> Text:
    name = verdict(mark, failed)
    sign, style = SIGNS[name]
    return Text(f"{sign} {numbers.mark(mark)}" if name == "partly" else sign, style)


# ---------------------------------------------------------------- one sample


def _item(item: Item, labels: dict[Key, str]) -> list[RenderableType]:
    head = f"{item.task} / {item.id}" + (f"  ({item.category})" if item.category else "")
    lines: list[RenderableType] = [Text(visible(head, newlines=False), "bold"), "", _block("prompt", item.prompt)]
    lines += [_block("target", item.target), ""]
    for answer in item.answers:
        turn = f", turn {answer.turn}" if answer.turn else ""
        lines += [_answer_head(answer, labels[answer.key] + turn), *_answer_body(answer), ""]
    return lines


def _block(name: str, text: str, style: str = "") -> RenderableType:
    line = Table.grid(padding=(0, GAP, 0, 0))
    line.add_column(width=9, style="dim")
    line.add_column(overflow="fold")
    line.add_row(Text(name), Text(visible(cap(text, TEXT_CHARS)), style))
    return line


def _answer_head(answer: Answer, label: str) -> Text:
    scores = ", ".join(f"{visible(n)} {numbers.digits(v)}" for n, v in answer.scores.items() if v is not None)
    line = Text.assemble(_sign(answer.mark, bool(answer.failure)), " ", (label, "bold"))
    return line.append(f"  {scores}" if scores else "", "dim")


def _answer_body(answer: Answer) -> list[RenderableType]:
    lines = [_block("asked as", answer.asked)] if answer.asked is not None else []
    lines.append(_block("answer", answer.text))
    if answer.extracted is not None and answer.extracted != answer.text.strip():
        lines.append(_block("taken", answer.extracted))
    if answer.failure or answer.reason:
        lines.append(_block("why", answer.failure or answer.reason or "", "red" if answer.failure else ""))
    lines += [_block(*_said(said)) for said in answer.judged]
    if answer.stamps_s:
        lines.append(_block("times", _times(answer)))
    elif answer.done_s is not None:
        lines.append(_block("times", f"done after {numbers.seconds(answer.done_s)}"))
    return [Padding(line, (0, 0, 0, 2)) for line in lines]


def _said(said: Said) -> tuple[str, str]:
    """Who judged, and the verdict before the words."""
    place = {"ab": ", shown first", "ba": ", shown second"}.get(said.order, "")
    verdict = f"failed: {said.failure}" if said.failure else said.verdict or "no readable verdict"
    return "judge", f"{said.judge}{place}: {verdict}" + (f"\n{said.words.strip()}" if said.words.strip() else "")


def _times(answer: Answer) -> str:
    """First and last text, and the gap before each chunk as a bar on a scale up to the longest gap."""
    stamps = [t for t, piece in zip(answer.stamps_s, answer.pieces) if piece]
    if not stamps:
        return f"done after {numbers.seconds(answer.done_s)}, no text"
    gaps = [b - a for a, b in pairwise(stamps)]
    text = f"first after {numbers.seconds(stamps[0])}, last after {numbers.seconds(stamps[-1])}"
    tokens = f", {counted(answer.tokens, 'token')}" if answer.tokens is not None else ""
    if not gaps or max(gaps) <= 0:
        return f"{text}{tokens}"
    bars = "".join(BLOCKS[min(7, int(8 * gap / max(gaps)))] for gap in gaps[:120])
    return f"{text}{tokens}\n{bars}  gaps up to {numbers.seconds(max(gaps))}"
