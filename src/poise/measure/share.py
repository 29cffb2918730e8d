"""One load over several client processes: who sends which requests. What is asked, and when, does not change.

Request i of a closed loop of n belongs to lane i mod n, lane l to process l mod p; of an open loop, to process i mod p.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

from msgspec import structs

from poise.plan.spec import Load

T = TypeVar("T")
STREAMS_A_PROCESS = 64
RATE_A_PROCESS = 500.0
MOST_PROCESSES = 8


def processes(load: Load, wanted: int | Literal["auto"], cores: int, peak_rps: float | None = None) -> int:
    """How many processes send this load. `auto`: by its size, on half the cores at most (the server may need some).

    `peak_rps`: the highest rate of a load whose `value` is none (a trace).
    """
    rate = load.value if peak_rps is None else peak_rps
    size = load.width / STREAMS_A_PROCESS if load.form == "closed" else rate / RATE_A_PROCESS
    number = max(1, min(int(size), cores // 2, MOST_PROCESSES)) if wanted == "auto" else wanted
    return min(number, load.width if load.form == "closed" else load.max_in_flight)


def mine(load: Load, things: Iterable[T], part: int, parts: int) -> Iterator[T]:
    """Of things in the order of the requests, those of process `part` of `parts`."""
    lanes = load.width if load.form == "closed" else parts
    return (thing for i, thing in enumerate(things) if i % lanes % parts == part)


def portion(load: Load, part: int, parts: int) -> Load:
    """The load that process `part` of `parts` keeps up."""
    cap = len(range(part, load.max_in_flight, parts))
    if load.form == "closed":
        return structs.replace(load, value=len(range(part, load.width, parts)), max_in_flight=cap)
    return structs.replace(load, max_in_flight=cap)
