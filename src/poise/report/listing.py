"""What there is: tasks with their metrics, engines with what they can do and whether they can run here."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import msgspec
from rich.console import Console

from poise import registry
from poise.report.terminal import table


def print_tasks(console: Console, as_json: bool = False) -> None:
    """Every task by name: what it asks, metrics (the first is primary), chance level; then the groups."""
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
    console.print(
        table(
            ["task", "metrics", "modes", ""],
            [[r["name"], ", ".join(r["metrics"]) or "–", ", ".join(r["modes"]), r["about"]] for r in rows],
        )
    )
    console.print()
    for group, members in groups.items():
        console.print(f"group {group}: {', '.join(members)}")
    console.print("your own: file.yaml or file.py:Name")
    there = "installed; `lm-eval ls tasks` lists them" if harness else "pip install 'poise[lm-eval]'"
    console.print(f"lm-evaluation-harness: lm-eval:NAME of a task or group, lm-eval:file.yaml ({there})", markup=False)


def print_backends(console: Console, as_json: bool = False) -> None:
    """Every engine by name: sources it reads, capabilities, and the install command where it cannot run."""
    rows: list[dict[str, Any]] = []
    for name in registry.names("backend"):
        backend: Any = registry.lookup("backend", name)
        absent = [m for m in getattr(backend, "requires", ()) if importlib.util.find_spec(m) is None]
        rows.append(
            {
                "name": name,
                "about": (backend.__doc__ or "").strip().split("\n")[0],
                "reads": list(backend.reads),
                "capabilities": sorted(backend.capabilities),
                "options": list(getattr(backend.Options, "__struct_fields__", ())),
                "ready": not absent,
                "install": f"pip install 'poise[{getattr(backend, 'extra', name)}]'" if absent else None,
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
