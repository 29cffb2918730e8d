"""The metrics by name: `score` judges one answer, `reduce` turns summed statistics into the corpus value."""

from poise.tasks.metrics.labels import Accuracy, F1Macro, Matthews, PrecisionMacro, RecallMacro
from poise.tasks.metrics.text import ExactMatch, MathEqual, RougeL, TokenF1
from poise.tasks.metrics.translation import Bleu, Chrf

__all__ = [
    "Accuracy",
    "Bleu",
    "Chrf",
    "ExactMatch",
    "F1Macro",
    "MathEqual",
    "Matthews",
    "PrecisionMacro",
    "RecallMacro",
    "RougeL",
    "TokenF1",
]
