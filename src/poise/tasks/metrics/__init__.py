"""The metrics by name: `score` judges one answer, `reduce` turns summed statistics into the corpus value."""

from poise.tasks.metrics.labels import Accuracy, F1Macro, Matthews, PrecisionMacro, RecallMacro
from poise.tasks.metrics.lines import LinesExtra, LinesMissing
from poise.tasks.metrics.perplexity import BitsPerByte, PerplexityByte, PerplexityToken, PerplexityWord
from poise.tasks.metrics.safety import BiasAmbiguous, BiasDisambiguated, NonToxic, ProperRefusal, Refusal, Toxicity
from poise.tasks.metrics.summaries import LengthRatio, Rouge1, Rouge2, RougeL, RougeLsum
from poise.tasks.metrics.text import EditSimilarity, ExactMatch, MathEqual, SquadExactMatch, TokenF1
from poise.tasks.metrics.translation import Bleu, Chrf, ChrfShare, Ter

__all__ = [
    "Accuracy",
    "BiasAmbiguous",
    "BiasDisambiguated",
    "BitsPerByte",
    "Bleu",
    "Chrf",
    "ChrfShare",
    "EditSimilarity",
    "ExactMatch",
    "F1Macro",
    "LengthRatio",
    "LinesExtra",
    "LinesMissing",
    "MathEqual",
    "Matthews",
    "NonToxic",
    "PerplexityByte",
    "PerplexityToken",
    "PerplexityWord",
    "PrecisionMacro",
    "ProperRefusal",
    "RecallMacro",
    "Refusal",
    "Rouge1",
    "Rouge2",
    "RougeL",
    "RougeLsum",
    "SquadExactMatch",
    "Ter",
    "TokenF1",
    "Toxicity",
]
