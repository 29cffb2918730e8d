"""Draws the items of a miniature task from its generator, and keeps the training and the test split apart.

An item belongs to the test split when a hash of its question falls into one of ten buckets, so no question can
be in both splits whatever the seeds are.
"""

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from itertools import count
from random import Random
from typing import NamedTuple

BUCKETS = 10
"""One question in this many is a test question."""

PATIENCE = 200
"""Draws without a new question after which a category counts as used up."""


class Item(NamedTuple):
    """One question with its reference answer."""

    question: str
    answer: str


Draw = Callable[[Random], Item]
Grammar = Mapping[str, Draw]
"""Category → generator; a category is a level of difficulty."""


def digest(question: str) -> int:
    """A number that depends on the question alone (the same on every machine and in every process)."""
    return int.from_bytes(blake2b(question.encode(), digest_size=8).digest())


def is_test(question: str) -> bool:
    """Whether the question belongs to the test split."""
    return digest(question) % BUCKETS == 0


def held_out(name: str, grammar: Grammar, n: int, seed: int) -> Iterator[tuple[str, Item]]:
    """The first `n` test items: categories in turn, no question twice, fewer only if all are used up."""
    rng = Random(f"{name}/test/{seed}")
    open_categories = list(grammar)
    seen: set[str] = set()
    for i in count():
        if len(seen) >= n or not open_categories:
            return
        category = open_categories[i % len(open_categories)]
        for _ in range(PATIENCE * BUCKETS):
            item = grammar[category](rng)
            if item.question not in seen and is_test(item.question):
                seen.add(item.question)
                yield category, item
                break
        else:
            open_categories.remove(category)


def training_items(name: str, grammar: Grammar, seed: int) -> Iterator[tuple[str, Item]]:
    """Training items without end: category at random, repeats possible, never a test question."""
    rng = Random(f"{name}/train/{seed}")
    categories = list(grammar)
    while True:
        category = rng.choice(categories)
        item = grammar[category](rng)
        if not is_test(item.question):
            yield category, item
