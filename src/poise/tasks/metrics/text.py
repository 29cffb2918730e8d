"""Metrics of free text against one or several reference answers: exact match, token F1, mathematical equality.

Token F1 follows the official SQuAD script: lower case, no punctuation, no articles, single spaces; the
best over the references counts. A target may be a text or a list of texts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import msgspec

from poise.tasks.mathequal import equal, worked_out
from poise.tasks.mathtext import plain
from poise.tasks.metrics import lines
from poise.tasks.metrics.lines import references
from poise.tasks.translation import WINDOW_LINES
from poise.types import Sample, Score

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")


def normalize_squad(text: str) -> str:
    """Lower case, punctuation and articles removed, single spaces: the official SQuAD normalisation.

    Chinese and Japanese as in MLQA's script: all Unicode punctuation goes, and each character is a token.
    """
    text = text.lower()
    if _CJK.search(text):
        text = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
        text = _CJK.sub(r" \1 ", text)
    return " ".join(_ARTICLES.sub(" ", text.translate(_PUNCTUATION)).split())


def token_f1(answer: str, reference: str) -> float:
    """2·common/(|answer| + |reference|) over normalised tokens; where one of them has none: whether both have none."""
    a, b = normalize_squad(answer).split(), normalize_squad(reference).split()
    if not a or not b:
        return float(a == b)
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b))


class ExactMatch:
    """Whether the answer is one of the references, letter for letter (runs of white space count as one space)."""

    name, version, unit, better, scale = "exact_match", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return right(answer, sample, lambda said, wanted: any(said.split() == w.split() for w in wanted))

    def reduce(self, stats: Any) -> Any:
        return lines.share(stats)

    def signature(self, sample: Sample | None = None) -> str:
        return "exact_match v1 | case kept"


def right(answer: str | None, sample: Sample, good: Callable[[str, list[str]], bool]) -> Score:
    """Whether an answer is good; of an answer of several lines the share that is, with its statistics."""
    if answer is None and not sample.fields.get(WINDOW_LINES) and sample.target is not None:
        return Score(0.0, reason="none found")

    def sentence(said: str, wanted: list[str]) -> tuple[float, list[float]]:
        hit = float(good(said, wanted))
        return hit, [hit, 1.0]

    score = lines.score(answer, sample, sentence, lines.share)
    # a single answer is a proportion of its own kind (Wilson), which needs no statistics
    return score if sample.fields.get(WINDOW_LINES) else msgspec.structs.replace(score, stats=None)


def best(answer: str | None, sample: Sample, of: Callable[[str, str], float]) -> Score:
    """The answer's best value over the references."""
    wanted = references(sample)
    if not wanted:
        return Score(None, answer=answer, reason="no target")
    if answer is None:
        return Score(0.0, reason="none found")
    return Score(max(of(answer, w) for w in wanted), answer=answer)


class EditSimilarity:
    """1 − Levenshtein distance / length of the longer text, characters, best reference; texts beyond 2 000 are cut."""

    name, version, unit, better, scale = "edit_similarity", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return best(answer, sample, edit_similarity)

    def signature(self, sample: Sample | None = None) -> str:
        return "edit_similarity v1 | characters"


def edit_similarity(a: str, b: str) -> float:
    """1 − d/max(|a|, |b|) with d the Levenshtein distance of the first 2 000 characters."""
    a, b = a[:2000], b[:2000]
    return 1 - distance(a, b) / max(len(a), len(b), 1)


def distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein distance of two sequences, by Hyyrö's bit vectors: a few steps on big integers per element of b."""
    if not a:
        return len(b)
    where: dict[Hashable, int] = {}
    for i, c in enumerate(a):
        where[c] = where.get(c, 0) | 1 << i
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, found = every, 0, len(a)
    for c in b:
        match = where.get(c, 0)
        vertical = match | minus
        diagonal = (((match & plus) + plus) ^ plus) | match
        up, down = minus | ~(diagonal | plus) & every, plus & diagonal
        found += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & every, down << 1 & every
        plus, minus = (down | ~(vertical | up)) & every, up & vertical
    return found


class SquadExactMatch:
    """Whether the answer is one of the references after the SQuAD normalisation; "" means that there is no answer."""

    name, version, unit, better, scale = "exact_match.squad", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return best(answer, sample, lambda said, wanted: float(normalize_squad(said) == normalize_squad(wanted)))

    def signature(self, sample: Sample | None = None) -> str:
        return "exact_match.squad v1 | squad normalisation, CJK as MLQA"


class TokenF1:
    """Token F1 against the best reference, official SQuAD normalisation."""

    name, version, unit, better, scale = "f1", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return best(answer, sample, token_f1)

    def signature(self, sample: Sample | None = None) -> str:
        return "f1 v1 | squad normalisation, CJK as MLQA"


def _digits(answer: str) -> str:
    """Digits of some base without what names the base: 101_2, 101_{2}, (101)_2, 101 (base 2), 101 in base 2, 0b101."""
    said = re.sub(r"(?:\(base \d+\)|in base \d+|_\s*\(?\d+\)?|[.])$", "", plain(answer.strip().lower()).strip())
    return re.sub(r"\s|[()]", "", re.sub(r"^(-?)0[xbo]", r"\1", said.strip()))


class MathEqual:
    """Whether the answer equals the target as mathematics and is worked out (a copied "3 + 5" is no answer to 3 + 5).

    `fields["unordered"]`: lists are sets. `fields["literal"]`: digits of some base, compared as text.
    """

    name, version, unit, better, scale = "math_equal", 2, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        wanted = references(sample)
        if not wanted:
            return Score(None, answer=answer, reason="no target")
        if answer is None:
            return Score(0.0, reason="none found")
        if sample.fields.get("literal"):
            said = _digits(answer)
            return Score(float(any(said == w.lower() for w in wanted)), answer=answer)
        ordered = not sample.fields.get("unordered")
        if not any(equal(answer, w, ordered=ordered) for w in wanted):
            return Score(0.0, answer=answer)
        if answer.strip() not in wanted and not worked_out(answer):
            return Score(0.0, answer=answer, reason="not worked out")
        return Score(1.0, answer=answer)

    def signature(self, sample: Sample | None = None) -> str:
        return "math_equal v2"
