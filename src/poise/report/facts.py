"""Where and how a run was measured: machine, engines with their settings, the exact command, the study as written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from poise.report import numbers
from poise.store.run import Run


class RunFacts(Struct):
    """One run folder's own account. `engines` and `machine` are (name, text) lines."""

    name: str
    command: str
    study: str
    engines: list[tuple[str, str]]
    machine: list[tuple[str, str]]


def run_facts(run: Run) -> RunFacts:
    """What a run folder says of itself, as text."""
    manifest = run.manifest
    machine = [(key, _plain(key, value)) for key, value in run.environment.items()]
    return RunFacts(run.name, shlex.join(manifest.argv), manifest.source, list(_engines(run)), machine)


def _engines(run: Run) -> Iterator[tuple[str, str]]:
    """Each deployment's settings and versions, with the models it ran that way."""
    found: dict[tuple[str, str], list[str]] = {}
    for folder in run.cells():
        for segment in folder.segments()[:1]:
            text = "; ".join(filter(None, (_pairs(segment.settings), _pairs(segment.versions))))
            models = found.setdefault((folder.cell.deployment.name, text), [])
            if folder.cell.model.name not in models:
                models.append(folder.cell.model.name)
    for (deployment, text), models in found.items():
        yield f"{deployment}: {', '.join(models)}", text or numbers.ABSENT


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(key, value)}" for key, value in values.items() if value is not None)


def _plain(key: str, value: Any) -> str:
    """A value as people read it; absent is a dash."""
    if value is None or value in ("", [], {}):
        return numbers.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_bytes"):
        return numbers.size_bytes(value)
    if isinstance(value, list):
        return ", ".join(_plain(key, v) for v in value)
    return _pairs(value) if isinstance(value, dict) else str(value)
