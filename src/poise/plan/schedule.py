"""Open-loop schedules: absolute due times, made before the run from a seed; and how many requests a load asks.

Arrivals of mean rate 1 are made first. Constant: 0, 1, 2 … Poisson: exponential gaps. Gamma: gaps of shape
`burstiness` (1 = Poisson, below 1 burstier, above 1 more regular; the convention of vLLM's benchmark). They are then
moved to the time at which the load's cumulative rate reaches them (time change of a point process; Çinlar 1975):
u/rate, or for a ramp from a to b requests per second in D seconds the t with a·t + (b − a)·t²/2D = u. A trace says
itself when its requests came; its times are multiplied by the load's `value`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count as natural
from itertools import islice, takewhile
from typing import NamedTuple

from poise.plan.spec import Load
from poise.types import Traced


class Extent(NamedTuple):
    """How much a cell asks and for how many seconds, each as far as its load says beforehand."""

    requests: int | None
    seconds: float | None


def planned(load: Load, items: int, seed: int, trace: Sequence[Traced] = ()) -> int:
    """How many requests a load asks: as many as it says, or fall due in its duration, or its trace has.

    Else every item once. So does a closed loop with a duration: how many it came to ask shows only afterwards.
    """
    most = load.requests
    if load.form != "open" or (load.duration_s is None and not trace):
        return most or items
    end = load.duration_s or math.inf
    return sum(1 for _ in islice(takewhile(lambda at: at < end, _arrivals(load, items, seed, trace)), most))


def due_times(load: Load, count: int, seed: int, trace: Sequence[Traced] = ()) -> list[int] | None:
    """`count` offsets in nanoseconds from the start of the window, ascending; None for closed loops and batches."""
    if load.form != "open":
        return None
    return [round(at * 1e9) for at in islice(_arrivals(load, count, seed, trace), count)]


def peak_rps(due_ns: Sequence[int]) -> float:
    """The most requests that fall due within any one second of an ascending schedule."""
    first, most = 0, 0
    for count, due in enumerate(due_ns, 1):
        while due - due_ns[first] >= 1_000_000_000:
            first += 1
        most = max(most, count - first)
    return float(most)


def _arrivals(load: Load, count: int, seed: int, trace: Sequence[Traced]) -> Iterator[float]:
    """Seconds from the start, of all but a trace without end. A ramp may take as long as `count` requests need."""
    if load.kind == "trace":
        return (row.at_s * load.value for row in trace)
    return map(_clock(load, count), _units(load, seed))


def _units(load: Load, seed: int) -> Iterator[float]:
    """Arrivals of rate 1, the same whatever the rate: loads of one study differ by their rate, not by luck."""
    if load.arrivals == "constant":
        yield from natural()
    shape = load.burstiness if load.arrivals == "gamma" else 1.0
    source = random.Random(f"{seed}/{shape:g}")
    at = 0.0
    while True:
        yield at
        at += source.gammavariate(shape, 1.0 / shape)


def _clock(load: Load, count: int) -> Callable[[float], float]:
    """When the load's cumulative rate reaches u."""
    if load.low is None:
        return lambda u: u / load.value
    low, duration_s = load.low, load.duration_s or 2 * count / (load.low + load.value)
    slope = (load.value - low) / duration_s
    # the root of low·t + slope·t²/2 = u in the form that stays exact for a slope near 0
    return lambda u: 2 * u / (low + math.sqrt(low * low + 2 * slope * u)) if u else 0.0
