"""Verdicts joined to what they are about: the judged cells take them as marks.

A rubric's mark is the mean of the judges' ratings. A pairwise verdict counts as a win (or loss) only if the judge says
so in both orders, else as a tie; of several judges the majority decides, without one it is a tie.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta, Struct, ValidationError, convert

from poise.tasks.metrics.judge import HIGHEST, LOWEST, Judged
from poise.types import Sample
from poise.understand.judge import OUTCOMES
from poise.understand.score import Scores
from poise.understand.scored import Values

if TYPE_CHECKING:
    from poise.understand.gather import CellData

Key = tuple[str, str]
"""Folder of a judged cell, id of the request or turn."""
NOT_JUDGED = "it was not judged"
UNREADABLE = "the judge gave no readable verdict"
FAILED = "the request to the judge failed"
CHANGED = "the answer is another one than was judged"
REMEDIES = {
    UNREADABLE: "read what the judge wrote: `poise show` with both runs",
    FAILED: "the same `poise judge` with --retry-failed asks again",
    CHANGED: "judge it anew, into a new folder",
}
"""What to do where an answer has no mark, by the reason."""


@dataclass
class Verdicts:
    """One judge on the answers of one task: a number for each (rating, or 1, ½, 0), None = unreadable."""

    judge: str
    rubric: bool
    against: str | None
    task: str = ""
    """The judged task."""
    values: dict[Key, float | None] = field(default_factory=dict)
    text: dict[Key, str] = field(default_factory=dict)
    """The answer that was judged."""
    unit: dict[Key, str] = field(default_factory=dict)
    """The judged item, by which answers depend on each other."""
    human: dict[Key, float] = field(default_factory=dict)
    failed: set[Key] = field(default_factory=set)
    """Where a request to the judge failed."""
    pairs: int = 0
    swapped: int = 0
    """Pairs of readable verdicts, and those among them that were not the same in the other order."""
    first_shown: int = 0
    """Of the swapped ones: those that were for the first answer in both orders."""

    @property
    def spoke(self) -> bool:
        """Whether any of its verdicts could be read."""
        return any(value is not None for value in self.values.values())


def verdicts(data: CellData) -> Verdicts | None:
    """What the judge of this cell said, both orders combined; None where the cell judges nothing."""
    if not data.judges:
        return None
    rubric = data.cell.task.metrics[0] == "rating"
    found = Verdicts(data.cell.model.name, rubric, None)
    first = data.scores.by_metric[data.cell.task.metrics[0]]
    said: dict[Key, dict[tuple[int, str], float | None]] = {}
    for row, sample, about in _rows(data):
        key = (about.cell, about.request)
        value = float(first.values[row])
        order = (int(data.columns.repeat[row]), about.order)
        said.setdefault(key, {})[order] = None if math.isnan(value) else value
        if data.columns.failure[row] is not None:
            found.failed.add(key)
        found.text[key], found.unit[key] = about.answers[-1], sample.cluster or sample.id
        found.against, found.task = found.against or about.against, about.task
        if (label := _label(sample.target, rubric)) is not None:
            found.human[key] = label
    for key, orders in said.items():
        found.values[key] = _mean([v for v in orders.values() if v is not None]) if rubric else _both(found, orders)
    return found


@dataclass(frozen=True)
class Said:
    """What a judge said of one answer, in its own words, and what was read from them."""

    judge: str
    words: str
    verdict: str | None
    """`7 of 10`; win, tie or loss of the judged answer; None = nothing readable."""
    order: str = ""
    """Of a pair: ab, the judged answer stood first, or ba."""
    failure: str | None = None


def said_of(cells: Sequence[CellData]) -> dict[Key, list[Said]]:
    """What the judges among the cells said, by the answer that it is about."""
    found: dict[Key, list[Said]] = {}
    outcomes = {value: name for name, value in OUTCOMES.items()}
    for data in (c for c in cells if c.judges):
        values = data.scores.by_metric[data.cell.task.metrics[0]].values
        for row, _, about in _rows(data):
            value = float(values[row])
            read = None if math.isnan(value) else outcomes[value] if about.order else f"{value:g} of {HIGHEST}"
            failure = data.columns.failure[row]
            said = Said(data.cell.model.name, data.columns.text[row], read, about.order, failure)
            found.setdefault((about.cell, about.request), []).append(said)
    return found


def _rows(data: CellData) -> Iterator[tuple[int, Sample, _About]]:
    """The rows of a judge's cell, each with what it is about."""
    for row, name in enumerate(data.columns.sample):
        sample = data.samples.get(name)
        if sample is not None and (about := _about(sample)) is not None:
            yield row, sample, about


class _About(Struct, frozen=True):
    """What an item of a judge's run says of itself."""

    cell: str
    request: str
    task: str
    answers: Annotated[list[str], Meta(min_length=1)]
    order: str = ""
    against: str | None = None


