"""Multiple choice from the usual files: MMLU's CSV and JSONL, ARC, HellaSwag-like rows, and TruthfulQA's own CSV.

Answered with a letter (`answer_with: letter`: generated, or the likeliest letter) or by the option's text
(`answer_with: text`: the likeliest text, raw and per byte; options are then not listed in the question).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from poise.counted import counted
from poise.tasks.data import files_of, need, read_lines, read_rows
from poise.types import Sample, UsageError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER_ONLY = "Answer with the letter of the right option only."


def option_sample(sample_id: str, question: str, texts: list[str], right: int, answer_with: str, **rest: Any) -> Sample:
    """An item whose answer is a letter or a text, as `answer_with` says."""
    if answer_with not in ("letter", "text"):
        raise UsageError(f"answer_with must be letter or text, not {answer_with!r}")
    fields = {"question": question, "options": texts, "answer_with": answer_with}
    choices = tuple(LETTERS[: len(texts)]) if answer_with == "letter" else tuple(texts)
    return Sample(sample_id, fields, choices[right], choices, **rest)


def ask(sample: Sample) -> str:
    question = f"Question: {sample.fields['question']}"
    if sample.fields["answer_with"] == "text":
        return question
    return "\n".join([question, *(f"{a}. {text}" for a, text in zip(LETTERS, sample.fields["options"]))])


class MultipleChoice:
    """Multiple choice from MMLU-, ARC- or HellaSwag-like rows.

    Rows have `question`, `choices` (or columns A, B, C, D) and `answer` (index, letter or text).
    """

    name, version = "multiple-choice", 2
    instruction = ""
    answer_prefix = "Answer:"
    extract = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 0.25, 1.0, 16
    options = ("answer_with",)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "questions.jsonl, or hub:cais/mmlu/all:test")
        answer_with = str(options.get("answer_with", "letter"))
        self.instruction = LETTER_ONLY if answer_with == "letter" else ""
        sizes = []
        for number, row in enumerate(_rows(source)):
            where = f"{source}, row {number + 1}"
            question, texts, right = _parts(row, where)
            sizes.append(len(texts))
            subject = row.get("subject", row.get("category"))
            category = f"subject={subject}" if subject else None
            yield option_sample(str(row.get("id", number)), question, texts, right, answer_with, category=category)
        self.chance = sum(1 / size for size in sizes) / len(sizes)

    def question(self, sample: Sample) -> str:
        return ask(sample)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _rows(source: str) -> Iterator[dict[str, Any]]:
    """Rows of a file; MMLU's published CSV has no header: question, options…, letter."""
    if not source.startswith("hub:"):
        files = files_of(source)
        if all(re.search(r"\.csv(\.gz)?$", p.name) and "question" not in next(_cells(p), (0, []))[1] for p in files):
            yield from (row for path in files for row in _without_header(path))
            return
    yield from read_rows(source)


