"""Open-loop schedules: absolute due times, made before the run from a seed.

Constant: i/rate. Poisson: exponential gaps of mean 1/rate. Gamma: gaps of mean 1/rate and shape `burstiness`
(1 = Poisson, below 1 burstier, above 1 more regular; the convention of vLLM's benchmark).
"""

from __future__ import annotations

import random

from poise.plan.spec import Load


def due_times(load: Load, count: int, seed: int) -> list[int] | None:
    """`count` offsets in nanoseconds from the start of the window, ascending; None for closed loops and batches."""
    if load.kind != "open":
        return None
    if load.arrivals == "constant":
        return [round(i / load.value * 1e9) for i in range(count)]
    source = random.Random(f"{seed}/{load.label}")
    shape = load.burstiness if load.arrivals == "gamma" else 1.0
    due, at = [], 0.0
    for _ in range(count):
        due.append(round(at * 1e9))
        at += source.gammavariate(shape, 1.0 / (load.value * shape))
    return due
