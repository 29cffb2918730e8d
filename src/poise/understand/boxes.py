"""What contains a process of generated code: bubblewrap, a Docker or Podman container, or nothing but limits.

In every box the network is gone, the file system read-only but for a small /tmp, the environment empty. Memory and
processes are bounded by a control group; without one by resource limits under a host uid that is not root's, because
the kernel does not hold root to a limit on processes. Where there is neither, a box is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Protocol

from poise.understand import cgroups

JAIL = Path(__file__).resolve().parent / "jail.py"
MEMORY_BYTES = 512 * 2**20
"""Of one process; a control group bounds all of a test's together at half as much again."""
PROCESSES = 16
FILE_BYTES = 32 * 2**20
TMP_BYTES = 64 * 2**20
IMAGE = "POISE_SANDBOX_IMAGE"
"""Environment variable: the image of the container engines."""
_NOBODY = 65534
_FLAGS = ("-I", "-S", "-B", "-X", "utf8")


class Refused(Exception):
    """This box cannot contain anything here; the message says why and what to do."""


class Box(Protocol):
    """One test's box, for its two processes."""

    def command(self, role: str) -> list[str]:
        """The command that runs the jail in this role, its input, output and report on the standard streams."""
        ...

    def close(self) -> None:
        """End whatever of the test still runs."""
        ...


class Bubblewrap:
    """Two processes, each in namespaces of its own."""

    def __init__(self, cpu_s: float) -> None:
        path = shutil.which("bwrap") if sys.platform == "linux" else None
        if path is None:
            raise Refused("install bubblewrap (bwrap)")
        self._path, self._uid = path, _unused_uid() if os.geteuid() == 0 else None
        self._group = cgroups.make(3 * MEMORY_BYTES // 2, 2 * PROCESSES)
        if self._group is None and os.geteuid() == 0 and self._uid is None:
            raise Refused("root has neither a control group nor another uid here, and its own processes know no limit")
        self._limits = _limits(cpu_s, self._uid)

    def command(self, role: str) -> list[str]:
        inside = [_python(), *_FLAGS, "/jail.py", role, self._limits]
        command = [self._path, *_walls(self._path, leave_root=self._uid is not None), "--", *inside]
        return self._group.within(command) if self._group else command

    def close(self) -> None:
        if self._group:
            self._group.close()


class Container:
    """Two containers of an image that is there already; they are given the jail as an argument, no file."""

    engine = "docker"

    def __init__(self, cpu_s: float) -> None:
        path = shutil.which(self.engine)
        if path is None:
            raise Refused(f"install {self.engine}")
        self._path, self._names = path, list[str]()
        self._limits = _limits(cpu_s, None, processes=None)
        self._image = os.environ.get(IMAGE) or f"docker.io/library/python:{sys.version_info[0]}.{sys.version_info[1]}"

    def command(self, role: str) -> list[str]:
        name = f"poise-{secrets.token_hex(8)}"
        self._names.append(name)
        return [
            *(self._path, "run", "--rm", "--interactive", "--name", name, "--pull", "never", "--network", "none"),
            *("--read-only", "--tmpfs", f"/tmp:rw,size={TMP_BYTES},mode=1777", "--workdir", "/tmp"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", f"{_NOBODY}:{_NOBODY}"),
            *("--memory", str(MEMORY_BYTES), "--memory-swap", str(MEMORY_BYTES), "--pids-limit", str(PROCESSES)),
            *("--log-driver", "none", "--entrypoint", "python3", self._image),
            *(*_FLAGS, "-c", JAIL.read_text(encoding="utf-8"), role, self._limits),
        ]

    def close(self) -> None:
        """A container outlives the client that started it, so it is removed by name."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [self._path, "rm", "--force", *self._names],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=False,
            )  # fmt: skip


class Podman(Container):
    engine = "podman"


class Bare:
    """No walls: what is allowed to run like this reads and writes whatever its user can. Limits hold all the same.

    Root stays root, because the interpreter may lie where no other user can read it.
    """

    def __init__(self, cpu_s: float) -> None:
        self._group = cgroups.make(3 * MEMORY_BYTES // 2, 2 * PROCESSES)
        self._limits = _limits(cpu_s, None)

    def command(self, role: str) -> list[str]:
        command = [_python(), *_FLAGS, str(JAIL), role, self._limits]
        return self._group.within(command) if self._group else command

    def close(self) -> None:
        if self._group:
            self._group.close()


BOXES: dict[str, type[Bubblewrap] | type[Container]] = {"bwrap": Bubblewrap, "docker": Container, "podman": Podman}


def _python() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


# ---------------------------------------------------------------- limits


def _limits(cpu_s: float, uid: int | None, processes: int | None = PROCESSES) -> str:
    """What `jail.confine` is told, as JSON."""
    others = 0 if uid is not None or os.geteuid() == 0 else _own_processes()
    limits = {
        "AS": MEMORY_BYTES,
        "CPU": max(1, round(cpu_s)),
        "FSIZE": FILE_BYTES,
        "NOFILE": 64,
        "NPROC": None if processes is None else others + processes,
        "CORE": 0,
        "uid": uid,
    }
    return json.dumps(limits)


def _own_processes() -> int:
    """Threads of this user now: older kernels count them all against the limit."""
    count, me = 0, os.getuid()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == me:
                count += sum(1 for _ in (entry / "task").iterdir())
    return count


def _unused_uid() -> int | None:
    """A uid that nobody has, for one test; None where the user namespace knows no other than root's."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/uid_map").read_text().splitlines():
            first, _, length = map(int, line.split())
            if first + length >= 2**21:
                return 2**20 + secrets.randbelow(2**20)
            if first + length > _NOBODY:  # a container's usual range; the numbers below it are seldom anyone's
                return _NOBODY - 1 - secrets.randbelow(2**10)
    return None


# ---------------------------------------------------------------- bubblewrap's walls


@cache
def _closes_namespaces(bwrap: str) -> bool:
    """Whether it can forbid user namespaces inside of its own: from 0.8 on, and not where it is setuid.

    In one of its own, a program could mount file systems in memory, which no limit of resources counts.
    """
    trial = [bwrap, "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        quiet = subprocess.DEVNULL
        return not subprocess.run(trial, stdin=quiet, stdout=quiet, stderr=quiet, timeout=30, check=False).returncode
    return False


def _walls(bwrap: str, leave_root: bool) -> list[str]:
    """bubblewrap's arguments. As root the user namespace stays, and inside, root is left for an unused host uid."""
    if os.geteuid() != 0:
        closed = ["--disable-userns"] if _closes_namespaces(bwrap) else []
        user = ["--unshare-user", *closed, "--cap-drop", "ALL"]
    elif leave_root:
        user = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        user = ["--cap-drop", "ALL"]
    walls = [
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", *user),
        *("--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"),
        *("--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr"),
        *("--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"),
    ]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            walls += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            walls += ["--ro-bind", name, name]
    if Path("/etc/ld.so.cache").is_file():
        walls += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    home = Path(os.path.realpath(sys.base_prefix))
    if not home.is_relative_to("/usr"):
        for parent in reversed(home.parents[:-1]):
            walls += ["--perms", "0755", "--dir", str(parent)]
        walls += ["--ro-bind", str(home), str(home)]
    return [*walls, "--ro-bind", str(JAIL), "/jail.py", "--chdir", "/tmp"]
