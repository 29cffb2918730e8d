"""Answers extracted from texts and every metric of the task on each of them, kept in `derived/scores/`.

A failed request has q = 0 and stays in every denominator; an unscorable answer has no value and its reason. The
cache is a pure function of the cell's records: deleted, it comes back byte for byte; stale, it is ignored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from poise.protocols import Metric
from poise.registry import lookup
from poise.store.files import checksum, write_atomic
from poise.store.run import CellFolder
from poise.tasks.extract import extract
from poise.tasks.metrics.perplexity import score_logprobs
from poise.types import Better, PoiseError, Sample, Score
from poise.understand.derive import Columns
from poise.understand.lean import Words
from poise.understand.scored import Answers, Scored, Table, Values, joined, read, write

Floats = NDArray[np.float64]

UNFOUND = "no answer found"


class _Asked(Struct, gc=False):
    """The fields of a request that tell how an answer is read."""

    sample_id: str
    stop: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """All metrics over the rows of a cell; `unscored` says why there are none."""

    answers: Answers
    unfound: NDArray[np.bool_]
    """Where the extractor found no answer."""
    by_metric: dict[str, Values]
    primary: str | None
    unscored: str | None = None

    @classmethod
    def none(cls, rows: int, reason: str, by_metric: dict[str, Values] | None = None) -> Scores:
        """No marks, and no answers taken from the texts."""
        return cls([None] * rows, np.ones(rows, dtype=bool), by_metric or {}, None, reason)

    @property
    def first(self) -> Values | None:
        return self.by_metric.get(self.primary) if self.primary else None


class _Withheld:
    """Stands for a metric in a user's file where no permission was given to run it; kept scores are still read."""

    version, unit, keep = 1, "", False
    better: Better | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason = f"metric {name} would run code; `poise score RUN --allow-code` if you trust it"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return Score(None, reason=self.reason)


def _metric(name: str, allow_code: bool) -> Metric:
    return _Withheld(name) if ".py:" in name and not allow_code else lookup("metric", name, allow_code)()


def score_cell(folder: CellFolder, columns: Columns, samples: Mapping[str, Sample], allow_code: bool = False) -> Scores:
    """Score every row of `columns` (which must be those of `folder`), through the cache."""
    task = folder.cell.task
    if task.scoring:
        from poise.understand.score_own import score_own

        return score_own(folder, columns, samples, allow_code)
    rows = len(columns)
    if not task.metrics:
        return Scores.none(rows, f"task {task.task} has nothing to score")
    try:
        metrics = {name: _metric(name, allow_code) for name in task.metrics}
        if task.mode == "perplexity":
            found = {name: _perplexities(name, metric, folder, columns, samples) for name, metric in metrics.items()}
            return Scores.none(rows, "perplexity has no mark between 0 and 1", found)
        table = kept_or_made(folder, columns, metrics, lambda: _score_rows(folder, columns, samples, metrics))
    except PoiseError as error:  # a metric or extractor of another version, or one that would run code
        return Scores.none(rows, str(error))
    names = table.names or list(metrics)
    metric_of = {name: metrics.get(name) or metrics[name.removesuffix(".bytes")] for name in names}
    scores = Scores(
        table.answers,
        table.unfound,
        {name: table.values(name, metric) for name, metric in metric_of.items()},
        task.metrics[0],
    )
    first = metrics[task.metrics[0]]
    if isinstance(first, _Withheld) and np.isnan(scores.by_metric[first.name].values).all():
        return replace(scores, primary=None, unscored=first.reason)
    if getattr(first, "about_others", False):
        return replace(scores, primary=None, unscored="its verdicts are marks of the answers it judges, not its own")
    return scores


def pooled_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of several repeats of a cell as one."""
    if len(parts) == 1:
        return parts[0]
    by_metric: dict[str, Values] = {}
    for name in parts[0].by_metric:
        values = [p.by_metric[name] for p in parts if name in p.by_metric]
        stats = [v.stats for v in values if v.stats is not None]
        items = [v.items or [None] * len(v.reasons) for v in values]
        by_metric[name] = Values(
            name,
            values[0].metric,
            np.concatenate([v.values for v in values]),
            np.concatenate(stats) if len(stats) == len(values) else None,
            Words(r for v in values for r in v.reasons),
            [i for part in items for i in part] if any(v.items for v in values) else None,
        )
    answers, unfound = joined([p.answers for p in parts]), np.concatenate([p.unfound for p in parts])
    return Scores(answers, unfound, by_metric, parts[0].primary, parts[0].unscored)


# ---------------------------------------------------------------- one answer


def _score_rows(
    folder: CellFolder, columns: Columns, samples: Mapping[str, Sample], metrics: Mapping[str, Metric]
) -> Iterator[Scored]:
    task = folder.cell.task
    choice = task.mode == "choice"
    asked = {} if choice else {r.sample_id: r for r in folder.requests(_Asked)}

    def one(i: int) -> Scored:
        request, sample = columns.request[i], samples.get(columns.sample[i])
        if sample is not None and sample.id in asked and asked[sample.id].turns:
            sample = _of_turn(sample, int(columns.part[i]))
        if sample is None:
            reason = f"no target for sample {columns.sample[i]!r}"
            return Scored(request, None, {name: Score(None, reason=reason) for name in metrics})
        if columns.failure[i] is not None:
            scores = {name: _failed(metric, sample) for name, metric in metrics.items()}
            if choice and "accuracy" in metrics:
                scores["accuracy.bytes"] = _failed(metrics["accuracy"], sample)
            return Scored(request, None, scores)
        if choice:
            return _choice(request, columns.options[i], sample, metrics)
        stop = asked[sample.id].stop if sample.id in asked else ()
        return _text(request, task.extract, columns.text[i], stop, sample, metrics)

    if any(getattr(metric, "waits", False) for metric in metrics.values()):  # for processes of its own
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from pool.map(one, range(len(columns)))
        return
    yield from map(one, range(len(columns)))


def _of_turn(sample: Sample, part: int) -> Sample:
    """The sample with the target of one turn, where it has one for each."""
    target = sample.target
    if isinstance(target, list | tuple):
        target = target[part] if part < len(target) else None
    return structs.replace(sample, target=target)


def _perplexities(
    name: str, metric: Metric, folder: CellFolder, columns: Columns, samples: Mapping[str, Sample]
) -> Values:
    """A perplexity of every document from its tokens' log-probabilities; failed requests have none."""
    logprobs: dict[str, list[float]] = {}
    for record in folder.records():
        if record.phase == "measure" and record.status == "ok" and record.token_logprobs:
            logprobs[record.request_id] = record.token_logprobs
    given = [(logprobs.get(r), samples.get(s)) for r, s in zip(columns.request, columns.sample)]
    scores = [Score(None, reason="no text") if s is None else score_logprobs(metric, p, s) for p, s in given]
    lines = (Scored(r, None, {name: s}) for r, s in zip(columns.request, scores))
    return Table.of(lines).values(name, metric)


