"""Generates short news reports with a one-sentence summary.

The reports hold sentences that do not matter, in any order; the summary needs the right ones, and often a comparison
of numbers or a change of roles.
"""

from random import Random

from poise.tasks.mini._items import Draw, Grammar, Item
from poise.tasks.mini.qa import NAMES

TEAMS = "Reds Blues Lions Bears Stars Kings Hawks Foxes Bulls Rams".split()
TOWNS = "Rome Oslo Bonn Lima Cairo Delhi Paris Kyoto Perth Milan".split()
DAYS = "Monday Tuesday Friday Sunday".split()
GOODS = "car boat house farm shop horse".split()
FILLERS = (
    "It rained a little.",
    "The music was loud.",
    "Many people came.",
    "The mayor was there.",
    "The roads were full.",
    "A band played.",
    "It was very cold.",
    "The police saw no problem.",
)


def _report(rng: Random, facts: list[str], summary: str, fillers: int, shuffle: bool = True) -> Item:
    if shuffle:
        rng.shuffle(facts)
    for filler in rng.sample(FILLERS, fillers):
        facts.insert(rng.randrange(len(facts) + 1), filler)
    return Item("Report: " + " ".join(facts), summary)


def _match(fillers: int) -> Draw:
    def draw(rng: Random) -> Item:
        (one, two), town = rng.sample(TEAMS, 2), rng.choice(TOWNS)
        a, b = rng.randrange(10), rng.randrange(10)
        facts = [
            rng.choice((f"They met in {town}.", f"The game was in {town}.")),
            f"The {one} scored {a} goal{'s' * (a != 1)}.",
            f"The {two} scored {b} goal{'s' * (b != 1)}.",
        ]
        high, low = max(a, b), min(a, b)
        if a == b:
            first, second = (one, two) if TEAMS.index(one) < TEAMS.index(two) else (two, one)
            return _report(rng, facts, f"{first} and {second} drew {a}-{b} in {town}.", fillers)
        winner, loser = (one, two) if a > b else (two, one)
        return _report(rng, facts, f"{winner} beat {loser} {high}-{low} in {town}.", fillers)

    return draw


def _vote(candidates: int) -> Draw:
    def draw(rng: Random) -> Item:
        names, town = rng.sample(NAMES, candidates), rng.choice(TOWNS)
        votes = rng.sample(range(10, 100), candidates)
        facts = [f"{name} got {n} votes." for name, n in zip(names, votes, strict=True)]
        facts.append(f"The vote was in {town}.")
        best = max(votes)
        winner = names[votes.index(best)]
        return _report(rng, facts, f"{winner} won {town} with {best} votes.", 1)

    return draw


def _lead(rng: Random) -> Item:
    """Who leads a table of three, and by how much."""
    teams = rng.sample(TEAMS, 3)
    points = rng.sample(range(10, 60), 3)
    facts = [f"The {team} have {n} points." for team, n in zip(teams, points, strict=True)]
    (best, first), (second, next_) = sorted(zip(points, teams, strict=True), reverse=True)[:2]
    return _report(rng, facts, f"{first} lead by {best - second} points, {next_} are second.", 1)


def _sale(rng: Random) -> Item:
    seller, buyer, other = rng.sample(NAMES, 3)
    goods, town, day, price = rng.choice(GOODS), rng.choice(TOWNS), rng.choice(DAYS), rng.randrange(20, 100)
    offer = rng.randrange(10, price)
    facts = [
        f"{seller} wanted to sell a {goods}.",
        f"{other} offered {offer} coins.",
        f"{buyer} offered {price} coins.",
    ]
    if rng.random() < 0.5:
        facts[1], facts[2] = facts[2], facts[1]
    facts.insert(rng.randrange(4), f"There was a sale in {town} on {day}.")
    return _report(rng, facts, f"{buyer} bought {seller}'s {goods} for {price} coins.", 1, shuffle=False)


def _storm(rng: Random) -> Item:
    town, other = rng.sample(TOWNS, 2)
    day, hurt, trees = rng.choice(DAYS), rng.randrange(10, 100), rng.randrange(10, 100)
    what = rng.choice("storm flood fire".split())
    facts = [
        f"There was a {what} in {town} on {day}.",
        f"{hurt} people were hurt.",
        f"{trees} trees fell.",
        f"{other} was safe.",
    ]
    return _report(rng, facts, f"A {what} hurt {hurt} people in {town} on {day}.", rng.randrange(2))


SUMMARY: Grammar = {
    "match": _match(1),
    "storm": _storm,
    "sale": _sale,
    "vote-of-2": _vote(2),
    "vote-of-3": _vote(3),
    "lead": _lead,
}
