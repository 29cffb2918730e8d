"""Foreign strings made safe to show: controls and bidi marks become visible, lengths are capped, names abbreviated."""

from __future__ import annotations

import re
import unicodedata

_KEPT = "\n\t"


def visible(text: object, newlines: bool = True) -> str:
    """`text` with every control, format, surrogate and separator character made visible.

    C0 controls become their Unicode picture (ESC -> ␛), others `⟨U+202E⟩`; newline and tab stay as they are,
    or become ⏎ and ⇥ with `newlines=False`. Terminals and browsers then show what is there and obey none of it.
    """
    return "".join(_shown(c, newlines) for c in str(text))


def _shown(char: str, newlines: bool) -> str:
    if char in _KEPT:
        return char if newlines else {"\n": "⏎", "\t": "⇥"}[char]
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if char in ("\u200d", "\u200c"):  # joiners are part of emoji and of Persian and Indic words
        return char
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"⟨U+{code:04X}⟩"
    return char


def cap(text: str, limit: int) -> str:
    """At most `limit` characters, and how many were left out."""
    return text if len(text) <= limit else f"{text[:limit]}… {len(text) - limit} more characters"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters: the middle is cut, because names differ at their ends."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[:width]
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def common_prefix(names: list[str]) -> str:
    """The words (up to `-`, `_`, `/`, `:` or space) that all of two or more names start with."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    found = re.match(r".*[-_/: ]", first[:length])
    prefix = found.group() if found else ""
    return prefix if all(len(n) > len(prefix) for n in names) else ""
