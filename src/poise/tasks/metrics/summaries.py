"""ROUGE-1/2/L/Lsum (Lin 2004) as rouge-score computes them, and the length ratio, against the best reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.tasks.metrics.lines import references
from poise.types import Sample, Score

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
Tokens = list[str]


@cache
def _tokens_of() -> Callable[[str], Tokens]:
    """rouge-score's own tokens of a word; a word is stemmed once, which is most of the work."""
    from rouge_score.tokenizers import DefaultTokenizer

    return lru_cache(maxsize=200_000)(DefaultTokenizer(use_stemmer=True).tokenize)


def _tokens(text: str) -> Tokens:
    # Its tokens never span anything but letters and digits, so words can be treated one by one.
    tokens_of = _tokens_of()
    return [token for word in text.split() for token in tokens_of(word)]


@lru_cache(maxsize=64)
def _all_kinds(reference: str, answer: str) -> dict[str, float]:
    """F1 of every kind: the metrics of one answer ask in turn, the text is read once."""
    texts = [_sentences(text).split("\n") for text in (reference, answer)]
    wanted, said = ([tokens for line in lines if (tokens := _tokens(line))] for lines in texts)
    a, b = ([token for line in lines for token in line] for lines in (wanted, said))
    common = {"rougeL": _table(a, b)[-1].length, "rougeLsum": _union_hits(wanted, said)}
    grams: dict[str, tuple[Counter[Any], Counter[Any]]] = {
        "rouge1": (Counter(a), Counter(b)),
        "rouge2": (Counter(pairwise(a)), Counter(pairwise(b))),
    }
    found = {kind: _f1((x & y).total(), x.total(), y.total()) for kind, (x, y) in grams.items()}
    return found | {kind: _f1(hits, len(a), len(b)) for kind, hits in common.items()}


def _f1(hits: int, wanted: int, said: int) -> float:
    return 2 * hits / (wanted + said) if hits else 0.0


class _Row:
    """A row of the table of longest common subsequences as one number: bit j is 0 where column j + 1 grows by 1."""

    def __init__(self, bits: int, columns: int) -> None:
        self.bits, self.columns = bits, columns

    def at(self, j: int) -> int:
        return j - (self.bits & ((1 << j) - 1)).bit_count()

    @property
    def length(self) -> int:
        return self.at(self.columns)


def _table(a: Tokens, b: Tokens) -> list[_Row]:
    """Rows for 0 to all tokens of `a`, columns for those of `b` (Hyyrö 2004): four operations a row."""
    where: dict[str, int] = {}
    for j, token in enumerate(b):
        where[token] = where.get(token, 0) | 1 << j
    every = (1 << len(b)) - 1
    rows, bits = [_Row(every, len(b))], every
    for token in a:
        matches = bits & where.get(token, 0)
        bits = ((bits + matches) | (bits - matches)) & every
        rows.append(_Row(bits, len(b)))
    return rows


def _union_hits(wanted: list[Tokens], said: list[Tokens]) -> int:
    """Hits of ROUGE-Lsum: per sentence of the reference the union of its common subsequences with all of the answer's.

    No token hits more often than it occurs on either side, as in ROUGE 1.5.5.
    """
    left = Counter(token for line in wanted for token in line) & Counter(token for line in said for token in line)
    hits = 0
    for line in wanted:
        for i in sorted({i for other in said for i in _subsequence(line, other)}):
            if left[line[i]] > 0:
                left[line[i]] -= 1
                hits += 1
    return hits


def _subsequence(a: Tokens, b: Tokens) -> list[int]:
    """Positions in `a` of the one longest common subsequence that rouge-score takes, of several."""
    rows, found = _table(a, b), []
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif rows[i].at(j - 1) > rows[i - 1].at(j):
            j -= 1
        else:
            i -= 1
    return found


def _sentences(text: str) -> str:
    # ROUGE-Lsum takes lines for sentences; a text without lines is cut after full stops.
    return text if "\n" in text.strip() else text.replace(". ", ".\n")


def _score(kind: str, answer: str | None, sample: Sample) -> Score:
    wanted = references(sample)
    if not wanted:
        return Score(None, answer=answer, reason="no target")
    if answer is None:
        return Score(0.0, reason="none found")
    return Score(max(_all_kinds(w, answer)[kind] for w in wanted), answer=answer)


def _signature(kind: str) -> str:
    from importlib.metadata import version

    return f"{kind} F1 | stemmer | best reference | rouge-score {version('rouge-score')}"


class Rouge1:
    """Words in common, F1."""

    name, version, unit, better, scale = "rouge_1", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score("rouge1", answer, sample)

    def signature(self, sample: Sample | None = None) -> str:
        return _signature("rouge1")


class Rouge2:
    """Pairs of words in common, F1."""

    name, version, unit, better, scale = "rouge_2", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score("rouge2", answer, sample)

    def signature(self, sample: Sample | None = None) -> str:
        return _signature("rouge2")


class RougeL:
    """Longest common subsequence of the whole texts, F1."""

    name, version, unit, better, scale = "rouge_l", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score("rougeL", answer, sample)

    def signature(self, sample: Sample | None = None) -> str:
        return _signature("rougeL")


class RougeLsum:
    """Union of longest common subsequences, sentence by sentence, F1."""

    name, version, unit, better, scale = "rouge_lsum", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score("rougeLsum", answer, sample)

    def signature(self, sample: Sample | None = None) -> str:
        return _signature("rougeLsum")


class LengthRatio:
    """Characters written per character of the reference, of several that of the nearest length (the shorter of two).

    The corpus value is the ratio of the sums.
    """

    name, version, unit, better, scale = "length_ratio", 2, "", None, 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        wanted = references(sample)
        said, lengths = len(answer or ""), [len(w) for w in wanted if w]
        if not lengths:
            return Score(None, answer=answer, reason="no target")
        stats = [float(said), float(min(lengths, key=lambda length: (abs(length - said), length)))]
        return Score(stats[0] / stats[1], stats, answer, None if answer is not None else "none found")

    def reduce(self, stats: Any) -> NDArray[np.float64]:
        array = np.asarray(stats, dtype=np.float64)
        written, wanted = array[..., 0], array[..., 1]
        ratio: NDArray[np.float64] = np.divide(written, wanted, out=np.full(written.shape, np.nan), where=wanted > 0)
        return ratio

    def signature(self, sample: Sample | None = None) -> str:
        return "length_ratio v2 | characters, nearest reference"
