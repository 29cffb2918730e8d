"""Summaries of articles and dialogues: rows of XSum, CNN/DailyMail, DialogSum, SAMSum, or a file for each article.

An article of its own is what is published of CNN/DailyMail (`.story`: the text, and behind each line `@highlight` a
sentence of the summary) and of XSum (`.summary`, `.data`: sections under lines such as `[SN]RESTBODY[SN]`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poise.tasks.data import SUFFIXES, files_of, kind_of, name_within, need, read_lines, read_rows
from poise.types import Sample, UsageError

TEXTS = ("document", "article", "dialogue", "text")
SUMMARY = re.compile(r"(?:summary|highlights)\d*")
"""Columns of a reference; DialogSum's test set has three: summary1, summary2, summary3."""
ARTICLES = (".story", ".summary", ".data")
_SECTION = re.compile(r"\[(\w+)\](.+)\[\1\]")


class Summarization:
    """Summaries of articles and dialogues (XSum, CNN/DailyMail, DialogSum, SAMSum).

    Rows have `document`, `article`, `dialogue` or `text`, and `summary` or `highlights`; or a folder holds a file for
    each article (`.story`, `.summary`, `.data`). Of several references (`summary1`, `summary2` …) the best one counts,
    for each kind of ROUGE. `length: one sentence` (XSum), or what else they are like, is said in the question.
    """

    name, version = "summarization", 1
    instruction = ""
    answer_prefix = "Summary:"
    extract = "text"
    metrics = ("rouge_l", "rouge_1", "rouge_2", "rouge_lsum", "length_ratio")
    chance, n_ref, max_tokens = 0.0, 32.0, 160
    options = ("length",)
    suffixes = (*SUFFIXES, *ARTICLES)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "xsum.jsonl, or hub:EdinburghNLP/xsum:test")
        for number, row in enumerate(_rows(source)):
            kind, text, references = _parts(row, f"{source}, row {number + 1}")
            fields = {"text": text, "kind": kind}
            if options.get("length"):
                fields["length"] = str(options["length"])
            target = references if len(references) > 1 else references[0]
            yield Sample(str(row.get("id", row.get("fname", number))), fields, target)

    def question(self, sample: Sample) -> str:
        kind = "dialogue" if sample.fields["kind"] == "dialogue" else "text"
        length = f" in {sample.fields['length']}" if "length" in sample.fields else ""
        return f"Summarize this {kind}{length}.\n\n{sample.fields['text']}"

    def answer(self, sample: Sample) -> str:
        return sample.target if isinstance(sample.target, str) else str(sample.target[0])


def _parts(row: dict[str, Any], where: str) -> tuple[str, str, list[str]]:
    """(column of the text, the text, its summaries)."""
    kind = next((column for column in TEXTS if column in row), None)
    summaries = [column for column in row if SUMMARY.fullmatch(column)]
    if kind is None or not summaries:
        lacks = "no text to summarize" if kind is None else "no summary, so nothing to score answers by"
        raise UsageError(
            f"{where}: {lacks}; it has {', '.join(map(repr, row))}, and a row needs one of {', '.join(TEXTS)}, "
            "and summary, highlights, or several summaries as summary1, summary2 …"
        )
    for column in (kind, *summaries):
        if not isinstance(row[column], str):
            raise UsageError(f"{where}: {column!r} is {kind_of(row[column])} where a text belongs")
    return kind, row[kind].strip(), [text for column in summaries if (text := row[column].strip())] or [""]


def _rows(source: str) -> Iterator[dict[str, Any]]:
    path = Path(source).expanduser()
    inside = path.is_dir() and any(p.suffix.lower() in ARTICLES for p in path.rglob("*"))
    if source.startswith("hub:") or not (inside or path.suffix.lower() in ARTICLES):
        yield from read_rows(source)
        return
    for file in files_of(source, ARTICLES):
        name = name_within(file, source)
        yield {"id": name.removesuffix(file.suffix), **_article(list(read_lines(file)), file)}


def _article(lines: list[str], file: Path) -> dict[str, str]:
    if file.suffix.lower() == ".story":
        text, *highlights = "\n".join(lines).split("@highlight")
        article = {"article": text, "highlights": "\n".join(h.strip() for h in highlights)}
    else:
        sections: dict[str, str] = {}
        name = ""
        for line in lines:
            match = _SECTION.fullmatch(line.strip())
            name = match.group(2) if match else name
            sections[name] = "" if match else f"{sections.get(name, '')}{line}\n"
        first = sections.get("FIRST-SENTENCE", sections.get("INTRODUCTION", ""))
        article = {"document": sections.get("RESTBODY", ""), "summary": first}
    if not all(map(str.strip, article.values())):
        raise UsageError(f"{file}: no {' or no '.join(k for k, v in article.items() if not v.strip())} in it")
    return article
