"""Summaries of articles and dialogues: XSum, CNN/DailyMail, DialogSum, SAMSum rows from JSON, JSONL, CSV or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.data import need, read_rows, text_of
from poise.types import Sample, UsageError

LAYOUTS = (("document", "summary"), ("article", "highlights"), ("dialogue", "summary"), ("text", "summary"))


class Summarization:
    """Summaries of articles and dialogues (XSum, CNN/DailyMail, DialogSum).

    `length: one sentence` (XSum), or what else the references are like, is said in the question.
    """

    name, version = "summarization", 1
    instruction = ""
    answer_prefix = "Summary:"
    extract = "text"
    metrics = ("rouge_l", "rouge_1", "rouge_2", "rouge_lsum", "length_ratio")
    chance, n_ref, max_tokens = 0.0, 32.0, 160
    options = ("length",)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "xsum.jsonl, or hub:EdinburghNLP/xsum:test")
        for number, row in enumerate(read_rows(source)):
            layout = next((pair for pair in LAYOUTS if set(pair) <= row.keys()), None)
            if layout is None:
                known = "; ".join(f"{a!r} and {b!r}" for a, b in LAYOUTS)
                raise UsageError(f"{source}, row {number + 1} has {', '.join(map(repr, row))}; a layout is {known}")
            text, summary = (text_of(row, column, f"{source}, row {number + 1}") for column in layout)
            fields = {"text": text, "kind": layout[0]}
            if options.get("length"):
                fields["length"] = str(options["length"])
            yield Sample(str(row.get("id", row.get("fname", number))), fields, summary)

    def question(self, sample: Sample) -> str:
        kind = "dialogue" if sample.fields["kind"] == "dialogue" else "text"
        length = f" in {sample.fields['length']}" if "length" in sample.fields else ""
        return f"Summarize this {kind}{length}.\n\n{sample.fields['text']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)