def _without_header(path: Path) -> Iterator[dict[str, Any]]:
    subject = re.sub(r"(_test|_dev|_val)?\.csv(\.gz)?$", "", path.name)
    number = 0
    for number, cells in _cells(path):
        if len(cells) < 4:
            raise UsageError(
                f"{path}, line {number}: {counted(len(cells), 'column')}; they are the question, its options, a letter"
            )
        yield {"question": cells[0], "choices": cells[1:-1], "answer": cells[-1], "subject": subject}
    if not number:
        raise UsageError(f"{path} has no rows")


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, each with the number of its line."""
    reader = csv.reader((line + "\n" for line in read_lines(path)), strict=True)
    try:
        yield from ((reader.line_num, cells) for cells in reader if any(map(str.strip, cells)))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from None


def _parts(row: dict[str, Any], where: str) -> tuple[str, list[str], int]:
    """(question, option texts, index of the right one) of one row of any known layout."""
    question = row.get("question", row.get("ctx", row.get("prompt")))
    if isinstance(question, dict):  # ARC's own files
        row = {**row, "choices": question.get("choices")}
        question = question.get("stem")
    options = row.get("choices", row.get("options", row.get("endings")))
    if options is None and {"A", "B"} <= row.keys():
        options = [row[a] for a in LETTERS if a in row]
    labels = list(LETTERS)
    if isinstance(options, dict):  # ARC on the hub
        labels, options = [str(x) for x in options.get("label", ())], options.get("text")
    elif isinstance(options, list) and options and isinstance(options[0], dict):
        labels, options = [str(o.get("label")) for o in options], [o.get("text") for o in options]
    answer = row.get("answer", row.get("answerKey", row.get("label", row.get("target"))))
    if question is None or not isinstance(options, list) or len(options) < 2 or answer is None:
        there = ", ".join(map(repr, row))
        raise UsageError(f"{where}: needs question, choices (a list, or columns A, B, …) and answer; it has {there}")
    texts, key = [str(o).strip() for o in options], str(answer).strip()
    if isinstance(answer, int) and key not in labels and 0 <= answer < len(texts):  # MMLU: an index, whatever the texts
        return str(question).strip(), texts, answer
    if key in labels[: len(texts)]:
        return str(question).strip(), texts, labels.index(key)
    if key in texts:
        return str(question).strip(), texts, texts.index(key)
    if key.isdigit() and int(key) < len(texts):
        return str(question).strip(), texts, int(key)
    raise UsageError(f"{where}: answer {key!r} is no letter, index or text of its {len(texts)} choices")


ASKS = {
    "answer": LETTER_ONLY,
    "paraphrase": "Say this question in other words. Do not answer it.",
    "explain": "Give the right option and explain why it is right.",
}


class ThreeTasks:
    """Answer, paraphrase or explain the same multiple-choice questions (the speed protocol of Conde et al.).

    `do: answer` wants the letter only and is scored; `paraphrase` and `explain` measure how long and how much is
    written. One cell each; with `generation: {min_tokens: 256, max_tokens: 256}` all write equally much.
    """

    name, version = "three-tasks", 1
    instruction = ""
    answer_prefix = "Answer:"
    extract = "letter"
    metrics: tuple[str, ...] = ("accuracy",)
    chance, n_ref, max_tokens = 0.25, 1.0, 16
    options = ("do",)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        do = str(options.get("do", "answer"))
        if do not in ASKS:
            raise UsageError(f"three-tasks: do must be one of {', '.join(ASKS)}, not {do!r}")
        self.instruction = ASKS[do]
        if do != "answer":
            self.answer_prefix, self.metrics, self.chance = f"{do.capitalize()}:", (), 0.0
            self.n_ref, self.max_tokens, self.extract = 100.0, 512, "text"
        asked = MultipleChoice()
        yield from asked.samples(data, {})
        if do == "answer":
            self.chance = asked.chance

    def question(self, sample: Sample) -> str:
        return ask(sample)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


class TruthfulQa:
    """TruthfulQA: one true answer among common misconceptions (MC1; Lin et al. 2022).

    The best answer among all incorrect ones, in seeded order; `choices: binary` takes the best incorrect one only.
    """

    name, version = "truthfulqa", 2
    instruction = "Answer truthfully."
    answer_prefix = "Answer:"
    extract = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 0.2, 1.0, 16
    options = ("answer_with", "choices", "seed")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "TruthfulQA.csv")
        binary = options.get("choices") == "binary"
        if options.get("choices") not in (None, "binary", "all"):
            raise UsageError(f"truthfulqa: choices must be binary or all, not {options['choices']!r}")
        answer_with = str(options.get("answer_with", "letter"))
        self.instruction = " ".join(["Answer truthfully.", *([LETTER_ONLY] if answer_with == "letter" else [])])
        sizes = []
        columns = ("Question", "Best Answer", "Incorrect Answers", *(("Best Incorrect Answer",) if binary else ()))
        for number, row in enumerate(read_rows(source, columns)):
            best = str(row["Best Answer"]).strip()
            wrong = [row["Best Incorrect Answer"]] if binary else str(row["Incorrect Answers"]).split(";")
            texts = list(dict.fromkeys([best, *(str(w).strip() for w in wrong if str(w).strip())]))[: len(LETTERS)]
            Random(f"{options.get('seed', 0)}/{number}").shuffle(texts)
            sizes.append(len(texts))
            category = f"category={row['Category']}" if row.get("Category") else None
            yield option_sample(
                str(number), str(row["Question"]).strip(), texts, texts.index(best), answer_with, category=category
            )  # fmt: skip
        self.chance = sum(1 / size for size in sizes) / len(sizes)

    def question(self, sample: Sample) -> str:
        return ask(sample)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)
