"""MT-Bench (Zheng et al. 2023, arXiv 2306.05685): 80 open questions of two turns; a judge says how good answers are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.data import read_rows
from poise.types import Sample, UsageError

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""As published with the questions (FastChat, `temperature_config`); all other categories are asked greedily."""


class MtBench:
    """Open questions of two turns; without a metric of its own, to be marked by `poise judge`.

    Data: `question.jsonl`, and beside it the file of reference answers if a judge is to see them.
    """

    name, version = "mt_bench", 1
    instruction, answer_prefix = "", "Answer:"
    extract = "text"
    metrics: tuple[str, ...] = ()
    chance, n_ref, max_tokens = 0.0, 350.0, 1024
    stop: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        sources = [data] if isinstance(data, str) else list(data or ())
        if not 1 <= len(sources) <= 2:
            raise UsageError("task mt_bench needs data: give --data question.jsonl[,reference_answer.jsonl]")
        references = {
            str(row["question_id"]): turns_of(row, f"{sources[1]}, row {number + 1}")
            for number, row in enumerate(read_rows(sources[1], ("question_id", "choices")) if sources[1:] else ())
        }
        for number, row in enumerate(read_rows(sources[0], ("question_id", "category", "turns"))):
            turns = row["turns"]
            if not isinstance(turns, list) or not turns:
                raise UsageError(f"{sources[0]}, row {number + 1}: turns is not a list of questions")
            name, category = str(row["question_id"]), str(row["category"])
            fields = {"turns": [str(t) for t in turns], "category": category}
            yield Sample(name, fields, references.get(name), category=category)

    def question(self, sample: Sample) -> list[str]:
        return list(sample.fields["turns"])

    def answer(self, sample: Sample) -> str:
        return "\n\n".join(sample.target or ())

    def temperature(self, sample: Sample) -> float:
        """By category; a temperature in the study or its flags replaces it for all."""
        return TEMPERATURES.get(sample.fields["category"], 0.0)


def turns_of(row: dict[str, Any], where: str) -> list[str]:
    """The answers of one row in FastChat's form: `choices[0].turns`."""
    try:
        turns = row["choices"][0]["turns"]
    except (LookupError, TypeError):
        turns = None
    if not isinstance(turns, list):
        raise UsageError(f"{where}: no list of answers in choices[0].turns")
    return [str(t) for t in turns]
