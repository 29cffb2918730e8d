"""Seeded school-mathematics problems with exact answers, one generator per module, in own wording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import comb, gcd
from random import Random

Problem = tuple[str, str]
LETTERS = "abcdghkmnpqrstuvwxyz"


def problems(seed: int, n: int) -> Iterator[tuple[str, str, str, str]]:
    """`n` problems as (category, module, question, answer), the modules taking turns; the same for the same seed.

    Problem i depends on the seed and i alone, and no question comes twice.
    """
    modules = list(GENERATORS)
    seen: set[str] = set()
    for i in range(n):
        category, module = modules[i % len(modules)]
        for attempt in range(100):
            question, answer = GENERATORS[category, module](Random(f"{seed}/{category}/{module}/{i}/{attempt}"))
            if question not in seen:
                break
        seen.add(question)
        yield category, module, question, answer


def _integer(r: Random, digits: int = 3) -> int:
    return r.choice((-1, 1)) * r.randint(1, 10 ** r.randint(1, digits) - 1)


def _shown(number: int) -> str:
    return f"({number})" if number < 0 else str(number)


def _add_or_sub(r: Random) -> Problem:
    a, b = _integer(r, 5), _integer(r, 5)
    if r.random() < 0.5:
        return r.choice((f"Work out {a} + {_shown(b)}.", f"What do {a} and {b} add up to?")), str(a + b)
    return r.choice((f"Work out {a} - {_shown(b)}.", f"Take {b} away from {a}.")), str(a - b)


def _mul(r: Random) -> Problem:
    a, b = _integer(r, 4), _integer(r, 2)
    return r.choice((f"Work out {a} * {_shown(b)}.", f"Multiply {a} by {b}.")), str(a * b)


def _div(r: Random) -> Problem:
    a, b = _integer(r, 4), _integer(r, 2)
    return f"Divide {a} by {b}.", str(Fraction(a, b))


def _mixed(r: Random) -> Problem:
    a, b, c, d = (_integer(r, 2) for _ in range(4))
    return f"Work out {_shown(a)}*{_shown(b)} - ({c} + {_shown(d)}).", str(a * b - (c + d))


def _linear_1d(r: Random) -> Problem:
    x, letter, a, c = _integer(r, 2), r.choice(LETTERS), _integer(r, 2), _integer(r, 2)
    d = _integer(r, 2)
    d = d + 1 if a == d else d
    d = d or 1
    if a == d:
        a += 1
    a = a or 2 * d
    right = a * x + c - d * x
    return f"Solve {_terms({letter: a, '': c})} = {_terms({letter: d, '': right})} for {letter}.", str(x)


def _linear_2d(r: Random) -> Problem:
    p, q = r.sample(LETTERS, 2)
    x, y = _integer(r, 2), _integer(r, 2)
    while True:
        a, b, c, d = (_integer(r, 1) for _ in range(4))
        if a * d != b * c:
            break
    first = f"{_terms({p: a, q: b})} = {a * x + b * y}"
    second = f"{_terms({p: c, q: d})} = {c * x + d * y}"
    return f"Given {first} and {second}, find {p}.", str(x)


def _next_term(r: Random) -> Problem:
    a, b, c = _integer(r, 3), _integer(r, 2), r.randint(-9, 9)
    terms = [a + b * k + c * k * k for k in range(6)]
    return f"Which number comes next: {', '.join(map(str, terms[:5]))}?", str(terms[5])


def _roots(r: Random) -> Problem:
    x, y, letter = _integer(r, 2), _integer(r, 2), r.choice(LETTERS)
    left = _terms({f"{letter}**2": 1, letter: -(x + y), "": x * y})
    return f"Find all {letter} with {left} = 0.", ", ".join(map(str, sorted({x, y})))


def _differentiate(r: Random) -> Problem:
    letter = r.choice(LETTERS)
    powers = {n: _integer(r, 2) for n in r.sample(range(1, 6), 3)}
    inside = _terms({_power(letter, n): c for n, c in powers.items()})
    outside = _terms({_power(letter, n - 1): n * c for n, c in sorted(powers.items(), reverse=True)})
    return f"Differentiate {inside} with respect to {letter}.", outside


def _collect(r: Random) -> Problem:
    letter, terms = r.choice(LETTERS), []
    total = {2: 0, 1: 0, 0: 0}
    for _ in range(5):
        n, c = r.randint(0, 2), _integer(r, 2)
        total[n] += c
        terms.append((_power(letter, n), c))
    return f"Collect like terms: {_sum(terms)}.", _terms({_power(letter, n): c for n, c in total.items()})


def _evaluate(r: Random) -> Problem:
    letter, x = r.choice(LETTERS), r.randint(-12, 12)
    a, b, c = _integer(r, 1), _integer(r, 2), _integer(r, 2)
    inside = _terms({f"{letter}**2": a, letter: b, "": c})
    return f"Let f({letter}) = {inside}. What is f({x})?", str(a * x * x + b * x + c)


def _pair(r: Random) -> Problem:
    a, b = Fraction(_integer(r, 2), r.randint(1, 9)), Fraction(_integer(r, 2), r.randint(1, 9))
    if a == b:
        b += 1
    word = r.choice(("greater", "smaller"))
    return f"Which of the two is {word}, {a} or {b}?", str(max(a, b) if word == "greater" else min(a, b))


def _sort(r: Random) -> Problem:
    values = r.sample(range(-99, 1000), r.randint(3, 6))
    word = r.choice(("smallest", "largest"))
    ordered = sorted(values, reverse=word == "largest")
    return f"Sort from the {word} on: {', '.join(map(str, values))}.", ", ".join(map(str, ordered))


def _kth(r: Random) -> Problem:
    values, k = r.sample(range(-99, 1000), r.randint(3, 6)), r.randint(1, 3)
    word = ("", "second ", "third ")[k - 1]
    return f"What is the {word}largest number among {', '.join(map(str, values))}?", str(sorted(values)[-k])


def _closest(r: Random) -> Problem:
    target = r.randint(-99, 99)
    values = [target + r.choice((-1, 1)) * d for d in r.sample(range(1, 200), r.randint(3, 5))]
    return f"Which number is nearest to {target}: {', '.join(map(str, values))}?", str(
        min(values, key=lambda v: abs(v - target))
    )


def _remainder(r: Random) -> Problem:
    b = r.randint(2, 999)
    a = r.randint(b, 99 * b)
    return f"What remains when {a} is divided by {b}?", str(a % b)


def _gcd(r: Random) -> Problem:
    d, a, b = r.randint(1, 60), r.randint(2, 99), r.randint(2, 99)
    return f"What is the greatest common divisor of {d * a} and {d * b}?", str(gcd(d * a, d * b))


def _lcm(r: Random) -> Problem:
    a, b = r.randint(2, 300), r.randint(2, 300)
    return f"What is the smallest number that both {a} and {b} divide?", str(a * b // gcd(a, b))


def _is_factor(r: Random) -> Problem:
    d, k = r.randint(2, 60), r.randint(3, 999)
    number = d * k + r.choice((0, r.randint(1, d - 1)))
    return f"Does {d} divide {number}? Say True or False.", str(number % d == 0)


def _is_prime(r: Random) -> Problem:
    # Half of the numbers prime, none of the others even: parity must not give it away.
    prime = r.random() < 0.5
    number = r.randrange(11, 5000, 2)
    while (len(_factors(number)) == 1) != prime:
        number = r.randrange(11, 5000, 2)
    return f"Is {number} a prime number? Say True or False.", str(prime)


def _prime_factors(r: Random) -> Problem:
    number = r.randint(20, 9999)
    return f"List the different primes that divide {number}.", ", ".join(map(str, sorted(set(_factors(number)))))


def _place_value(r: Random) -> Problem:
    number, place = r.randint(1000, 9_999_999), r.randint(0, 3)
    word = ("units", "tens", "hundreds", "thousands")[place]
    return f"Which digit of {number} is the {word} digit?", str(number // 10**place % 10)


def _round(r: Random) -> Problem:
    number, place = r.randint(10_001, 9_999_999), r.randint(1, 3)
    unit = 10**place
    if 2 * (number % unit) == unit:  # a tie has two conventions
        number += 1
    word = ("ten", "hundred", "thousand")[place - 1]
    return f"Round {number} to the nearest {word}.", str((number + unit // 2) // unit * unit)


def _conversion(r: Random) -> Problem:
    big, small, factor = r.choice(
        (("hours", "minutes", 60), ("metres", "millimetres", 1000), ("days", "hours", 24), ("kilograms", "grams", 1000))
    )
    n = r.randint(2, 99)
    return f"How many {small} are there in {n} {big}?", str(n * factor)


def _time(r: Random) -> Problem:
    start, minutes = r.randrange(0, 660), r.randint(5, 700)
    return f"How many minutes pass from {_clock(start)} to {_clock(start + minutes)} the same day?", str(minutes)


def _without_replacement(r: Random) -> Problem:
    a, b = r.sample("bcdfghjklmnpqrstvwxyz", 2)
    n, m = r.randint(2, 9), r.randint(2, 9)
    k = r.randint(1, min(n, 3))
    probability = Fraction(comb(n, k), comb(n + m, k))
    return (
        f"A bag holds {n} letters {a} and {m} letters {b}. {k} drawn without putting back: "
        f"what is the probability that all are {a}?",
        str(probability),
    )


def _factors(number: int) -> list[int]:
    found, p = [], 2
    while p * p <= number:
        while number % p == 0:
            found.append(p)
            number //= p
        p += 1
    return found + ([number] if number > 1 else [])


def _clock(minute: int) -> str:
    hour, rest = divmod(minute % 1440, 60)
    return f"{(hour - 1) % 12 + 1}:{rest:02d} {'AM' if hour < 12 else 'PM'}"


def _power(letter: str, n: int) -> str:
    return "" if n == 0 else letter if n == 1 else f"{letter}**{n}"


def _terms(coefficients: dict[str, int]) -> str:
    return _sum([(m, c) for m, c in coefficients.items() if c]) or "0"


def _sum(terms: list[tuple[str, int]]) -> str:
    text = ""
    for monomial, c in terms:
        size = str(abs(c)) if not monomial else monomial if abs(c) == 1 else f"{abs(c)}*{monomial}"
        text += (" - " if c < 0 else " + ") + size if text else ("-" if c < 0 else "") + size
    return text


GENERATORS: dict[tuple[str, str], Callable[[Random], Problem]] = {
    ("arithmetic", "add_or_sub"): _add_or_sub,
    ("algebra", "linear_1d"): _linear_1d,
    ("comparison", "pair"): _pair,
    ("numbers", "div_remainder"): _remainder,
    ("polynomials", "collect"): _collect,
    ("measurement", "conversion"): _conversion,
    ("calculus", "differentiate"): _differentiate,
    ("probability", "swr_p_level_set"): _without_replacement,
    ("arithmetic", "mul"): _mul,
    ("algebra", "linear_2d"): _linear_2d,
    ("comparison", "sort"): _sort,
    ("numbers", "gcd"): _gcd,
    ("polynomials", "evaluate"): _evaluate,
    ("measurement", "time"): _time,
    ("arithmetic", "div"): _div,
    ("algebra", "sequence_next_term"): _next_term,
    ("comparison", "kth_biggest"): _kth,
    ("numbers", "lcm"): _lcm,
    ("arithmetic", "mixed"): _mixed,
    ("algebra", "polynomial_roots"): _roots,
    ("comparison", "closest"): _closest,
    ("numbers", "is_factor"): _is_factor,
    ("numbers", "is_prime"): _is_prime,
    ("numbers", "list_prime_factors"): _prime_factors,
    ("numbers", "place_value"): _place_value,
    ("numbers", "round_number"): _round,
}
