"""ROUGE-1/2/L/Lsum (Lin 2004) as rouge-score computes them, and the length ratio, against the best reference."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.tasks.metrics.lines import references
from poise.types import Sample, Score

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class _Tokenizer:
    """rouge-score's own tokens; a word is stemmed once, which is most of the work."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._tokens_of = lru_cache(maxsize=200_000)(DefaultTokenizer(use_stemmer=True).tokenize)

    def tokenize(self, text: str) -> list[str]:
        # Its tokens never span anything but letters and digits, so words can be treated one by one.
        return [token for word in text.split() for token in self._tokens_of(word)]


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(KINDS), tokenizer=_Tokenizer())


@lru_cache(maxsize=64)
def _all_kinds(reference: str, answer: str) -> dict[str, float]:
    """F1 of every kind: the metrics of one answer ask in turn, the text is read once."""
    found = _scorer().score(_sentences(reference), _sentences(answer))
    return {kind: float(found[kind].fmeasure) for kind in KINDS}


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
    """Characters written per character of the (first) reference; the corpus value is the ratio of the sums."""

    name, version, unit, better, scale = "length_ratio", 1, "", None, 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        wanted = references(sample)
        if not wanted or not wanted[0]:
            return Score(None, answer=answer, reason="no target")
        stats = [float(len(answer or "")), float(len(wanted[0]))]
        return Score(stats[0] / stats[1], stats, answer, None if answer is not None else "none found")

    def reduce(self, stats: Any) -> NDArray[np.float64]:
        array = np.asarray(stats, dtype=np.float64)
        written, wanted = array[..., 0], array[..., 1]
        ratio: NDArray[np.float64] = np.divide(written, wanted, out=np.full(written.shape, np.nan), where=wanted > 0)
        return ratio

    def signature(self, sample: Sample | None = None) -> str:
        return "length_ratio v1 | characters"
