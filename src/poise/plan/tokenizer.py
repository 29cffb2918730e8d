"""A model folder's tokenizer and chat template, read without the transformers package: text to token counts."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from poise.plan.sources import bundled_folder, hub_file
from poise.types import Message, UsageError


class Folder:
    """`tokenizer.json` (in the folder or the one above) with its settings; UsageError where there is none."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        home = next((f for f in (folder, folder.parent) if (f / "tokenizer.json").is_file()), None)
        if home is None:
            raise UsageError(f"no tokenizer.json in {folder}; a model folder needs its tokenizer beside it")
        try:
            self.tokenizer: Any = Tokenizer.from_file(str(home / "tokenizer.json"))
        except Exception as error:  # the package raises nothing narrower
            raise UsageError(f"tokenizer.json in {home} cannot be read: {error}") from None
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.template = chat_template(folder) or chat_template(home)
        self.home, self._config = home, _read_json(home / "tokenizer_config.json")

    def special(self, name: str) -> str | None:
        """The text of `bos_token`, `eos_token` …"""
        return _content(self._config.get(name))

    @cached_property
    def sha(self) -> str | None:
        return tokenizer_sha(self.home)

    @cached_property
    def render(self) -> Callable[[Sequence[Message]], str] | None:
        """Messages to the prompt that ends where the assistant begins; None: there is no chat template."""
        return renderer(self.template, self._config) if self.template else None

    def count(self, text: str, special: bool = False) -> int:
        """Tokens of a text, with those that the tokenizer puts round every text (begin of text …) on request."""
        return len(self.encode(text, special).ids)

    def encode(self, text: str, special: bool = False) -> Any:
        try:
            return self.tokenizer.encode(text, add_special_tokens=special)
        except Exception as error:  # the package raises nothing narrower
            raise UsageError(f"the tokenizer in {self.home} cannot read a text: {error}") from None


def find(name: str, base_dir: str = ".") -> Path:
    """The folder that a tokenizer's name means: bundled:NAME, a local folder or its tokenizer.json, a hub name."""
    if name.startswith("bundled:"):
        return bundled_folder(name.removeprefix("bundled:"))
    path = Path(base_dir) / Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.name == "tokenizer.json" and path.is_file():
        return path.parent.resolve()
    if path.suffix == ".gguf":
        raise UsageError(
            f"tokenizer {name!r}: those in GGUF files are not read; give the folder or the hub name of the model that "
            "the file was made from (it has a tokenizer.json)"
        )
    if path.is_file() or name.startswith((".", "/", "~")):
        raise UsageError(f"tokenizer {name!r} is no folder with a tokenizer.json; give the folder of the served model")
    try:
        found = [hub_file(name, f, None) for f in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")]
    except ImportError:
        raise UsageError(f"tokenizer {name!r}: no such folder, and the hub needs pip install 'poise[hub]'") from None
    except ValueError as error:  # no name that the hub could have
        raise UsageError(f"tokenizer {name!r}: no such folder, and no name on the hub ({error})") from None
    if found[0] is None:
        raise UsageError(f"tokenizer {name!r}: it has no tokenizer.json on the hub; give a folder that has one")
    return found[0].parent


def served(option: str | None, source: Any, base_dir: str = ".") -> Path | None:
    """The tokenizer's folder of a served model: the one its deployment names, else the model's own local folder."""
    if option is not None:
        return find(option, base_dir)
    return Path(source) if isinstance(source, str) and (Path(source) / "tokenizer.json").is_file() else None


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
        return own.read_text(encoding="utf-8", errors="replace")
    template = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
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
