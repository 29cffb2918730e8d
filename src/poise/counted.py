"""Numbers with their nouns, as sentences need them: `1 cell`, `2 cells`."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`number` and `noun`, which takes an s where it is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
