"""Answers extracted from texts and every metric of the task on each of them, kept in `derived/scores/`.

A failed request has q = 0 and stays in every denominator; an unscorable answer has no value and its reason. The
cache is a pure function of the cell's records: deleted, it comes back byte for byte; stale, it is ignored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field, structs
from numpy.typing import NDArray

from poise.registry import lookup
from poise.store.run import CellFolder, write_atomic
from poise.tasks.extract import extract
from poise.tasks.metrics.perplexity import score_logprobs
from poise.types import PoiseError, Sample, Score
from poise.understand.derive import Columns

Floats = NDArray[np.float64]

UNFOUND = "no answer found"


class Scored(Struct, frozen=True, omit_defaults=True):
    """One line of the cache: what was taken as the answer of a request, and each metric's score of it."""

    request_id: str
    answer: str | None
    scores: dict[str, Score] = field(default_factory=dict)


class _Asked(Struct, gc=False):
    """The fields of a request that tell how an answer is read."""

    sample_id: str
    stop: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()


class _Header(Struct, frozen=True):
    signature: list[str]


@dataclass(frozen=True, slots=True)
class Values:
    """One metric over the rows of a cell."""

    name: str
    metric: Any
    values: Floats
    """NaN = unscorable; failed requests hold 0."""
    stats: NDArray[np.float64] | None
    """[rows, k] sufficient statistics, where the metric gives as many for every item."""
    reasons: list[str | None]
    items: list[Any] | None = None
    """What a metric that is no sum makes its corpus value of; None where an answer gives nothing to it."""

    @property
    def reduce(self) -> Callable[[Any], Any] | None:
        """From summed statistics to the corpus value; None = the corpus value is the mean."""
        found: Callable[[Any], Any] | None = getattr(self.metric, "reduce", None)
        return found if self.stats is not None else None

    @property
    def scale(self) -> float:
        return float(getattr(self.metric, "scale", 1.0))

    @property
    def q(self) -> Floats:
        """Values as marks between 0 and 1."""
        mark = getattr(self.metric, "mark", None)
        return np.clip(mark(self.values) if mark else self.values / self.scale, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Scores:
    """All metrics over the rows of a cell; `unscored` says why there are none."""

    answers: list[str | None]
    by_metric: dict[str, Values]
    primary: str | None
    unscored: str | None = None

    @property
    def first(self) -> Values | None:
        return self.by_metric.get(self.primary) if self.primary else None


class _Withheld:
    """Stands for a metric in a user's file where no permission was given to run it; kept scores are still read."""

    version, unit, better, keep = 1, "", None, False

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason = f"metric {name} would run code; `poise score RUN --allow-code` if you trust it"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return Score(None, reason=self.reason)


def _metric(name: str, allow_code: bool) -> Any:
    return _Withheld(name) if ".py:" in name and not allow_code else lookup("metric", name, allow_code)()


def score_cell(folder: CellFolder, columns: Columns, samples: Mapping[str, Sample], allow_code: bool = False) -> Scores:
    """Score every row of `columns` (which must be those of `folder`), through the cache."""
    task = folder.cell.task
    if task.scoring:
        from poise.understand.score_own import score_own

        return score_own(folder, columns, samples, allow_code)
    nothing: list[str | None] = [None] * len(columns)
    if not task.metrics:
        return Scores(nothing, {}, None, f"task {task.task} has nothing to score")
    try:
        metrics = {name: _metric(name, allow_code) for name in task.metrics}
        if task.mode == "perplexity":
            found = {name: _perplexities(name, metric, folder, columns, samples) for name, metric in metrics.items()}
            return Scores(nothing, found, None, "perplexity has no mark between 0 and 1")
        lines = cached(folder, columns, metrics, lambda: _score_rows(folder, columns, samples, metrics))
    except PoiseError as error:  # a metric or extractor of another version, or one that would run code
        return Scores(nothing, {}, None, str(error))
    names = list(dict.fromkeys(name for line in lines for name in line.scores)) or list(metrics)
    metric_of = {name: metrics.get(name) or metrics[name.removesuffix(".bytes")] for name in names}
    found = {name: values_of(name, metric, lines) for name, metric in metric_of.items()}
    answers = [line.answer for line in lines]
    first = metrics[task.metrics[0]]
    if isinstance(first, _Withheld) and np.isnan(found[first.name].values).all():
        return Scores(answers, found, None, first.reason)
    if getattr(first, "about_others", False):
        return Scores(answers, found, None, "its verdicts are marks of the answers it judges, not its own")
    return Scores(answers, found, task.metrics[0])


def pooled_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of several repeats of a cell as one."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Values] = {}
    for name in parts[0].by_metric:
        values = [p.by_metric[name] for p in parts if name in p.by_metric]
        stats = [v.stats for v in values if v.stats is not None]
        items = [v.items or [None] * len(v.reasons) for v in values]
        joined[name] = Values(
            name,
            values[0].metric,
            np.concatenate([v.values for v in values]),
            np.concatenate(stats) if len(stats) == len(values) else None,
            [r for v in values for r in v.reasons],
            [i for part in items for i in part] if any(v.items for v in values) else None,
        )
    return Scores([a for p in parts for a in p.answers], joined, parts[0].primary, parts[0].unscored)


# ---------------------------------------------------------------- one answer


def _score_rows(
    folder: CellFolder, columns: Columns, samples: Mapping[str, Sample], metrics: Mapping[str, Any]
) -> list[Scored]:
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
            return list(pool.map(one, range(len(columns))))
    return [one(i) for i in range(len(columns))]


def _of_turn(sample: Sample, part: int) -> Sample:
    """The sample with the target of one turn, where it has one for each."""
    target = sample.target
    if isinstance(target, list | tuple):
        target = target[part] if part < len(target) else None
    return structs.replace(sample, target=target)


def _perplexities(
    name: str, metric: Any, folder: CellFolder, columns: Columns, samples: Mapping[str, Sample]
) -> Values:
    """A perplexity of every document from its tokens' log-probabilities; failed requests have none."""
    logprobs: dict[str, list[float]] = {}
    for record in folder.records():
        if record.phase == "measure" and record.status == "ok" and record.token_logprobs:
            logprobs[record.request_id] = record.token_logprobs
    given = [(logprobs.get(r), samples.get(s)) for r, s in zip(columns.request, columns.sample)]
    scores = [Score(None, reason="no text") if s is None else score_logprobs(metric, p, s) for p, s in given]
    return values_of(name, metric, [Scored(r, None, {name: s}) for r, s in zip(columns.request, scores)])


def _text(
    request: str, name: str, text: str, stop: Sequence[str], sample: Sample, metrics: Mapping[str, Any]
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


def _choice(request: str, options: list[list[float]] | None, sample: Sample, metrics: Mapping[str, Any]) -> Scored:
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


def _score(metric: Any, answer: str | None, sample: Sample) -> Score:
    """One metric on one answer; what a metric cannot digest is unscorable, never the end of a summary."""
    try:
        score: Score = metric.score(answer, sample)
    except Exception as error:
        return Score(None, reason=f"{metric.name} failed with {type(error).__name__}")
    if score.value is not None and not math.isfinite(score.value):
        return Score(None, reason=f"{metric.name} gave no finite value")
    return Score(score.value, score.stats, reason=score.reason)


def _failed(metric: Any, sample: Sample) -> Score:
    """A failed request: worth 0, with the statistics of an absent answer; a failed judge says nothing."""
    if getattr(metric, "about_others", False):
        return Score(None, reason="the request failed")
    return Score(0.0, _score(metric, None, sample).stats, reason="the request failed")


# ---------------------------------------------------------------- the cache


def cached(
    folder: CellFolder, columns: Columns, metrics: Mapping[str, Any], make: Callable[[], list[Scored]]
) -> list[Scored]:
    """The lines that were kept for just these records, targets and metrics, else those that `make` makes."""
    name = f"scores/{folder.path.name}.jsonl"
    path = folder.run / "derived" / name
    signature = _signature(folder, metrics)
    found = _read(path, signature)
    if found is not None and [s.request_id for s in found] == columns.request:
        return found
    lines = make()
    if not all(getattr(metric, "keep", True) for metric in metrics.values()):
        return lines
    encode = msgspec.json.Encoder().encode
    keep(folder.run, name, b"\n".join([encode(_Header(signature)), *map(encode, lines)]) + b"\n")
    return lines


def keep(run: Path, name: str, data: bytes) -> None:
    """Write `derived/<name>` of a run folder, if that can be written to and does not lead out of the folder."""
    path = run / "derived" / name
    try:
        if path.parent.resolve().is_relative_to(run.resolve()):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
    except (OSError, PoiseError):
        pass  # a folder that cannot be written to, or a full disk: it can still be read


def _signature(folder: CellFolder, metrics: Mapping[str, Any]) -> list[str]:
    """What a score depends on: the records' size, the targets, the extractor, the metrics and poise's own version."""
    from importlib.metadata import version

    task = folder.cell.task
    size = sum(path.stat().st_size for path in folder.files("records"))
    # a withheld metric's version is not known: the name alone must do for all that are in files
    versions = [name if ".py:" in name else f"{name} v{getattr(m, 'version', 1)}" for name, m in metrics.items()]
    return [f"records {size}", task.target_sha, f"extract {task.extract}", *versions, f"poise {version('poise')}"]


def _read(path: Path, signature: list[str]) -> list[Scored] | None:
    """The cached lines, or None where there are none, they are stale, or anything about them is odd."""
    try:
        head, *lines = path.read_bytes().splitlines()
        if msgspec.json.decode(head, type=_Header).signature != signature:
            return None
        decode = msgspec.json.Decoder(Scored).decode
        return [decode(line) for line in lines]
    except (OSError, ValueError, msgspec.DecodeError):
        return None


def values_of(name: str, metric: Any, lines: Sequence[Scored]) -> Values:
    """One metric's scores of all lines as columns."""
    absent = Score(None, reason="not scored")
    scores = [line.scores.get(name, absent) for line in lines]
    values = np.array([math.nan if s.value is None else s.value for s in scores], dtype=float)
    widths = {len(s.stats) for s in scores if s.stats}
    stats = None
    if len(widths) == 1:
        nothing = [0.0] * widths.pop()
        stats = np.array([s.stats or nothing for s in scores], dtype=float)
    items = [s.item for s in scores]
    whole = any(item is not None for item in items)
    return Values(name, metric, values, stats, [s.reason for s in scores], items if whole else None)
