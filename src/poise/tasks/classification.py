"""Any labelled file (TSV, CSV, JSONL, hub): columns of text and one of labels, or labels in a second file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from poise.tasks.data import Row, labelled, need, read_lines, read_rows
from poise.types import Sample, UsageError

METRICS = ("accuracy", "f1.macro", "precision.macro", "recall.macro", "matthews")
MOST_LABELS = 100


class Classification:
    """Any labelled texts; options `text` and `label` name the columns: `text: "title,body"` takes two.

    Where both are numbers (`label: 1`, `text: "2,3"`) the file has no header (AG News). `data: [texts, labels]` takes
    labels from a second file, a line for each (tweet_eval). `labels: {"0": bad, "1": good}`, or a file of lines with
    number and word, gives numbers their words.
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
        texts, label = str(options.get("text", "text")).split(","), str(options.get("label", "label"))
        words, source = _words(options.get("labels")), ", ".join([data] if isinstance(data, str) else data or ())
        rows = [
            ("\n".join(str(row[text]).strip() for text in texts), str(row[label]).strip())
            for row in _rows(data, texts, label)
        ]
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


def _rows(data: Any, texts: list[str], label: str) -> Iterator[Row]:
    columns = (*texts, label)
    if isinstance(data, list | tuple) and len(data) == 2:
        path = Path(str(data[0])).expanduser()
        lines = path.suffix.lower() == ".txt"
        yield from labelled(({"text": line} for line in read_lines(path)) if lines else read_rows(path), str(data[1]))
        return
    source = need(data, "classification", "labelled.csv")
    rows = read_rows(source, header=not all(column.isdigit() for column in columns))
    first = next(rows)
    if missing := [column for column in columns if column not in first]:
        raise UsageError(
            f"{source} has no column {missing[0]!r}; it has {', '.join(map(repr, first))}: name its columns with "
            "-T text=… -T label=… (by number, from 1, where it has no header)"
        )
    yield from chain([first], rows)


def _words(labels: Any) -> dict[str, str]:
    if labels is None:
        return {}
    if isinstance(labels, str):
        pairs = (line.split(maxsplit=1) for line in read_lines(Path(labels).expanduser()) if line.strip())
        return {pair[0]: pair[-1].strip() for pair in pairs}
    if not isinstance(labels, dict):
        raise UsageError(f'classification: labels must be a mapping such as {{"0": bad, "1": good}}, not {labels!r}')
    return {str(k): str(v) for k, v in labels.items()}


def _listed(sample: Sample) -> str:
    *most, last = sample.choices or ("",)
    return f"{', '.join(most)} or {last}"
