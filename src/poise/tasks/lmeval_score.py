"""Answers to tasks of lm-evaluation-harness, scored by its own filters, metrics and aggregation.

The run folder holds the documents, so no data set is loaded again; the package is imported only where something is
scored or aggregated anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from poise.protocols import Given
from poise.tasks import lmeval_api
from poise.tasks.lmeval import place, plain
from poise.tasks.lmeval_find import file_of
from poise.tasks.lmeval_groups import IN, Found, find
from poise.types import Better, Sample, Score, UsageError


class LmEvalMetric:
    """A metric by the harness's name: the mean of its values, or an aggregation of its items."""

    version, unit = 1, ""
    aggregate: Any = None

    def __init__(self, name: str, higher: bool | None, harness: str) -> None:
        self.name, self._harness = name, harness
        self.better: Better | None = None if higher is None else "higher" if higher else "lower"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return Score(None, reason="the harness scores all its metrics at once")

    def signature(self, sample: Sample | None = None) -> str:
        return f"{self.name} by lm-eval {self._harness}"


class LmEvalScorer:
    """Scores a cell's answers; `scoring` is what the task said of itself when it was asked."""

    def __init__(self, scoring: Mapping[str, Any], samples: Mapping[str, Sample], allow_code: bool = False) -> None:
        self._scoring, self._samples, self._allow_code = scoring, samples, allow_code
        self.name = str(scoring.get("task"))

    def metric(self, name: str) -> LmEvalMetric:
        """The metric of that name (with its filter's); one that the task did not announce is a mean, as there."""
        base = name if name in self._scoring["metrics"] else name.partition(".")[0]
        said = self._scoring["metrics"].get(base, {"mean": True, "higher": None})
        found = LmEvalMetric(name, said["higher"], str(self._scoring.get("version")))
        if not said["mean"]:
            found.aggregate = lambda items: float(self._task.aggregation()[base](items))
        return found

    @cached_property
    def _task(self) -> Any:
        """The task object over the recorded documents."""
        docs = [_doc(sample) for _, sample in sorted(self._samples.items(), key=_number)]
        return lmeval_api.build(self.name, *self._place(), docs)

    def _place(self) -> tuple[Found, dict[str, Any] | None]:
        """What the run folder says the task is; it may come from a stranger, and is checked again."""
        said = self._scoring
        if "config" in said:
            return Found(self.name, None), said["config"]
        if "file" in said:
            if not self._allow_code:
                raise UsageError(
                    f"the lm-eval task {self.name} is scored by code beside {said['file'].partition(IN)[0]}; "
                    "`poise score RUN --allow-code` if you trust it"
                )
            return place(said["file"], allow_code=True)[:2]
        if "changes" in said:
            lmeval_api.only_data(self.name, said["changes"])
            return Found(said["of"], file_of(said["of"]), said["changes"]), None
        return find(self.name, lmeval_api.read), None

    def score(self, given: Sequence[Given]) -> list[tuple[str | None, dict[str, Score]]]:
        """(answer, scores) of each row. Draws of one item are one result, as the harness's repeats are."""
        rows: dict[str, list[int]] = {}
        for i, row in enumerate(given):
            rows.setdefault(row.sample, []).append(i)
        found: list[tuple[str | None, dict[str, Score]]] = [(None, {})] * len(given)
        whole = []
        for name, places in rows.items():
            reason = self._unscorable(name, [given[i] for i in places])
            if reason is None:
                whole.append(name)
            for i in places:
                found[i] = (None, self._nothing(reason or "", given[i].failure is not None))
        for name, result in zip(whole, self._results([(n, [given[i] for i in rows[n]]) for n in whole])):
            for k, i in enumerate(rows[name]):
                found[i] = (result[0], {m: self._score(m, value, k == 0) for m, value in result[1].items()})
        return found

    def _unscorable(self, name: str, rows: Sequence[Given]) -> str | None:
        if name not in self._samples:
            return f"no document {name!r}"
        if any(row.failure is not None for row in rows):
            return "the request failed"
        repeats = int(self._task.config.repeats or 1)
        if len(rows) != repeats:
            return f"the task combines {repeats} draws of an item, there are {len(rows)}"
        if self._task.OUTPUT_TYPE in ("multiple_choice", "loglikelihood") and any(r.greedy is None for r in rows):
            return "the engine did not say which option greedy decoding would write"
        return None

    def _nothing(self, reason: str, failed: bool) -> dict[str, Score]:
        names = [f for m in self._scoring["metrics"] for f in self._named(m)]
        means = {name: self.metric(name).aggregate is None for name in names}
        return {n: Score(0.0 if failed and mean else None, reason=reason) for n, mean in means.items()}

    def _named(self, metric: str) -> list[str]:
        filters = [f.name for f in self._task._filters]
        return [metric if name == "none" else f"{metric}.{name}" for name in filters]

    def _results(self, items: Sequence[tuple[str, Sequence[Given]]]) -> list[tuple[str | None, dict[str, Any]]]:
        """(answer, metric -> value) of each item, by the harness's filters and its `process_results`."""
        from lm_eval.api.instance import Instance

        asked: list[list[Any]] = []
        for name, rows in items:
            doc, responses = _doc(self._samples[name]), [_responses(row) for row in rows]
            asked.append([])
            for k in range(len(responses[0])):
                meta = (self.name, int(name), len(rows))
                instance = Instance(request_type=self._task.OUTPUT_TYPE, doc=doc, arguments=(), idx=k, metadata=meta)
                instance.resps = [response[k] for response in responses]
                asked[-1].append(instance)
        if not asked:
            return []
        self._task._instances = [instance for instances in asked for instance in instances]
        self._task.apply_filters()
        results = []
        for (name, rows), instances in zip(items, asked):
            found: dict[str, Any] = {}
            for key in instances[0].filtered_resps:
                values = self._task.process_results(instances[0].doc, [i.filtered_resps[key] for i in instances])
                found |= {m if key == "none" else f"{m}.{key}": plain(v) for m, v in values.items()}
            results.append((self._answer(self._samples[name], rows[0], instances), found))
        return results

    def _answer(self, sample: Sample, row: Given, instances: Sequence[Any]) -> str | None:
        """What was taken as the answer: the likeliest option, or the text after the first filter."""
        if self._task.OUTPUT_TYPE == "generate_until":
            first = next(iter(instances[0].filtered_resps.values()))
            return str(first[0] if isinstance(first, list) and first else first)
        if sample.choices and row.options:
            sums = [sum(option) for option in row.options[: len(sample.choices)]]
            return sample.choices[sums.index(max(sums))]
        return None

    def _score(self, name: str, value: Any, first: bool) -> Score:
        if self.metric(name).aggregate is None and isinstance(value, bool | int | float):
            return Score(float(value))
        return Score(None, item=value if first else None)


def _responses(row: Given) -> list[Any]:
    """What the harness's model class would have returned for each request of the item."""
    if row.options is not None:
        return [(sum(option), greedy) for option, greedy in zip(row.options, row.greedy or ())]
    return [sum(row.tokens)] if row.tokens is not None else [row.text]


def _doc(sample: Sample) -> Any:
    return sample.fields["doc"] if sample.fields.keys() == {"doc"} else sample.fields


def _number(entry: tuple[str, Sample]) -> int:
    return int(entry[0])
