"""The Pareto front of quality and speed: who is on it, with what bootstrap probability, and its hypervolume.

A system is dominated if another is at least as good on both marks and better on one. The hypervolume is the area
under the front measured from the fixed reference (Q = 0, S = 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def on_front(quality: Floats, speed: Floats) -> NDArray[np.bool_]:
    """Which of the systems (last axis) no other one dominates; leading axes are resamples."""
    q, s = np.asarray(quality, dtype=float), np.asarray(speed, dtype=float)
    at_least = (q[..., :, None] >= q[..., None, :]) & (s[..., :, None] >= s[..., None, :])
    better = (q[..., :, None] > q[..., None, :]) | (s[..., :, None] > s[..., None, :])
    return np.asarray(~(at_least & better).any(axis=-2))


def front_probability(quality: Floats, speed: Floats) -> Floats:
    """Share of resamples [resamples, systems] in which each system is on the front."""
    found = np.zeros(quality.shape[-1])
    for start in range(0, len(quality), 256):  # blocks bound the memory of the all-pairs comparison
        found += on_front(quality[start : start + 256], speed[start : start + 256]).sum(axis=0)
    return found / len(quality)


def hypervolume(quality: Floats, speed: Floats) -> float:
    """Area dominated by the systems, from the reference point (0, 0)."""
    area, best = 0.0, 0.0
    for i in sorted(range(len(quality)), key=lambda i: (-quality[i], -speed[i])):
        if speed[i] > best:
            area += float(quality[i]) * (float(speed[i]) - best)
            best = float(speed[i])
    return area
