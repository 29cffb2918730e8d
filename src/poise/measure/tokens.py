"""A model's text surface: tokenizer and chat template of a folder, incremental pieces of text, and where stops may end.

The embedded engine reads `tokenizer.json` and the template without the transformers package; an engine with its own
tokenizer fills the same `Codec`.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from poise.types import Message, UsageError

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
    from tokenizers import Tokenizer

    home = next((f for f in (folder, folder.parent) if (f / "tokenizer.json").is_file()), None)
    if home is None:
        raise UsageError(f"no tokenizer.json in {folder}; a model folder needs its tokenizer beside it")
    tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _read_json(home / "tokenizer_config.json")
    template = chat_template(folder) or chat_template(home)
    bos, end = (_content(config.get(name)) for name in ("bos_token", "eos_token"))
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
        render=renderer(template, config) if template else None,
        tokenizer_sha=tokenizer_sha(home),
        template_sha=text_sha(template) if template else None,
    )


def text_counter(source: Any) -> Callable[[str], int] | None:
    """How many tokens a text has in the tokenizer of a local model folder; None where there is none."""
    if not isinstance(source, str) or not (Path(source) / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(source) / "tokenizer.json"))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def tokenizer_sha(folder: Path) -> str | None:
    """SHA-256 of `tokenizer.json` as canonical JSON, so that a re-saved file keeps its identity."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    body = _read_json(path)
    body.pop("truncation", None)
    body.pop("padding", None)
    return text_sha(json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def text_sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def chat_template(folder: Path) -> str | None:
    """The folder's chat template: `chat_template.jinja`, or the (default) one of `tokenizer_config.json`."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    template = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def renderer(template: str, config: dict[str, Any]) -> Callable[[Sequence[Message]], str]:
    """A function that renders messages with a model's (untrusted) template in Jinja's sandbox."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's part for training; here its content is all that matters."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        compiled = environment.from_string(template)
    except TemplateError as error:
        raise UsageError(f"the model's chat template is not valid Jinja: {error}; set format: raw") from None
    tokens = {k: _content(v) for k, v in config.items() if k.endswith("_token") and _content(v)}

    def render(messages: Sequence[Message]) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return compiled.render(messages=turns, add_generation_prompt=True, **tokens)

    return render


def _content(token: Any) -> str | None:
    """A special token in `tokenizer_config.json` is a string, or an object with its `content`."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, OSError) as error:
        raise UsageError(f"{path.name} of the model cannot be read: {error}") from None
    return body if isinstance(body, dict) else {}
