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
    near = [path for path in _files(f"{name}.yaml") if any(found == name for found, _ in _names(path))]
    path = near[0] if near else _index()[0].get(name)
    if path is None:
        known = {*_index()[0], *_index()[1]}
        hint = did_you_mean(name, known)
        hint = hint if "did you mean" in hint else f"; there are {len(known)}: lm-eval ls tasks"
        raise UsageError(f"lm-evaluation-harness has no task {name!r}{hint}")
    return path


def members(name: str) -> list[str]:
    """The tasks of a group or tag of the harness, in its order; a task, or a file, is its own only member."""
    if name.endswith(FILES):
        return [name]
    tags = _index()[1] if not any(_files(f"{name}.yaml")) else {}
    if name in tags:
        return sorted(tags[name])
    config = read_config(file_of(name))
    return list(dict.fromkeys(_leaves(config, name))) if config.get("group") == name else [name]


def _leaves(group: dict[str, Any], name: str) -> Iterator[str]:
    listed = group.get("task")
    for item in listed if isinstance(listed, list) else [listed]:
        if isinstance(item, str):
            yield from members(item)
        elif isinstance(item, dict) and isinstance(item.get("task"), list) and item.get("group"):
            yield from _leaves(item, name)
        elif isinstance(item, dict) and item.keys() == {"group"}:
            yield from members(str(item["group"]))
        else:
            raise UsageError(f"the group {name!r} changes settings of its tasks; name them one by one instead")


def _files(pattern: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(home()):
        folders[:] = [f for f in folders if f not in ("__pycache__", ".ipynb_checkpoints")]
        for file in files:
            if file == pattern or (pattern == "*" and file.endswith(".yaml")):
                yield Path(folder, file)


def _names(path: Path) -> list[tuple[str, str]]:
    """(name, task or group) of one file; where it names both, the task."""
    found = {kind: name.decode(errors="replace").strip() for kind, name in _NAMED.findall(path.read_bytes())}
    kind = b"task" if b"task" in found else b"group"
    return [(found[kind], kind.decode())] if found else []


@cache
def _index() -> tuple[dict[str, Path], dict[str, set[str]]]:
    """(tasks and groups with their files, tags with their tasks)."""
    names: dict[str, Path] = {}
    tags: dict[str, set[str]] = {}
    for path in sorted(_files("*")):
        for name, kind in _names(path):
            names.setdefault(name, path)
            for listed in _TAGS.findall(path.read_bytes()) if kind == "task" else ():
                for tag in _WORD.findall(listed):
                    tags.setdefault(tag.decode(), set()).add(name)
    return names, {tag: tasks for tag, tasks in tags.items() if tag not in names}


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
