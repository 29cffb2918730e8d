"""The script inside the sandbox, run twice: as `candidate` it defines the code, as `tests` it decides about it.

The two exchange values as JSON lines, rebuilt by kind and never unpickled: plain values travel, anything else stays
where it is and is referred to by a number. Standard library only; it runs with nothing of poise but this file.
"""

from __future__ import annotations

import builtins
import importlib
import json
import operator
import os
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

MAX_BYTES = 32 * 2**20
MAX_ITEMS = 1_000_000
MAX_REMOTES = 100_000


class Broken(Exception):
    """The other side is gone or speaks nonsense."""


# ---------------------------------------------------------------- values on the line

_GROUPS: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}
_MAPPINGS: tuple[type, ...] = (dict, Counter, OrderedDict, defaultdict)
_WRITE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("int", hex),
    float: ("float", float.hex),
    complex: ("complex", lambda z: [z.real.hex(), z.imag.hex()]),
    bytes: ("bytes", bytes.hex),
    bytearray: ("bytes", bytearray.hex),
    range: ("range", lambda r: [r.start, r.stop, r.step]),
    Decimal: ("decimal", str),
    Fraction: ("fraction", str),
    date: ("date", date.isoformat),
    datetime: ("datetime", datetime.isoformat),
    timedelta: ("timedelta", lambda t: [t.days, t.seconds, t.microseconds]),
}
_READ: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda parts: complex(float.fromhex(parts[0]), float.fromhex(parts[1])),
    "bytes": bytes.fromhex,
    "range": lambda parts: range(*parts),
    "decimal": Decimal,
    "fraction": Fraction,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
}
_REBUILD: dict[str, Callable[[Any], Any]] = {name: kind for kind, name in _GROUPS.items()}


def encode(value: Any, refer: Callable[[Any], int]) -> Any:
    """JSON of a value; `refer(value)` gives the number of what cannot travel."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind in _WRITE:
        name, write = _WRITE[kind]
        return {name: write(value)}
    if kind in _GROUPS:
        return {_GROUPS[kind]: [encode(item, refer) for item in value]}
    if kind in _MAPPINGS:
        return {"dict": [[encode(k, refer), encode(v, refer)] for k, v in value.items()]}
    return {"ref": refer(value)}


def decode(data: Any, resolve: Callable[[Any], Any]) -> Any:
    """The value of JSON made by `encode`; `resolve(number)` gives what a reference means on this side."""
    if data is None or isinstance(data, bool | str):
        return data
    if not isinstance(data, dict) or len(data) != 1:
        raise Broken("not a value")
    [(kind, inner)] = data.items()
    if kind in _REBUILD:
        return _REBUILD[kind]([decode(item, resolve) for item in inner])
    if kind == "dict":
        return {decode(k, resolve): decode(v, resolve) for k, v in inner}
    return resolve(inner) if kind == "ref" else _READ[kind](inner)


class Line:
    """One message a line over two file descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in: BinaryIO = os.fdopen(read_fd, "rb")
        self._out: BinaryIO = os.fdopen(write_fd, "wb")

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode() + b"\n"
        if len(data) > MAX_BYTES:
            raise Broken("too much to send")
        self._out.write(data)
        self._out.flush()

    def receive(self) -> Any:
        data = self._in.readline(MAX_BYTES + 1)
        if not data.endswith(b"\n"):
            raise Broken("the candidate's process ended (exit, crash, CPU time) or answered too much")
        return json.loads(data)


# ---------------------------------------------------------------- first process: the candidate


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "attr": getattr,
    "getitem": operator.getitem,
    "len": len,
    "str": str,
    "bool": bool,
    "iter": lambda values: [item for _, item in zip(range(MAX_ITEMS), values)],
}