def _text(
    request: str, name: str, text: str, stop: Sequence[str], sample: Sample, metrics: Mapping[str, Metric]
) -> Scored:
    """What the extractor finds in a text, scored; a text it cannot digest is unscorable."""
    try:
        answer = extract(name, text, sample, stop)
    except PoiseError:
        raise
    except Exception as error:
        reason = f"extractor {name} failed with {type(error).__name__}"
        return Scored(request, None, {n: Score(None, reason=reason) for n in metrics})
    return Scored(request, answer, {n: _score(metric, answer, sample) for n, metric in metrics.items()})


def _choice(request: str, options: list[list[float]] | None, sample: Sample, metrics: Mapping[str, Metric]) -> Scored:
    """The choice with the highest summed log-probability; `accuracy.bytes` divides by the choice's UTF-8 bytes."""
    choices = sample.choices or ()
    if not options or len(options) != len(choices):
        reason = f"{len(options or [])} options were ranked, the item has {len(choices)}"
        return Scored(request, None, {name: Score(None, reason=reason) for name in metrics})
    sums = [sum(o) for o in options]
    answer = choices[int(np.argmax(sums))]
    scores = {name: _score(metric, answer, sample) for name, metric in metrics.items()}
    if "accuracy" in metrics:
        per_byte = [s / max(1, len(c.encode())) for s, c in zip(sums, choices)]
        scores["accuracy.bytes"] = _score(metrics["accuracy"], choices[int(np.argmax(per_byte))], sample)
    return Scored(request, answer, scores)


def _score(metric: Metric, answer: str | None, sample: Sample) -> Score:
    """One metric on one answer; what a metric cannot digest is unscorable, never the end of a summary."""
    try:
        score: Score = metric.score(answer, sample)
    except Exception as error:
        return Score(None, reason=f"{metric.name} failed with {type(error).__name__}")
    if score.value is not None and not math.isfinite(score.value):
        return Score(None, reason=f"{metric.name} gave no finite value")
    return Score(score.value, score.stats, reason=score.reason)


def _failed(metric: Metric, sample: Sample) -> Score:
    """A failed request: worth 0, with the statistics of an absent answer; a failed judge says nothing."""
    if getattr(metric, "about_others", False):
        return Score(None, reason="the request failed")
    return Score(0.0, _score(metric, None, sample).stats, reason="the request failed")


# ---------------------------------------------------------------- the cache


def kept_or_made(
    folder: CellFolder, columns: Columns, metrics: Mapping[str, Metric], make: Callable[[], Iterable[Scored]]
) -> Table:
    """What was kept for just these records, targets and metrics, else what `make` makes now."""
    path = folder.run / "derived" / "scores" / f"{folder.path.name}.jsonl"
    signature = _signature(folder, metrics)
    if (found := read(path, signature, columns.request)) is not None:
        return found
    if _open_to(folder.run, path) and all(getattr(metric, "keep", True) for metric in metrics.values()):
        try:
            return write(path, signature, make())
        except (OSError, PoiseError):
            pass  # a full disk: what is there can still be read
    return Table.of(make())


def keep(run: Path, name: str, data: bytes) -> None:
    """Write `derived/<name>` of a run folder, if that can be written to and does not lead out of the folder."""
    path = run / "derived" / name
    try:
        if _open_to(run, path):
            write_atomic(path, data)
    except (OSError, PoiseError):
        pass  # a full disk: what is there can still be read


def _open_to(run: Path, path: Path) -> bool:
    """Whether a file can be made there: the folder can be written to and does not lead out of the run."""
    try:
        if not path.parent.resolve().is_relative_to(run.resolve()):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.access(path.parent, os.W_OK)
    except OSError:
        return False


def _signature(folder: CellFolder, metrics: Mapping[str, Metric]) -> list[str]:
    """What a score depends on: the records' bytes, the targets, the extractor, the metrics and poise's own version."""
    from importlib.metadata import version

    task = folder.cell.task
    size, crc = checksum(folder.files("records"))
    # a withheld metric's version is not known: the name alone must do for all that are in files
    versions = [name if ".py:" in name else f"{name} v{getattr(m, 'version', 1)}" for name, m in metrics.items()]
    return [
        f"records {size} crc32 {crc:08x}",
        task.target_sha,
        f"extract {task.extract}",
        *versions,
        f"poise {version('poise')}",
    ]
