"""Generates short lists of facts (key and value) with one question about them."""

from random import Random

from poise.tasks.mini._items import Draw, Grammar, Item

NAMES = "Ann Bob Eve Tom Max Ida Leo Mia Sam Zoe Kim Ben Amy Dan Joe Liz Ned Pam Ray Sue".split()
COLOURS = "red blue green white black pink grey brown gold silver".split()
THINGS = "cup hat pen bag box car bike lamp book coat ring boat".split()


def _facts(rng: Random, n: int) -> tuple[list[str], list[str], list[str]]:
    """Names, colours and things, none twice, so that every question has one answer."""
    return rng.sample(NAMES, n), rng.sample(COLOURS, n), rng.sample(THINGS, n)


def _told(names: list[str], colours: list[str], things: list[str]) -> str:
    return " ".join(f"{n} has a {c} {t}." for n, c, t in zip(names, colours, things, strict=True))


def _thing(n: int) -> Draw:
    def draw(rng: Random) -> Item:
        names, colours, things = _facts(rng, n)
        i = rng.randrange(n)
        return Item(f"{_told(names, colours, things)} What does {names[i]} have?", f"a {colours[i]} {things[i]}")

    return draw


def _who(n: int) -> Draw:
    def draw(rng: Random) -> Item:
        names, colours, things = _facts(rng, n)
        i = rng.randrange(n)
        return Item(f"{_told(names, colours, things)} Who has the {things[i]}?", names[i])

    return draw


def _colour(n: int) -> Draw:
    def draw(rng: Random) -> Item:
        names, colours, things = _facts(rng, n)
        i = rng.randrange(n)
        return Item(f"{_told(names, colours, things)} Which colour is the {things[i]}?", colours[i])

    return draw


def _passed_on(n: int) -> Draw:
    """One fact changes: a thing is given to somebody who had nothing."""

    def draw(rng: Random) -> Item:
        names, colours, things = _facts(rng, n)
        i, j = rng.randrange(n), rng.randrange(n)
        taker = rng.choice([name for name in NAMES if name not in names])
        told = f"{_told(names, colours, things)} {names[i]} gives the {things[i]} to {taker}."
        owners = [taker if k == i else name for k, name in enumerate(names)]
        j = i if rng.random() < 0.5 else j
        return Item(f"{told} Who has the {things[j]} now?", owners[j])

    return draw


def _two_hops(n: int) -> Draw:
    """The asked person is known only by whom they live with."""

    def draw(rng: Random) -> Item:
        names, colours, things = _facts(rng, n)
        i = rng.randrange(n)
        other = rng.choice([name for name in NAMES if name not in names])
        told = f"{_told(names, colours, things)} {other} lives with {names[i]}."
        return Item(f"{told} Which colour is the thing {other}'s housemate has?", colours[i])

    return draw


QA: Grammar = {
    "who-of-2": _who(2),
    "colour-of-2": _colour(2),
    "thing-of-2": _thing(2),
    "who-of-3": _who(3),
    "thing-of-3": _thing(3),
    "colour-of-4": _colour(4),
    "passed-on": _passed_on(2),
    "two-hops": _two_hops(2),
}
