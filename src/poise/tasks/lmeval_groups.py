"""Groups of lm-evaluation-harness: what they list, the settings they change, and the metrics they average.

A group is read as data here too; `read` of `lmeval_api` resolves the functions that the installed package's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poise.registry import did_you_mean
from poise.tasks.lmeval_find import FILES, Index, file_of, index, installed, read_config, tagged_with, unknown
from poise.types import UsageError

IN = "::"
"""Between a group and what it lists: `mmlu::mmlu_stem::mmlu_astronomy` is that task as `mmlu` asks and counts it."""
GROUP_FIELDS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata", "include")
"""What a group says of itself; the rest are settings of its tasks."""


@dataclass(frozen=True)
class Found:
    """A task: its name there, its file (None: its settings are all in `changes`), and what its groups say of it."""

    name: str
    path: Path | None
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that its groups give it, the innermost last."""
    groups: tuple[dict[str, Any], ...] = ()
    """Name and aggregated metrics of each of its groups, the outermost first."""


Read = Callable[[Path], dict[str, Any]]


def members(name: str, base: Path = Path()) -> list[str]:
    """The tasks of a group or tag, in its order, each by a name that finds it; a task is its own only member.

    Files are relative to `base`. Members keep their group in their names where it changes or aggregates anything.
    """
    if IN in name:
        return [name]
    if not name.endswith(FILES) and (tagged := tagged_with(name)):
        return sorted(tagged)
    place = base / name if name.endswith(FILES) else file_of(name)
    config = read_config(place)
    if not _is_group(config):
        return [name]
    found = dict(_walk(config, name, str(config["group"]), _known(name, base), read_config))
    plain = all(not f.changes and f.path and not any(g["aggregate"] for g in f.groups) for f in found.values())
    return list(dict.fromkeys(f.name for f in found.values()) if plain and not name.endswith(FILES) else found)


def find(name: str, read: Read | None = None) -> Found:
    """The task that a name of `members` stands for; `read` reads a group's file (by default as data)."""
    root, inside, _ = name.partition(IN)
    if not inside:
        return Found(name, Path(name) if name.endswith(FILES) else file_of(name))
    read = read or read_config
    config = read(Path(root) if root.endswith(FILES) else file_of(root))
    found = dict(_walk(config, root, str(config.get("group")), _known(root), read)) if _is_group(config) else {}
    if name not in found:
        hint = did_you_mean(name, found) if found else f"; {root} is no group"
        raise UsageError(f"lm-evaluation-harness: no task {name!r}{hint}")
    return found[name]


def _is_group(config: Mapping[str, Any]) -> bool:
    return bool(config.get("group")) and isinstance(config.get("task"), list)


def _known(root: str, base: Path = Path()) -> Index:
    """What may be listed: the installed tasks, and before them those in the folder of a group's own file."""
    names, tags = installed()
    if not root.endswith(FILES):
        return names, tags
    own = index((base / root).absolute().parent)
    return {**names, **own[0]}, {**tags, **own[1]}


def _walk(
    group: Mapping[str, Any],
    prefix: str,
    name: str,
    known: Index,
    read: Read,
    changes: Mapping[str, Any] | None = None,
    groups: tuple[dict[str, Any], ...] = (),
) -> Iterator[tuple[str, Found]]:
    """Every task below a group, by its name within.

    What an entry says of itself wins over what outer groups say, and that over what its own group says.
    """
    if len(groups) > 8:
        raise UsageError(f"the lm-eval group {groups[0]['name']!r} includes itself")
    names, tags = known
    inherited = {**{k: v for k, v in group.items() if k not in GROUP_FIELDS}, **(changes or {})}
    inside = (*groups, {"name": name, "aggregate": _aggregates(group, name)})
    for item in group["task"]:
        if not isinstance(item, str | dict) or (isinstance(item, dict) and not {"group", "task"} & item.keys()):
            raise UsageError(f"the lm-eval group {name!r} lists {item!r}; a task or a group belongs there")
        listed = str(item if isinstance(item, str) else item.get("group") or item["task"])
        given = {} if isinstance(item, str) else {k: v for k, v in item.items() if k not in GROUP_FIELDS}
        more, within = {**inherited, **given}, f"{prefix}{IN}{listed}"
        path, kind = names.get(listed, (None, ""))
        if isinstance(item, dict) and "group" in item and path is None:
            if not isinstance(item.get("task"), list):
                raise unknown(listed, known)
            yield from _walk(item, within, f"{name}{IN}{listed}", known, read, inherited, inside)
        elif path is not None and kind == "group":
            inner = read(path)
            yield from _walk(inner, within, listed, known, read, more, inside) if _is_group(inner) else ()
        elif path is not None:
            yield within, Found(listed, path, more, inside)
        elif listed in tags:
            for task in sorted(tags[listed]):
                yield f"{prefix}{IN}{task}", Found(task, names[task][0], more, inside)
        elif isinstance(item, dict):  # written out in the group
            own = f"{name}{IN}{listed}"
            yield within, Found(own, None, {**more, "task": own}, inside)
        else:
            raise unknown(listed, known)


def _aggregates(group: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """What is averaged over a group's tasks, as data."""
    said = group.get("aggregate_metric_list") or []
    found = []
    for one in said if isinstance(said, list) else [said]:
        if not isinstance(one, dict) or "metric" not in one:
            raise UsageError(f"the lm-eval group {name!r} aggregates {one!r}; a `metric` belongs there")
        if one.get("aggregation", "mean") != "mean":
            raise UsageError(f"the lm-eval group {name!r} aggregates {one.get('metric')} by code; only means are taken")
        filters = one.get("filter_list")
        found.append(
            {
                "metric": one["metric"],
                "filters": [filters] if isinstance(filters, str) else filters,
                "by_size": bool(one.get("weight_by_size", True)),
            }
        )
    return found
