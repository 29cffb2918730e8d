"""Lay out a run folder for a plan, or join an existing one: nothing that is already there is ever lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from poise.plan.build import Plan, label
from poise.plan.draw import Items
from poise.plan.spec import Cell
from poise.store.files import encode_pretty, write_atomic
from poise.store.run import CellFolder, Manifest, Outcome, Run, check_format
from poise.types import FORMAT, PoiseError, UsageError

_PARTS = ("inputs", "cells", "logs")


class Lock:
    """One writer per run folder: an advisory lock that dies with its process."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / ".lock").open("w")
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: no lock, as before
            pass
        except OSError:
            self._file.close()
            raise UsageError(
                f"another poise is running into {folder}; wait for it, or choose another folder (-o)"
            ) from None

    def close(self) -> None:
        self._file.close()


def prepare(
    plan: Plan, out: Path, *, source: str, argv: list[str], versions: Mapping[str, str], git: str | None
) -> Run:
    """Make or join the run folder of a plan. UsageError where it belongs to another study (CONTRACT §1)."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder with -o")
    manifest = out / "manifest.json"
    if manifest.exists():
        check_format(manifest)
        _check_contains(plan, Run(out))
    elif out.is_dir() and any(p.name not in (".lock", *_PARTS) for p in out.iterdir()):
        raise UsageError(f"{out} holds other files and is no run folder; give a new folder with -o")
    try:
        for part in _PARTS:
            (out / part).mkdir(parents=True, exist_ok=True)
        # the manifest first: should the disk fill up behind it, the same command still knows its folder
        _write_manifest(plan, out, source=source, argv=argv, versions=versions, git=git)
        for sha, items in plan.items.items():
            _write_inputs(out, sha, items)
        for cell in plan.cells:
            _write_cell(out, cell)
    except PermissionError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); choose another folder with -o") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno is None:
            raise
        raise PoiseError(f"{out} cannot be written: {os.strerror(error.errno)}; what was there is kept") from None
    return Run(out)


def _write_manifest(
    plan: Plan, out: Path, *, source: str, argv: list[str], versions: Mapping[str, str], git: str | None
) -> None:
    path = out / "manifest.json"
    started = Run(out).manifest.started if path.exists() else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    manifest = Manifest(
        format=FORMAT,
        poise=versions.get("poise", ""),
        study=structs.replace(plan.study, base_dir="."),
        source=source,
        argv=argv,
        versions=dict(versions),
        git=git,
        started=started,
    )
    write_atomic(path, encode_pretty(manifest))


def _check_contains(plan: Plan, run: Run) -> None:
    """The new plan must contain what the folder holds: more cells or more items are fine, fewer are another study."""
    planned = {cell.folder: cell for cell in plan.cells}
    for folder in run.cells():
        cell = planned.get(folder.cell.folder)
        if cell is None and plan.contains(folder.cell):
            continue
        if cell is None:
            raise UsageError(
                f"{run.path} holds a cell that this study does not contain ({label(folder.cell)}); "
                "results of another study go into another folder: give -o"
            )
        if cell.planned < folder.cell.planned:
            raise UsageError(
                f"{run.path} asks {folder.cell.planned} requests for {label(folder.cell)}, this study only "
                f"{cell.planned}; raise the limit again, or give another folder with -o"
            )


def add(run: Run, cell: Cell, items: Items) -> CellFolder:
    """Lay out one more cell of a run whose study gives rise to it."""
    _write_inputs(run.path, cell.task.items_sha, items)
    _write_cell(run.path, cell)
    return CellFolder(run.path, run.path / "cells" / cell.folder)


def _write_cell(out: Path, cell: Cell) -> None:
    folder = out / "cells" / cell.folder
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "cell.json", encode_pretty(cell))


def _write_inputs(out: Path, sha: str, items: Items) -> None:
    requests, targets = (out / "inputs" / f"{sha}.{part}.jsonl" for part in ("requests", "targets"))
    if not requests.exists():
        write_atomic(requests, _lines(items.requests))
    if not targets.exists() or not _holds(targets, _lines(items.samples)):  # labels may come later
        write_atomic(targets, _lines(items.samples))


def _lines(rows: Iterable[Any]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    return (encode(row) + b"\n" for row in rows)


def _holds(path: Path, lines: Iterable[bytes]) -> bool:
    """Whether a file holds just these lines."""
    with path.open("rb") as there:
        return all(a == b for a, b in zip_longest(there, lines))


def missing(folder: CellFolder, retry_failed: bool) -> int:
    """How many of a cell's requests have no record yet (or, on request, none that is ok)."""
    if folder.cell.state != "planned":
        return 0
    last = {r.request_id: r.status for r in folder.records(Outcome) if r.phase == "measure"}
    done = sum(1 for status in last.values() if status == "ok" or not retry_failed)
    if not folder.cell.load.timed:
        return max(0, folder.cell.planned - done)
    return max(1, folder.cell.planned - done) if folder.left_s() else len(last) - done
