"""What a machine does at its steady pace: times of points freed from the pace at which they happened to be measured.

A shared or throttled machine is slow for seconds at a time, so all trials of one point may be late together: they agree
and are wrong, and neither their minimum nor their spread shows it. But what was measured just before and after, other
points too, is late by the same factor. So log time = point + pace at that moment + noise, each the median of what the
other leaves (median polish, Tukey 1977, over a sliding window).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from poise.types import UsageError

Pair = tuple[int, int]

_WINDOW = 11
"""Trials whose median is the pace: long enough to hold several points, short beside the seconds that a phase lasts."""
_PASSES = 8
_STEADY, _NORMAL, _CLEAR = 10, 1.2816, 1.5
"""Percentile of the paces that is called steady (interference only slows), and where the normal distribution has it."""


class Steady(Struct, frozen=True):
    """Seconds of each point at the steady pace, their relative standard errors, and how much the pace varied.

    `spread` is half the distance of the paces' 10th and 90th percentiles, relative. The errors are 0 where a point was
    measured less than three times.
    """

    seconds: dict[Pair, float]
    error: dict[Pair, float]
    spread: float


def steady(trials: Sequence[tuple[Pair, float]]) -> Steady:
    """Points from their trials, which are given in the order in which they were measured."""
    if not all(0 < seconds < np.inf for _, seconds in trials):
        raise UsageError("a measured time is not positive; measure the profile again")
    points = list(dict.fromkeys(pair for pair, _ in trials))
    number = {pair: i for i, pair in enumerate(points)}
    which = np.array([number[pair] for pair, _ in trials])
    log = np.log([seconds for _, seconds in trials])
    rows = [np.flatnonzero(which == i) for i in range(len(points))]
    pace = np.zeros(len(log))
    for _ in range(_PASSES):
        centre = np.array([np.median((log - pace)[row]) for row in rows])
        pace = _running(log - centre[which])
    left = log - pace
    centre = np.array([np.median(left[row]) for row in rows])
    errors = _errors([left[row] for row in rows])
    fast, middle, high = np.percentile(pace, (_STEADY, 50, 100 - _STEADY))
    # Running medians of noise vary too: only what they vary clearly more than that is the machine's pace.
    chance = _NORMAL * 1.2533 * _spread(left - centre[which]) / np.sqrt(min(_WINDOW, len(log)))
    level = middle - np.sqrt(max((middle - fast) ** 2 - _CLEAR * chance**2, 0.0))
    return Steady(
        dict(zip(points, np.exp(centre + float(level)).tolist(), strict=True)),
        dict(zip(points, errors.tolist(), strict=True)),
        float(high - fast) / 2,
    )


def _running(values: Any) -> Any:
    """The median of each value's neighbourhood, at both ends of the nearest whole one."""
    width = min(_WINDOW, len(values))
    middle = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    at = np.clip(np.arange(len(values)) - width // 2, 0, len(middle) - 1)
    return middle[at]


def _spread(values: Any) -> float:
    """Standard deviation of what lies around 0, by the median absolute value."""
    return 1.4826 * float(np.median(np.abs(values)))


def _errors(logs: Sequence[Any]) -> Any:
    """Standard error of each median, 1.2533 x 1.4826 x MAD / sqrt(n); no point is surer of itself than is typical."""
    counts = np.array([len(log) for log in logs])
    if counts.min() < 3:
        return np.zeros(len(logs))
    own = np.array([_spread(log - np.median(log)) for log in logs])
    return 1.2533 * np.maximum(own, np.median(own)) / np.sqrt(counts)
