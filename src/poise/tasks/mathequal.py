"""Whether two mathematical answers are equal: text, then exact arithmetic, then sympy in a killable child process.

Numbers are compared exactly (1/3 is not 0.333), expressions symbolically with positive letters. Lists need equal
elements in equal order, sets ({…}, or `ordered=False`) in any. Two-way words: true = yes, false = no.
"""

from __future__ import annotations

import re
from fractions import Fraction

from poise.tasks.mathchild import Child
from poise.tasks.mathgrammar import MAX_CHARS, Beyond, Node, Unreadable, normal, parse
from poise.tasks.mathtext import plain

_WORDS = {"true": "true", "yes": "true", "false": "false", "no": "false"}
_TIME = re.compile(r"(\d{1,2}):(\d\d)\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_OPENERS = {"(": ")", "[": "]", "{": "}"}
_NUMBER = re.compile(r"-?[\d,]*\.?\d+(?:\s*/\s*\d+)?\s*%?")
_UNIT = re.compile(
    rf"({_NUMBER.pattern[:-5]})\s*(?:[cdkmµ]?m|k?g|mg|t|[cdm]?[lL]|m?s|min|h|km/h|m/s|ft|in|mi|lb|oz|C|F|K)(?:\^\(?[23]\)?)?"
)
"""A number and the sign of its unit; units written out are prose, which the extraction leaves away."""
_child = Child()


def equal(answer: str, target: str, *, ordered: bool = True, timeout_s: float = 2.0) -> bool:
    """Whether `answer` equals `target`; what cannot be read or decided within the limits is unequal."""
    answer, target = _tidy(answer), _tidy(target)
    if answer == target:
        return True
    if len(answer) > MAX_CHARS or len(target) > MAX_CHARS or not answer or not target:
        return False
    if _NUMBER.fullmatch(target):
        answer = _without_unit(answer, target)
    if target.casefold() in _WORDS:
        return _WORDS.get(answer.casefold()) == _WORDS[target.casefold()]
    if (time := _TIME.fullmatch(target)) and (other := _TIME.fullmatch(answer)):
        return _clock(time) == _clock(other)
    wanted = [target] if _THOUSANDS.fullmatch(target) else _elements(target)
    if len(wanted) > 1 and {answer[0], target[0]} == {"(", "["}:
        return False  # an open interval is no closed one
    if len(wanted) > 1:
        return _equal_lists(answer, wanted, ordered and not target.startswith("{"), timeout_s)
    if len(target) == 1 and target.isalpha():
        bare = re.fullmatch(r"\(?([A-Za-z])\)?[).:]?|\(([A-Za-z])\) (?![-+*/^=] ).*", answer)
        return bare is not None and (bare.group(1) or bare.group(2)).casefold() == target.casefold()
    found = _elements(answer)
    if len(found) > 1:
        found = [answer]  # perhaps a thousands separator; a real list does not parse and is unequal
    return _equal_one(found[0] if found else answer, wanted[0], timeout_s)


def _equal_lists(answer: str, wanted: list[str], ordered: bool, timeout_s: float) -> bool:
    found = _elements(answer)
    if len(found) != len(wanted):
        return False
    if ordered:
        return all(_equal_one(a, b, timeout_s) for a, b in zip(found, wanted))
    rest = list(wanted)
    for a in found:
        hit = next((b for b in rest if _equal_one(a, b, timeout_s)), None)
        if hit is None:
            return False
        rest.remove(hit)
    return True


def _tidy(text: str) -> str:
    text = text.strip()
    if len(text) <= MAX_CHARS:
        text = plain(text)
    return re.sub(r"\s+", " ", text.strip().rstrip(".")).strip()


def _without_unit(answer: str, target: str) -> str:
    """An answer to a question for a number without its unit; "50%" is 50 too, where the target is 50 or 50%."""
    if found := _UNIT.fullmatch(answer):
        answer = found[1]
    if _NUMBER.fullmatch(answer) and answer.rstrip("% ") == target.rstrip("% "):
        return target
    return answer


def _clock(time: re.Match[str]) -> tuple[int, int, str]:
    return int(time.group(1)) % 12, int(time.group(2)), time.group(3).lower()


def _elements(text: str) -> list[str]:
    """The parts of "a, b and c" (or of the same in brackets), split at commas and semicolons outside brackets."""
    text = text.strip()
    if text and _OPENERS.get(text[0]) == text[-1] and _one_bracket(text) and re.search(r"[,;]", text):
        text = text[1:-1]
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c in ",;" and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    last = re.split(r"\s+(?:and|or)\s+", parts[-1])
    parts = [re.sub(r"^(?:and|or)\s+", "", p.strip()) for p in [*parts[:-1], *last]]
    return [p for p in parts if p]


def _one_bracket(text: str) -> bool:
    """Whether the bracket that opens the text closes only at its end."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0:
            return i == len(text) - 1
    return False


def _equal_one(answer: str, target: str, timeout_s: float) -> bool:
    answer, target = _value(answer), _value(target)
    if answer == target:
        return True
    try:
        b = parse(target)
        answer = _multiplied(answer, target)
        a = parse(answer)
    except Unreadable:
        return _close(answer) == _close(target) and len(target) > 1
    try:
        return normal(a) == normal(b)
    except (Beyond, ZeroDivisionError):
        return _child.equal(answer, target, timeout_s) is True


def _multiplied(answer: str, target: str) -> str:
    """Letters side by side are a product where the target (a formula) names each of them: 2xy is 2*x*y."""
    letters = set(re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", target))
    if len(letters) < 2:
        return answer
    one = f"[{''.join(sorted(letters))}]"
    return re.sub(
        rf"(?<![A-Za-z]){one}(?:\s*{one})+(?![A-Za-z])", lambda run: "*".join(run[0].replace(" ", "")), answer
    )


def _close(text: str) -> str:
    """For comparison as text: in lower case, without blanks around signs."""
    return re.sub(r"\s*([^\w\s])\s*", r"\1", text.casefold())


def _value(text: str) -> str:
    """The right side of "x = 3"; the text itself otherwise."""
    found = re.fullmatch(r"\s*[A-Za-z](?:\([A-Za-z]\))?\s*=\s*([^=<>]+)", text)
    return (found.group(1) if found else text).strip()


def worked_out(text: str) -> bool:
    """Whether nothing is left to calculate: no operation between two plain numbers, no like terms in a sum.

    So a copied question ("3 + 5", "x + 2*x") is not an answer, although it equals it. A fraction stands for itself.
    """
    for part in _elements(text.strip()):
        try:
            node = parse(_value(_tidy(part)))
        except Unreadable:
            continue
        if _left_over(node):
            return False
    return True


def _left_over(node: Node) -> bool:
    kind = node[0]
    if kind in ("num", "var", "const"):
        return False
    root = kind == "pow" and (node[2][0] == "div" or (node[2][0] == "num" and node[2][1].denominator != 1))
    if kind in ("add", "mul", "pow") and not root and _literal(node[1]) and _literal(node[2]):
        return True
    if kind == "add":
        terms = _terms(node)
        try:
            monomials = [tuple(normal(t)) for t in terms]
        except (Beyond, ZeroDivisionError):
            monomials = []
        if len(set(monomials)) < len(monomials):
            return True
    return any(_left_over(part) for part in node[1:] if isinstance(part, tuple))


def _terms(node: Node) -> list[Node]:
    if node[0] == "add":
        return [*_terms(node[1]), *_terms(node[2])]
    return [node]


def _literal(node: Node) -> bool:
    """A number as one writes it: 3, -3, 3/4."""
    if node[0] == "neg":
        return _literal(node[1])
    if node[0] == "div":
        return node[1][0] in ("num", "neg") and _literal(node[1]) and node[2][0] == "num"
    return node[0] == "num" and isinstance(node[1], Fraction)
