"""Which rates a search for the knee may try, and which one next: bisection on a fixed ladder of rates.

The ladder is geometric, each rate at most 5 % above the one before, so that every probe has an identity that is known
beforehand: it is measured once, whatever limits it is read by, and a resumed search walks the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import structs

from poise.plan.spec import Load

STEP = 1.05


def ladder(load: Load) -> list[float]:
    """All rates that a search may try, rising; in four digits."""
    low, high = load.low or load.value, load.value
    steps = max(1, math.ceil(math.log(high / low) / math.log(STEP) - 1e-9))
    return sorted({float(f"{low * (high / low) ** (i / steps):.4g}") for i in range(steps + 1)})


def probe(load: Load, rate: float) -> Load:
    """The open loop that tries one rate of a search."""
    return structs.replace(load, kind="open", value=rate, low=None)


def most_probes(load: Load) -> int:
    """How many rates are tried at most: the lowest, then halving."""
    return 1 + math.ceil(math.log2(len(ladder(load))))


def next_rate(rates: Sequence[float], met: Mapping[float, bool]) -> float | None:
    """The rate to try next, given which ones met the limits; None once neighbours enclose the knee.

    The lowest comes first: if it fails there is nothing to find, and an overload is approached from below.
    """
    failed = min((i for i, rate in enumerate(rates) if met.get(rate) is False), default=len(rates))
    passed = max((i for i, rate in enumerate(rates) if met.get(rate) and i < failed), default=-1)
    if failed - passed <= 1:
        return None
    return rates[0] if passed < 0 else rates[(passed + failed) // 2]
