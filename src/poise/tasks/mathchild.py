"""The one child process that asks sympy whether two formulas are equal: limited in time and memory, and killable.

Parent and child speak JSON lines. The child parses with the own grammar and builds sympy nodes from it; no text
reaches sympy. A child that overruns its time is killed and replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from typing import IO, Any

MEMORY_BYTES = 512 * 2**20
START_S = 60.0
"""Importing sympy may take this long on a busy machine; it happens once per child."""
_ENVIRONMENT = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LANG", "LC_ALL")
_LOOP = "from poise.tasks.mathchild import serve; serve()"


class Child:
    """A lazily started, reused child; `equal` gives True, False, or None where it could not say in time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def equal(self, a: str, b: str, timeout_s: float) -> bool | None:
        """Ask about two formulas of the grammar; after `timeout_s` seconds the child is killed."""
        with self._lock:
            if not self._ready():
                return None
            assert self._process and self._process.stdin
            try:
                self._process.stdin.write(json.dumps([a, b]).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                self.close()
                return None
            verdict = self._line(timeout_s)
            if verdict == b"":
                self.close()
            return {b"equal": True, b"different": False}.get(verdict)

    def close(self) -> None:
        """Kill the child, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            return True
        self.close()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k in _ENVIRONMENT},
            start_new_session=True,  # the user's Ctrl-C is the parent's business
        )
        atexit.register(self.close)
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()
        if self._line(START_S) == b"ready":
            return True
        self.close()
        return False

    def _line(self, timeout_s: float) -> bytes:
        """The child's next line; b"" when the time is over or the child is gone."""
        try:
            return self._lines.get(timeout=timeout_s).strip()
        except queue.Empty:
            return b""


def _pump(pipe: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def serve() -> None:
    """The child: say "ready", then answer each line `[a, b]` with equal, different or unknown."""
    import sympy  # noqa: F401  (before the limit: what it takes to import is not the formula's doing)

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        try:
            a, b = json.loads(line)
            verdict = b"equal" if symbolically_equal(a, b) else b"different"
        except Exception:  # whatever a strange formula does to sympy is an "unknown", never a crash
            verdict = b"unknown"
        out.write(verdict + b"\n")
        out.flush()


def symbolically_equal(a: str, b: str) -> bool:
    """Whether a − b is zero to sympy; letters are positive. Unbounded in time: call it through `Child`."""
    import sympy

    from poise.tasks.mathgrammar import parse

    difference = to_sympy(parse(a)) - to_sympy(parse(b))
    if difference == 0 or sympy.expand(difference) == 0:
        return True
    return bool(sympy.simplify(difference) == 0)


def to_sympy(node: Any) -> Any:
    """The grammar's nodes as sympy's, built by hand."""
    import sympy

    from poise.tasks.mathgrammar import MAX_EXPONENT, Unreadable

    kind = node[0]
    if kind == "num":
        return sympy.Rational(node[1].numerator, node[1].denominator)
    if kind == "var":
        return sympy.Symbol(node[1], positive=True)
    if kind == "const":
        return sympy.pi
    if kind == "neg":
        return -to_sympy(node[1])
    if kind == "fn":
        names = {"abs": "Abs", "ln": "log"}
        return getattr(sympy, names.get(node[1], node[1]))(to_sympy(node[2]))
    a, b = to_sympy(node[1]), to_sympy(node[2])
    if kind == "add":
        return a + b
    if kind == "mul":
        return a * b
    if kind == "div":
        return a / b
    if b.is_number and not abs(b) <= MAX_EXPONENT:
        raise Unreadable("exponent too large")
    return a**b
