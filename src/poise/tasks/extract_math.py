"""The number or formula that a text gives as its answer.

Numbers: the one in the last box, after the last "####" or "answer is" (of "12 - 3 = 9" the 9), else the last. Formulas:
the last \\boxed{…}, else after the last "answer is" / "Answer:" / "####", else the last line (what follows its last "="
where that is no equation in one letter), freed of markdown, dollars and trailing prose.
"""

from __future__ import annotations

import re

from poise.tasks.mathtext import fractions, joined, narrow

_NUMBER = (
    r"[-+−]?(?:\$|€|£)?(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)?(?:(?<=\d)\.\d+|(?<![\d.])\.\d+|(?<=\d))(?:[eE][-+]?\d+\b)?"
)
_NUMBERS = re.compile(rf"(?<![\w.])({_NUMBER})(?:\s*/\s*(\d+)(?!\.?\d))?")
_NUMBER_IS = re.compile(
    r"####|\banswer\b[^.\n]{0,40}?(?:\bis\b(?!\s+not\b)|:|=)|\banswer\W{0,4}\n|答案(?:应该)?(?:是|为|\s*:)",
    re.IGNORECASE,
)
_FORMULA_IS = re.compile(
    r"\b(?:final\s+)?answer\b(?:\s+\w+){0,3}?\s+(?:is|are|equals|=)\s*:?|\banswer\s*:|####|\btherefore,?|\bhence,?"
    r"|\bthus,?|答案(?:应该)?(?:是|为|\s*:)\s*:?",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"(?<=[\w)\]}%$])[.!?;](?=\s|$)|\(\s*[A-Za-z]{2}|\b(?:because|since)\b|[。\n]")


def number(text: str) -> str | None:
    """The first number of the text, without thousands separators or currency."""
    found = _NUMBERS.search(_readable(text))
    return _plain(found) if found else None


def final_number(text: str) -> str | None:
    """The number after the last "####", in the last box, after the last "answer is", else the last of the text."""
    inside = boxed(text)
    if inside is not None and (found := _NUMBERS.search(_readable(inside))):
        return _plain(found)
    text = _readable(text)
    end = len(text)
    for stated in reversed(list(_NUMBER_IS.finditer(text))):
        rest, end = text[stated.end() : end].lstrip(" \t\n:*"), stated.start()
        sentence = _ASIDE.split(rest, maxsplit=1)[0]
        if sentence.rstrip().endswith("="):
            continue  # cut before the result
        if found := _NUMBERS.search(sentence.rpartition("=")[2]) or _NUMBERS.search(rest):
            return _plain(found)
    numbers = list(_NUMBERS.finditer(text))
    return _plain(numbers[-1]) if numbers else None


def _readable(text: str) -> str:
    """The text with its numbers as `_NUMBERS` knows them."""
    text = fractions(joined(narrow(text))).replace("\\$", "$")
    return re.sub(r"\((\d+/\d+)\)", r"\1", text)


def _plain(found: re.Match[str]) -> str:
    digits = re.sub(r"[,$€£\s]", "", found.group(1)).replace("−", "-").removeprefix("+")
    return f"{digits}/{found.group(2)}" if found.group(2) else digits


def boxed(text: str) -> str | None:
    """The inside of the last \\boxed{…}, braces balanced."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed")
    for i in range(begin, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[begin + 1 : i]
    return None


def formula(text: str) -> str | None:
    """The formula, word or list that the text ends in or calls its answer."""
    inside = boxed(text)
    if inside is not None:
        return _tidy(inside)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("```")]
    if not lines:
        return None
    for stated in reversed(list(_FORMULA_IS.finditer(narrow(text)))):  # as long as the text
        rest = text[stated.end() :].strip(" \t:*")
        line = next((part.strip() for part in rest.splitlines() if part.strip()), "")
        if line:  # else the text was cut behind the lead
            return _tidy(line)
    return _tidy(lines[-1])


def _tidy(line: str) -> str | None:
    """A line without markdown, dollars, a lead of words ("so x is"), trailing prose and full stop."""
    line = re.sub(r"\\[()\[\]$]|\$\$?|`", "", line).strip()
    # Bold marks, but not the power sign: an opening mark has no operand before it, a closing one none after it.
    line = re.sub(r"(?<![\w)\]}])\*\*(?=\S)|(?<=\S)\*\*(?=\s|$|[.,;:!?])", "", line)
    line = re.sub(r"^[-•>]\s+", "", line)
    if word := re.match(r"(?:true|false|yes|no)\b", line, re.IGNORECASE):
        return word.group(0)
    if clock := re.findall(r"\b\d{1,2}:\d\d\s*[AaPp]\.?[Mm]\b", line):
        return clock[0] if len(clock) == 1 else None
    roots = [re.fullmatch(r"\W*[A-Za-z]\s*=\s*([^=]+?)", part) for part in re.split(r",|;|\band\b|\bor\b", line)]
    if len(roots) > 1 and all(roots):
        return ", ".join(root.group(1).strip(" .") for root in roots if root)
    lead = re.match(r"[^=]*\b(?:is|are|equals|be)\b:?\s+(?=[-+−\d({\[\\.√]|[a-zA-Z]\b)(.+)", line, re.IGNORECASE)
    line = lead.group(1) if lead else line
    if not re.search(r"[<>!]=", line) and re.search(r"(?:=|≈|\\approx\b)\s*\S", line):
        line = re.split(r"=|≈|\\approx\b", line)[-1]  # a chain of steps ends with its result
    line = re.split(r"(?<=[\w)\]}%])[.;!?](?=\s|$)|。|,?\s+(?:because|since|which|so|as|where|when|for)\b", line)[0]
    numbers = list(_NUMBERS.finditer(line))
    if len(numbers) == 1 and re.search(r"(?<![\\A-Za-z])[A-Za-z]{3,}(?![A-Za-z(])", line) and " " in line.strip():
        return _plain(numbers[0])  # one number among words
    return line.strip(" \t.;:!") or None
