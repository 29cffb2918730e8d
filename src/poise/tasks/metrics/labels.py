"""Metrics of labels, all from one confusion table: rows are true labels, columns predicted ones and "none".

"none" is the column of answers without a label: wrong, but apart. Statistics of an item: its one cell of the flattened
k x (k + 1) table. Precision, recall and F1 follow scikit-learn: the mean runs over labels that occur as truth or as
prediction, 0/0 counts as 0. Matthews is the multi-class R_K (Gorodkin 2004), "none" being one more predicted class.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise.types import Sample, Score

Array = NDArray[np.float64]


def _score(answer: str | None, sample: Sample) -> Score:
    """1 for the true label, 0 for another or none; None where the sample has no valid target."""
    choices = sample.choices or ()
    if sample.target not in choices:
        return Score(None, answer=answer, reason=f"target {sample.target!r} is none of the choices")
    column = choices.index(answer) if answer in choices else len(choices)
    stats = [0.0] * (len(choices) * (len(choices) + 1))
    stats[choices.index(sample.target) * (len(choices) + 1) + column] = 1.0
    reason = "none found" if column == len(choices) else None
    return Score(float(answer == sample.target), stats, answer, reason)


def _tables(stats: Any) -> Array:
    """(..., k*(k+1)) summed statistics as (..., k, k+1) tables."""
    array = np.asarray(stats, dtype=np.float64)
    k = (isqrt(1 + 4 * array.shape[-1]) - 1) // 2
    return array.reshape(*array.shape[:-1], k, k + 1)


def _per_label(stats: Any) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Precision, recall, F1 per label, shape (..., k) each, and which labels occur at all."""
    tables = _tables(stats)
    k = tables.shape[-2]
    right = np.diagonal(tables[..., :k], axis1=-2, axis2=-1)
    true, predicted = tables.sum(-1), tables.sum(-2)[..., :k]
    precision = _ratio(right, predicted)
    recall = _ratio(right, true)
    f1 = _ratio(2 * right, true + predicted)
    return precision, recall, f1, (true + predicted) > 0


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b > 0)


def _macro(values: Array, occurs: NDArray[np.bool_]) -> Array:
    """Mean over the labels that occur; NaN where none does (no items)."""
    n = occurs.sum(-1)
    return np.where(n > 0, (values * occurs).sum(-1) / np.maximum(n, 1), np.nan)


def _confusion(stats: Any, choices: tuple[str, ...]) -> dict[str, Any]:
    """The table as data: counts, and per label TP, FP, FN, TN, precision, recall, F1; micro and macro means."""
    table = _tables(stats)
    precision, recall, f1, occurs = _per_label(stats)
    total, k = table.sum(), len(choices)
    per_label = {}
    for i, label in enumerate(choices):
        tp, fn, fp = table[i, i], table[i].sum() - table[i, i], table[:, i].sum() - table[i, i]
        per_label[label] = {
            "tp": int(tp),
            "fp": int(fp),
            "fn": int(fn),
            "tn": int(total - tp - fn - fp),
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
        }
    right, said = np.trace(table[:, :k]), table[:, :k].sum()
    return {
        "labels": list(choices),
        "columns": [*choices, "none"],
        "counts": table.astype(int).tolist(),
        "per_label": per_label,
        "micro": {
            "precision": float(right / said) if said else 0.0,
            "recall": float(right / total) if total else 0.0,
            "f1": float(2 * right / (said + total)) if said + total else 0.0,
        },
        "macro": {
            "precision": float(_macro(precision, occurs)),
            "recall": float(_macro(recall, occurs)),
            "f1": float(_macro(f1, occurs)),
        },
    }


class Accuracy:
    """Share of items whose label is right."""

    name, version, unit, better, scale = "accuracy", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score(answer, sample)

    def table(self, stats: Any, choices: tuple[str, ...]) -> dict[str, Any]:
        """The confusion table of summed statistics."""
        return _confusion(stats, choices)

    def signature(self, sample: Sample | None = None) -> str:
        return "accuracy v1"


class PrecisionMacro:
    """Unweighted mean of the labels' precisions."""

    name, version, unit, better, scale = "precision.macro", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        precision, _, _, occurs = _per_label(stats)
        return _macro(precision, occurs)

    def signature(self, sample: Sample | None = None) -> str:
        return "precision.macro v1"


class RecallMacro:
    """Unweighted mean of the labels' recalls."""

    name, version, unit, better, scale = "recall.macro", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        _, recall, _, occurs = _per_label(stats)
        return _macro(recall, occurs)

    def signature(self, sample: Sample | None = None) -> str:
        return "recall.macro v1"


class F1Macro:
    """Unweighted mean of the labels' F1."""

    name, version, unit, better, scale = "f1.macro", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        _, _, f1, occurs = _per_label(stats)
        return _macro(f1, occurs)

    def signature(self, sample: Sample | None = None) -> str:
        return "f1.macro v1"


class Matthews:
    """Matthews' correlation, multi-class: (c·s − Σ p·t) / √((s² − Σ p²)(s² − Σ t²)); 0 where the root is 0."""

    name, version, unit, better, scale = "matthews", 1, "", "higher", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        return _score(answer, sample)

    def reduce(self, stats: Any) -> Array:
        tables = _tables(stats)
        k = tables.shape[-2]
        n = tables.sum((-2, -1))
        right = np.trace(tables[..., :k], axis1=-2, axis2=-1)
        true, predicted = tables.sum(-1), tables.sum(-2)
        above = right * n - (true * predicted[..., :k]).sum(-1)
        below = np.sqrt(np.maximum((n**2 - (predicted**2).sum(-1)) * (n**2 - (true**2).sum(-1)), 0))
        return _ratio(above, below)

    def signature(self, sample: Sample | None = None) -> str:
        return "matthews v1"
