"""Perplexity of a text: each document is one request, whose windows the engine cuts so that every token counts once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from poise.tasks.data import files_of, name_within, need, read_lines, read_rows
from poise.types import Sample, UsageError

_TITLE = re.compile(r" = [^=].* = ")
SUFFIXES = (".txt", ".raw", ".tokens")
"""Of texts in a folder; WikiText's files are wiki.test.raw and wiki.test.tokens."""
_ROWS = re.compile(r"\.(jsonl|ndjson|json|csv|tsv)(\.gz)?$", re.IGNORECASE)


class Perplexity:
    """Perplexity of any text file, per token, word and byte.

    `split: article` (WikiText's " = Title = " lines; the default where there are some), `file`, or `line`. Of JSONL,
    JSON, CSV and TSV each row's `text` is a document.

    `fields` carry the numbers of words and bytes, by which perplexities are comparable between tokenizers. Words are
    what white space separates, the end of a line being one more, as WikiText counts.
    """

    name, version = "perplexity", 1
    instruction, answer_prefix, extract = "", "", "text"
    metrics = ("perplexity.token", "perplexity.word", "perplexity.byte", "bits_per_byte")
    modes = ("perplexity",)
    chance, n_ref, max_tokens = 0.0, 1.0, 1
    stop: tuple[str, ...] = ()
    options = ("split",)
    suffixes = SUFFIXES

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        split = options.get("split")
        if split not in (None, "article", "file", "line"):
            raise UsageError(f"perplexity: split must be article, file or line, not {split!r}")
        found = False
        source = need(data, self.name, "wikitext/test.txt")
        if source.startswith("hub:"):
            raise UsageError(
                "perplexity reads files, not the hub: save the texts as .txt, or as JSONL with a `text` each"
            )
        for name, text in _texts(source, split):
            if text.strip():
                found = True
                counts = {"words": len(text.split()) + text.count("\n"), "bytes": len(text.encode())}
                yield Sample(name, {"text": text, **counts})
        if not found:
            raise UsageError(f"{data}: no text to score")

    def question(self, sample: Sample) -> str:
        return str(sample.fields["text"])

    def answer(self, sample: Sample) -> str:
        return ""


def _texts(source: str, split: str | None) -> Iterator[tuple[str, str]]:
    """Every document's name and text."""
    if _ROWS.search(source):
        if split:
            raise UsageError(f"perplexity: of {source} each row is a document; split is for text files")
        yield from (
            (str(row.get("id", number)), str(row["text"])) for number, row in enumerate(read_rows(source, ("text",)))
        )
        return
    for path in files_of(source, SUFFIXES):
        lines, name = list(read_lines(path)), name_within(path, source).removesuffix(".txt")
        titled = any(_TITLE.fullmatch(line) for line in lines)
        for number, text in enumerate(_documents(lines, split or ("article" if titled else "file"))):
            yield f"{name}/{number}", text


def _documents(lines: list[str], split: str) -> Iterator[str]:
    if split == "line":
        yield from lines
        return
    document: list[str] = []
    for line in lines:
        if split == "article" and _TITLE.fullmatch(line) and any(part.strip() for part in document):
            yield "\n".join(document) + "\n"
            document = []
        document.append(line)
    yield "\n".join(document) + "\n"
