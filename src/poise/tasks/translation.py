"""Translation from line-aligned text: any pair of files (OpenSubtitles in Moses format, WMT, NTREX, FLORES)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from poise.tasks.data import read_lines, read_rows
from poise.types import Sample, UsageError

LANGUAGES = {
    "zh": "Chinese", "en": "English", "de": "German", "fr": "French", "es": "Spanish", "ja": "Japanese",
    "ru": "Russian", "it": "Italian", "pt": "Portuguese", "cs": "Czech", "ko": "Korean", "ar": "Arabic",
}  # fmt: skip
_HAN = re.compile(r"[\u3400-\u9fff]")


class Translation:
    """Translation of line-aligned text, zh-en or any pair.

    `data: [source file, reference file]` (or a table with both languages as columns); `pair: zh-en` or `en-zh`.

    `ter: true` adds TER, whose search for shifted phrases takes 25 to 100 ms a sentence; the rest takes 1 ms.
    """

    name, version = "translation", 1
    instruction = ""
    answer_prefix = "Translation:"
    extract = "first_line"
    metrics: tuple[str, ...] = ("chrf", "bleu", "chrf_50", "exact_match")
    chance, n_ref, max_tokens = 0.0, 32.0, 256
    options = ("pair", "ter")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source, target = _pair(options.get("pair", "zh-en"))
        if options.get("ter"):
            self.metrics = (*type(self).metrics, "ter")
        number = 0
        for line, (said, wanted) in enumerate(_lines(data, source, target), 1):
            if not said.strip() or not wanted.strip():
                continue  # alignments leave lines empty; there is nothing to translate or to compare with
            if line <= 20:
                _check_script(said, source, line)
            fields = {"text": said.strip(), "source_lang": source, "target_lang": target}
            yield Sample(str(line - 1), fields, wanted.strip())
            number += 1
        if not number:
            raise UsageError("translation: the files have no line with text on both sides")

    def question(self, sample: Sample) -> str:
        a, b = (LANGUAGES.get(sample.fields[k], sample.fields[k]) for k in ("source_lang", "target_lang"))
        return f"Translate from {a} to {b}.\n\n{a}: {sample.fields['text']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _pair(pair: Any) -> tuple[str, str]:
    source, _, target = str(pair).partition("-")
    if not source or not target or source == target:
        raise UsageError(f"translation: pair {pair!r} must be two languages, such as zh-en or en-zh")
    return source, target


def _lines(data: Any, source: str, target: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, list | tuple) and len(data) == 2:
        paths = [Path(str(p)).expanduser() for p in data]
        for path in paths:
            if not path.is_file():
                raise UsageError(f"no file {path}")
        for number, (a, b) in enumerate(zip_longest(*map(read_lines, paths)), 1):
            if a is None or b is None:
                short = paths[0] if a is None else paths[1]
                raise UsageError(f"{short} ends at line {number - 1}, the other file does not; they are not aligned")
            yield a, b
        return
    if isinstance(data, list | tuple) and len(data) == 1:
        data = data[0]
    if not data or isinstance(data, list | tuple):
        raise UsageError("task translation needs two aligned files: --data source.txt,reference.txt")
    for row in read_rows(str(data), () if str(data).startswith("hub:") else (source, target)):
        both = row.get("translation", row)  # the hub's WMT and OPUS sets keep both languages in one column
        if source not in both or target not in both:
            raise UsageError(f"{data} has no {source!r} and {target!r}; it has {', '.join(map(repr, both))}")
        yield str(both[source]), str(both[target])


def _check_script(text: str, language: str, line: int) -> None:
    """Files given in the wrong order are found out by their script."""
    if len(text) > 20 and (language == "en" and len(_HAN.findall(text)) * 2 > len(text)):
        raise UsageError(f"translation: line {line} of the source is Chinese, the pair says {language}; swap the files")
    if len(text) > 20 and language == "zh" and text.isascii():
        raise UsageError(f"translation: line {line} of the source is not Chinese, as the pair says; swap the files")
