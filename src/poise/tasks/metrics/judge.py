"""What a judge says of one answer: a rating from 1 to 10, or which of two answers is better.

In the judge's own cells these are no marks: they are about somebody else's answers (`about_others`). Joined to the
judged cells they are: q = (rating - 1)/9, and win 1, tie ½, loss 0 (METRICS §3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poise.types import Better, Sample, Score

LOWEST, HIGHEST = 1, 10


class Rating:
    """A rubric judge's number, as read by the extractor `rating`."""

    name, version, unit, better, scale = "rating", 2, "1–10", "higher", float(HIGHEST)
    about_others = True

    def score(self, answer: str | None, sample: Sample) -> Score:
        try:
            value = float(answer or "nan")
        except ValueError:
            value = math.nan
        if not LOWEST <= value <= HIGHEST:
            return Score(None, answer=answer, reason=f"the judge gave no single rating from {LOWEST} to {HIGHEST}")
        return Score(value, answer=answer)

    def signature(self, sample: Sample | None = None) -> str:
        return f"rating v{self.version}"


class Preference:
    """A pairwise judge's verdict for the judged answer, as read by `preference`: 1, ½ or 0, in the order shown."""

    name, version, unit, better, scale = "preference", 1, "", "higher", 1.0
    about_others = True

    def score(self, answer: str | None, sample: Sample) -> Score:
        own, other = ("A", "B") if sample.fields.get("order") == "ab" else ("B", "A")
        value = {own: 1.0, "tie": 0.5, other: 0.0}.get(answer or "")
        return Score(value, answer=answer, reason="the judge gave no single verdict" if value is None else None)

    def signature(self, sample: Sample | None = None) -> str:
        return f"preference v{self.version}"


class Judged:
    """A judge's verdict as a metric of the judged cell. `mark` turns its values into q."""

    version = 1
    better: Better | None = "higher"

    def __init__(self, name: str, judges: Sequence[str], against: str | None = None) -> None:
        self.name, self.judges, self.against = name, tuple(judges), against
        rated = name == "judge.rating"
        self.unit, self.scale = ("1–10", float(HIGHEST)) if rated else ("", 1.0)
        self.lowest = float(LOWEST) if rated else 0.0
        """What a failed answer is worth."""

    def mark(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.name == "judge.rating":
            return (values - LOWEST) / (HIGHEST - LOWEST)
        return values

    def score(self, answer: str | None, sample: Sample) -> Score:
        return Score(None, reason="a judge's verdicts are read from its run")

    def signature(self, sample: Sample | None = None) -> str:
        against = f" against {self.against}" if self.against else ""
        return f"{self.name} by {', '.join(self.judges)}{against} v{self.version}"
