"""Prompt log-probabilities by `echo`: the request for them, and which listed value belongs to which character.

A completion that repeats its prompt lists a log-probability for each of its tokens. Servers differ in whether the list
has the begin-of-text token and in how they count offsets, and one of them lists every value one token late; a list
that cannot be aligned with the text that was sent is refused, since a wrong value looks like any other.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import msgspec
from msgspec import Struct


def echo_body(model: str, text: str) -> dict[str, Any]:
    """One generated token more than is needed: a limit of 0 means none to some servers, and it shows the alignment."""
    return {
        "model": model,
        "prompt": text,
        "max_tokens": 1,
        "temperature": 0.0,
        "echo": True,
        "logprobs": 1,
        "stream": False,
    }


class Echo(Struct, frozen=True):
    """The listed tokens of the text that was sent: [start, stop) in its characters, and log-probabilities."""

    starts: list[int]
    stops: list[int]
    values: list[float | None]
    likeliest: list[bool | None]
    """Whether greedy decoding would have written that token."""

    def between(self, start: int, end: int) -> list[float]:
        """Of the tokens that overlap the characters [start, end); ValueError where one has no value."""
        chosen = [v for a, b, v in zip(self.starts, self.stops, self.values) if a < end and b > start]
        found = [v for v in chosen if v is not None]
        if not found or len(found) < len(chosen):
            raise ValueError("the server returned no log-probabilities of the text to be scored")
        return found

    def greedy(self, start: int, end: int) -> bool | None:
        """Whether greedy decoding would write the characters [start, end); None where the server does not say."""
        chosen = [g for a, b, g in zip(self.starts, self.stops, self.likeliest) if a < end and b > start]
        return None if None in chosen else all(chosen)

    def scored(self) -> list[float]:
        """Of all tokens, but for the first where it has none: nothing, or an unlisted token, stands before it."""
        found = [v for v in self.values if v is not None]
        if not found or None in self.values[1:]:
            raise ValueError("the server returned no log-probabilities of the text to be scored")
        return found


def read_echo(body: bytes, sent: str) -> Echo:
    """The list aligned with `sent`; ValueError (or a JSON error) where there is none, or none that can be trusted."""
    document = msgspec.json.decode(body)
    try:
        choice = document["choices"][0]
        found = choice["logprobs"]
        tokens, values, text = found["tokens"], found["token_logprobs"], choice["text"]
        offsets = found.get("text_offset") or [-1] * len(tokens)
        best = [_best(top) for top in found.get("top_logprobs") or [None] * len(tokens)]
        numbers = [None if v is None else float(v) for v in values]
        whole = len(tokens) == len(values) == len(offsets) == len(best) > 0 and isinstance(text, str)
        whole = whole and all(isinstance(o, int) for o in offsets) and all(isinstance(t, str) for t in tokens)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        whole = False
    if not whole:
        raise ValueError("the server returned no log-probabilities of the prompt")
    first, tokens = _from_the_text(tokens, sent)
    counted = list(accumulate(map(len, tokens[:-1]), initial=0))
    blank = len(found["tokens"][first]) - len(tokens[0])
    told = [max(0, o - offsets[first] - blank) for o in offsets[first:]]
    at = counted if "".join(tokens) == text else told
    if at != sorted(at) or not _ends_where_sent_did(at, sent, text, len(values), document.get("usage")):
        raise ValueError(
            "the server's log-probabilities of the prompt cannot be matched with its tokens "
            "(llama-cpp-python lists them one token late for models without a begin-of-text token)"
        )
    starts = [a for a in at if a < len(sent)]
    stops: list[int] = []
    for a, b in zip(reversed(starts), reversed([*starts[1:], len(sent)])):
        stops.append(b if b > a else stops[-1])  # tokens that are parts of one character share it
    own = slice(first, first + len(starts))
    likeliest = [None if v is None or top is None else v >= top for v, top in zip(numbers[own], best[own])]
    return Echo(starts, stops[::-1], numbers[own], likeliest)


def _best(top: Any) -> float | None:
    return max(map(float, top.values())) if isinstance(top, dict) and top else None


def _from_the_text(tokens: list[str], sent: str) -> tuple[int, list[str]]:
    """Where the text begins: behind a begin-of-text token, without the blank that SentencePiece puts before it."""
    for i, token in enumerate(tokens[:2]):
        for head in (token, token.removeprefix(" ")):
            if head and sent.startswith(head):
                return i, [head, *tokens[i + 1 :]]
    return 0, tokens


def _ends_where_sent_did(at: list[int], sent: str, text: str, listed: int, usage: Any) -> bool:
    """Whether the list goes on with the generated token exactly behind the text that was sent.

    Where nothing was generated, the list must lack one token, the begin of the text: only then is it known not to be
    late by one.
    """
    if at[-1] >= len(sent):
        return len(sent) in at
    prompt = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return len(text) == len(sent) and listed + 1 == prompt
