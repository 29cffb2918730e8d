"""Questions with options from the usual layouts: MMLU, C-Eval, CMMLU, AGIEval, ARC, HellaSwag, PIQA, WinoGrande, BoolQ.

Column names are compared without regard to case. Of a folder of several files each is a subject.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from poise.counted import counted
from poise.tasks.data import Row, labelled, need, read_lines, read_rows, tables_of
from poise.types import UsageError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NUMBERED = {"option": 1, "sol": 0}
"""Options in numbered columns (WinoGrande, PIQA), and how its answers call the first of them."""
_PASSAGES = ("passage", "context")
_QUESTIONS = ("question", "ctx", "prompt", "sentence", "goal")
_OPTIONS = ("choices", "options", "endings")
_ANSWERS = ("answer", "answerkey", "label", "target", "correct")
_CSV = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)
_TABLE = re.compile(r"\.[ct]sv(\.gz)?$", re.IGNORECASE)


class Question(NamedTuple):
    id: str
    text: str
    options: list[str]
    right: int
    subject: str | None


def questions(data: Any, task: str) -> Iterator[Question]:
    """The questions of a file, a folder, a hub data set, or of two files: the questions, and a label for each."""
    labels = None
    if isinstance(data, list | tuple) and len(data) == 2:
        data, labels = data[0], str(data[1])
    source = need(data, task, "questions.jsonl, or hub:cais/mmlu/all:test")
    rows = _rows(source)
    for number, row in enumerate(labelled(rows, labels) if labels else rows):
        text, options, right = _parts(row, f"{source}, row {number + 1}")
        subject = row.get("subject", row.get("category", row.get(_FILE)))
        name = str(row.get("id", number))
        if "id" in row and row.get(_FILE):
            name = f"{row[_FILE]}/{name}"
        yield Question(name, text, options, right, str(subject) if subject else None)


_FILE = "its file"
"""Where a row keeps the subject that its file is named after."""


def _rows(source: str) -> Iterator[Row]:
    """Rows with names in lower case, but for letters; MMLU's published CSV has no header: question, options, letter."""
    if source.startswith("hub:"):
        yield from map(_lower, read_rows(source))
        return
    files = tables_of(source)
    bare = all(_CSV.search(p.name) and "question" not in map(str.lower, next(_cells(p), (0, []))[1]) for p in files)
    for path in files:
        rows = _without_header(path) if bare else map(_lower, read_rows(path))
        if not bare and _TABLE.search(path.name) and _all_numbers(path):
            rows = ({**row, _ANSWERS[0]: int(_first(row, _ANSWERS))} for row in rows)
        for row in rows:
            yield {**row, _FILE: _subject(path)} if bare or len(files) > 1 else row


def _subject(path: Path) -> str:
    return re.sub(r"(_test|_dev|_val)?\.\w+(\.gz)?$", "", path.name)


def _lower(row: Row) -> Row:
    return {name.lower() if len(name) > 1 else name: value for name, value in row.items()}


def _first(row: Row, names: tuple[str, ...]) -> Any:
    """What stands in the first of these columns that a row has."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _all_numbers(path: Path) -> bool:
    """Whether every answer of a table can be a place among its options: there an index, too, is written as a text."""
    keys = (str(_first(row, _ANSWERS)) for row in map(_lower, read_rows(path)) if "A" in row)
    seen = [key.isdigit() and int(key) < len(LETTERS) for key in keys]
    return bool(seen) and all(seen)


def _without_header(path: Path) -> Iterator[Row]:
    number = 0
    for number, cells in _cells(path):
        if len(cells) < 4:
            raise UsageError(
                f"{path}, line {number}: {counted(len(cells), 'column')}; they are the question, its options, a letter"
            )
        yield {"question": cells[0], "choices": cells[1:-1], "answer": cells[-1]}
    if not number:
        raise UsageError(f"{path} has no rows")


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, each with the number of its line."""
    reader = csv.reader((line + "\n" for line in read_lines(path)), strict=True)
    try:
        yield from ((reader.line_num, cells) for cells in reader if any(map(str.strip, cells)))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from None


def _parts(row: Row, where: str) -> tuple[str, list[str], int]:
    """(question, option texts, index of the right one) of one row of any known layout."""
    question, answer = _first(row, _QUESTIONS), _first(row, _ANSWERS)
    if isinstance(question, dict):  # ARC's own files
        row = {**row, "choices": question.get("choices")}
        question = question.get("stem")
    labels, options = _options(row, answer)
    if question is None or not isinstance(options, list) or len(options) < 2 or answer is None:
        there = ", ".join(repr(name) for name in row if name != _FILE)
        raise UsageError(
            f"{where}: needs question, choices (a list, or columns A, B …, or option1, option2 …) and answer; it has "
            f"{there}" + ("; answers in a file of their own: --data questions,labels" if answer is None else "")
        )
    texts, key = _bare([str(o).strip() for o in options]), str(answer).strip()
    passage = str(_first(row, _PASSAGES) or "").strip()
    text = f"{passage}\n{str(question).strip()}" if passage else str(question).strip()
    if isinstance(answer, bool):
        return text, texts, int(not answer)
    if isinstance(answer, int) and key not in labels and 0 <= answer < len(texts):  # MMLU: an index, whatever the texts
        return text, texts, answer
    if key in labels[: len(texts)]:
        return text, texts, labels.index(key)
    if key in texts:
        return text, texts, texts.index(key)
    if key.isdigit() and int(key) < len(texts):
        return text, texts, int(key)
    raise UsageError(f"{where}: answer {key!r} is no letter, index or text of its {len(texts)} choices")


def _options(row: Row, answer: Any) -> tuple[list[str], Any]:
    """(what the answers call the options, the options)."""
    options = _first(row, _OPTIONS)
    if isinstance(options, dict):  # ARC on the hub
        return [str(x) for x in options.get("label", ())], options.get("text")
    if isinstance(options, list) and options and isinstance(options[0], dict):
        return [str(o.get("label")) for o in options], [o.get("text") for o in options]
    if options is not None:
        return list(LETTERS), options
    if {"A", "B"} <= row.keys():
        return list(LETTERS), [row[a] for a in LETTERS if a in row]
    for name, first in NUMBERED.items():
        columns = sorted(c for c in row if re.fullmatch(rf"{name}\d", c))
        if columns:
            return [str(first + k) for k in range(len(columns))], [row[c] for c in columns]
    return list(LETTERS), ["yes", "no"] if isinstance(answer, bool) else None  # BoolQ


def _bare(texts: list[str]) -> list[str]:
    """Options without their own letters, where each has its: AGIEval's "(A)2", "A. 2"."""
    found = [re.fullmatch(rf"\(?{a}[).]\s*(.*)", text, re.DOTALL) for a, text in zip(LETTERS, texts)]
    return [m.group(1) for m in found if m] if found and all(found) else texts
