"""sacreBLEU's TER, faster: its own search for shifted phrases, with quicker distances wherever they are the same.

The search tries each phrase at each place and needs of nearly all of them only the edit distance, which sacreBLEU takes
from a table in Python, limited to a beam around the diagonal. Bit vectors give the unlimited distance d. An alignment
of d edits never leaves the diagonals from −d to d: where the beam holds these, the two distances are one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from poise.tasks.metrics.text import distance


@cache
def _library() -> Any:
    """A copy of sacreBLEU's module of its own, whose edit distance can be exchanged without changing sacreBLEU."""
    spec = importlib.util.find_spec("sacrebleu.metrics.lib_ter")
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    slow, width = module.BeamEditDistance, module._BEAM_WIDTH

    class Distances:
        """Distances of hypotheses from one reference: `found[0]` is quick, the trace is sacreBLEU's."""

        def __init__(self, reference: list[str]) -> None:
            self.reference, self.slow = reference, slow(reference)

        def __call__(self, words: list[str]) -> Found:
            return Found(self, words)

    class Found:
        def __init__(self, of: Distances, words: list[str]) -> None:
            self.of, self.words = of, words

        def __iter__(self) -> Iterator[Any]:
            return iter(self.of.slow(self.words))

        def __getitem__(self, index: int) -> int:
            edits = distance(self.words, self.of.reference)
            if edits <= _held(len(self.words), len(self.of.reference), width):
                return edits
            return int(self.of.slow(self.words)[0])

    module.BeamEditDistance = Distances
    return module


@lru_cache(maxsize=4096)
def _held(said: int, wanted: int, width: int) -> int:
    """The largest d of which all diagonals from −d to d lie within the beam of a table of this size."""
    if not said or wanted / said / 2 > width:
        return -1  # the beam is of another width then
    most = said + wanted
    for i in range(1, said):
        diagonal = i * wanted // said
        if diagonal - width > 0:
            most = min(most, i - (diagonal - width))
        if diagonal + width <= wanted:
            most = min(most, diagonal + width - 1 - i)
    last = said * wanted // said - width  # the last row is open to the right
    return min(most, said - last) if last > 0 else most


def edits(said: list[str], references: list[list[str]]) -> tuple[int, float]:
    """Fewest edits (shifts among them) to any reference, and the references' mean length, in words."""
    rate = _library().translation_edit_rate
    counts = [rate(said, wanted) for wanted in references]
    return min(n for n, _ in counts), sum(n for _, n in counts) / len(counts)
