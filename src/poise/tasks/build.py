"""From a task's name to its samples: the task itself, groups, the seeded draw, and the hash of what counts as right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec

from poise.protocols import Task
from poise.registry import LM_EVAL, TASK_GROUPS, did_you_mean, lookup
from poise.types import Sample, UsageError


def get_task(name: str, allow_code: bool = False) -> Task:
    """The task `name`: built in, of an installed package, a `file.yaml`, or (with `allow_code`) `file.py:Name`."""
    if name.startswith(LM_EVAL):
        from poise.tasks.lmeval import load as load_lmeval

        return load_lmeval(name, allow_code)
    if name.endswith((".yaml", ".yml")):
        from poise.tasks.yamltask import load

        return load(Path(name))
    made: Task = lookup("task", name, allow_code)()
    return made


def expand_group(name: str, base_dir: str = ".") -> list[str]:
    """The tasks of a group; a name that is no group stands for itself. Files are relative to `base_dir`."""
    if name.startswith(LM_EVAL):
        from poise.tasks.lmeval_groups import members

        return [LM_EVAL + member for member in members(name.removeprefix(LM_EVAL), Path(base_dir))]
    return list(TASK_GROUPS.get(name, (name,)))


def check_options(task: Task, options: Mapping[str, Any]) -> None:
    """UsageError for an option that the task does not know; a task without a list of options checks its own."""
    known = getattr(task, "options", None)
    for option in options:
        if known is not None and option not in known:
            hint = did_you_mean(option, known) if known else "; it has none"
            raise UsageError(f"task {task.name} has no option {option!r}{hint}")


def draw(samples: Iterable[Sample], limit: int | None, balance: str | None, seed: int) -> list[int]:
    """Places of the first `limit` of a seeded permutation; with `balance`, as many of each value of that field.

    The permutation sorts by a hash of seed and sample id: a larger limit asks only more, and items that join or leave
    the data move no others. Without limit: all (balanced: as many of each value as the rarest has).
    """
    keys: list[bytes] = []
    values: list[str] = []
    for sample in samples:
        keys.append(hashlib.sha256(f"{seed}/{sample.id}".encode()).digest())
        if balance is not None:
            values.append(_value_of(sample, balance))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    _check_ids(samples, keys, order)
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    if balance is None:
        return order[:limit]
    groups: dict[str, list[int]] = {}
    for place in order:
        groups.setdefault(values[place], []).append(place)
    counts = ", ".join(f"{value}: {len(group)}" for value, group in sorted(groups.items()))
    each = min(map(len, groups.values())) if limit is None else limit // len(groups)
    if limit is not None and limit % len(groups):
        near = f"{each * len(groups)} or " if each else ""
        raise UsageError(
            f"limit {limit} cannot be shared equally by the {len(groups)} values of {balance!r} ({counts}); "
            f"use {near}{(each + 1) * len(groups)}"
        )
    if any(len(group) < each for group in groups.values()):
        raise UsageError(
            f"{each} items of each {balance!r} are wanted, but there are {counts}; "
            f"the largest balanced limit is {min(map(len, groups.values())) * len(groups)}"
        )
    return [groups[value][i] for i in range(each) for value in sorted(groups)]


def draw_clusters(samples: Iterable[Sample], limit: int | None, seed: int) -> list[int]:
    """Places of all samples of the first `limit` clusters of a seeded permutation: what belongs together stays so."""
    places: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault(sample.cluster or sample.id, []).append(place)
    order = sorted(places, key=lambda cluster: hashlib.sha256(f"{seed}/{cluster}".encode()).digest())
    return [place for cluster in order[:limit] for place in places[cluster]]


def _check_ids(samples: Iterable[Sample], keys: Sequence[bytes], order: Sequence[int]) -> None:
    if not order:
        raise UsageError("the task has no items")
    for a, b in pairwise(order):
        if keys[a] == keys[b]:
            name = next(islice(samples, max(a, b), None)).id
            raise UsageError(f"two items have the id {name!r}; ids must differ")


def _value_of(item: Sample, balance: str) -> str:
    if balance in item.fields:
        return str(item.fields[balance])
    group = item.category
    if group is not None:
        name, separator, value = group.partition("=")
        if not separator:
            name, value = "category", group
        if balance in ("category", name):
            return value
    there = [*item.fields, *(["category"] if group else [])]
    raise UsageError(f"cannot balance by {balance!r}: item {item.id!r} has no such field{did_you_mean(balance, there)}")


def target_sha(samples: Iterable[Sample]) -> str:
    """SHA-256 of what counts as right: ids, targets and choices, in order of id."""
    rows = sorted((s.id, msgspec.to_builtins(s.target), list(s.choices or ())) for s in samples)
    text = json.dumps(rows, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
