"""More requests than there are items: the same ones again, in the same order, as further draws.

An item comes back after all others, so that as much as possible lies between two requests of one prompt. Ids stay
unique (`sample/draw`), and everything that joins draws of an item joins these. A prefix cache may answer a repeated
prompt faster: synthetic prompts therefore come back with their words in another order where their shared part ends,
and are new to any cache but for that first word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import count as natural

from msgspec import structs

from poise.types import Request

_MOVED = 16
"""Words that change places: more orders than there are turns."""


def sequence(requests: Iterable[Request]) -> Iterator[Request]:
    """The requests, again and again, without end. They are gone through anew each time, and never held."""
    draws = 0
    for request in requests:
        draws = max(draws, 1 + request.draw)
        yield request
    for turn in natural(1) if draws else ():
        for request in requests:
            yield again(request, request.draw + turn * draws, turn)


def asked(requests: Iterable[Request], records: int) -> Iterator[Request]:
    """The requests that leave so many records, of which a conversation leaves one a turn."""
    for request in sequence(requests):
        if records <= 0:
            return
        records -= len(request.parts)
        yield request


def again(request: Request, draw: int, turn: int) -> Request:
    """The request as it is asked in a later turn."""
    seed = int(hashlib.sha256(f"{request.seed}/{draw}".encode()).hexdigest()[:7], 16)
    later = structs.replace(request, id=f"{request.sample_id}/{draw}", draw=draw, seed=seed)
    if request.shared_chars is None:
        return later
    prompt = None if request.prompt is None else _renewed(request.prompt, request.shared_chars, turn)
    messages = request.messages and tuple(
        structs.replace(m, content=_renewed(m.content, request.shared_chars, turn)) if m.role == "user" else m
        for m in request.messages
    )
    asked_sha = hashlib.sha256(f"{request.asked_sha}/{turn}".encode()).hexdigest()
    return structs.replace(later, asked_sha=asked_sha, prompt=prompt, messages=messages)


def _renewed(text: str, shared_chars: int, turn: int) -> str:
    """Its own first words in another order, but for the first and the last: other prompts of the same many tokens."""
    words = text[shared_chars:].split(" ", _MOVED + 1)
    first, pool, rest = words[:1], words[1 : _MOVED + 1], words[_MOVED + 1 :]
    last = [] if rest or not pool else [pool.pop()]
    moved = []
    for left in range(len(pool), 0, -1):  # the number of the turn, read as a permutation's: each turn has another
        turn, place = divmod(turn, left)
        moved.append(pool.pop(place))
    return text[:shared_chars] + " ".join([*first, *moved, *last, *rest])
