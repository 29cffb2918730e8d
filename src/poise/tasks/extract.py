"""Named extractors: what counts as the answer in a model's text; conservative, `None` rather than a guess.

Reasoning that comes before an answer (<think>…</think>) is no part of it. Labels and letters are `extract_choice`'s
matter, numbers and formulas `extract_math`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from poise.registry import did_you_mean
from poise.tasks.extract_choice import are_letters, label, letter
from poise.tasks.extract_math import final_number, formula, number
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

_FENCE = re.compile(r"^```[\w+-]*[ \t]*\n?(.*?)(?:\n?```|\Z)", re.DOTALL | re.MULTILINE)
_THOUGHT = re.compile(r"\s*(?:<think(?:ing)?>|\[THINK\])", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(r"</think(?:ing)?>|\[/THINK\]", re.IGNORECASE)


_ANNOUNCES = re.compile(
    r"\W*(?:(?:sure|certainly|of course|okay|ok|absolutely)\b.*"
    r"|here(?:['’]s| is| are)\b.*\b(?:translat|version|sentence|text|answer).*"
    r"|(?:(?:the|my|in) )?(?:\w+ ){0,2}translat(?:ion|ed)\b.{0,60}|以下是.*|.{0,8}(?:译文|翻译).{0,8})[:：]\W*",
    re.IGNORECASE,
)
"""A line that only says what the next one is."""
_COLON = re.compile(r".*[:：]\W*")
_NO_ANSWER = re.compile(
    r"\W*(?:(?:the|this) question is )?"
    r"(?:unanswerable|no[ -]answer|(?:it |this )?cannot be answered|not answerable|无法回答)"
    # "The passage does not state who …", unless it goes on to an answer ("…, but …", or another sentence).
    r"|\W*(?:(?:the|this) (?:given |provided )?(?:passage|text|context|paragraph|article)(?: provided| given| above)? "
    r"(?:does(?: not|n['’]t)|did(?: not|n['’]t)) (?:(?!only)\w+ly )?"
    r"(?:say|state|specify|mention|provide|contain|give|indicate|include|answer|tell|describe|identify|name)\b"
    r"|(?:it|this|that|the answer) is not (?:(?!only)\w+ly )?(?:mentioned|stated|specified|given|provided)\b)"
    r"(?!.*(?:\b(?:but|however|although|though|except)\b|[.!?;] (?!(?:it|the \w+) does(?: not|n['’]t)\b)))"
    r"|\W*(?:这篇|该)?(?:文章|文中|本文|段落|短文)[里中]?并?(?:没有|未)(?:明确)?(?:提到|提及|说明|指出|给出)"
    r"(?!.*[但只而过。].)",
    re.IGNORECASE,
)
"""How a text says that the passage has no answer."""


def extract(name: str, text: str, sample: Sample, stop: Sequence[str] = ()) -> str | None:
    """The answer in `text` by the extractor `name` (text cut at the first of `stop`); None = nothing found."""
    known = _EXTRACTORS.get(name)
    if known is None:
        raise UsageError(f"unknown extractor {name!r}{did_you_mean(name, _EXTRACTORS)}")
    text = visible(text)
    for mark in stop:
        text = text.split(mark, 1)[0] if mark else text
    return known(text, sample)


def visible(text: str) -> str:
    """The text without the reasoning before it (<think>…</think>); of reasoning that never ends nothing."""
    begun, ends = _THOUGHT.match(text), list(_THOUGHT_ENDS.finditer(text))
    if ends and (begun or not _THOUGHT.search(text)):  # a chat template may have opened it in the prompt
        return re.sub(r"^\s*\n", "", text[ends[-1].end() :])
    return "" if begun else text


def _text(text: str, sample: Sample) -> str | None:
    return unfence(text).strip() or None


def _first_line(text: str, sample: Sample) -> str | None:
    return _line(text, _ANNOUNCES)


def _line(text: str, lead: re.Pattern[str]) -> str | None:
    """The first line that is not empty; the second where the first only leads to it."""
    lines = [line.strip() for line in unfence(text).splitlines() if line.strip()]
    return lines[bool(len(lines) > 1 and lead.fullmatch(lines[0]))] if lines else None


def unfence(text: str) -> str:
    """The inside of the text's one markdown fence if the text is little else; the text itself otherwise."""
    stripped = text.strip()
    found = _FENCE.match(stripped)
    if found and not stripped[found.end() :].strip():
        return found.group(1)
    return text


def _span(text: str, sample: Sample) -> str | None:
    """The first line without quotes or a lead such as "Answer:"; "" where it says that the passage has no answer.

    An empty text is "" too: so the official SQuAD predictions say "no answer".
    """
    line = _line(text, _COLON) or ""
    line = re.sub(
        r"^\W*(?:(?:the |final |short |correct )*answer(?:\s+to (?:the|this) question)?(?:\s+is\b|[\s*_]*:)[\s*_:]*"
        r"|答案(?:是|：|:)[\s：:]*)(?=[^\s*_:：])",
        "", line, flags=re.IGNORECASE,
    )  # fmt: skip
    if _NO_ANSWER.match(line):
        return ""
    return line.removesuffix(".").strip("\"'“”‘’*` ").removesuffix(".").rstrip()


def _label(text: str, sample: Sample) -> str | None:
    choices, text = tuple(sample.choices or ()), unfence(text)
    return letter(text, choices, _options(sample)) if are_letters(choices) else label(text, choices)


def _letter(text: str, sample: Sample) -> str | None:
    return letter(unfence(text), sample.choices or (), _options(sample))


def _options(sample: Sample) -> Sequence[str]:
    """What the letters stand for, where the item says so."""
    options = sample.fields.get("options")
    if isinstance(options, list | tuple) and len(options) == len(sample.choices or ()):
        return [str(option) for option in options]
    return ()


def _number(text: str, sample: Sample) -> str | None:
    return number(text)


def _final_number(text: str, sample: Sample) -> str | None:
    return final_number(text)


def _math(text: str, sample: Sample) -> str | None:
    return formula(unfence(text))


def _code(text: str, sample: Sample) -> str | None:
    """What a markdown fence holds: of several the first that defines the wanted function, else the first.

    Without fences the whole text; before a fence that only closes (the code began with the answer) what stands there.
    """
    wanted = str(sample.fields.get("entry_point", ""))
    before, *blocks = _blocks(text)
    defines = [b for b in (before, *blocks) if wanted and f"def {wanted}" in b]
    begun = before.strip("\n")[:1] in (" ", "\t")
    code = defines[0] if defines else before if begun or not blocks else blocks[0]
    return code.rstrip() or None


def _blocks(text: str) -> list[str]:
    """The text before the first fence, and the inside of each; a fence that names a language opens one."""
    before, *rest = re.split(r"^[ \t]*```([\w+-]*)[ \t]*$", text, flags=re.MULTILINE)
    blocks, within = [before], False
    for language, part in zip(rest[::2], rest[1::2]):
        within = bool(language) or not within
        if within:
            blocks.append(part.removeprefix("\n"))
    return blocks


def _rating(text: str, sample: Sample) -> str | None:
    """The one number from 1 to 10 in "[[7]]", else in a last line "Rating: 7"; none if several differ."""
    found = _verdict(text, r"\[\[\s*(\d{1,3}(?:\.\d{1,3})?)(?:\s*(?:/|out of)\s*10)?\s*\]\]",
                     r"(?:rating|score)\W{0,8}(\d{1,3}(?:\.\d{1,3})?)(?:\s*(?:/|out of)\s*10)?")  # fmt: skip
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
