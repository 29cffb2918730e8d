"""Single samples side by side: what was asked, what each system answered, how that was scored, when each chunk came."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poise.store.run import CellFolder, Run
from poise.types import Record, Request, Sample

if TYPE_CHECKING:
    from poise.understand.gather import CellData
    from poise.understand.judged import Said

Key = tuple[str, str, str]
"""model, deployment (told apart by run where two runs share it), load."""


@dataclass(frozen=True)
class Asked:
    """One cell opened for its samples: where it lies, and its rows with their scores."""

    key: Key
    task: str
    folder: CellFolder
    data: CellData
    rows: dict[str, dict[int, int]]
    """sample id -> turn (0 where there is but one) -> its first row"""
    judged: dict[tuple[str, str], list[Said]] = field(default_factory=dict)
    """What judges said, by folder and request of the answer"""

    def mark(self, sample: str, turn: int | None = None) -> float | None:
        """q of the sample's first answer, of one turn or their mean; None = unscorable or not asked."""
        first = self.data.scores.first
        marks = (
            [float(first.q[row]) for part, row in self.rows.get(sample, {}).items() if turn in (None, part)]
            if first
            else []
        )
        known = [q for q in marks if not math.isnan(q)]
        return sum(known) / len(known) if known else None

    def failure(self, sample: str) -> str | None:
        """The kind of failure of the sample's first answer, or of the first of its turns that failed."""
        rows = self.rows.get(sample, {})
        return next((kind for turn in sorted(rows) if (kind := self.data.columns.failure[rows[turn]])), None)


@dataclass(frozen=True)
class Answer:
    """What one system did with a sample. `stamps_s` are seconds after sending, one per piece of text.

    `asked` is the prompt where it is not the item's (another chat format, another run's wording).
    """

    key: Key
    text: str
    extracted: str | None
    mark: float | None
    scores: dict[str, float | None]
    reason: str | None
    failure: str | None
    tokens: int | None
    stamps_s: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    done_s: float | None = None
    asked: str | None = None
    turn: int | None = None
    """Which turn of a conversation it answers, from 1."""
    judged: list[Said] = field(default_factory=list)
    """What the judges among the runs said of it."""


@dataclass(frozen=True)
class Item:
    """One sample of one task, with all its answers in the order of the systems."""

    task: str
    id: str
    category: str | None
    prompt: str
    target: str
    answers: list[Answer]


def asked(runs: Sequence[Run]) -> list[Asked]:
    """All measured cells of the runs, in the summary's order and under its names."""
    from poise.understand.gather import gather
    from poise.understand.judged import said_of

    folders: dict[tuple[int, str], CellFolder] = {}
    for number, run in enumerate(runs):
        for folder in run.cells():
            folders.setdefault((number, folder.cell.id), folder)
    found, cells = [], gather(runs)
    judged = said_of(cells)
    for folder, data in zip(folders.values(), cells):
        rows: dict[str, dict[int, int]] = {}
        for i, (sample, part) in enumerate(zip(data.columns.sample, data.columns.part.tolist())):
            rows.setdefault(sample, {}).setdefault(part, i)
        if rows:
            key = (data.cell.model.name, data.deployment, data.cell.load.label)
            found.append(Asked(key, data.cell.task.name, folder, data, rows, judged))
    return found


def sample_ids(cells: Sequence[Asked]) -> list[str]:
    """The ids that any of the cells was asked, in plan order."""
    return list(dict.fromkeys(s for c in cells for s in c.rows))


def by_disagreement(cells: Sequence[Asked]) -> list[str]:
    """Sample ids of one task: those the systems disagree on most first, then what failed, else in plan order."""

    def rank(sample: str) -> tuple[float, bool]:
        marks = [m for c in cells if (m := c.mark(sample)) is not None]
        spread = max(marks) - min(marks) if marks else 0.0
        return -round(spread, 6), spread > 0 or not any(c.failure(sample) for c in cells)

    return sorted(sample_ids(cells), key=rank)


