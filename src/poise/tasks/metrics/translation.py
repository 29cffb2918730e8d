"""BLEU, chrF and TER as sacreBLEU computes them: its sentence statistics, its formulas over arrays.

BLEU (Papineni 2002; mteval-v13a smoothing "exp"), tokenised "13a", or "zh" where `fields["target_lang"]` is zh.
chrF2 (Popović 2015): character n-grams up to 6, β = 2. Values are 0..100 as published; `scale` makes q of them.
"""

from __future__ import annotations

from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.tasks.metrics import lines, ter
from poise.tasks.metrics.lines import references
from poise.tasks.metrics.text import right
from poise.types import Sample, Score

Array = NDArray[np.float64]


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@lru_cache(maxsize=64)
def _chrf_stats(answer: str, wanted: tuple[str, ...]) -> tuple[float, list[float]]:
    """A sentence's chrF and its statistics; two metrics ask for them in turn."""
    return _sentence(_chrf(), answer, list(wanted))


def _sentence(metric: Any, answer: str, wanted: list[str]) -> tuple[float, list[float]]:
    """sacreBLEU's value and statistics of one sentence."""
    stats = metric._extract_corpus_statistics([answer], [[w] for w in wanted])[0]
    return float(metric._compute_score_from_stats(stats).score), [float(x) for x in stats]


@cache
def _bleu(tokenize: str, sentence: bool = False) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokenize, effective_order=sentence)


def _tokenizer(sample: Sample | None) -> str:
    language = str(sample.fields.get("target_lang", "")) if sample is not None else ""
    return "zh" if language[:2] == "zh" else "13a"


class Chrf:
    """chrF2 of a sentence and of the corpus, 0..100."""

    name, version, unit, better, scale = "chrf", 1, "", "higher", 100.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return lines.score(answer, sample, lambda said, wanted: _chrf_stats(said, tuple(wanted)), self.reduce)

    def reduce(self, stats: Any) -> Array:
        """chrF of summed statistics (hypothesis, reference, matching n-grams for n = 1…6), shape (..., 18)."""
        array = np.asarray(stats, dtype=np.float64)
        said, wanted, match = (array[..., i::3] for i in range(3))
        both = (said > 0) & (wanted > 0)
        n = np.maximum(both.sum(-1), 1)
        precision = np.where(both, match / np.maximum(said, 1), 0).sum(-1) / n
        recall = np.where(both, match / np.maximum(wanted, 1), 0).sum(-1) / n
        below = 4 * precision + recall
        score: Array = np.divide(5 * precision * recall, below, out=np.zeros_like(below), where=below > 0)
        return 100 * score

    def signature(self, sample: Sample | None = None) -> str:
        return f"chrF2|nrefs:{_references(sample)}|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{_version()}"


class Bleu:
    """Corpus BLEU, 0..100; a sentence's value uses the effective order, as sacreBLEU's sentence_bleu does."""

    name, version, unit, better, scale = "bleu", 1, "", "higher", 100.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return lines.score(answer, sample, partial(_sentence, _bleu(_tokenizer(sample), sentence=True)), self.reduce)

    def reduce(self, stats: Any) -> Array:
        """BLEU of summed statistics (hypothesis length, reference length, 4 matches, 4 totals), shape (..., 10)."""
        array = np.asarray(stats, dtype=np.float64)
        said, wanted, match, total = array[..., 0], array[..., 1], array[..., 2:6], array[..., 6:10]
        # Smoothing "exp": the i-th order without a match counts as 1/2^i of a match.
        zero = (match == 0) & (total > 0)
        smoothed = np.where(zero, 0.5 ** np.cumsum(zero, -1), match)
        precision = np.divide(smoothed, total, out=np.zeros_like(total), where=total > 0)
        with np.errstate(divide="ignore"):
            mean = np.exp(np.log(precision).mean(-1))
        short = np.divide(wanted, said, out=np.full_like(said, np.inf), where=said > 0)
        penalty = np.where(said < wanted, np.exp(1 - short), 1.0)
        return np.where((match > 0).any(-1), 100 * penalty * mean, 0.0)

    def signature(self, sample: Sample | None = None) -> str:
        tokenize = _tokenizer(sample)
        return f"BLEU|nrefs:{_references(sample)}|case:mixed|eff:no|tok:{tokenize}|smooth:exp|version:{_version()}"


class ChrfShare:
    """Share of sentences of chrF 50 or more: near enough to count as right."""

    name, version, unit, better, scale = "chrf_50", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return right(answer, sample, lambda said, wanted: _chrf_stats(said, tuple(wanted))[0] >= 50)

    def reduce(self, stats: Any) -> Array:
        return lines.share(stats)

    def signature(self, sample: Sample | None = None) -> str:
        return f"chrf_50 v1 | {Chrf().signature(sample)}"


@cache
def _ter(asian: bool) -> Any:
    from sacrebleu.metrics.ter import TER

    return TER(asian_support=asian, normalized=asian)


def _edits(metric: Any, answer: str, wanted: list[str]) -> tuple[float, list[float]]:
    """TER of one sentence, its words as sacreBLEU has them, and the statistics [edits, words of the reference].

    sacreBLEU tokenizes references twice, which parts "Sainsbury's的" once more: its own way gives its published digits.
    """
    said = metric._preprocess_segment(answer).split()
    references = metric._cache_references([[text] for text in wanted])[0]["ref_words"]
    stats = [float(x) for x in ter.edits(said, references)]
    return float(metric._compute_score_from_stats(stats).score), stats


class Ter:
    """Translation edit rate (Snover 2006), per cent of the reference's words to edit; may exceed 100."""

    name, version, unit, better, scale = "ter", 1, "%", "lower", 100.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return lines.score(answer, sample, partial(_edits, _ter(_tokenizer(sample) == "zh")), self.reduce)

    def reduce(self, stats: Any) -> Array:
        """100·edits/reference words of summed statistics, shape (..., 2)."""
        array = np.asarray(stats, dtype=np.float64)
        edits, words = array[..., 0], array[..., 1]
        none = np.where(edits > 0, 1.0, 0.0)
        return 100 * np.where(words > 0, edits / np.maximum(words, 1e-9), none)

    def signature(self, sample: Sample | None = None) -> str:
        asian = "yes" if _tokenizer(sample) == "zh" else "no"
        case = f"nrefs:{_references(sample)}|case:lc|tok:tercom|norm:{asian}|punct:yes|asian:{asian}"
        return f"TER|{case}|version:{_version()}"


def _references(sample: Sample | None) -> int:
    return len(references(sample)) if sample is not None else 1


def _version() -> str:
    from importlib.metadata import version

    return version("sacrebleu")
