"""Answers of several lines (a document's window): realigned to the reference's lines, then scored.

Where the lines of an answer carry their numbers, as they were asked to, a line belongs to its number, and lines without
one go on with the line before; else lines are taken by position. A line that is missing is empty, what is too much is
left out, and both are counted. Statistics of the lines are summed: corpus scores run over lines, whatever the windows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poise.tasks.translation import WINDOW_LINES
from poise.types import Sample, Score

Array = NDArray[np.float64]
Sentence = Callable[[str, list[str]], tuple[float, list[float]]]
"""Value and sufficient statistics of one sentence against its references."""

_NUMBERED = re.compile(r"\s*(\d{1,4})\s*[.:)、．：]\s*(.*)")


class Aligned(NamedTuple):
    """One text for every line of the reference, "" where it is missing."""

    lines: list[str]
    missing: int
    extra: int


def references(sample: Sample) -> list[str]:
    """The target as a list of texts; empty where there is none."""
    target = sample.target
    if target is None:
        return []
    return [str(t) for t in target] if isinstance(target, list | tuple) else [str(target)]


def align(answer: str | None, count: int) -> Aligned:
    """The lines of an answer at the places of the `count` lines that were asked for."""
    said = [line.strip() for line in (answer or "").split("\n") if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in said]
    numbers = [int(m.group(1)) for m in numbered if m]
    if 2 * sum(1 <= n <= count for n in numbers) < len(said) or not numbers:
        lines = said[:count] + [""] * (count - len(said))
        return Aligned(lines, max(0, count - len(said)), max(0, len(said) - count))
    found: dict[int, str] = {}
    extra, at = 0, 0
    for line, match in zip(said, numbered):
        number = int(match.group(1)) if match else 0
        if match and 1 <= number <= count and number not in found:
            at, found[number] = number, match.group(2).strip()
        elif match is None and at:
            found[at] += f" {line}"
        else:
            extra += 1
    lines = [found.get(n, "") for n in range(1, count + 1)]
    return Aligned(lines, sum(not line for line in lines), extra)


def score(answer: str | None, sample: Sample, sentence: Sentence, reduce: Callable[[Any], Any]) -> Score:
    """A sentence's own value, or that of the summed statistics of a window's lines; with the statistics."""
    wanted = references(sample)
    if not wanted:
        return Score(None, answer=answer, reason="no target")
    unfound = None if answer is not None else "none found"
    count = sample.fields.get(WINDOW_LINES)
    if not count:
        value, stats = sentence(answer or "", wanted)
        return Score(value, stats, answer, unfound)
    found, columns = align(answer, count), [text.split("\n") for text in wanted]
    parts = [sentence(line, [column[i] for column in columns])[1] for i, line in enumerate(found.lines)]
    stats = [float(sum(column)) for column in zip(*parts)]
    reason = (
        f"{found.missing} of {count} lines missing, {found.extra} too many" if found.missing or found.extra else None
    )
    return Score(float(reduce(stats)), stats, answer, unfound or reason)


def share(stats: Any) -> Array:
    """Of statistics [hits, lines]: hits/lines."""
    array = np.asarray(stats, dtype=np.float64)
    hits, lines = array[..., 0], array[..., 1]
    part: Array = np.divide(hits, lines, out=np.full(lines.shape, np.nan), where=lines > 0)
    return part


class _Counted:
    """Share of the reference's lines: of what `align` counts."""

    name, version, unit, better, scale = "", 1, "", "lower", 1.0

    def score(self, answer: str | None, sample: Sample) -> Score:
        count = sample.fields.get(WINDOW_LINES)
        if not count:
            return Score(None, answer=answer, reason="the item has one line")
        stats = [float(getattr(align(answer, count), self.name.removeprefix("lines."))), float(count)]
        return Score(stats[0] / count, stats, answer, None if answer is not None else "none found")

    def reduce(self, stats: Any) -> Array:
        return share(stats)

    def signature(self, sample: Sample | None = None) -> str:
        return f"{self.name} v1 | of the reference's lines"


class LinesMissing(_Counted):
    """Lines of the reference that the answer has nothing for."""

    name = "lines.missing"


class LinesExtra(_Counted):
    """Lines of the answer beyond those of the reference."""

    name = "lines.extra"
