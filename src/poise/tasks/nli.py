"""Pairs of sentences: does one entail the other? SNLI, MNLI, XNLI, OCNLI, CMNLI: three labels; RTE, QNLI: two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.classification import METRICS
from poise.tasks.data import Row, need, read_rows, text_of
from poise.types import Sample, UsageError

LABELS = ("entailment", "neutral", "contradiction")
TWO = ("entailment", "not_entailment")
_ANSWERS = {"entailment": "yes", "not_entailment": "no"}
_FIRST, _SECOND = ("sentence1", "premise", "sentence"), ("sentence2", "hypothesis", "question")


class Nli:
    """Does one sentence entail, contradict or leave open another (SNLI, MNLI, XNLI, OCNLI, CMNLI)?

    The published TSV, JSONL or JSON (`sentence1`, `sentence2`, `gold_label` or `label`) or the hub's columns. Of files
    with two labels (RTE; QNLI: does the sentence answer the question?) yes or no is asked for; where these are numbers
    (RTE of the hub) say `labels: 2`. `language: zh` takes XNLI's pairs of one language.

    Pairs whose annotators did not agree ("-", −1) have no gold label and are left out, as everybody does.
    """

    name, version = "nli", 1
    instruction = (
        "Does the first sentence entail the second, contradict it, or neither (neutral)? Answer with one word."
    )
    answer_prefix = "Relation (entailment, neutral or contradiction):"
    extract = "label"
    metrics = METRICS
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 1 / 3, 2.0, 16
    options: tuple[str, ...] = ("labels", "language")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source, language = (
            need(data, self.name, "dev_matched.tsv, or hub:stanfordnlp/snli:test"),
            options.get("language"),
        )
        labels = self._labels(source, options.get("labels"))
        some = False
        for number, row in enumerate(read_rows(source)):
            where = f"{source}, row {number + 1}"
            first, second = (_column(row, where, names) for names in (_FIRST, _SECOND))
            gold = _gold(row)
            if gold in ("-", "-1") or language not in (None, row.get("language")):
                continue
            label = labels[int(gold)] if gold.isdigit() and int(gold) < len(labels) else gold
            if label not in labels:
                raise UsageError(f"{where}: label {gold!r} is none of {', '.join(labels)}")
            some = True
            fields = {"first": first, "second": second, "label": label}
            if "question" in row:
                fields["second_is"] = "Question"
            category = f"genre={row['genre']}" if row.get("genre") else None
            name = str(row.get("pairID", number))
            name = f"{row['language']}/{name}" if row.get("language") else name
            target, choices = (_ANSWERS[label], ("yes", "no")) if labels == TWO else (label, LABELS)
            yield Sample(name, fields, target, choices, category)
        if not some:
            of = f" of the language {language!r}" if language is not None else ""
            raise UsageError(f"{source} has no pair{of} with a gold label; those of hidden test sets are not published")

    def _labels(self, source: str, count: Any) -> tuple[str, ...]:
        """The labels of the data; with two of them the task asks for yes or no."""
        if count not in (None, 2, 3):
            raise UsageError(f"nli: labels must be 2 or 3, not {count!r}")
        rows = read_rows(source)
        first = next(rows)
        if count == 3 or not (count or "question" in first or any(_gold(row) == TWO[1] for row in (first, *rows))):
            return LABELS
        asks = "sentence answer the question" if "question" in first else "first sentence entail the second"
        self.instruction = f"Does the {asks}? Answer with yes or no."
        self.answer_prefix, self.chance = "Answer (yes or no):", 0.5
        return TWO

    def question(self, sample: Sample) -> str:
        first, second = sample.fields["first"], sample.fields["second"]
        if "second_is" in sample.fields:
            return f"Sentence: {first}\nQuestion: {second}"
        return f"First: {first}\nSecond: {second}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _gold(row: Row) -> str:
    return str(row.get("gold_label", row.get("label"))).strip().lower()


def _column(row: Row, where: str, names: tuple[str, ...]) -> str:
    for name in names:
        if name in row:
            return text_of(row, name, where)
    raise UsageError(f"{where} has no column {' or '.join(map(repr, names))}; it has {', '.join(map(repr, row))}")
