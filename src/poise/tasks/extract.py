"""Named extractors: what counts as the answer in a model's text; conservative, `None` rather than a guess.

`label`: the choices are looked for as whole words, case-insensitively, longest first. One of them in the text: that
one, unless it is negated ("not positive"). Several: the one that the text begins with (after a lead such as
"Sentiment:" or "the answer is"), unless the other follows it by "or", "and", "/"; else ambiguous, `None`.
`math`: the last \\boxed{…}, else after the last "answer is" / "Answer:" / "####", else the last line (what follows
its last "=" where that is no equation in one letter), freed of markdown, dollars and trailing prose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from poise.registry import did_you_mean
from poise.types import Sample, UsageError

NAMES = (
    "text",
    "first_line",
    "label",
    "letter",
    "number",
    "final_number",
    "math",
    "span",
    "code",
    "rating",
    "preference",
)

_NUMBER = (
    r"[-+−]?(?:\$|€|£)?(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)?(?:(?<=\d)\.\d+|(?<![\d.])\.\d+|(?<=\d))(?:[eE][-+]?\d+\b)?"
)
_NUMBERS = re.compile(rf"(?<![\w.])({_NUMBER})(?:\s*/\s*(\d+)(?![\d.]))?")
_FENCE = re.compile(r"^```[\w+-]*[ \t]*\n?(.*?)(?:\n?```|\Z)", re.DOTALL | re.MULTILINE)
_LEAD = (
    r"^(?:\s|[*_`\"'“”#>-])*(?:(?:the |my |final |correct |best )*"
    r"(?:answer|label|sentiment|class|category|option|choice)"
    r"(?:\s+(?:is|would be|of [^.\n]{0,60}? is))?\s*[:=]?|(?:it|this|that)(?:'s| is)\b|(?:the|this) \w+ is\b)?"
    r"(?:\s|[*_`\"'“”(:])*"
)
_ANSWER_IS = re.compile(
    r"(?:\b(?:final\s+)?answer\b(?:\s+\w+){0,3}?\s+(?:is|are|equals|=)\s*:?|\banswer\s*:|####|\btherefore,?|\bhence,?|\bthus,?)",
    re.IGNORECASE,
)


def extract(name: str, text: str, sample: Sample, stop: Sequence[str] = ()) -> str | None:
    """The answer in `text` by the extractor `name` (text cut at the first of `stop`); None = nothing found."""
    known = _EXTRACTORS.get(name)
    if known is None:
        raise UsageError(f"unknown extractor {name!r}{did_you_mean(name, _EXTRACTORS)}")
    for mark in stop:
        text = text.split(mark, 1)[0] if mark else text
    return known(text, sample)


def _text(text: str, sample: Sample) -> str | None:
    return unfence(text).strip() or None


def _first_line(text: str, sample: Sample) -> str | None:
    return next((line.strip() for line in unfence(text).splitlines() if line.strip()), None)


def unfence(text: str) -> str:
    """The inside of the text's one markdown fence if the text is little else; the text itself otherwise."""
    stripped = text.strip()
    found = _FENCE.match(stripped)
    if found and not stripped[found.end() :].strip():
        return found.group(1)
    return text


