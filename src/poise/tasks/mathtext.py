"""Mathematical writing (TeX, typographic signs, full-width characters) in the plain signs of the grammar.

Only text is replaced by text here; what comes out is read by the grammar or not at all.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

FUNCTIONS = ("sqrt", "cbrt", "abs", "sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "ln")

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("。"): ".", ord("、"): ",", 0x3000: " "}
_SIGNS = str.maketrans("−–·×÷", "--**/")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_ARGUMENT = r"(?:\s*\{([^{}]*)\}|\s*([0-9])|\s+([A-Za-z]))"
_FRACTION = re.compile(rf"\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}")
_MIXED = re.compile(
    r"(?<![\w.,)^/])(\d{1,50})(?:\s*\\[dtc]?frac\s*(?:\{(\d{1,50})\}|(\d))\s*(?:\{(\d{1,50})\}|(\d))"
    r"|\ (\d{1,9})/(\d{1,9})(?![\w/^]))"
)
_NAMES = "|".join(FUNCTIONS)


def narrow(text: str) -> str:
    """Full-width letters, digits and signs of Chinese and Japanese texts as the usual ones."""
    return text.translate(_WIDE)


def joined(text: str) -> str:
    """Numbers whose thousands TeX or a narrow blank separates, with a comma there: 1{,}000, 1\\,000, 1 000."""
    return re.sub(r"(?<=\d)(?:\{,\}|\\[,!:; ]|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ",", text)


def fractions(text: str) -> str:
    """Fractions of TeX and ½ as (a/b); with a whole number before: 3 1/2 and 3\\frac{1}{2} are (7/2)."""
    text = re.sub("[¼-¾⅐-⅞]", _vulgar, text)
    text = _MIXED.sub(_improper, text)
    return re.sub(r"\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))", _simple, text)


def _vulgar(found: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", found.group()).partition("⁄")
    return f"\\frac{{{above}}}{{{below}}}"


def _improper(found: re.Match[str]) -> str:
    whole, above, below = int(found[1]), int(found[2] or found[3] or found[6]), int(found[4] or found[5] or found[7])
    return f"({whole * below + above}/{below})" if above < below else found.group()


def _simple(found: re.Match[str]) -> str:
    return f"({found[1] or found[2]}/{found[3] or found[4]})"


def plain(text: str) -> str:
    """The text in the grammar's signs, as far as there are any for it."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: f"^({found.group().translate(_RAISED)})", narrow(text))
    text = fractions(joined(text)).translate(_SIGNS)
    if "\\" in text or "{" in text:
        text = _without_tex(text)
    text = re.sub(r"\^?\s*°|\$|[€£¥](?=\s*\d)", "", text).replace("∞", "infty")
    return re.sub(r"√\s*(\d+|[A-Za-z]|\([^()]*\))", r"sqrt(\1)", text)


def _without_tex(text: str) -> str:
    text = re.sub(r"\\(?:left|right|displaystyle|quad|qquad|limits|,|;|!|:)(?![A-Za-z])|\\[ ()\[\]$]", "", text)
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", "", text)
    text = re.sub(r"\\(?:text|math)(?:rm|bf|it|sf|tt|normal)?\s*\{([^{}]*)\}|\\(?:mbox|operatorname)\s*\{([^{}]*)\}",
                  lambda found: found[1] or found[2] or "", text)  # fmt: skip
    text = re.sub(r"\\(?:cdot|times)(?![A-Za-z])", "*", text).replace("\\div", "/")
    text = re.sub(r"\\(pi|infty)(?![A-Za-z])", r"\1", text).replace("\\%", "%")
    for _ in range(8):  # from the inside out
        new = re.sub(r"\\sqrt\s*(?:\{([^{}]*)\}|([0-9A-Za-z]))", lambda m: f"sqrt({m[1] or m[2] or ''})", text)
        new = re.sub(r"\\sqrt\s*\[\s*(\d+)\s*\]\s*\{([^{}]*)\}", r"((\2)^(1/\1))", new)
        new = _FRACTION.sub(lambda m: f"(({_given(m.groups()[:3])})/({_given(m.groups()[3:])}))", new)
        new = re.sub(r"([\^_])\{([^{}]*)\}", r"\1(\2)", new)
        if new == text:
            break
        text = new
    text = re.sub(r"\\arc(sin|cos|tan)(?![A-Za-z])", r"\\a\1", text)
    text = re.sub(rf"\\({_NAMES})\s+([A-Za-z]|\d+)(?![\w(])", r"\1(\2)", text)
    text = re.sub(rf"\\({_NAMES})(?![A-Za-z])", r"\1", text)
    return text.replace("\\{", "{").replace("\\}", "}")


def _given(groups: Any) -> str:
    return next((group for group in groups if group is not None), "")
