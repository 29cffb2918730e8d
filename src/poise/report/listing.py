"""What there is: tasks with their metrics, engines with what they can do and whether they can run here."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import msgspec

from poise import registry
from poise.report.text import visible

if TYPE_CHECKING:
    from rich.console import Console

NAME = 22
"""Columns that the names of a list take."""


def print_tasks(as_json: bool = False) -> None:
    """Every task by name: what it asks, metrics (the first is primary), modes; then the groups. Light: without rich."""
    rows = []
    for name in registry.names("task"):
        task: Any = registry.lookup("task", name)()
        about = getattr(task, "about", "") or (type(task).__doc__ or "").strip().split("\n")[0]
        modes = list(getattr(task, "modes", ("generate",)))
        rows.append(
            {"name": name, "about": about, "metrics": list(task.metrics), "modes": modes, "chance": task.chance}
        )
    groups = {group: list(members) for group, members in registry.TASK_GROUPS.items()}
    harness = importlib.util.find_spec("lm_eval") is not None
    if as_json:
        _print_json({"tasks": rows, "groups": groups, "lm-eval": harness})
        return
    there = "installed; `lm-eval ls tasks` lists them" if harness else "pip install 'poise[lm-eval]'"
    bundled = {member for members in groups.values() for member in members}
    for row in sorted(rows, key=lambda row: row["name"] in bundled):
        metrics = ", ".join(row["metrics"]) or "no metric"
        _print_entry(row["name"], row["about"], f"[{metrics}; {', '.join(row['modes'])}]")
    print()
    for group, members in groups.items():
        whole = ", ".join(name for name, of in groups.items() if name != group and set(of) < set(members))
        rest = len(members) - len(groups.get(whole, ()))
        _print_entry(group, f"the group of {whole} and the {rest} other miniatures" if whole else ", ".join(members))
    _print_entry("file.yaml", "a task of your own, as is file.py:Name")
    _print_entry("lm-eval:NAME", f"a task or group of lm-evaluation-harness, or lm-eval:file.yaml ({there})")


def print_task(about: dict[str, Any], as_json: bool = False) -> None:
    """One task: what it is, how it asks and scores, and an item where there are data."""
    if as_json:
        _print_json(about)
        return
    item = about.pop("item")
    for name, value in about.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        _print_entry(name.replace("_", " "), text or "–")
    if item is None:
        print("\n--data PATH shows how an item is asked")
        return
    for name, value in item.items():
        text = "\n".join(map(str, value)) if isinstance(value, list) else value
        if text:
            print(f"\n{name}:\n{visible(str(text))}")


def _print_entry(name: str, *paragraphs: str) -> None:
    width = shutil.get_terminal_size((100, 24)).columns
    for i, paragraph in enumerate(paragraphs):
        first = f"{visible(name, newlines=False):<{NAME - 2}}  " if i == 0 else " " * NAME
        text = visible(paragraph, newlines=False)
        print(textwrap.fill(text, max(width, 2 * NAME), initial_indent=first, subsequent_indent=" " * NAME))


def print_backends(console: Console, as_json: bool = False) -> None:
    """Every engine by name: sources it reads, capabilities, and the install command where it cannot run."""
    from poise.report.terminal import table

    rows: list[dict[str, Any]] = []
    for name in registry.names("backend"):
        backend = registry.lookup("backend", name)
        ready = not registry.absent(backend)
        rows.append(
            {
                "name": name,
                "about": (backend.__doc__ or "").strip().split("\n")[0],
                "reads": list(backend.reads),
                "capabilities": sorted(backend.capabilities),
                "options": list(getattr(backend.Options, "__struct_fields__", ())),
                "ready": ready,
                "install": None if ready else registry.install(backend),
            }
        )
    if as_json:
        _print_json({"backends": rows})
        return
    console.print(
        table(
            ["backend", "reads", "can", "here"],
            [[r["name"], ", ".join(r["reads"]), ", ".join(r["capabilities"]), r["install"] or "ready"] for r in rows],
        )
    )


def _print_json(data: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
