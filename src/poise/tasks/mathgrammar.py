"""Parse a mathematical answer by an own whitelist grammar; exact normal form of the polynomials and surds among them.

    sum     = ["+"|"-"] product {("+"|"-") product}
    product = power {("*"|"·"|"×"|"/"|"÷") signed power | implicit power}     implicit: 2x, 2(x+1), (x)(y), 2sqrt(3)
    power   = atom [("^"|"**") signed power]                          right-associative
    atom    = number ["%"] | letter | constant | function "(" sum ")" | "(" sum ")" | "\\frac{…}{…}" | "\\sqrt{…}"

Nothing of the text is ever executed: what is not in this grammar, or beyond its caps, is no formula (`Unreadable`).
Nodes are tuples: ("num", Fraction), ("var", "x"), ("add"|"mul"|"div"|"pow", a, b), ("neg", a), ("fn", name, a).
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import isqrt
from typing import Any

from poise.tasks.mathtext import FUNCTIONS, plain

MAX_CHARS = 600
MAX_DEPTH = 40
MAX_DIGITS = 200
MAX_EXPONENT = 10_000
"""Beyond it nothing is given to sympy; the normal form needs no cap on exponents of letters."""
MAX_TERMS = 200
MAX_BITS = 20_000

CONSTANTS = {"pi": "pi", "π": "pi"}
_TOKEN = re.compile(
    r"\s*(?:(?P<num>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d*)?|\.\d+)(?P<exp>[eE][-+]?\d+(?![\w.]))?"
    r"|(?P<word>[A-Za-zπ]+)|(?P<op>\*\*|[-+*/^()%]))"
)

Node = tuple[Any, ...]


class Unreadable(ValueError):
    """The text is no formula of this grammar."""


def parse(text: str) -> Node:
    """The formula as nested tuples; Unreadable if it is none."""
    if len(text) > MAX_CHARS:
        raise Unreadable("too long")
    parser = _Parser(_tokens(plain(text)))
    node = parser.sum(0)
    if parser.kind is not None:
        raise Unreadable(f"unexpected {parser.value!r}")
    return node


def _tokens(text: str) -> list[tuple[str, Any]]:
    tokens: list[tuple[str, Any]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if not found:
            raise Unreadable(f"unexpected {text[position]!r}")
        position = found.end()
        if found["num"]:
            tokens.append(("num", _number(found["num"].replace(",", ""), found["exp"])))
        elif found["word"]:
            tokens.append(_word(found["word"]))
        else:
            tokens.append(("op", "**" if found["op"] == "^" else found["op"]))
    if not tokens:
        raise Unreadable("empty")
    return tokens


def _number(digits: str, exponent: str | None) -> Fraction:
    power = int(exponent[1:]) if exponent and len(exponent) < 6 else 0
    if len(digits) > MAX_DIGITS or abs(power) > MAX_DIGITS or (exponent and len(exponent) >= 6):
        raise Unreadable("number too long")
    return Fraction(digits) * Fraction(10) ** power


def _word(word: str) -> tuple[str, Any]:
    # Letters side by side are no product: "ba5" is a number in base 12 to this world, "ab" may be a word.
    if word in CONSTANTS:
        return ("const", CONSTANTS[word])
    if word.lower() in FUNCTIONS:
        return ("fn", word.lower())
    if len(word) == 1:
        return ("var", word)
    raise Unreadable(f"unknown word {word!r}")


class _Parser:
    """Recursive descent with one token of lookahead; depth is capped so that no text exhausts the stack."""

    def __init__(self, tokens: list[tuple[str, Any]]) -> None:
        self._tokens, self._next = tokens, 0
        self.kind: str | None = None
        self.value: Any = None
        self._advance()

    def _advance(self) -> None:
        if self._next < len(self._tokens):
            self.kind, self.value = self._tokens[self._next]
            self._next += 1
        else:
            self.kind, self.value = None, None

    def _take(self, *ops: str) -> str | None:
        if self.kind == "op" and self.value in ops:
            value = str(self.value)
            self._advance()
            return value
        return None

    def sum(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        node = self._signed(depth, self._product)
        while op := self._take("+", "-"):
            right = self._signed(depth, self._product)
            node = ("add", node, right if op == "+" else ("neg", right))
        return node

    def _signed(self, depth: int, inner: Any) -> Node:
        negative = False
        while op := self._take("+", "-"):
            negative ^= op == "-"
        node: Node = inner(depth)
        return ("neg", node) if negative else node

    def _product(self, depth: int) -> Node:
        node = self._power(depth)
        while True:
            if op := self._take("*", "/"):
                node = ("mul" if op == "*" else "div", node, self._signed(depth, self._power))
            elif self.kind in ("var", "fn", "const") or (self.kind == "op" and self.value == "("):
                if not self._may_touch():
                    raise Unreadable("letters side by side")
                node = ("mul", node, self._power(depth))
            else:
                return node

    def _may_touch(self) -> bool:
        """Whether what follows may be multiplied without a sign: not two letters side by side."""
        before = self._tokens[self._next - 2]
        return before[0] == "num" or before == ("op", ")") or (self.kind, self.value) == ("op", "(")

    def _power(self, depth: int) -> Node:
        base = self._atom(depth)
        if self._take("**"):
            if depth > MAX_DEPTH:
                raise Unreadable("nested too deeply")
            return ("pow", base, self._signed(depth + 1, self._power_deeper))
        return base

    def _power_deeper(self, depth: int) -> Node:
        return self._power(depth)

    def _atom(self, depth: int) -> Node:
        kind, value = self.kind, self.value
        if kind is None:
            raise Unreadable("ends too early")
        self._advance()
        if kind == "num":
            return ("num", value / 100) if self._take("%") else ("num", value)
        if kind in ("var", "const"):
            return (kind, value)
        if kind == "fn":
            if not self._take("("):
                raise Unreadable(f"{value} without parentheses")
            inner = self.sum(depth + 1)
            self._close()
            return ("pow", inner, ("num", Fraction(1, 2))) if value == "sqrt" else ("fn", value, inner)
        if value == "(":
            inner = self.sum(depth + 1)
            self._close()
            return inner
        raise Unreadable(f"unexpected {value!r}")

    def _close(self) -> None:
        if not self._take(")"):
            raise Unreadable("parenthesis not closed")


# ---------------------------------------------------------------- exact normal form

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]


class Beyond(ValueError):
    """The formula has no normal form here (division by a sum, functions, caps): sympy's business."""


