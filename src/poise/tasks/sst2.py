"""Sentiment of a review's sentence (SST-2): GLUE's TSV, JSONL, or the hub's `glue/sst2` and `stanfordnlp/sst2`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.data import need, read_rows
from poise.types import Sample, UsageError

LABELS = ("negative", "positive")


class Sst2:
    """Is a review's sentence positive or negative (SST-2)? `balance: label` draws as many of each."""

    name, version = "sst2", 2
    instruction = "Is the sentiment of this sentence positive or negative? Answer with one word."
    answer_prefix = "Sentiment:"
    extract = "label"
    metrics = ("accuracy", "f1.macro", "precision.macro", "recall.macro", "matthews")
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 0.5, 1.0, 16
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "dev.tsv, or hub:stanfordnlp/sst2:validation")
        for number, row in enumerate(read_rows(source, ("sentence", "label"))):
            label = _label(row["label"], f"{source}, row {number + 1}")
            yield Sample(
                id=str(row.get("idx", number)),
                fields={"text": str(row["sentence"]).strip(), "label": label},
                target=label,
                choices=LABELS,
            )

    def question(self, sample: Sample) -> str:
        return f"Sentence: {sample.fields['text']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _label(value: Any, where: str) -> str:
    text = str(value).strip().lower()
    if text in LABELS:
        return text
    if text in ("0", "1"):
        return LABELS[int(text)]
    hint = "; the hidden test set has no labels, use the dev or validation set" if text == "-1" else ""
    raise UsageError(f"{where}: label {value!r} is neither 0/1 nor negative/positive{hint}")