class Candidate:
    """Define the code, then do what the tests' process asks. All it can do to this process costs it its answers."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"__name__": "candidate"}
        self._kept: list[Any] = []

    def serve(self, line: Line) -> None:
        while True:
            request = line.receive()
            try:
                reply = {"value": encode(self._do(request), self._refer)}
            except BaseException as error:
                reply = {"error": [c.__name__ for c in type(error).__mro__], "message": str(error)[:500]}
            line.send(reply)

    def _refer(self, value: Any) -> int:
        self._kept.append(value)
        return len(self._kept) - 1

    def _do(self, request: Any) -> Any:
        op, args = request["op"], [decode(a, self._kept.__getitem__) for a in request["args"]]
        if op == "define":
            exec(compile(args[0], "<candidate>", "exec"), self._names)
            return {
                name: value.__name__ if isinstance(value, types.ModuleType) else None
                for name, value in self._names.items()
                if not name.startswith("__")
            }
        if op == "get":
            return self._names[args[0]]
        if op == "call":
            keywords = {k: decode(v, self._kept.__getitem__) for k, v in request["keywords"].items()}
            return args[0](*args[1:], **keywords)
        return _OPERATIONS[op](*args)


# ---------------------------------------------------------------- second process: the tests


class Remote:
    """An object of the candidate's process. It equals only itself: its own word on equality would prove nothing."""

    _link: Link
    _number: int

    def __init__(self, link: Link, number: int) -> None:
        self._link, self._number = link, number

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._link.ask("call", self, *args, keywords=keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self._link.ask("attr", self, name)

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("getitem", self, key)

    def __iter__(self) -> Any:
        return iter(self._link.ask("iter", self))

    def __len__(self) -> int:
        return int(self._link.ask("len", self))

    def __bool__(self) -> bool:
        return bool(self._link.ask("bool", self))

    def __str__(self) -> str:
        return str(self._link.ask("str", self))


class Link:
    """The tests' side of the line."""

    def __init__(self, line: Line) -> None:
        self._line, self._remotes = line, dict[int, Remote]()

    def ask(self, op: str, *args: Any, keywords: dict[str, Any] | None = None) -> Any:
        named = {k: encode(v, self._refer) for k, v in (keywords or {}).items()}
        self._line.send({"op": op, "args": [encode(a, self._refer) for a in args], "keywords": named})
        reply = self._line.receive()
        if "error" in reply:
            raise _exception([str(name) for name in reply["error"]], str(reply.get("message")))
        return decode(reply.get("value"), self._remote)

    def _remote(self, number: Any) -> Remote:
        if not isinstance(number, int) or len(self._remotes) > MAX_REMOTES:
            raise Broken("not a reference")
        return self._remotes.setdefault(number, Remote(self, number))

    def _refer(self, value: Any) -> int:
        if type(value) is Remote:
            return value._number
        raise TypeError(f"a {type(value).__name__} of the tests cannot be given to the candidate")


_ENDS = (StopIteration, StopAsyncIteration)
"""Raised within a test's `all(map(…))` they would end it early instead of failing it."""


def _exception(names: list[str], message: str) -> Exception:
    """The nearest built-in exception of what was raised over there, never one that would end this process."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind not in _ENDS:
            try:
                return kind(message)
            except TypeError:
                break
    return RuntimeError(f"{names[:1]}: {message}")


def decide(job: dict[str, str], link: Link) -> dict[str, str]:
    """{"passed": nonce} after the last assertion, else {"failed": why}.

    Names: those of the trusted preamble as this process defines them, Python's own (what `abs` or `sys` means is not
    the candidate's to say), all others and `entry_point` the candidate's.
    """
    try:
        names: dict[str, Any] = {"__name__": "tests"}
        exec(compile(job["trusted"], "<preamble>", "exec"), names)
        for name, module in link.ask("define", job["code"]).items():
            own = name in names or hasattr(builtins, name) or (module is None and name in sys.stdlib_module_names)
            if own and name != job["entry_point"]:
                continue
            if module is None:
                names[name] = link.ask("get", name)
            elif module.partition(".")[0] in sys.stdlib_module_names:
                names[name] = importlib.import_module(module)
        exec(compile(job["tests"], "<tests>", "exec"), names)
    except BaseException as error:
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    return {"passed": job["nonce"]}


# ---------------------------------------------------------------- both


def confine(limits: dict[str, int | None]) -> None:
    """Lower this process's limits for good, and leave root for `uid` where one is given."""
    import resource

    for name in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE"):
        value, kind = limits[name], getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        lowered = value if value is not None and hard == resource.RLIM_INFINITY else min(value or hard, hard)
        resource.setrlimit(kind, (lowered, lowered))
    if (uid := limits["uid"]) is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)


def main(role: str, limits: str) -> None:
    """`candidate` is asked on stdin and answers on stdout; `tests` asks on stdout and reports on stderr.

    The job, and with it the nonce, is the first line that `tests` reads. It is read before anything is asked, so that
    it is gone when the candidate's code first runs.
    """
    line, report = Line(os.dup(0), os.dup(1)), os.fdopen(os.dup(2), "w")
    _silence()
    if role == "candidate":
        report.close()
        confine(json.loads(limits))
        Candidate().serve(line)
        return
    job = line.receive()
    confine(json.loads(limits))
    json.dump(decide(job, Link(line)), report)
    report.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
