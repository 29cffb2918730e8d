"""Generates short reviews whose sentiment follows from adjectives, negations, other people's views and a final word."""

from random import Random

from poise.tasks.mini._items import Draw, Grammar, Item

GOOD = (
    "great lovely tasty superb fresh charming friendly clean bright funny warm clever smooth cosy splendid "
    "helpful perfect sweet exciting brilliant elegant pleasant quick generous moving stunning witty comfortable"
).split()
BAD = (
    "awful dull dirty stale rude boring cold bland noisy clumsy slow broken ugly horrible dreadful "
    "tasteless lazy painful bitter gloomy shabby silly messy weak careless cheap tiring unpleasant"
).split()
ASPECTS = "soup film room staff book view service music bed story bread concert hotel bar plot pool cake tour".split()
PEOPLE = "My sister,My friend,Our guide,My boss,A critic,The owner,My son,Ann,Bob".split(",")
ASIDES = (
    "We came on Monday.",
    "It was our second visit.",
    "I paid with my card.",
    "There were six of us.",
    "We stayed an hour.",
    "I read about it online.",
    "It is close to the station.",
    "My son came too.",
)
NEGATIONS = ("not", "never", "hardly", "far from", "anything but")
# A frame keeps (True) or flips (False) what the clause after it says.
FRAMES = (
    ("It is true that", True),
    ("I agree that", True),
    ("Nobody can deny that", True),
    ("It is false that", False),
    ("I cannot say that", False),
    ("I doubt that", False),
)
IMPERSONAL = (("it is true that", True), ("it is false that", False))
VERDICTS = ((", and I agree", True), (" and was right", True), (", but I disagree", False), (" but was wrong", False))


def _adjective(rng: Random, good: bool) -> str:
    return rng.choice(GOOD if good else BAD)


def _clause(rng: Random, aspect: str, good: bool, negated: bool) -> str:
    """A clause that says the aspect is good (or bad), perhaps by denying the opposite."""
    if negated:
        return f"the {aspect} was {rng.choice(NEGATIONS)} {_adjective(rng, not good)}"
    return f"the {aspect} was {_adjective(rng, good)}"


def _denied(rng: Random) -> bool:
    """Most clauses say straight what they mean: else an adjective would tell nothing about the review."""
    return rng.random() < 0.2


def _turn(rng: Random, turns: tuple[tuple[str, bool], ...]) -> tuple[str, bool]:
    """A frame or verdict, twice as often one that keeps the meaning."""
    keeps = rng.random() < 0.67
    return rng.choice([turn for turn in turns if turn[1] is keeps])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _review(rng: Random, sentences: list[str], good: bool) -> Item:
    if rng.random() < 0.5:
        sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(ASIDES))
    return Item("Review: " + " ".join(sentences), "good" if good else "bad")


def _plain(rng: Random) -> Item:
    good = rng.random() < 0.5
    return _review(rng, [_sentence(_clause(rng, rng.choice(ASPECTS), good, False))], good)


def _agreeing(rng: Random) -> Item:
    """Two aspects, the same opinion of both."""
    good = rng.random() < 0.5
    one, other = rng.sample(ASPECTS, 2)
    said = f"{_clause(rng, one, good, False)} and {_clause(rng, other, good, False)}"
    return _review(rng, [_sentence(said)], good)


def _negated(rng: Random) -> Item:
    good = rng.random() < 0.5
    return _review(rng, [_sentence(_clause(rng, rng.choice(ASPECTS), good, True))], good)


def _framed(rng: Random) -> Item:
    good = rng.random() < 0.5
    frame, keeps = _turn(rng, FRAMES)
    clause = _clause(rng, rng.choice(ASPECTS), good is keeps, _denied(rng))
    return _review(rng, [f"{frame} {clause}."], good)


def _quoted(rng: Random) -> Item:
    """What somebody else said, and whether the writer shares it."""
    good = rng.random() < 0.5
    verdict, keeps = _turn(rng, VERDICTS)
    clause = _clause(rng, rng.choice(ASPECTS), good is keeps, _denied(rng))
    return _review(rng, [f"{rng.choice(PEOPLE)} said {clause}{verdict}."], good)


def _selected(n_aspects: int) -> Draw:
    """Mixed opinions about several aspects; the review says which one counts."""

    def draw(rng: Random) -> Item:
        aspects = rng.sample(ASPECTS, n_aspects)
        opinions = [rng.random() < 0.5 for _ in aspects]
        counts = rng.randrange(n_aspects)
        # At least one aspect contradicts the one that counts.
        opinions[(counts + 1 + rng.randrange(n_aspects - 1)) % n_aspects] = not opinions[counts]
        clauses = [_clause(rng, a, o, _denied(rng)) for a, o in zip(aspects, opinions, strict=True)]
        said = ", ".join(clauses[:-1]) + " and " + clauses[-1]
        return _review(rng, [_sentence(said), f"Only the {aspects[counts]} matters to me."], opinions[counts])

    return draw


def _nested(rng: Random) -> Item:
    """Two frames around a clause that may itself be negated."""
    good = rng.random() < 0.5
    (outer, keeps_outer), (inner, keeps_inner) = _turn(rng, FRAMES), _turn(rng, IMPERSONAL)
    said = good is (keeps_outer is keeps_inner)
    clause = _clause(rng, rng.choice(ASPECTS), said, _denied(rng))
    return _review(rng, [f"{outer} {inner} {clause}."], good)


SENTIMENT: Grammar = {
    "plain": _plain,
    "agreeing": _agreeing,
    "negated": _negated,
    "framed": _framed,
    "quoted": _quoted,
    "two-aspects": _selected(2),
    "three-aspects": _selected(3),
    "nested": _nested,
}