def normal(node: Node) -> Polynomial:
    """Σ coefficient · Π letter^rational exponent · √squarefree, exact and unique; Beyond where it is none of this.

    Letters stand for positive numbers, as the tasks say, so that (x^a)^b = x^(ab). Surds: √n is kept as the power 1/2
    of the letter "√n" with n squarefree.
    """
    kind = node[0]
    if kind == "num":
        return {(): node[1]} if node[1] else {}
    if kind in ("var", "const"):
        return {((node[1], Fraction(1)),): Fraction(1)}
    if kind == "neg":
        return {m: -c for m, c in normal(node[1]).items()}
    if kind == "add":
        return _add(normal(node[1]), normal(node[2]))
    if kind == "mul":
        return _multiply(normal(node[1]), normal(node[2]))
    if kind == "div":
        return _multiply(normal(node[1]), _raise(normal(node[2]), Fraction(-1)))
    if kind == "pow":
        exponent = normal(node[2])
        if any(exponent):
            raise Beyond("letter in an exponent")
        return _raise(normal(node[1]), exponent.get((), Fraction(0)))
    raise Beyond(kind)


def _add(a: Polynomial, b: Polynomial) -> Polynomial:
    total = dict(a)
    for monomial, coefficient in b.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return {m: c for m, c in total.items() if c}


def _multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    if len(a) * len(b) > MAX_TERMS * 10:
        raise Beyond("too many terms")
    total: Polynomial = {}
    for m1, c1 in a.items():
        for m2, c2 in b.items():
            monomial, factor = _join(m1, m2)
            coefficient = total.get(monomial, Fraction(0)) + _capped(c1 * c2 * factor)
            total[monomial] = coefficient
    if len(total) > MAX_TERMS:
        raise Beyond("too many terms")
    return {m: c for m, c in total.items() if c}


def _join(a: Monomial, b: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials: exponents added, equal surds squared away, different ones multiplied into one."""
    exponents: dict[str, Fraction] = dict(a)
    surd = 1
    for letter, exponent in b:
        exponents[letter] = exponents.get(letter, Fraction(0)) + exponent
    for letter in [x for x in exponents if x.startswith("√")]:
        power = exponents.pop(letter)
        surd *= int(letter[1:]) ** int(power * 2)
    factor, rest = _square_part(surd)
    if rest > 1:
        exponents[f"√{rest}"] = Fraction(1, 2)
    return tuple(sorted((x, e) for x, e in exponents.items() if e)), Fraction(factor)


def _raise(base: Polynomial, exponent: Fraction) -> Polynomial:
    if exponent == 0:
        return {(): Fraction(1)}
    if len(base) == 1:
        [(monomial, coefficient)] = base.items()
        return _raise_monomial(monomial, coefficient, exponent)
    if exponent.denominator != 1 or exponent < 0 or exponent > 30:
        if not base and exponent > 0:
            return {}
        raise Beyond("power of a sum")
    result: Polynomial = {(): Fraction(1)}
    for _ in range(int(exponent)):
        result = _multiply(result, base)
    return result


def _raise_monomial(monomial: Monomial, coefficient: Fraction, exponent: Fraction) -> Polynomial:
    surds = [x for x, _ in monomial if x.startswith("√")]
    if surds and exponent not in (1, -1):
        if exponent.denominator != 1 or not 0 < exponent <= 30:
            raise Beyond("power of a surd")
        result: Polynomial = {(): Fraction(1)}
        for _ in range(int(exponent)):
            result = _multiply(result, {monomial: coefficient})
        return result
    if surds and exponent == -1:  # 1/√n = √n/n
        inside = int(surds[0][1:])
        letters = tuple((x, e if x in surds else -e) for x, e in monomial)
        return {letters: 1 / (coefficient * inside)}
    letters = tuple((x, e * exponent) for x, e in monomial if e * exponent)
    if exponent.denominator == 1:
        bits = max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length())
        if bits * abs(exponent) > MAX_BITS and abs(coefficient) != 1:
            raise Beyond("number too large")
        return {letters: _capped(coefficient**exponent.numerator)}
    if coefficient == 1:
        return {letters: Fraction(1)}
    if exponent == Fraction(1, 2) and coefficient > 0:
        factor, rest = _square_part(coefficient.numerator * coefficient.denominator)
        root = ((f"√{rest}", Fraction(1, 2)),) if rest > 1 else ()
        return {tuple(sorted((*letters, *root))): Fraction(factor, coefficient.denominator)}
    raise Beyond("root")


def _square_part(n: int) -> tuple[int, int]:
    """(f, r) with n = f²·r and r squarefree; Beyond where trial division would take long."""
    if n > 10**10:
        root = isqrt(n)
        if root * root == n:
            return root, 1
        raise Beyond("surd too large")
    factor, rest, p = 1, n, 2
    while p * p <= rest:
        while rest % (p * p) == 0:
            rest //= p * p
            factor *= p
        p += 1
    return factor, rest


def _capped(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise Beyond("number too large")
    return number
