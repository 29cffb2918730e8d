"""Which of given labels or option letters a text answers with: one, or none rather than a guess.

Labels are looked for as whole words, in any case, longest first. One of them in the text: that one, unless it is
negated ("not positive"). Several: the one that the text begins with (after a lead such as "Sentiment:" or "the answer
is"), unless another follows it by "or", "and", "/"; else the one behind the last "answer is" or "label:"; else none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from poise.tasks.extract_math import boxed
from poise.tasks.mathtext import narrow

_LEAD = re.compile(
    r"^(?:\s|[*_`\"'“”#>-])*(?:(?:the |my |final |correct |best )*"
    r"(?:answer|label|sentiment|class|category|option|choice)"
    r"(?:\s+(?:is|would be|of [^.\n]{0,60}? is))?\s*[:=]?|(?:it|this|that)(?:'s| is)\b|(?:the|this) \w+ is\b"
    r"|(?:正确)?(?:答案|标签|情感|类别|分类|关系)(?:应该)?(?:是|为)?\s*[:：]?)?"
    r"(?:\s|[*_`\"'“”(:])*",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"\b(?:answer|label|sentiment|class|category|classification|relation|relationship)\b"
    r"(?:\s+\w+){0,3}?\s*(?:\bis\b|\*{0,2}[:=])|(?:答案|标签|情感|类别|分类|关系)(?:应该)?(?:是|为|\s*[:：])",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"(?:\b(?:not|never|neither|isn'?t|n't|hardly)\b[\s\"'*]*(?:a |an |very |really )?[\"'*]*|(?:不|没|非)[是太很]?)$",
    re.IGNORECASE,
)


def label(text: str, choices: tuple[str, ...]) -> str | None:
    """The one of `choices` that the text answers with."""
    if are_letters(choices):
        return letter(text, choices)
    words = "|".join(re.escape(c) for c in sorted(choices, key=len, reverse=True) if c)
    if not words:
        return None
    by_name = {c.casefold(): c for c in choices}
    inside = boxed(text)
    text = text if inside is None else inside
    found = _label(text, words)
    if found is None and (stated := list(_STATED.finditer(text))):
        rest = text[stated[-1].end() :].strip(" \t\n:*")
        found = _label(rest.partition("\n")[0], words)
    return None if found is None else by_name.get(found.casefold(), found)


def are_letters(choices: Sequence[str]) -> bool:
    return bool(choices) and all(len(c) == 1 and c.isalpha() and c.isascii() for c in choices)


def _label(text: str, words: str) -> str | None:
    # A label in a script without spaces (Chinese) has no word boundary on its side.
    # "2" is no part of "2.5".
    word = rf"(?:(?<!\w)(?<!\d[.,])|(?<=[^\x00-\u024f]))({words})(?:(?!\w)(?![.,]\d)|(?=[^\x00-\u024f]))"
    hits = list(re.finditer(word, text, re.IGNORECASE))
    if not hits:
        return None
    first = hits[0]
    if len({hit.group(1).casefold() for hit in hits}) == 1:
        unsure = re.fullmatch(r"\W*(?:or|nor|or an?)\W*", text[hits[-1].end() :], re.IGNORECASE)  # cut before the other
        negated = _NEGATION.search(text[max(0, first.start() - 24) : first.start()])
        return None if negated or unsure else first.group(1)
    lead = _LEAD.match(text)
    if lead is None or lead.end() < first.start():
        return None
    between = text[first.end() : hits[1].start()].strip(" \t*_`\"'“”)(").casefold()
    same = first.group(1).casefold() == hits[1].group(1).casefold()
    if not same and between in ("or", "and", "/", ",", "and/or", "|", "", "或", "和", "、"):
        return None
    return first.group(1)


def letter(text: str, choices: Sequence[str], options: Sequence[str] = ()) -> str | None:
    """The one option letter; of a text that is word for word one of `options` that option's.

    None where the letter stands before the words of another option: of "A: Paris" with Paris as B it is not known
    whether option A is meant, or "A:" for "Answer:".
    """
    found, words = _letter(text, choices), [_words(option) for option in options]
    said = {w: choice for choice, w in zip(choices, words) if len(w) > 1 and words.count(w) == 1}
    if found is None:
        lead = _LEAD.match(text)
        return said.get(_words(text)) or said.get(_words(text[lead.end() if lead else 0 :]))
    behind = re.findall(rf"(?<!\w){found}[).:]+[*_]*\s+([^\n]+)", text, re.IGNORECASE)
    return None if any(said.get(_words(line), found) != found for line in behind) else found


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _letter(text: str, choices: Iterable[str]) -> str | None:
    """The one letter: alone, marked as in "(B)", "B.", "**B**", or after "answer is"; None if two differ."""
    letters = [c for c in choices if len(c) == 1] or list("ABCDEFGHIJ")
    known = {c.casefold(): c for c in letters}
    text = _bare(text)
    shapes = _shapes("".join(letters))
    first = shapes.first.match(text)
    stated = {m.group(1).casefold() for m in shapes.stated.finditer(text)}
    if stated:
        alone = first and not text[first.end(1) :].partition("\n")[0].strip(" \t*_`\"')].")
        if first and alone:
            stated.add(first.group(1).casefold())
        return known[stated.pop()] if len(stated) == 1 else None
    if first and not shapes.lists_all(text):
        return known[first.group(1).casefold()]
    marked = {m.casefold() for pair in shapes.marked.findall(text) for m in pair if m}
    return known[marked.pop()] if len(marked) == 1 and not first else None


class _Shapes:
    """How an answer's letter is written, for these letters."""

    def __init__(self, letters: str) -> None:
        self._letters = letters.casefold()
        one = f"[{re.escape(letters)}]"
        opening = r"[\s*_`\"'“(\[{]*"
        # "a" and "I" are words too: they are letters only where something ends, or a reason follows.
        word = f"[{''.join(c for c in letters if c in 'AI')}]" if {"A", "I"} & set(letters) else r"(?!)"
        ended = r"(?=[)\].,;:!?*_`\"'”}]|\s*$|\s*\n|\s+[-–—(]|\s+(?:because|since|as|for|due)\b|[^\x00-\u024f])"
        whole = rf"(?:(?!{word}){one}|{word}{ended})(?![a-z0-9_'’+#-])"
        another = rf"(?-i:(?!I\s+[a-z]){one})(?![A-Za-z'’])"
        closing = r"[)\]}*_`\"'”]*"
        refuted = r"(?:is|are|was|would be|cannot be|can't be)\s+(?:\w+ly\s+)?(?:not\b|wrong|incorrect|false)"
        alone = (
            rf"(?!{closing}\s*(?:(?:/|&|、|或|和|or\b|and\b|and/or\b)\s*(?:option\s+)?[(\[*\"']*{another}"
            rf"|,\s*{another}\s*(?:$|[,.;)\n]|or\b|and\b)|{refuted}))"
        )
        found = rf"({whole}){alone}"
        asked = r"\b(?:answer|choice|option)\b(?:\s+(?:to|for|of)\s[^.:\n]{0,60}?)?"
        surely = r"(?:\s+(?:(?:most )?\w+ly|therefore|thus|then|indeed))?"
        is_ = rf"(?:\s+(?:is|would be|should be|must be|will be){surely})?\s*[:=]?"
        chinese = r"(?:答案|选项|选择|应选|故选|选)\s*(?:应该|应当|应)?(?:是|为)?\s*:?"
        self.stated = re.compile(rf"(?:{asked}{is_}|{chinese}){opening}(?:option\s*|选项)?{opening}{found}", re.I)
        after = r"[\s*_`\"'”)\]}.,:]*$|[)\].:*}]|\s*\n|\s+[-–—]\s|\s+(?:because|since)\b"
        comma = rf"|(?<!I),\s(?!(?:or |and )?{another})"
        self.first = re.compile(rf"{opening}({one}){alone}(?:{after}{comma})", re.I)
        self.marked = re.compile(rf"\(({one})\){alone}|\*\*({one})\b{alone}", re.I)
        self._led = re.compile(rf"^[ \t*_`(\[]*({one})(?:[)\].:*]+(?:\s|$)|[ \t]*$)", re.I | re.M)

    def lists_all(self, text: str) -> bool:
        """Whether the text only says the options again, one a line, from the first on."""
        led = "".join(self._led.findall(text)).casefold()
        return led.startswith(self._letters[:2])


_shapes = lru_cache(maxsize=64)(_Shapes)


def _bare(text: str) -> str:
    """The text without what surrounds a letter in TeX, HTML and full-width writing; of a text with a box its inside."""
    text = narrow(text)
    inside = boxed(text)
    text = re.sub(r"\\[()\[\]]|\$", "", text if inside is None else inside)
    text = re.sub(r"\\(?:text|math)(?:rm|bf|it)?\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"</?\w{1,10}>", "", text)
    return re.sub(r"\s{3,}", "\n\n", text)  # long blanks would cost the patterns quadratic time
