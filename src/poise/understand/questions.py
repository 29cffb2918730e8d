"""Whether cells of one task were asked the same: what counts as right, which items, in which words, with which limits.

A timed load that gets further asks the items that another did and some more, in the same drawn order: that is no other
question, and quality is paired on what both were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from poise.types import Check
from poise.understand.gather import CellData


class _Asked(Struct):
    sample_id: str
    asked_sha: str
    draw: int = 0


def comparable(cells: Sequence[CellData]) -> dict[int, Check]:
    """`incomparable` or `different_questions`, by the identity of each cell that deserves it.

    Judges beside what they judge are compared with nothing.
    """
    found: dict[int, Check] = {}
    for same in _grouped([c for c in cells if not c.judges] or cells, lambda c: c.cell.task.name):
        task = same[0].cell.task.name
        if len({(c.cell.task.task, c.cell.task.version) for c in same}) > 1 or other_targets(same):
            evidence = f"cells of {task} have different targets or task versions"
            check = Check("incomparable", "error", evidence, "give the tasks different names, or use the same data")
            found |= {id(c): check for c in same}
            continue
        for alike in _grouped(same, lambda c: f"{c.cell.model.format} {c.cell.load.trace_sha}"):
            if why := _otherwise(alike):
                action = "compare only what both were asked: `poise.compare` pairs it"
                check = Check("different_questions", "info", f"cells of {task} {why}", action)
                found |= {id(c): check for c in alike}
    return found


def other_targets(cells: Sequence[CellData]) -> bool:
    """Whether these uses of a task count something else as right on an item that several were asked."""
    right: dict[str, int] = {}
    uses = {c.cell.task.target_sha: c for c in cells}
    if len(uses) == 1:
        return False
    targets = (
        (s, hash(repr((sample.target, sample.choices)))) for c in uses.values() for s, sample in c.samples.items()
    )
    return any(right.setdefault(s, target) != target for s, target in targets)


def _grouped(cells: Iterable[CellData], by: Callable[[CellData], str]) -> list[list[CellData]]:
    groups: dict[str, list[CellData]] = {}
    for c in cells:
        if len(c.columns):
            groups.setdefault(by(c), []).append(c)
    return list(groups.values())


def _otherwise(cells: Sequence[CellData]) -> str | None:
    """What differs in what these cells were asked; None where each asked all that a shorter one did, and alike."""
    uses = {c.cell.task.items_sha: c for c in cells}
    if len(uses) == 1:
        return None
    if len({c.cell.task.data_sha for c in cells}) > 1:
        return "were asked items of different data"
    shorter: dict[tuple[str, int], str] = {}
    for c in sorted(uses.values(), key=lambda c: (len(c.samples), c.cell.generation.draws)):
        own = {(r.sample_id, r.draw): r.asked_sha for r in c.folder.requests(_Asked)}
        if any(shorter.get(item, asked) != asked for item, asked in own.items()):
            return "were asked the same items in other words or with other limits"
        if not shorter.keys() <= own.keys():
            return "were asked other items"
        shorter = own
    return None
