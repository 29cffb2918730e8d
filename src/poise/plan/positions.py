"""Study files to plain data plus where each key and item stands, so that every error can name its line and column."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from poise.registry import did_you_mean
from poise.types import UsageError

T = TypeVar("T")
Where = tuple[str | int, ...]


class Document:
    """Plain data of a study, with positions where it came from a YAML file."""

    def __init__(self, data: Any, label: str, positions: dict[Where, tuple[int, int]] | None = None) -> None:
        self.data, self.label, self.positions = data, label, positions or {}

    def at(self, where: Where) -> str:
        """`file:line:column: path` of the nearest known ancestor of `where`."""
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where).lstrip(".")
        near = where
        while near and near not in self.positions:
            near = near[:-1]
        place = "{}:{}".format(*self.positions[near]) if near in self.positions and near else ""
        return ": ".join(part for part in (f"{self.label}:{place}" if place else self.label, path) if part)

    def error(self, where: Where, message: str) -> UsageError:
        return UsageError(f"{self.at(where)}: {message}")

    def check_keys(self, where: Where, value: Any, known: Iterable[str], what: str = "key") -> None:
        """UsageError for what is no mapping, or has a key that is not known."""
        if not isinstance(value, dict):
            raise self.error(where, f"must be a mapping, not {type(value).__name__}")
        known = list(known)
        for key in value:
            if key not in known:
                raise self.error((*where, key), f"unknown {what} {key!r}{did_you_mean(str(key), known)}")

    def convert(self, where: Where, value: Any, kind: type[T]) -> T:
        """`value` as `kind`; UsageError that names the place inside it."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$")
            inner: list[str | int] = []
            for name, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path):
                inner.append(name or (int(index) if index.isdigit() else "…"))
            raise self.error((*where, *inner), message[:1].lower() + message[1:].replace("`", "")) from None


class _Loader(yaml.SafeLoader):
    """Safe loader of YAML 1.2's booleans: `yes`, `no`, `on`, `off` stay words."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF"))


def read_file(path: Path) -> Document:
    """Read a .yaml, .yml, .toml or .json study; UsageError with line and column where it is malformed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no study file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}") from None
    return read_text(text, path.name, toml=path.suffix == ".toml")


def read_text(text: str, label: str, toml: bool = False) -> Document:
    if toml:
        try:
            return Document(tomllib.loads(text), label)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{label}: not TOML: {error}") from None
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            positions: dict[Where, tuple[int, int]] = {}
            data = _plain(loader, node, (), positions, label, 0) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UsageError(f"{label}{place}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{label}: not YAML: {' '.join(str(error).split())}") from None
    return Document(data, label, positions)


def _plain(
    loader: _Loader, node: Any, where: Where, positions: dict[Where, tuple[int, int]], label: str, depth: int
) -> Any:
    if depth > 32 or len(positions) > 100_000:  # aliases can make a small file expand without end
        raise UsageError(f"{label}: nested more than 32 deep, or more than 100 000 values")
    positions.setdefault(where, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            spot = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key, str):
                key = str(key)
            if key in mapping:
                raise UsageError(f"{label}:{spot[0]}:{spot[1]}: the key {key!r} stands twice")
            positions[(*where, key)] = spot
            mapping[key] = _plain(loader, value_node, (*where, key), positions, label, depth + 1)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*where, i), positions, label, depth + 1) for i, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)
