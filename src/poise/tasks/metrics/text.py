"""Metrics of free text against one or several reference answers: exact match, token F1, ROUGE-L, mathematical equality.

Token F1 follows the official SQuAD script: lower case, no punctuation, no articles, single spaces; the
best over the references counts. A target may be a text or a list of texts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from functools import cache
from typing import Any

from poise.tasks.mathequal import equal, worked_out
from poise.types import Sample, Score

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")


def references(sample: Sample) -> list[str]:
    """The target as a list of texts; empty where there is none."""
    target = sample.target
    if target is None:
        return []
    return [str(t) for t in target] if isinstance(target, list | tuple) else [str(target)]


def normalize_squad(text: str) -> str:
    """Lower case, punctuation and articles removed, single spaces: the official SQuAD normalisation."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, reference: str, *, by_character: bool = False) -> float:
    """2·common/(|answer| + |reference|) over normalised tokens (CJK: characters); empty texts: equality."""
    said, wanted = normalize_squad(answer), normalize_squad(reference)
    if by_character:
        said, wanted = _CJK.sub(r" \1 ", said), _CJK.sub(r" \1 ", wanted)
    a, b = said.split(), wanted.split()
    if not a or not b:
        return float(a == b)
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b))


class ExactMatch:
    """Whether the answer is one of the references, letter for letter (runs of white space count as one space)."""

    name, version, unit, better, scale = "exact_match", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        wanted = references(sample)
        if not wanted:
            return Score(None, answer=answer, reason="no target")
        if answer is None:
            return Score(0.0, reason="none found")
        return Score(float(any(answer.split() == w.split() for w in wanted)), answer=answer)

    def signature(self, sample: Sample | None = None) -> str:
        return "exact_match v1 | case kept"


class TokenF1:
    """Token F1 against the best reference, official SQuAD normalisation."""

    name, version, unit, better, scale = "f1", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        wanted = references(sample)
        if not wanted:
            return Score(None, answer=answer, reason="no target")
        if answer is None:
            return Score(0.0, reason="none found")
        by_character = any(_CJK.search(w) for w in wanted)
        return Score(max(token_f1(answer, w, by_character=by_character) for w in wanted), answer=answer)

    def signature(self, sample: Sample | None = None) -> str:
        return "f1 v1 | squad normalisation"


class MathEqual:
    """Whether the answer equals the target as mathematics and is worked out (a copied "3 + 5" is no answer to 3 + 5).

    `fields["unordered"]`: lists are sets. `fields["literal"]`: digits of some base, compared as text.
    """

    name, version, unit, better, scale = "math_equal", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        wanted = references(sample)
        if not wanted:
            return Score(None, answer=answer, reason="no target")
        if answer is None:
            return Score(0.0, reason="none found")
        if sample.fields.get("literal"):
            said = re.sub(r"\s|\(base \d+\)$|[_ ]\(?\d+\)?$|[.]$", "", answer.strip().lower())
            return Score(float(any(said == w.lower() for w in wanted)), answer=answer)
        ordered = not sample.fields.get("unordered")
        if not any(equal(answer, w, ordered=ordered) for w in wanted):
            return Score(0.0, answer=answer)
        if answer.strip() not in wanted and not worked_out(answer):
            return Score(0.0, answer=answer, reason="not worked out")
        return Score(1.0, answer=answer)

    def signature(self, sample: Sample | None = None) -> str:
        return "math_equal v1"


@cache
def _rouge(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True)


class RougeL:
    """ROUGE-L F1 (rouge-score, Porter stemmer), best reference."""

    name, version, unit, better, scale = "rouge_l", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return score_rouge("rougeL", answer, sample)

    def signature(self, sample: Sample | None = None) -> str:
        return signature_rouge("rougeL")


def score_rouge(kind: str, answer: str | None, sample: Sample) -> Score:
    wanted = references(sample)
    if not wanted:
        return Score(None, answer=answer, reason="no target")
    if answer is None:
        return Score(0.0, reason="none found")
    best = max(_rouge(kind).score(w, answer)[kind].fmeasure for w in wanted)
    return Score(float(best), answer=answer)


def signature_rouge(kind: str) -> str:
    from importlib.metadata import version

    return f"{kind} F1 | stemmer | rouge-score {version('rouge-score')}"
