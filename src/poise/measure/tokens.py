"""A model's text surface: tokenizer and chat template of a folder, incremental pieces of text, and where stops may end.

The embedded engine reads `tokenizer.json` and the template without the transformers package; an engine with its own
tokenizer fills the same `Codec`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from poise.plan.tokenizer import Folder, text_sha
from poise.types import Message

UNFINISHED = "\ufffd"
"""What a decoder shows for bytes that are not (yet) a whole character."""


@dataclass(frozen=True, eq=False)
class Codec:
    """How one model turns text into token ids and back."""

    encode: Callable[[str, bool], list[int]]
    """Text -> ids; the flag says whether the tokenizer adds its special tokens (BOS …)."""
    decode: Callable[[Sequence[int]], str]
    """Ids -> text without special tokens."""
    surface: Callable[[int], str | None]
    """The vocabulary's own spelling of an id, where decoding alone would lose a leading space."""
    size: int
    eos: frozenset[int]
    bos: int | None = None
    start: int | None = None
    """What a text begins with where nothing stands before it: BOS, else the tokenizer's end of text."""
    context: int | None = None
    render: Callable[[Sequence[Message]], str] | None = None
    """Messages -> prompt text that ends where the assistant begins; None: the model has no chat template."""
    tokenizer_sha: str | None = None
    template_sha: str | None = None


# ---------------------------------------------------------------- incremental text


def split_pieces(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    """One piece of text per token: what that token made visible; "" while a character is incomplete.

    The pieces joined are exactly `decode(ids)`. Only a short window is decoded per token; where a decoder is not
    additive over such windows, whole prefixes are decoded instead.
    """
    if not ids:
        return []
    whole, pieces = decode(ids), []
    start = read = 0
    before = ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[start:end])
        if len(text) > len(before) and not text.endswith(UNFINISHED):
            pieces.append(text[len(before) :])
            start, read = read, end
            before = decode(ids[start:read])
        else:
            pieces.append("")
    joined = "".join(pieces)
    if not whole.startswith(joined):
        return _split_by_prefixes(decode, ids, whole)
    pieces[-1] += whole[len(joined) :]
    return pieces


def _split_by_prefixes(decode: Callable[[Sequence[int]], str], ids: Sequence[int], whole: str) -> list[str]:
    def agreed(text: str) -> int:
        return next((i for i, (a, b) in enumerate(zip(text, whole)) if a != b), min(len(text), len(whole)))

    ends = [agreed(decode(ids[:i]).rstrip(UNFINISHED)) for i in range(1, len(ids))]
    pieces, shown = [], 0
    for end in [*ends, len(whole)]:
        pieces.append(whole[shown : max(shown, end)])
        shown = max(shown, end)
    return pieces


def cut_at_stop(pieces: list[str], stops: Sequence[str], first: int = 0) -> tuple[list[str], bool]:
    """Pieces with everything from the earliest stop string on removed, and whether one was found.

    Only the text from piece `first` on is searched.
    """
    text = "".join(pieces)
    offset = sum(map(len, pieces[:first]))
    found = [text.find(stop, offset) for stop in stops if stop]
    places = [place for place in found if place >= 0]
    if not places:
        return pieces, False
    left, kept = min(places), []
    for piece in pieces:
        kept.append(piece[:left])
        left -= len(kept[-1])
    return kept, True


def visible_to_stop(pieces: list[str], kinds: str | None, stops: Sequence[str]) -> list[str]:
    """`cut_at_stop` of the visible pieces (`kinds`: v or r), reasoning left as it is."""
    if kinds is None:
        return cut_at_stop(pieces, stops)[0]
    kept = iter(cut_at_stop([p for p, k in zip(pieces, kinds) if k == "v"], stops)[0])
    return [next(kept) if k == "v" else p for p, k in zip(pieces, kinds)]


@lru_cache(maxsize=64)
def stop_suspects(codec: Codec, stops: tuple[str, ...]) -> frozenset[int]:
    """Ids whose text holds the last character of a stop string: only after such a token is a look at the text due."""
    lasts = {stop[-1] for stop in stops if stop}
    if any(not last.isascii() for last in lasts):
        lasts.add(UNFINISHED)
    if not lasts:
        return frozenset()
    return frozenset(i for i, text in enumerate(_token_texts(codec)) if not lasts.isdisjoint(text))


@lru_cache(maxsize=4)
def _token_texts(codec: Codec) -> list[str]:
    return [codec.decode([i]) + (codec.surface(i) or "").replace("▁", " ") for i in range(codec.size)]


def has_stop(codec: Codec, ids: Sequence[int], stops: Sequence[str]) -> bool:
    """Whether a stop string ends within the last of `ids`: decodes only as many tokens as a stop can span."""
    reach = 4 * max(map(len, stops)) + 4  # a character is at most four byte tokens
    text = codec.decode(ids[-reach:])
    return any(stop in text for stop in stops if stop)


# ---------------------------------------------------------------- a folder's own tokenizer and template


def folder_codec(folder: Path, eos: frozenset[int], context: int | None) -> Codec:
    """Codec from `tokenizer.json` (in the folder or the one above), with the chat template where there is one."""
    home = Folder(folder)
    tokenizer = home.tokenizer
    bos, end = home.special("bos_token"), home.special("eos_token")
    ids = [tokenizer.token_to_id(token) for token in (bos, end) if token]
    return Codec(
        encode=lambda text, special: list(tokenizer.encode(text, add_special_tokens=special).ids),
        decode=lambda ids: str(tokenizer.decode(ids)),
        surface=tokenizer.id_to_token,
        size=tokenizer.get_vocab_size(),
        eos=eos,
        bos=tokenizer.token_to_id(bos) if bos else None,
        start=next((i for i in ids if i is not None), None),
        context=context,
        render=home.render,
        tokenizer_sha=home.sha,
        template_sha=text_sha(home.template) if home.template else None,
    )
