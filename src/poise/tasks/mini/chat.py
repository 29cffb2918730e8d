"""Generates conversations of two turns: a list of facts with a question, then another question about the same facts."""

from random import Random

from poise.tasks.mini._items import Draw, Grammar, Item, is_test
from poise.tasks.mini.qa import QA

SECOND = {"who": "Who has the {thing}?", "colour": "Which colour is the {thing}?"}


def _then(first: str, kind: str) -> Draw:
    """An item of the key–value task (never one it trains on), and what is asked after its answer."""

    def draw(rng: Random) -> Item:
        item = QA[first](rng)
        while not is_test(item.question):
            item = QA[first](rng)
        facts = [s.split() for s in item.question.split(". ")[:-1]]  # "Ann has a red cup"
        name, _, _, colour, thing = rng.choice(facts)
        answer = {"who": name, "colour": colour}[kind]
        return Item(f"{item.question}\n{SECOND[kind].format(thing=thing)}", f"{item.answer}\n{answer}")

    return draw


CHAT: Grammar = {
    "who-then-colour": _then("who-of-2", "colour"),
    "colour-then-who": _then("colour-of-2", "who"),
    "who-of-3-then-colour": _then("who-of-3", "colour"),
    "thing-then-who": _then("thing-of-2", "who"),
}
