"""Run a plan: one crew of processes per model x deployment x repeat, and nothing else meanwhile.

What cannot run is known first; then the folder is locked, laid out, and filled group by group.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import msgspec
from msgspec import structs

from poise.measure import host, preflight
from poise.measure.group import Between, Group, NextRate, Watcher
from poise.measure.redact import redact
from poise.plan.build import Plan, label, workers
from poise.plan.search import most_probes
from poise.store.files import encode_pretty, write_atomic
from poise.store.run import Run
from poise.store.write import Lock, prepare
from poise.types import UsageError


class Ended(msgspec.Struct, frozen=True):
    """How a run ended: failed cells by label with their reasons."""

    failed: dict[str, str]
    skipped: dict[str, str]


def execute(
    plan: Plan,
    out: Path,
    *,
    source: str = "",
    argv: list[str] | None = None,
    watcher: Watcher,
    between: Between,
    next_rate: NextRate = lambda cell, probes: None,
    retry_failed: bool = False,
    allow_code: bool = False,
) -> Ended:
    """Measure what is missing of `plan` in `out`. UsageError before anything runs; later failures are data."""
    plan, skipped = _preflight(plan, allow_code, watcher)
    created = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = Lock(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be made or written ({error.strerror}); give another folder with -o") from None
    try:
        run = _laid_out(plan, out, source, argv or [], created)
        cells = [c for c in plan.cells if c.state == "planned"]
        probes = {c.folder: most_probes(c.load) for c in cells if c.load.kind == "search"}
        watcher.start([plan.extent(c) for c in cells for _ in range(probes.get(c.folder, 1))])
        failed: dict[str, str] = {}
        try:
            for group in workers(plan):
                failed |= Group(plan, run, group, watcher, between, next_rate, retry_failed, allow_code).measure()
        finally:
            watcher.close()
        return Ended(failed, skipped)
    finally:
        lock.close()


def _laid_out(plan: Plan, out: Path, source: str, argv: list[str], created: bool) -> Run:
    """The plan's run folder, with what this host is; one that was just created goes again where it cannot be."""
    environment = host.environment()
    try:
        run = prepare(
            plan,
            out,
            source=redact(source),
            argv=[redact(word) for word in argv],
            versions=environment["packages"],
            git=_git(),
        )
    except UsageError:
        if created:
            (out / ".lock").unlink(missing_ok=True)
            out.rmdir()
        raise
    if not (out / "environment.json").exists():
        write_atomic(out / "environment.json", encode_pretty(environment))
    return run


def _preflight(plan: Plan, allow_code: bool, watcher: Watcher) -> tuple[Plan, dict[str, str]]:
    """Exit 2 for what cannot run, unless its deployment is optional: its cells are then skipped with the reason."""
    optional = {d.name: d.optional for d in plan.study.deployments}
    problems = preflight.problems(plan, allow_code=allow_code, waiting=watcher.waiting)
    for (model, deployment), reason in problems.items():
        if not optional[deployment]:
            raise UsageError(f"{model} on {deployment}: {reason}")
    cells, skipped = [], {}
    for cell in plan.cells:
        why = problems.get((cell.model.name, cell.deployment.name))
        if why and cell.state == "planned":
            cell = structs.replace(cell, state="skipped", reason=why)
        if cell.state != "planned":
            skipped[label(cell)] = cell.reason or ""
        cells.append(cell)
    if not any(c.state == "planned" for c in cells):
        raise UsageError("nothing can be measured: " + "; ".join(sorted(set(skipped.values()))))
    return dataclasses.replace(plan, cells=cells), skipped


def _git() -> str | None:
    """Commit of the working folder, where it is a git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
