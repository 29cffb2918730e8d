"""Generates integer arithmetic (sums, differences, products, chains) and linear equations in one unknown."""

from random import Random

from poise.tasks.mini._items import Grammar, Item


def _number(rng: Random, digits: int) -> int:
    return rng.randrange(10 ** (digits - 1), 10**digits)


def _asked(expression: str, value: int) -> Item:
    return Item(f"{expression} = ?", str(value))


def _three(rng: Random) -> Item:
    a, b, c = (rng.randrange(1, 10) for _ in range(3))
    return _asked(f"{a} + {b} + {c}", a + b + c)


def _add1(rng: Random) -> Item:
    a, b = _number(rng, 2), rng.randrange(1, 10)
    return _asked(f"{a} + {b}", a + b)


def _subtract1(rng: Random) -> Item:
    a, b = _number(rng, 2), rng.randrange(1, 10)
    return _asked(f"{a} - {b}", a - b)


def _add2(rng: Random) -> Item:
    a, b = _number(rng, 2), _number(rng, 2)
    return _asked(f"{a} + {b}", a + b)


def _subtract2(rng: Random) -> Item:
    a, b = _number(rng, 2), _number(rng, 2)
    return _asked(f"{a} - {b}", a - b)


def _add3(rng: Random) -> Item:
    a, b = _number(rng, 3), _number(rng, rng.choice((2, 3)))
    return _asked(f"{a} + {b}", a + b)


def _multiply(rng: Random) -> Item:
    a, b = _number(rng, 2), rng.randrange(2, 10)
    return _asked(f"{a} * {b}", a * b)


def _precedence(rng: Random) -> Item:
    a, b, c = rng.randrange(1, 100), rng.randrange(2, 10), rng.randrange(2, 10)
    return _asked(f"{a} + {b} * {c}", a + b * c)


ARITHMETIC: Grammar = {
    "three-numbers": _three,
    "add-1-digit": _add1,
    "subtract-1-digit": _subtract1,
    "add-2-digits": _add2,
    "subtract-2-digits": _subtract2,
    "add-3-digits": _add3,
    "multiply": _multiply,
    "precedence": _precedence,
}


def _term(coefficient: int) -> str:
    return "x" if coefficient == 1 else f"{coefficient}*x"


def _signed(value: int) -> str:
    return f" + {value}" if value >= 0 else f" - {-value}"


def _solved(equation: str, x: int) -> Item:
    return Item(f"Solve {equation} for x.", str(x))


def _one_step(rng: Random) -> Item:
    x, b = rng.randrange(-30, 31), rng.randrange(1, 60) * rng.choice((-1, 1))
    return _solved(f"x{_signed(b)} = {x + b}", x)


def _scaled(rng: Random) -> Item:
    x, a = rng.randrange(-60, 61), rng.randrange(2, 13)
    return _solved(f"{_term(a)} = {a * x}", x)


def _two_step(rng: Random) -> Item:
    x, a = rng.randrange(-15, 16), rng.randrange(2, 10)
    b = rng.randrange(1, 30) * rng.choice((-1, 1))
    return _solved(f"{_term(a)}{_signed(b)} = {a * x + b}", x)


def _brackets(rng: Random) -> Item:
    x, a = rng.randrange(-15, 16), rng.randrange(2, 10)
    b = rng.randrange(1, 12) * rng.choice((-1, 1))
    return _solved(f"{a}*(x{_signed(b)}) = {a * (x + b)}", x)


def _both_sides(rng: Random) -> Item:
    x, c = rng.randrange(-10, 11), rng.randrange(1, 6)
    a, b = c + rng.randrange(1, 6), rng.randrange(1, 20) * rng.choice((-1, 1))
    return _solved(f"{_term(a)}{_signed(b)} = {_term(c)}{_signed((a - c) * x + b)}", x)


LINEAR: Grammar = {
    "one-step": _one_step,
    "scaled": _scaled,
    "two-step": _two_step,
    "brackets": _brackets,
    "both-sides": _both_sides,
}
