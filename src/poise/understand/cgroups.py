"""A control group for one test: it bounds the memory and the processes of all that runs in it, whoever's they are.

Version 2 where a part of the tree is ours to divide (root, or delegated by systemd to the user), else version 1's
controllers, which are root's alone. Where there is neither, `make` gives None.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ENTER = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
_PREFIX = "poise-"


@dataclass(frozen=True, slots=True)
class Group:
    """The directories of one group: one in version 2, one for each controller in version 1."""

    paths: tuple[Path, ...]

    def within(self, command: list[str]) -> list[str]:
        """The command, run inside the group from its first instruction on."""
        return ["/bin/sh", "-c", _ENTER, "sh", *map(str, self.paths), "--", *command]

    def close(self) -> None:
        """Kill what is left in the group and remove it."""
        for _ in range(100):
            for path in self.paths:
                _kill(path)
            if all(_removed(path) for path in self.paths):
                return
            time.sleep(0.01)  # a process counts until it is quite dead


def make(memory_bytes: int, processes: int) -> Group | None:
    """A new empty group with these limits; None where this process may make none."""
    for parents in _parents():
        group = Group(tuple(parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}" for parent in parents))
        try:
            for path in group.paths:
                path.mkdir()
                _limit(path, memory_bytes, processes)
            return group
        except OSError:
            group.close()
    return None


def _limit(path: Path, memory_bytes: int, processes: int) -> None:
    """Write the limits that the directory's controllers have. Without a bound on swap the one on memory is none."""
    files = {
        "memory.max": memory_bytes,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "memory.limit_in_bytes": memory_bytes,
        "memory.memsw.limit_in_bytes": memory_bytes,
        "pids.max": processes,
    }
    for name, value in files.items():
        if (path / name).exists():
            (path / name).write_text(str(value))


def _kill(path: Path) -> None:
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")
    with contextlib.suppress(OSError):
        for pid in (path / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


# ---------------------------------------------------------------- where groups can be made


@cache
def _parents() -> tuple[tuple[Path, ...], ...]:
    """Directories to make groups in, the best first; what earlier processes left there is removed."""
    found: list[tuple[Path, ...]] = [(path,) for path in _version_2()]
    if first := _version_1():
        found.append(first)
    for parents in found:
        for left in (path for parent in parents for path in parent.glob(f"{_PREFIX}*-*")):
            pid = left.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                _removed(left)
    return tuple(found)


def _version_2() -> list[Path]:
    """Groups above this process that hand memory and processes on to their children and are ours to divide."""
    own, mounts = _own().get(""), _mounts("cgroup2", "")
    if own is None or not mounts:
        return []
    here = _below(own, mounts)
    return [
        path
        for path in (here, *here.parents)
        if path.is_relative_to(mounts[1]) and {"memory", "pids"} <= set(_words(path)) and os.access(path, os.W_OK)
    ]


def _words(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (path / "cgroup.subtree_control").read_text().split()
    return []


def _version_1() -> tuple[Path, ...]:
    """This process's groups of both controllers, where both are mounted and writable."""
    own, found = _own(), []
    for controller in ("memory", "pids"):
        mounts = _mounts("cgroup", controller)
        if controller not in own or not mounts:
            return ()
        found.append(_below(own[controller], mounts))
    return tuple(dict.fromkeys(found)) if all(os.access(path, os.W_OK) for path in found) else ()


def _own() -> dict[str, str]:
    """This process's group by controller; version 2's has none ("")."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        return {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    return {}


def _mounts(kind: str, controller: str) -> tuple[str, Path] | None:
    """(the group at the mount's root, where it is mounted) of a hierarchy."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            fields, (fstype, _, options) = before.split(), after.split(" ", 2)
            if fstype == kind and (not controller or controller in options.split(",")):
                return fields[3], Path(fields[4])
    return None


def _below(group: str, mount: tuple[str, Path]) -> Path:
    root, at = mount
    inside = group if root == "/" else group.removeprefix(root)
    return at / inside.lstrip("/")
