"""Perplexity of a text under a model, from the log-probabilities of its tokens: exp(−Σ ln p / N), every token once.

N = tokens, words or bytes; the latter two compare models of different tokenizers. Bits per byte = −Σ log2 p / bytes.
Statistics of a document: [−Σ ln p, tokens, words, bytes]; their sums give the corpus value.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, log
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from poise.types import Sample, Score

Array = NDArray[np.float64]


def score_logprobs(metric: Any, logprobs: Sequence[float] | None, sample: Sample) -> Score:
    """One document's perplexity by `metric`; unscorable where the engine gave no log-probabilities."""
    if not logprobs:
        return Score(None, reason="the engine gave no log-probabilities")
    counts = (float(sample.fields.get(unit, 0)) for unit in ("words", "bytes"))
    stats = [-fsum(logprobs), float(len(logprobs)), *counts]
    return Score(float(metric.reduce(stats)), stats)


def _per(stats: Any, unit: int) -> Array:
    """−Σ ln p per token (1), word (2) or byte (3); NaN where there are none."""
    array = np.asarray(stats, dtype=np.float64)
    count = array[..., unit]
    return cast(Array, np.divide(array[..., 0], count, out=np.full(count.shape, np.nan), where=count > 0))


class PerplexityToken:
    """exp(−Σ ln p / tokens): of the model's own tokens, so not comparable between tokenizers."""

    name, version, unit, better = "perplexity.token", 1, "", "lower"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return Score(None, reason="perplexity is scored from log-probabilities, not from text")

    def reduce(self, stats: Any) -> Array:
        return np.exp(_per(stats, 1))

    def signature(self, sample: Sample | None = None) -> str:
        return "perplexity v1 | every token once, windows of the context moved by half of it"


class PerplexityWord:
    """exp(−Σ ln p / words), words as white space separates them and line ends counted (as WikiText does)."""

    name, version, unit, better = "perplexity.word", 1, "", "lower"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return PerplexityToken().score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        return np.exp(_per(stats, 2))

    def signature(self, sample: Sample | None = None) -> str:
        return PerplexityToken().signature(sample)


class PerplexityByte:
    """exp(−Σ ln p / UTF-8 bytes)."""

    name, version, unit, better = "perplexity.byte", 1, "", "lower"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return PerplexityToken().score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        return np.exp(_per(stats, 3))

    def signature(self, sample: Sample | None = None) -> str:
        return PerplexityToken().signature(sample)


class BitsPerByte:
    """−Σ log2 p / UTF-8 bytes."""

    name, version, unit, better = "bits_per_byte", 1, "bit", "lower"

    def score(self, answer: str | None, sample: Sample) -> Score:
        return PerplexityToken().score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        return _per(stats, 3) / log(2)

    def signature(self, sample: Sample | None = None) -> str:
        return PerplexityToken().signature(sample)
