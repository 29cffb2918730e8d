"""Any labelled file (TSV, CSV, JSONL, hub): one column of text, one of labels; and pairs of sentences (NLI)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.data import need, read_rows, text_of
from poise.types import Sample, UsageError

METRICS = ("accuracy", "f1.macro", "precision.macro", "recall.macro", "matthews")
MOST_LABELS = 100


class Classification:
    """Any labelled texts; options `text` and `label` name the columns.

    `labels: {"0": bad, "1": good}` gives numbers their words.
    """

    name, version = "classification", 1
    instruction = ""
    answer_prefix = "Label:"
    extract = "label"
    metrics = METRICS
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 0.0, 2.0, 16
    options = ("text", "label", "labels")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "labelled.csv")
        text, label = str(options.get("text", "text")), str(options.get("label", "label"))
        words = _words(options.get("labels"))
        rows = [(str(row[text]).strip(), str(row[label]).strip()) for row in read_rows(source, (text, label))]
        choices = tuple(dict.fromkeys(words.get(value, value) for value in sorted({value for _, value in rows})))
        if not 2 <= len(choices) <= MOST_LABELS:
            raise UsageError(
                f"{source}: column {label!r} has {len(choices)} different values; labels are 2 to {MOST_LABELS}"
            )
        self.chance = 1 / len(choices)
        for number, (value, named) in enumerate(rows):
            target = words.get(named, named)
            yield Sample(str(number), {"text": value, "label": target}, target, choices)

    def question(self, sample: Sample) -> str:
        return f"Which label fits this text: {_listed(sample)}?\n\nText: {sample.fields['text']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _words(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise UsageError(f'classification: labels must be a mapping such as {{"0": bad, "1": good}}, not {labels!r}')
    return {str(k): str(v) for k, v in labels.items()}


def _listed(sample: Sample) -> str:
    *most, last = sample.choices or ("",)
    return f"{', '.join(most)} or {last}"


LABELS = ("entailment", "neutral", "contradiction")


class Nli:
    """Does one sentence entail, contradict or leave open another (SNLI, MNLI)?

    The published TSV or JSONL (`sentence1`, `sentence2`, `gold_label`) or the hub's columns.

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
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "dev_matched.tsv, or hub:stanfordnlp/snli:test")
        for number, row in enumerate(read_rows(source)):
            first, second = (
                _column(row, source, number, "sentence1", "premise"),
                _column(row, source, number, "sentence2", "hypothesis"),
            )
            gold = str(row.get("gold_label", row.get("label"))).strip().lower()
            if gold in ("-", "-1"):
                continue
            label = LABELS[int(gold)] if gold in ("0", "1", "2") else gold
            if label not in LABELS:
                raise UsageError(f"{source}, row {number + 1}: label {gold!r} is none of {', '.join(LABELS)}")
            fields = {"first": first, "second": second, "label": label}
            category = f"genre={row['genre']}" if row.get("genre") else None
            yield Sample(str(row.get("pairID", number)), fields, label, LABELS, category)

    def question(self, sample: Sample) -> str:
        return f"First: {sample.fields['first']}\nSecond: {sample.fields['second']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _column(row: dict[str, Any], source: str, number: int, *names: str) -> str:
    for name in names:
        if name in row:
            return text_of(row, name, f"{source}, row {number + 1}")
    raise UsageError(f"{source} has no column {' or '.join(map(repr, names))}; it has {', '.join(map(repr, row))}")