def _label(text: str, sample: Sample) -> str | None:
    choices = sample.choices or ()
    if choices and all(len(c) == 1 and c.isalpha() for c in choices):
        return _letter(text, sample)
    text = unfence(text)
    by_name = {c.casefold(): c for c in choices}
    words = "|".join(re.escape(c) for c in sorted(choices, key=len, reverse=True) if c)
    if not words:
        return None
    # A label in a script without spaces (Chinese) has no word boundary on its side.
    word = rf"(?:(?<!\w)|(?<=[^\x00-\u024f]))({words})(?:(?!\w)|(?=[^\x00-\u024f]))"
    hits = list(re.finditer(word, text, re.IGNORECASE))
    found = {by_name.get(h.group(1).casefold(), h.group(1)) for h in hits}
    if not hits:
        return None
    if len(found) == 1:
        before = text[max(0, hits[0].start() - 24) : hits[0].start()]
        return (
            None
            if re.search(
                r"\b(?:not|never|neither|isn'?t|n't|hardly)\b[\s\"'*]*(?:a |an |very |really )?[\"'*]*$", before, re.I
            )
            else found.pop()
        )
    lead = re.match(_LEAD, text, re.IGNORECASE)
    if lead is not None and lead.end() < hits[0].start():
        return None
    between = text[hits[0].end() : hits[1].start()].strip(" \t*_`\"'“”)(").casefold()
    same = hits[0].group(1).casefold() == hits[1].group(1).casefold()
    if not same and between in ("or", "and", "/", ",", "and/or", "|", ""):
        return None
    return by_name.get(hits[0].group(1).casefold(), hits[0].group(1))


def _letter(text: str, sample: Sample) -> str | None:
    """The one option letter: alone, marked as in "(B)", "B.", "**B**", or after "answer is"; None if two differ."""
    letters = [c for c in (sample.choices or ()) if len(c) == 1] or list("ABCDEFGHIJ")
    known = {c.casefold(): c for c in letters}
    span = "[" + "".join(re.escape(c) for c in letters) + "]"
    text = re.sub(r"\s{3,}", "\n\n", unfence(text))  # long blanks would cost the patterns below quadratic time
    first = re.match(rf"[\s*_`\"'(\[]*({span})(?:[\s*_`\"')\].:,]*$|[)\].:*]|\s*\n|,\s)", text, re.IGNORECASE)
    stated = [
        m.group(1).casefold()
        for m in re.finditer(
            rf"\b(?:answer|choice|option)\b(?:\s+(?:is|would be))?\s*:?[\s*_`\"'(\[]*(?:option\s*)?({span})(?![\w'’-])",
            text,
            re.I,
        )
    ]
    if stated:
        return known[stated[-1]] if len(set(stated)) == 1 else None
    if first:
        return known[first.group(1).casefold()]
    marked = {m.casefold() for m in re.findall(rf"\(({span})\)|\*\*({span})\b", text, re.I) for m in m if m}
    return known[marked.pop()] if len(marked) == 1 else None


def _number(text: str, sample: Sample) -> str | None:
    """The first number of the text, without thousands separators or currency."""
    found = _NUMBERS.search(text)
    return _plain(found) if found else None


def _final_number(text: str, sample: Sample) -> str | None:
    """The number after the last "####", in the last box, after the last "answer is", else the last of the text."""
    boxed = _boxed(text)
    if boxed is not None and (found := _NUMBERS.search(boxed)):
        return _plain(found)
    stated = [m.end() for m in re.finditer(r"####|\banswer\b[^.\n]{0,40}?(?:\bis\b|:|=)", text, re.IGNORECASE)]
    if stated and (found := _NUMBERS.search(text, stated[-1])):
        return _plain(found)
    numbers = list(_NUMBERS.finditer(text))
    return _plain(numbers[-1]) if numbers else None


def _plain(found: re.Match[str]) -> str:
    number = re.sub(r"[,$€£\s]", "", found.group(1)).replace("−", "-").removeprefix("+")
    return f"{number}/{found.group(2)}" if found.group(2) else number


def _boxed(text: str) -> str | None:
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


def _math(text: str, sample: Sample) -> str | None:
    text = unfence(text)
    boxed = _boxed(text)
    if boxed is not None:
        return _tidy_math(boxed)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("```")]
    if not lines:
        return None
    stated = list(_ANSWER_IS.finditer(text))
    if stated:
        rest = text[stated[-1].end() :].strip(" \t:*")
        line = next((part.strip() for part in rest.splitlines() if part.strip()), "")
        if line:
            return _tidy_math(line)
    return _tidy_math(lines[-1])


