"""Cells whose task scores its answers itself: all rows at once, by the scorer that the task named.

The scorer's code may be another package's: what it cannot score is unscored with the reason, never an end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from poise.protocols import Given
from poise.registry import lookup
from poise.store.run import CellFolder
from poise.types import Batch, PoiseError, Sample
from poise.understand.derive import Columns
from poise.understand.score import Scores, keep, kept_or_made
from poise.understand.scored import Scored, Table, Values


class _Line(Struct, gc=False):
    """What is read of a record here."""

    request_id: str
    status: str
    phase: str = "measure"
    segment: int = 0
    batch: Batch | None = None
    option_logprobs: list[list[float]] | None = None
    option_greedy: list[bool] | None = None
    token_logprobs: list[float] | None = None


def score_own(folder: CellFolder, columns: Columns, samples: Mapping[str, Sample], allow_code: bool) -> Scores:
    """Every metric of the task on every row, through the cache; the primary one is the first that is a mark."""
    task = folder.cell.task
    rows = len(columns)
    name = str(task.scoring.get("by"))
    try:
        scorer: Any = lookup("scorer", name, allow_code)(task.scoring, samples, allow_code)
        metrics = {metric: scorer.metric(metric) for metric in task.metrics}

        def make() -> Iterator[Scored]:
            found = scorer.score(_given(folder, columns))
            return (Scored(request, *row) for request, row in zip(columns.request, found, strict=True))

        table = kept_or_made(folder, columns, metrics, make)
        kept = _Kept(folder, task.scoring)
        named = dict.fromkeys([*task.metrics, *table.names])
        found = {
            metric: _values(metric, kept.over(metrics.get(metric) or scorer.metric(metric)), table) for metric in named
        }
    except PoiseError as error:
        return Scores.none(rows, str(error))
    except Exception as error:
        return Scores.none(rows, f"the scorer {name} failed with {type(error).__name__}: {error}"[:300])
    marks = [metric for metric, values in found.items() if math.isfinite(values.scale) and values.items is None]
    unscored = None if marks else f"no metric of {task.task} has marks between 0 and 1"
    return Scores(table.answers, table.unfound, found, marks[0] if marks else None, unscored)


class _Kept:
    """Aggregations whose results are kept in `derived/scores/`: once known, neither code nor package is needed."""

    def __init__(self, folder: CellFolder, scoring: Mapping[str, Any]) -> None:
        self._run, self._name = folder.run, f"scores/{folder.path.name}.aggregates.json"
        self._by = f"{scoring.get('by')} {scoring.get('version')}"
        try:
            data = (folder.run / "derived" / self._name).read_bytes()
            self._known = msgspec.json.decode(data, type=dict[str, float | None])
        except (OSError, msgspec.DecodeError):
            self._known = {}

    def over(self, metric: Any) -> Any:
        """The metric, its aggregation looked up first."""
        make = getattr(metric, "aggregate", None)
        if make is not None:
            metric.aggregate = lambda items: self._aggregated(metric.name, make, items)
        return metric

    def _aggregated(self, name: str, make: Callable[[list[Any]], float], items: list[Any]) -> float:
        key = sha256(msgspec.json.encode([self._by, name, items])).hexdigest()[:24]
        if key not in self._known:
            value = make(items)
            self._known[key] = value if math.isfinite(value) else None
            keep(self._run, self._name, msgspec.json.encode(self._known))
        found = self._known[key]
        return math.nan if found is None else found


def _values(name: str, metric: Any, table: Table) -> Values:
    """Values outside of [0, 1] are no marks: their scale is unknown."""
    values = table.values(name, metric)
    known = values.values[~np.isnan(values.values)]
    if getattr(metric, "aggregate", None) is not None or ((known < 0) | (known > 1)).any():
        metric.scale = math.nan
    return values


def _given(folder: CellFolder, columns: Columns) -> list[Given]:
    """The rows with what the engine said of options and tokens, of each request's last answered attempt."""
    lines: dict[str, _Line] = {}
    if folder.cell.task.mode != "generate":
        for line in folder.records(_Line):
            if line.phase == "measure" and line.status == "ok":
                lines[line.request_id] = line
    none = _Line("", "")
    given = []
    for i, request in enumerate(columns.request):
        line = lines.get(request, none)
        given.append(
            Given(
                columns.sample[i], int(columns.draw[i]), columns.failure[i], columns.text[i],
                line.option_logprobs, line.option_greedy, line.token_logprobs,
            )
        )  # fmt: skip
    return given