def chosen(cells: Sequence[Asked], limit: int = 10) -> list[str]:
    """At most `limit` samples of one task: mostly disagreements, and some on which all agree, all wrong ones first."""
    ranked = by_disagreement(cells)
    best = {s: max((m for c in cells if (m := c.mark(s)) is not None), default=0.0) for s in ranked}
    most = max(1, limit * 7 // 10)
    head, rest = ranked[:most], ranked[most:]
    lost = [s for s in rest if best[s] < 0.5][: max(1, limit // 5)]
    others = [s for s in rest if s not in lost]
    return [*head, *lost, *others][:limit]


def items(cells: Sequence[Asked], ids: Collection[str]) -> list[Item]:
    """The samples `ids` of one task's cells, in the order of `ids`."""
    wanted = set(ids)
    answers: dict[str, list[Answer]] = {s: [] for s in ids}
    prompts: dict[str, str] = {}
    samples: dict[str, Sample] = {}
    for cell in cells:
        own = {r.sample_id: _prompt(r) for r in cell.folder.requests() if r.sample_id in wanted and r.draw == 0}
        prompts = own | prompts
        samples = {s: cell.data.samples[s] for s in ids if s in cell.data.samples} | samples
        for (sample, part), record in sorted(_last_records(cell.folder, wanted).items(), key=lambda kv: kv[0][1]):
            if part in cell.rows.get(sample, {}):
                asked_as = own.get(sample) if not part else None
                answers[sample].append(
                    _answer(cell, sample, record, None if asked_as == prompts.get(sample) else asked_as)
                )
    task = cells[0].task
    return [
        Item(
            task=task,
            id=s,
            category=samples[s].category if s in samples else None,
            prompt=prompts.get(s, ""),
            target=_target(samples.get(s)),
            answers=answers[s],
        )
        for s in ids
    ]


def _last_records(folder: CellFolder, wanted: Collection[str]) -> dict[tuple[str, int], Record]:
    """The last attempt of each turn of each wanted sample's first draw."""
    found: dict[tuple[str, int], Record] = {}
    for record in folder.records():
        if record.phase == "measure" and record.sample_id in wanted and record.draw == 0:
            found[record.sample_id, record.part] = record
    return found


def _answer(cell: Asked, sample: str, record: Record, asked_as: str | None) -> Answer:
    row, scores = cell.rows[sample][record.part], cell.data.scores
    first = scores.first
    stamps: list[float] = []
    now = 0
    timeline = record.timeline
    for delta in timeline.chunk_deltas_ns if timeline else ():
        now += delta
        stamps.append(now / 1e9)
    values = {name: float(v.values[row]) for name, v in scores.by_metric.items()}
    return Answer(
        key=cell.key,
        text=cell.data.columns.text[row],
        extracted=scores.answers[row],
        mark=cell.mark(sample, record.part),
        scores={name: None if math.isnan(v) else v for name, v in values.items()},
        reason=first.reasons[row] if first else scores.unscored,
        failure=f"{record.error.kind}: {record.error.message}" if record.error else _status(record),
        tokens=record.output_tokens,
        stamps_s=stamps[: len(record.pieces)],
        pieces=record.pieces,
        done_s=timeline.done_ns / 1e9 if timeline and timeline.done_ns else None,
        asked=asked_as,
        turn=record.part + 1 if len(cell.rows[sample]) > 1 else None,
        judged=cell.judged.get((cell.folder.path.name, cell.data.columns.request[row]), []),
    )


def _status(record: Record) -> str | None:
    return None if record.status == "ok" else record.status


def _prompt(request: Request) -> str:
    """The text asked; chat turns as `role: content`, choices after the prompt."""
    parts = [f"{m.role}: {m.content}" for m in request.messages] if request.messages else [request.prompt or ""]
    parts += [f"turn {number}: {text}" for number, text in enumerate(request.turns, 2)]
    parts += [f"option:{c}" for c in request.continuations]
    return "\n".join(parts)


def _target(sample: Sample | None) -> str:
    if sample is None or sample.target is None:
        return ""
    target = sample.target
    if isinstance(target, dict) and "shown" in target:
        return str(target["shown"])
    if (
        isinstance(target, int)
        and not isinstance(target, bool)
        and sample.choices
        and 0 <= target < len(sample.choices)
    ):
        return sample.choices[target]
    return " | ".join(map(str, target)) if isinstance(target, list | tuple) else str(target)


def verdict(mark: float | None, failed: bool = False) -> str:
    """right, partly, wrong, unscored or failed: the class of a mark."""
    if failed:
        return "failed"
    if mark is None:
        return "unscored"
    return "right" if mark > 0.999 else "wrong" if mark < 0.001 else "partly"