def _tidy_math(line: str) -> str | None:
    """A line without markdown, dollars, a lead of words ("so x is"), trailing prose and full stop."""
    line = re.sub(r"\\[()\[\]]|\$\$?|`", "", line).strip()
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
    if not re.search(r"[<>!]=", line) and re.search(r"=\s*\S", line):
        line = line.rsplit("=", 1)[1]  # a chain of steps ends with its result
    line = re.split(r"(?<=[\w)\]}%])[.;!?](?=\s|$)|,?\s+(?:because|since|which|so|as|where|when|for)\b", line)[0]
    numbers = list(_NUMBERS.finditer(line))
    if len(numbers) == 1 and re.search(r"(?<![\\A-Za-z])[A-Za-z]{3,}(?![A-Za-z(])", line) and " " in line.strip():
        return _plain(numbers[0])  # one number among words
    return line.strip(" \t.;:!") or None


def _span(text: str, sample: Sample) -> str | None:
    """The first line without quotes or a lead such as "Answer:"; "" where the text says that there is no answer.

    An empty text is "" too: so the official SQuAD predictions say "no answer".
    """
    line = _first_line(text, sample) or ""
    line = re.sub(r"^\W*(?:the |final |short )*answer(?:\s+is)?\s*:?\s+", "", line, flags=re.IGNORECASE)
    if re.match(
        r"\W*(?:unanswerable|no[ -]answer|(?:it |this )?cannot be answered|not answerable|无法回答)", line, re.I
    ):
        return ""
    return line.removesuffix(".").strip("\"'“”‘’*` ").removesuffix(".").rstrip()


def _code(text: str, sample: Sample) -> str | None:
    """The inside of the first markdown fence that names the wanted function, else of the first, else the whole text."""
    blocks = re.findall(r"```[\w+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", text, re.DOTALL)
    wanted = str(sample.fields.get("entry_point", ""))
    code = next((b for b in blocks if wanted and f"def {wanted}" in b), blocks[0] if blocks else text)
    return code.rstrip() or None


def _rating(text: str, sample: Sample) -> str | None:
    """The one number from 1 to 10 in "[[7]]", else in a last line "Rating: 7"; none if several differ."""
    found = _verdict(text, r"\[\[\s*(\d{1,3}(?:\.\d{1,3})?)(?:\s*/\s*10)?\s*\]\]",
                     r"(?:rating|score)\W{0,8}(\d{1,3}(?:\.\d{1,3})?)(?:\s*/\s*10)?")  # fmt: skip
    return f"{float(found):g}" if found and 1 <= float(found) <= 10 else None


def _preference(text: str, sample: Sample) -> str | None:
    """The one verdict in "[[A]]", "[[B]]", "[[tie]]" (also "[[C]]"), else in a last line "Verdict: A"."""
    found = _verdict(text, r"\[\[\s*(A|B|C|tie)\s*\]\]", r"verdict\W{0,8}(?:(?:answer|assistant) )?(A|B|tie)")
    return {"a": "A", "b": "B", "c": "tie", "tie": "tie"}[found] if found else None


def _verdict(text: str, mark: str, line: str) -> str | None:
    """What all marks of a judge's text agree on; without a mark, what its last line says and nothing else."""
    marks = {m.casefold() for m in re.findall(mark, text, re.IGNORECASE)}
    if marks:
        return marks.pop() if len(marks) == 1 else None
    last = text.strip().rpartition("\n")[2][:200]
    found = re.fullmatch(rf"\W{{0,8}}(?:final |my |overall )?{line}\W{{0,8}}", last, re.IGNORECASE)
    return found.group(1).casefold() if found else None


_EXTRACTORS = {
    "text": _text,
    "first_line": _first_line,
    "label": _label,
    "letter": _letter,
    "number": _number,
    "final_number": _final_number,
    "math": _math,
    "span": _span,
    "code": _code,
    "rating": _rating,
    "preference": _preference,
}
