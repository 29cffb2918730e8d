"""How the mock server behaves: every setting once, as a field and as a flag with the line that explains it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

FAULTS = ("429", "500", "503", "reset", "wrong-json", "endless", "early-close")
BLOCK = 16
"""Words in a block of the prefix cache."""

Seconds = Annotated[float, Meta(ge=0, title="SECONDS")]
Share = Annotated[float, Meta(ge=0, le=1, title="0..1")]
Count = Annotated[int, Meta(ge=0, title="N")]
AtLeastOne = Annotated[int, Meta(ge=1, title="N")]
Bool = Annotated[bool, Meta(title="true|false")]


def _says(text: str, value: str | None = None) -> Meta:
    """A flag's explanation, and the word for its value where the type has none of its own."""
    return Meta(description=text, title=value)


_READ: dict[str, Callable[[str], Any]] = {
    "SECONDS": float,
    "0..1": float,
    "N": int,
    "KIND,…": lambda text: text.split(","),
}


class MockConfig(Struct, frozen=True):
    ttft_s: Annotated[Seconds, _says("From a request to its first token.")] = 0.0
    prefill_s: Annotated[Seconds, _says("Added for each prompt token (word) that no cache holds.")] = 0.0
    prefix_cache: Annotated[
        Bool, _says(f"Remember prompts by blocks of {BLOCK} words: known beginnings take no --prefill.")
    ] = False
    cached_usage: Annotated[Bool, _says("Say in the token counts how many came from the cache.")] = True
    gap_s: Annotated[Seconds, _says("Between two events of an answer.")] = 0.0
    jitter: Annotated[Share, _says("Multiply each gap and time to first token by 1 ± this much (uniform).")] = 0.0
    stall_share: Annotated[Share, _says("Share of the streams that pause once, at a random event.")] = 0.0
    stall_s: Annotated[Seconds, _says("How long they pause.")] = 0.4
    error_share: Annotated[Share, _says("Share of the requests that fail.")] = 0.0
    faults: Annotated[tuple[str, ...], _says(f"How, drawn from a list: {', '.join(FAULTS)}.", "KIND,…")] = ("500",)
    tokens: Annotated[Count, _says("Output tokens (words) where no text is given, within what a request asks.")] = 16
    tokens_per_chunk: Annotated[AtLeastOne, _says("Tokens in one event.")] = 1
    reasoning_tokens: Annotated[Count, _says("Reasoning tokens before the answer.")] = 0
    capacity: Annotated[
        AtLeastOne | None, _says("Answers at one time; further requests wait in order. Default: no limit.", "N")
    ] = None
    usage: Annotated[
        Literal["option", "always", "none"],
        _says("Token counts in a stream: as stream_options asks, always, never.", "option|always|none"),
    ] = "option"
    done: Annotated[Bool, _says("End a stream with [DONE].")] = True
    text: Annotated[str | None, _says("The answer to everything. Default: numbered words.", "TEXT")] = None
    answers: Annotated[
        str | None,
        _says("JSONL of prompt and answer; the last 200 characters tell a prompt. Default: none.", "FILE"),
    ] = None
    accuracy: Annotated[Share, _says("Share of the known answers that are given.")] = 1.0
    wrong: Annotated[str, _says("What is said instead of the others.", "TEXT")] = "I do not know."
    seed: Annotated[int, _says("Seed of every draw.", "N")] = 0
    truth: Annotated[
        str | None, _says("Log what happened when, a line of JSON a request. Default: no log.", "FILE")
    ] = None
    keep_alive: Annotated[Bool, _says("Keep connections open after an answer.")] = True
    coalesce: Annotated[
        Bool, _says("Let the kernel join events it cannot send as fast (Nagle); else each goes at once.")
    ] = False
    one_write: Annotated[Bool, _says("Where all times are 0: all events of a stream in one write.")] = False


def from_flags(argv: Sequence[str] | None) -> tuple[MockConfig, str, int]:
    """Configuration, host and port of a command line; ends the process with one sentence where a flag is wrong."""
    parser = argparse.ArgumentParser(
        "poise mock-server",
        usage="%(prog)s [--FLAG VALUE] …",
        description="An OpenAI-compatible server of known truth. All draws depend on seed and prompt only.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
    )
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on. Default: %(default)s.")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="Port to listen on. Default: 0, a free one.")
    for info in msgspec.structs.fields(MockConfig):
        metas: list[Meta] = list(info.type.__metadata__)
        title = next(meta.title for meta in reversed(metas) if meta.title)
        help = f"{metas[-1].description}{_default(info.default)}"
        for name in dict.fromkeys((info.name.removesuffix("_s"), info.name)):
            flag, read = f"--{name.replace('_', '-')}", _reader(info.type, title)
            parser.add_argument(flag, dest=info.name, type=read, metavar=title, default=argparse.SUPPRESS, help=help)
            help = argparse.SUPPRESS  # of the longer name
    found = vars(parser.parse_args(argv))
    host, port = found.pop("host"), found.pop("port")
    return MockConfig(**found), host, port


def _default(value: Any) -> str:
    """Nothing for None: the explanation says what it means."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    elif isinstance(value, float):
        value = f"{value:g}"
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f" Default: {shown.removesuffix('.')}."


def _reader(kind: Any, title: str) -> Callable[[str], Any]:
    """Reads a flag's value, or says what would be one."""

    def read(text: str) -> Any:
        try:
            return msgspec.convert(_READ.get(title, str)(text), kind, strict=False)
        except ValueError:  # also msgspec's
            raise argparse.ArgumentTypeError(f"{text!r} does not fit {title}; see --help") from None

    return read
