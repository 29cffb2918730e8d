"""Where lm-evaluation-harness keeps a task or group, and whether a task file runs code; imports none of it.

Names are found by a scan of the files' `task:` and `group:` lines, in about a second; the harness's own index reads
fourteen thousand YAML files whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from poise.registry import did_you_mean
from poise.types import UsageError

PREFIX = "lm-eval:"
FILES = (".yaml", ".yml")
BUILDERS = ("json", "csv", "parquet", "text", "arrow")
"""Readers of local files that only read data (pandas would unpickle)."""

_NAMED = re.compile(rb"""^["']?(task|group)["']?:[ \t]*["']?([^"'\s#\[{|>&!][^"'\n#]*?)["']?[ \t]*(?:#.*)?\r?$""", re.M)
_TAGS = re.compile(rb"""^["']?tag["']?:(.*(?:\n[ \t]*-.*)*)""", re.M)
_INCLUDE = re.compile(rb"""^["']?include["']?:[ \t]*["']?([^"'\s#\[]+)""", re.M)
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?<!\.py)")
"""A data set of the hub by its full name; anything else may be a script, or a reader that unpickles."""
_WORD = re.compile(rb"[\w.:-]*\w[\w.:-]*")


class Function(str):
    """A `!function` of a task file: the name of code."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    pass


def _function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Function:
    return Function(loader.construct_scalar(node))


_Loader.add_constructor("!function", _function)


def home() -> Path:
    """The installed harness's folder of tasks; UsageError where it is not installed."""
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("tasks of lm-evaluation-harness need its package: pip install 'poise[lm-eval]'")
    return Path(next(iter(spec.submodule_search_locations))) / "tasks"


def file_of(name: str) -> Path:
    """The file of the installed task `name`; UsageError with the nearest names where there is none."""
    near = [path for path in _files(home(), f"{name}.yaml") if any(found == name for found, _ in _names(path))]
    path = near[0] if near else installed()[0].get(name, (None, ""))[0]
    if path is None:
        raise unknown(name, installed())
    return path


def tagged_with(name: str) -> set[str]:
    """The tasks that carry a tag; none where the name is a task's or a group's."""
    return set() if any(_files(home(), f"{name}.yaml")) else installed()[1].get(name, set())


def unknown(name: str, known: Index) -> UsageError:
    names = {*known[0], *known[1]}
    hint = did_you_mean(name, names)
    hint = hint if "did you mean" in hint else f"; there are {len(names)}: lm-eval ls tasks"
    return UsageError(f"lm-evaluation-harness has no task {name!r}{hint}")


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in ("__pycache__", ".ipynb_checkpoints")]
        for file in files:
            if file == pattern or (pattern == "*" and file.endswith(".yaml")):
                yield Path(root, file)


def _names(path: Path) -> list[tuple[str, str]]:
    """(name, task or group) of one file; where it names both, the task."""
    found = {kind: name.decode(errors="replace").strip() for kind, name in _NAMED.findall(path.read_bytes())}
    kind = b"task" if b"task" in found else b"group"
    return [(found[kind], kind.decode())] if found else []


Index = tuple[dict[str, tuple[Path, str]], dict[str, set[str]]]
"""(tasks and groups with their files and kinds, tags with their tasks)."""


@cache
def installed() -> Index:
    """All that the installed harness brings."""
    return index(home())


def index(folder: Path) -> Index:
    """What the task files below a folder name."""
    names: dict[str, tuple[Path, str]] = {}
    tags: dict[str, set[str]] = {}
    tagged: dict[Path, list[str]] = {}
    for path in sorted(_files(folder, "*")):
        for name, kind in _names(path):
            names.setdefault(name, (path, kind))
            for tag in _tags(path, tagged) if kind == "task" else ():
                tags.setdefault(tag, set()).add(name)
    return names, {tag: tasks for tag, tasks in tags.items() if tag not in names}


def _tags(path: Path, known: dict[Path, list[str]]) -> list[str]:
    """The tags of a task file, else of the file it includes; `known` are those of files that were read."""
    if path not in known:
        known[path] = []  # should it include itself
        text = path.read_bytes() if path.is_file() else b""
        own = [tag.decode() for listed in _TAGS.findall(text) for tag in _WORD.findall(listed)]
        include = _INCLUDE.search(text)
        known[path] = own or (_tags(path.parent / include[1].decode(), known) if include else [])
    return known[path]


# ---------------------------------------------------------------- files of one's own


def read_config(path: Path, _seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task file with what it includes, as data: code stays a `Function`, nothing is imported."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "strerror", None) or "not YAML in UTF-8"
        raise UsageError(f"{path}{where}: {reason}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: a task of lm-evaluation-harness is a mapping (task, dataset_path, doc_to_text …)")
    include = found.pop("include", [])
    merged: dict[str, Any] = {}
    for other in include if isinstance(include, list) else [include]:
        inside = path.parent / str(other)
        if inside in _seen or inside == path:
            raise UsageError(f"{path}: it includes itself")
        merged |= read_config(inside, (*_seen, path))
    return merged | found


def code_in(config: Any) -> str | None:
    """What in a task's configuration would run code, in words; None where it is only data."""
    if isinstance(config, Function):
        return f"!function {config}"
    if isinstance(config, list):
        return next((found for part in config if (found := code_in(part))), None)
    if not isinstance(config, dict):
        return None
    for key in ("class", "custom_dataset", "use_prompt", "unsafe_code"):
        if config.get(key):
            return f"{key}: {config[key]}"
    if config.get("hf_evaluate"):
        return f"the metric {config.get('metric')!r} from the hub (hf_evaluate)"
    source = config.get("dataset_path")
    if isinstance(source, str) and source not in BUILDERS and (Path(source).exists() or not _HUB.fullmatch(source)):
        return f"dataset_path: {source}"
    return next((found for part in config.values() if (found := code_in(part))), None)
