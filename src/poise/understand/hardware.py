"""Catalogue of accelerators: dense half-precision FLOP/s, memory bandwidth, memory, board power.

Makers' data sheets; figures "with sparsity" are halved. Apple publishes no half-precision rate for these chips (single
precision stands in) and no power of the chip alone (None: energy is then not measurable).
"""

from __future__ import annotations

from msgspec import Struct

from poise.registry import did_you_mean
from poise.types import UsageError

GIB = 2**30


class Hardware(Struct, frozen=True):
    """One accelerator. `flops` per second, `bandwidth` in bytes per second."""

    name: str
    flops: float
    bandwidth: float
    mem_bytes: float
    power_w: float | None = None


def _row(name: str, tflops: float, gb_s: float, gib: float, power_w: float | None) -> Hardware:
    return Hardware(name, tflops * 1e12, gb_s * 1e9, gib * GIB, power_w)


CATALOGUE = {
    h.name: h
    for h in (
        _row("V100", 125, 900, 32, 300),
        _row("A100-40GB", 312, 1555, 40, 400),
        _row("A100-80GB", 312, 2039, 80, 400),
        _row("RTX-A6000", 154.8, 768, 48, 300),
        _row("H100", 989, 3350, 80, 700),
        _row("H200", 989, 4800, 141, 700),
        _row("L4", 121, 300, 24, 72),
        _row("T4", 65, 320, 16, 70),
        _row("RTX-4090", 165, 1008, 24, 450),
        _row("M2", 3.6, 100, 24, None),
        _row("M2-Max", 13.6, 400, 96, None),
    )
}
ALIASES = {"a100": "A100-80GB", "a10040": "A100-40GB", "a10080": "A100-80GB", "a6000": "RTX-A6000", "4090": "RTX-4090"}
_FORMS = ("sxm2", "sxm4", "sxm5", "sxm", "nvidia", "apple", "tesla")


def hardware(name: str) -> Hardware:
    """The catalogue's entry, however it is spelt (`a100 80gb`, `NVIDIA H100 SXM`); UsageError with a suggestion."""
    plain = {_plain(k): k for k in CATALOGUE} | ALIASES
    word = _plain(name)
    for form in _FORMS:
        word = word.replace(form, "")
    if word in plain:
        return CATALOGUE[plain[word]]
    hint = did_you_mean(word, plain)
    if hint.startswith("; did you mean"):
        near = hint.split("'")[1]
        raise UsageError(f"unknown hardware {name!r}; did you mean {plain[near]!r}?")
    raise UsageError(f"unknown hardware {name!r}; there are: {', '.join(CATALOGUE)} (or give its figures)")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
