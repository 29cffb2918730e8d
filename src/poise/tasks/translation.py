"""Translation from line-aligned text: OpenSubtitles in Moses format, WMT, NTREX, FLORES, any pair of files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

from poise.tasks.aligned import Line, aligned_lines
from poise.tasks.data import whole
from poise.types import Sample, UsageError

WINDOW_LINES = "window_lines"
"""The field that says of how many lines an item is; no data set has a column of this name, as some have `lines`."""

LINES, CHARS = 20, 1500
"""How much a window of a document holds at most, unless said."""

LANGUAGES = {
    "zh": "Chinese", "en": "English", "de": "German", "fr": "French", "es": "Spanish", "ja": "Japanese",
    "ru": "Russian", "it": "Italian", "pt": "Portuguese", "cs": "Czech", "ko": "Korean", "ar": "Arabic",
    "uk": "Ukrainian", "hi": "Hindi", "tr": "Turkish", "nl": "Dutch", "pl": "Polish", "he": "Hebrew",
}  # fmt: skip
THREE_LETTERS = {
    "zho": "zh", "cmn": "zh", "eng": "en", "deu": "de", "fra": "fr", "spa": "es", "jpn": "ja", "rus": "ru", "ita": "it",
    "por": "pt", "ces": "cs", "kor": "ko", "arb": "ar", "ukr": "uk", "hin": "hi", "tur": "tr", "nld": "nl", "pol": "pl",
    "heb": "he",
}  # fmt: skip
DENSE = ("zh", "ja", "ko")
"""Languages of about a token a character."""
Pair = tuple[int, str, tuple[str, ...]]
"""Number of a line (from 0), its text, and what it should become: one reference or several."""
_HAN = re.compile(r"[\u3400-\u9fff]")


class Translation:
    """Translation of line-aligned text, zh-en or any pair.

    `data: [source file, reference file]` (lines, or WMT's `.sgm`; several references as further files), WMT's `.xml`,
    or a table with both languages as columns; `pair: zh-en` or `en-zh`.

    `unit: document` asks for windows of successive lines, at most `lines` (20) of them and about `chars` (1500)
    characters, fewer where a model's context is short; answers are realigned to the lines, over which all scores run.
    `ter: true` adds TER, whose search for shifted phrases takes 1 to 10 ms a sentence of 25 words and seconds where
    one is very long; the rest takes 1 ms.
    """

    name, version = "translation", 2
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
        languages = {"source_lang": language(source), "target_lang": language(target)}
        pairs = self._pairs(aligned_lines(data, source, target), source)
        if unit == "document":
            yield from self._windows(self._grouped(pairs, options), options, languages)
            return
        for number, said, wanted in pairs:
            yield Sample(str(number), {"text": said, **languages}, _target(wanted))

    def fit(self, options: dict[str, Any], context: Callable[[], int | None]) -> dict[str, Any]:
        """Windows that fit into `context()` tokens with their answer, unless their size is asked for.

        By tokenizers that do not know the language: a token for each byte of a dense one, for two letters of others.
        """
        if options.get("unit") != "document" or {"lines", "chars"} & options.keys() or (tokens := context()) is None:
            return options
        dense = language(_pair(options.get("pair", "zh-en"))[0]) in DENSE
        a_char, a_line = (4.0, 40) if dense else (1.0, 80)  # question and answer; characters
        chars = int((tokens - 120) / (a_char + (8 + 6) / a_line))
        if chars >= CHARS:
            return options
        return {**options, "chars": max(chars, 1), "lines": max(1, min(LINES, chars // a_line))}

    def outputs(self, lines: Iterable[str], data: Any, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """The outputs of a text with a line for every line of the data, by their items' ids.

        Of a window the lines get the numbers that were asked for, so that a line without text moves no other.
        """
        source, target = _pair(options.get("pair", "zh-en"))
        both = zip_longest(aligned_lines(data, source, target), lines)
        said = {}

        def paired() -> Iterator[Line]:
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

    def _pairs(self, lines: Iterator[Line], source: str) -> Iterator[Pair]:
        """Lines that have text on both sides, with their numbers."""
        some = False
        for number, (said, references) in enumerate(lines):
            wanted = tuple(text.strip() for text in references if text.strip())
            if not said.strip() or not wanted:
                continue  # alignments leave lines empty; there is nothing to translate or to compare with
            if number < 20:
                _check_script(said, language(source), number + 1)
            some = True
            yield number, said.strip(), wanted
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
        return whole(options, "lines", LINES, self.name), whole(options, "chars", CHARS, self.name)

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
            text, count = "\n".join(said for _, said, _ in window), max(len(wanted) for *_, wanted in window)
            # a line with fewer references than others has its first one again: the best of them stays the best
            wanted = tuple("\n".join((refs + refs[:1] * count)[k] for *_, refs in window) for k in range(count))
            yield Sample(str(window[0][0]), {"text": text, WINDOW_LINES: len(window), **languages}, _target(wanted))
        self.n_ref *= total / windows

    def question(self, sample: Sample) -> str:
        a, b = (LANGUAGES.get(sample.fields[k], sample.fields[k]) for k in ("source_lang", "target_lang"))
        if WINDOW_LINES not in sample.fields:
            return f"Translate from {a} to {b}.\n\n{a}: {sample.fields['text']}"
        return f"Translate each line from {a} to {b}, with its number.\n\n{_numbered(sample.fields['text'])}"

    def answer(self, sample: Sample) -> str:
        first = sample.target if isinstance(sample.target, str) else str(sample.target[0])
        return _numbered(first) if WINDOW_LINES in sample.fields else first


def _target(references: tuple[str, ...]) -> str | list[str]:
    return list(references) if len(references) > 1 else references[0]


def language(code: str) -> str:
    """The language of a code in two letters, where it is a known one: zh_cn, zho_Hans and zho-CN are zh."""
    plain = re.split(r"[-_]", code)[0].lower()
    return THREE_LETTERS.get(plain, plain)


def _numbered(text: str) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(text.split("\n"), 1))


def _pair(pair: Any) -> tuple[str, str]:
    source, _, target = str(pair).partition("-")
    if not source or not target or source == target:
        raise UsageError(f"translation: pair {pair!r} must be two languages, such as zh-en or en-zh")
    return source, target


def _check_script(text: str, language: str, line: int) -> None:
    """Files given in the wrong order are found out by their script."""
    if len(text) > 20 and (language == "en" and len(_HAN.findall(text)) * 2 > len(text)):
        raise UsageError(f"translation: line {line} of the source is Chinese, the pair says {language}; swap the files")
    if len(text) > 20 and language == "zh" and text.isascii():
        raise UsageError(f"translation: line {line} of the source is not Chinese, as the pair says; swap the files")
