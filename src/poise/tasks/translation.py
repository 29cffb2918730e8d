"""Translation from line-aligned text: any pair of files (OpenSubtitles in Moses format, WMT, NTREX, FLORES)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from poise.tasks.data import read_lines, read_rows, whole
from poise.types import Sample, UsageError

WINDOW_LINES = "window_lines"
"""The field that says of how many lines an item is; no data set has a column of this name, as some have `lines`."""

LANGUAGES = {
    "zh": "Chinese", "en": "English", "de": "German", "fr": "French", "es": "Spanish", "ja": "Japanese",
    "ru": "Russian", "it": "Italian", "pt": "Portuguese", "cs": "Czech", "ko": "Korean", "ar": "Arabic",
}  # fmt: skip
DENSE = ("zh", "ja", "ko")
"""Languages of about a token a character."""
Pair = tuple[int, str, str]
"""Number of a line (from 0), its text, and what it should become."""
_HAN = re.compile(r"[\u3400-\u9fff]")


class Translation:
    """Translation of line-aligned text, zh-en or any pair.

    `data: [source file, reference file]` (or a table with both languages as columns); `pair: zh-en` or `en-zh`.

    `unit: document` asks for windows of successive lines, at most `lines` (20) of them and about `chars` (1500)
    characters; answers are realigned to the lines, over which all scores run. `ter: true` adds TER, whose search for
    shifted phrases takes 1 to 10 ms a sentence of 25 words and seconds where one is very long; the rest takes 1 ms.
    """

    name, version = "translation", 1
    instruction = ""
    answer_prefix = "Translation:"
    extract = "first_line"
    metrics: tuple[str, ...] = ("chrf", "bleu", "chrf_50", "exact_match")
    chance, n_ref, max_tokens = 0.0, 32.0, 256
    options = ("pair", "unit", "lines", "chars", "ter")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source, target = _pair(options.get("pair", "zh-en"))
        unit = options.get("unit", "sentence")
        if unit not in ("sentence", "document"):
            raise UsageError(f"translation: unit must be sentence or document, not {unit!r}")
        if options.get("ter"):
            self.metrics = (*type(self).metrics, "ter")
        languages = {"source_lang": source, "target_lang": target}
        pairs = self._pairs(_lines(data, source, target), source)
        if unit == "document":
            yield from self._windows(self._grouped(pairs, options), options, languages)
            return
        for number, said, wanted in pairs:
            yield Sample(str(number), {"text": said, **languages}, wanted)

    def outputs(self, lines: Iterable[str], data: Any, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """The outputs of a text with a line for every line of the data, by their items' ids.

        Of a window the lines get the numbers that were asked for, so that a line without text moves no other.
        """
        source, target = _pair(options.get("pair", "zh-en"))
        both = zip_longest(_lines(data, source, target), lines)
        said = {}

        def paired() -> Iterator[tuple[str, str]]:
            for number, (pair, line) in enumerate(both):
                if pair is None or line is None:
                    short, longer = ("data", "outputs") if pair is None else ("outputs", "data")
                    raise UsageError(f"translation: the {short} end at line {number}, the {longer} do not")
                said[number] = line
                yield pair

        pairs = self._pairs(paired(), source)
        document = options.get("unit") == "document"
        for window in self._grouped(pairs, options) if document else ([pair] for pair in pairs):
            text = "\n".join(said[number] for number, *_ in window)
            yield str(window[0][0]), _numbered(text) if document else text
            for number in [n for n in said if n <= window[-1][0]]:
                del said[number]

    def _pairs(self, lines: Iterator[tuple[str, str]], source: str) -> Iterator[Pair]:
        """Lines that have text on both sides, with their numbers."""
        some = False
        for number, (said, wanted) in enumerate(lines):
            if not said.strip() or not wanted.strip():
                continue  # alignments leave lines empty; there is nothing to translate or to compare with
            if number < 20:
                _check_script(said, source, number + 1)
            some = True
            yield number, said.strip(), wanted.strip()
        if not some:
            raise UsageError("translation: the files have no line with text on both sides")

    def _grouped(self, pairs: Iterator[Pair], options: dict[str, Any]) -> Iterator[list[Pair]]:
        """Successive pairs, as many as fit; a line longer than `chars` stands alone."""
        most, chars = self._limits(options)
        window: list[Pair] = []
        size = 0
        for pair in pairs:
            if window and (len(window) == most or size + len(pair[1]) > chars):
                yield window
                window, size = [], 0
            window.append(pair)
            size += len(pair[1])
        if window:
            yield window

    def _limits(self, options: dict[str, Any]) -> tuple[int, int]:
        return whole(options, "lines", 20, self.name), whole(options, "chars", 1500, self.name)

    def _windows(
        self, grouped: Iterator[list[Pair]], options: dict[str, Any], languages: dict[str, str]
    ) -> Iterator[Sample]:
        most, chars = self._limits(options)
        self.extract, self.metrics = "text", (*self.metrics, "lines.missing", "lines.extra")
        dense = languages["source_lang"] in DENSE
        self.max_tokens = (chars if dense else chars // 2) + 8 * most
        windows = total = 0
        for window in grouped:
            windows, total = windows + 1, total + len(window)
            text, wanted = "\n".join(said for _, said, _ in window), "\n".join(want for *_, want in window)
            yield Sample(str(window[0][0]), {"text": text, WINDOW_LINES: len(window), **languages}, wanted)
        self.n_ref *= total / windows

    def question(self, sample: Sample) -> str:
        a, b = (LANGUAGES.get(sample.fields[k], sample.fields[k]) for k in ("source_lang", "target_lang"))
        if WINDOW_LINES not in sample.fields:
            return f"Translate from {a} to {b}.\n\n{a}: {sample.fields['text']}"
        return f"Translate each line from {a} to {b}, with its number.\n\n{_numbered(sample.fields['text'])}"

    def answer(self, sample: Sample) -> str:
        return _numbered(str(sample.target)) if WINDOW_LINES in sample.fields else str(sample.target)


def _numbered(text: str) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(text.split("\n"), 1))


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