def _about(sample: Sample) -> _About | None:
    """What was judged; None for an item that is about no answer."""
    try:
        return convert(sample.fields, _About)
    except ValidationError:
        return None


def _label(target: Any, rubric: bool) -> float | None:
    """A human label as a number like the judge's."""
    if not rubric:
        return OUTCOMES.get(target) if isinstance(target, str) else None
    return float(target) if isinstance(target, int | float) and LOWEST <= target <= HIGHEST else None


def _both(found: Verdicts, orders: dict[tuple[int, str], float | None]) -> float | None:
    """A pairwise verdict from its two orders (of each repeat), counting what the order changed."""
    votes = []
    for repeat in {r for r, _ in orders}:
        ab, ba = orders.get((repeat, "ab")), orders.get((repeat, "ba"))
        if ab is None or ba is None:
            continue
        found.pairs += 1
        found.swapped += ab != ba
        found.first_shown += (ab, ba) == (1.0, 0.0)
        votes.append(ab if ab == ba else 0.5)
    return majority(votes)


def majority(votes: Sequence[float]) -> float | None:
    """The verdict of more than half of the votes; a tie where there is none; None without votes."""
    if not votes:
        return None
    value, count = Counter(votes).most_common(1)[0]
    return value if count > len(votes) / 2 else 0.5


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


# ---------------------------------------------------------------- marks of the judged cells


def join(cells: Sequence[CellData]) -> list[CellData]:
    """The same cells, those whose answers others of them judged with the verdicts as their first metric."""
    found = [v for c in cells if (v := verdicts(c)) is not None]
    return [_joined(c, found) if found and not c.judges else c for c in cells]


def _joined(data: CellData, found: Sequence[Verdicts]) -> CellData:
    c = data.columns
    keys = [(f"{data.cell.id}-r{repeat}", name) for repeat, name in zip(c.repeat.tolist(), c.request)]
    mine: dict[str, Values] = {}
    mark = None
    found = [v for v in found if v.task == data.cell.task.name]
    for rubric in dict.fromkeys(v.rubric for v in found):
        judges = [v for v in found if v.rubric == rubric]
        against = next((v.against for v in judges if v.against), None)
        judged = any(key in v.values for v in judges for key in keys)
        itself = not judged and data.cell.model.name == against
        if not judged and not itself:
            continue
        rows = [_row(data, row, key, judges, itself) for row, key in enumerate(keys)]
        metrics = _metrics(rows, judges, against)
        mine |= metrics
        if mark is None and any(v.spoke for v in judges):  # judges that said nothing of a task take no mark away
            mark = next(iter(metrics))
    if not mine:
        return data
    own = data.scores.by_metric
    scores = data.scores
    if not own:  # judged was the whole text
        texts = [text or None for text in c.text]
        scores = Scores(texts, np.array([text is None for text in texts], dtype=bool), {}, None)
    mark = mark or data.scores.primary or next(iter(mine))
    return replace(data, scores=Scores(scores.answers, scores.unfound, mine | own, mark))


def _row(data: CellData, row: int, key: Key, judges: Sequence[Verdicts], itself: bool) -> tuple[float, str | None]:
    """(value, reason of its absence) of one answer; NaN = unscorable, -inf = it failed."""
    if data.columns.failure[row] is not None:
        return -math.inf, None
    if itself:
        return 0.5, "the reference against itself is a tie"
    asked = [v for v in judges if key in v.values]
    if not asked:
        return math.nan, NOT_JUDGED
    if any(v.text[key] != data.columns.text[row] for v in asked):
        return math.nan, CHANGED
    votes = [value for v in asked if (value := v.values[key]) is not None]
    value = _mean(votes) if judges[0].rubric else majority(votes)
    if value is None:
        return math.nan, FAILED if any(key in v.failed for v in asked) else UNREADABLE
    return value, None


def _metrics(
    rows: Sequence[tuple[float, str | None]], judges: Sequence[Verdicts], against: str | None
) -> dict[str, Values]:
    values, reasons = np.array([v for v, _ in rows]), [r for _, r in rows]
    names = list(dict.fromkeys(v.judge for v in [v for v in judges if v.spoke] or judges))

    def column(name: str, found: np.ndarray) -> Values:
        return Values(name, Judged(name, names, against), found, None, reasons)

    if judges[0].rubric:
        metric = Judged("judge.rating", names)
        return {metric.name: Values(metric.name, metric, np.maximum(values, metric.lowest), None, reasons)}
    values = np.maximum(values, 0.0)
    shares = {n: np.where(np.isnan(values), np.nan, (values == v).astype(float)) for n, v in OUTCOMES.items()}
    return {"judge.preference": column("judge.preference", values)} | {
        f"judge.{n}": column(f"judge.{n}", share) for n, share in shares.items()
    }
