"""Hostile programs are contained, as root and as an ordinary user, and nothing but passing the tests passes."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poise.understand import boxes, cgroups, jail, sandbox

SRC = Path(sandbox.__file__).resolve().parents[2]
ORDINARY = 65534
pytestmark = pytest.mark.skipif(sandbox.why_unavailable() is not None, reason=str(sandbox.why_unavailable()))
RUN = """
import json, sys
from poise.understand.sandbox import run_tests
code, tests, cpu_s = json.load(sys.stdin)
outcome = run_tests(code, tests, cpu_s=cpu_s)
print(json.dumps([outcome.passed, outcome.reason]))
"""


def as_root_without_groups(code, tests, cpu_s=3):
    """What bounds root's tests where no control group can be made: another uid's resource limits."""
    if os.geteuid() != 0:
        pytest.skip("only root leaves root")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cgroups, "make", lambda memory_bytes, processes: None)
        return as_me(code, tests, cpu_s)


def as_me(code, tests, cpu_s=3):
    outcome = sandbox.run_tests(code, tests, cpu_s=cpu_s)
    return outcome.passed, outcome.reason


def as_ordinary_user(code, tests, cpu_s=3):
    python = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(p).exists()), None)
    if os.geteuid() != 0:
        pytest.skip("these tests run as an ordinary user already")
    if python is None or not os.access(SRC, os.R_OK):
        pytest.skip("no interpreter that an ordinary user can run")
    done = subprocess.run(
        [python, "-c", RUN], input=json.dumps([code, tests, cpu_s]), capture_output=True, text=True, user=ORDINARY,
        group=ORDINARY, extra_groups=[], env={"PYTHONPATH": str(SRC), "PATH": "/usr/bin:/bin"}, check=False, cwd="/",
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        if "Unavailable" in done.stderr or "ModuleNotFound" in done.stderr or "Syntax" in done.stderr:
            pytest.skip(f"an ordinary user has no sandbox here: {last}")
        raise AssertionError(done.stderr)
    return tuple(json.loads(done.stdout))


@pytest.fixture(params=[as_me, as_root_without_groups, as_ordinary_user], ids=["me", "uid", "ordinary"])
def run(request):
    return request.param


def test_right_passes_and_wrong_fails(run):
    assert run("def f(x):\n    return x + 1\n", "assert f(1) == 2") == (True, None)
    passed, why = run("def f(x):\n    return x + 1\n", "assert f(1) == 3, f(1)")
    assert not passed and why == "AssertionError: 2"


CHEATS = {
    "exit": "import sys\ndef f(x): sys.exit(0)",
    "os._exit": "import os\ndef f(x): os._exit(0)",
    "exit while defining": "import os\nos._exit(0)",
    "always equal": "class A:\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(x): return A()",
    "equal int": "class A(int):\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(x): return A(7)",
    "patched builtins": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.all = bool\ndef f(x): return 0",
    "writes to all descriptors": """
import json, os
def f(x):
    for fd in range(64):
        try:
            os.write(fd, b'{"passed": "x"}\\n{"value": true}\\n')
        except OSError:
            pass
    return 0
""",
    "searches for the nonce": """
import gc, os, re
def f(x):
    found = set(re.findall(rb"[0-9a-f]{32}", repr(gc.get_objects()).encode()))
    for name in os.listdir("/proc"):
        if name.isdigit():
            for part in ("environ", "cmdline", "mem"):
                try:
                    found |= set(re.findall(rb"[0-9a-f]{32}", open(f"/proc/{name}/{part}", "rb").read(2**20)))
                except OSError:
                    pass
    for nonce in found:
        for fd in range(64):
            try:
                os.write(fd, b'{"passed": "' + nonce + b'"}\\n')
            except OSError:
                pass
    return 0
""",
    "searches frames and descriptors": """
import os, re, sys
seen = []
def look():
    for frame in sys._current_frames().values():
        while frame:
            seen.append(repr(frame.f_locals) + repr(frame.f_globals))
            frame = frame.f_back
    for fd in os.listdir("/proc/self/fd"):
        try:
            again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
            seen.append(os.read(again, 2**16).decode())
        except (OSError, UnicodeDecodeError):
            pass
look()
def f(x):
    look()
    for nonce in set(re.findall("[0-9a-f]{32}", "".join(seen))):
        for fd in os.listdir("/proc/self/fd"):
            try:
                out = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
                os.write(out, b'{"passed": "%s"}\\n' % nonce.encode())
            except OSError:
                pass
    return 0
""",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_do_not_pass(run, cheat):
    passed, why = run(CHEATS[cheat], "assert f(1) == 3\nassert f(1) != 4")
    assert not passed and why


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def f(x): return 0\ndef abs(x): return 0", "assert abs(f(1) - 3.5) < 1e-6"),
        ("def f(x): return 0\ndef set(x): return 0", "assert set(f(1)) == set([1, 2])"),
        ("def f(x): return 0\nclass sys:\n    getsizeof = lambda x: 0", "assert f(1) == sys.getsizeof(1)"),
        ("def f(x): raise StopIteration", "assert all(map(lambda x: f(x) == 3, [1, 2]))"),
    ],
)
def test_what_python_means_is_not_the_candidates_to_say(code, tests):
    assert not sandbox.run_tests(code, tests, entry_point="f").passed


def test_a_function_may_be_called_like_one_of_pythons():
    assert sandbox.run_tests("def sum(a, b):\n    return a + b", "assert sum(10, 15) == 25", entry_point="sum").passed
    uses_it = "import sys\ndef f(x): return sys.getsizeof(x)"
    assert sandbox.run_tests(uses_it, "assert f(1) == sys.getsizeof(1)", entry_point="f").passed


ATTACKS = {
    "endless loop": ("def f():\n    while True: pass", "f()"),
    "10 GB": ("def f():\n    return len(b'x' * 10**10)", "assert f() == 10**10"),
    "kill all": ("import os\ndef f():\n    os.kill(-1, 9)\n    return 1", "assert f() == 1"),
    "write outside": ("def f():\n    open('/usr/planted', 'w').write('x')\n    return 1", "assert f() == 1"),
    "network": ("import socket\ndef f():\n    socket.create_connection(('1.1.1.1', 53), 2)", "f()"),
    "loopback": ("import socket\ndef f(port):\n    socket.create_connection(('127.0.0.1', port), 2)", "f({port})"),
    "fill the disk": (
        "def f():\n    return sum(open(f'/tmp/{i}', 'wb').write(b'x' * 2**24) for i in range(100))", "assert f()",
    ),
    "flood of output": ("import os\ndef f():\n    while True: os.write(1, b'x' * 65536)\n", "f()"),
    "flood of answers": ("import os\nwhile True:\n    os.write(3, b'x' * 65536)\n", "f()"),
    "flood of files": ("def f():\n    return [open(f'/tmp/{i}', 'w') for i in range(100000)]", "f()"),
    "hang": ("import time\ndef f():\n    time.sleep(1000)", "f()"),
    "deep answer": ("def f():\n    x = []\n    for _ in range(100000): x = [x]\n    return x", "assert f() == []"),
    "endless answer": ("import itertools\ndef f():\n    return itertools.count()", "assert list(f()) == [0]"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_contained(run, attack):
    import socket

    code, tests = ATTACKS[attack]
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        passed, why = run(code, tests.replace("{port}", str(server.getsockname()[1])), cpu_s=1)
    assert not passed and why
    assert time.monotonic() - start < 60  # three times the CPU limit of 1 s, and starting up on a busy machine
    assert not Path("/usr/planted").exists()


def test_an_ordinary_users_code_gets_no_namespaces_of_its_own():
    """There it could mount file systems in memory, which no limit of resources counts."""
    bwrap = shutil.which("bwrap") or pytest.skip("another sandbox")
    ordinary = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []} if os.geteuid() == 0 else {}
    trial = [bwrap, "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
    if subprocess.run(trial, check=False, capture_output=True, **ordinary).returncode:
        pytest.skip("this bubblewrap cannot forbid them")
    code = "import ctypes\ndef f():\n    return ctypes.CDLL(None).unshare(0x10000000)"  # CLONE_NEWUSER
    assert (as_ordinary_user if ordinary else as_me)(code, "assert f() == -1") == (True, None)


FORK = """
import os, time
def f():
    n = 0
    try:
        while n < 5000:
            if os.fork() == 0:
                time.sleep(1000)
            n += 1
    except OSError:
        pass
    return n
"""


def test_fork_bomb_is_limited_and_cleaned_up(run):
    passed, why = run(FORK, "n = f()\nassert 0 < n < 2000, n\nassert n == 'show'")
    assert not passed and why == "AssertionError: ", why
    there = {p for p in Path("/proc").glob("[0-9]*/cmdline") if b"jail.py\0candidate" in _read(p)}
    deadline = time.monotonic() + 20  # what is another's ends by itself; the bomb's own would sleep for 1000 s
    while (there := {p for p in there if _read(p)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not there


BOMB = """
import os
def f():
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""


@pytest.mark.parametrize("user", [[], ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]])
def test_fork_bomb_ends_with_its_test(user):
    """Within an outer bound, so that nothing but this test fails should the sandbox not hold."""
    python = sys.executable
    if user:
        python = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(p).exists()), "")
        if os.geteuid() != 0 or not shutil.which("setpriv") or not python:
            pytest.skip("no other user to be")
    outer = cgroups.make(2**31, 400)
    if outer is None:
        pytest.skip("no control group can be made here to hold the bomb should the sandbox fail")
    try:
        done = subprocess.run(
            outer.within([*user, python, "-c", RUN]), input=json.dumps([BOMB, "f()", 1]), capture_output=True,
            text=True, env={"PYTHONPATH": str(SRC), "PATH": os.environ["PATH"]}, check=False, cwd="/", timeout=120,
        )  # fmt: skip
        deadline = time.monotonic() + 20  # without a control group of its own, a killed namespace takes a moment
        while (left := [p for p in outer.paths if (p / "cgroup.procs").read_text()]) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        outer.close()
    if done.returncode and user and ("Unavailable" in done.stderr or "ModuleNotFound" in done.stderr):
        pytest.skip(f"an ordinary user has no sandbox here: {done.stderr.splitlines()[-1]}")
    passed, why = json.loads(done.stdout)
    assert not passed and why
    assert not left


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_secrets_are_out_of_reach(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", "planted-secret")
    (tmp_path / "secret.txt").write_text("planted-secret")
    (tmp_path / "secret.txt").chmod(0o644)
    keys, planted = str(Path.home() / ".ssh"), str(tmp_path / "secret.txt")
    code = f"""
import os
def f():
    seen = [repr(dict(os.environ))]
    for path in ({planted!r}, "/etc/passwd", "/etc/shadow", {keys!r}, "/home"):
        if os.path.exists(path):
            seen.append(path)
    return seen
"""
    passed, why = run(code, "seen = f()\nassert len(seen) == 1 and 'planted' not in seen[0], seen")
    assert passed, why


def test_values_keep_their_types():
    code = """
from collections import Counter
from fractions import Fraction
def same(x): return x
class Point:
    def __init__(self, x): self.x = x
def count(s): return Counter(s)
def gen(n): return (i for i in range(n))
def fail(): raise KeyError("k")
"""
    tests = """
for value in (1, -2**80, 0.1, float("inf"), 1j, "é\\ud800", b"x", None, True, (1, [2, {3}]), {"a": (1,)},
              frozenset({1}), range(3), {(1, 2): 3}):
    got = same(value)
    assert got == value and type(got) is type(value), (got, value)
assert same(1) is not True and same(float("nan")) != same(float("nan"))
p = Point(5)
assert p.x == 5 and same(p).x == 5
assert count("aab") == {"a": 2, "b": 1}
assert list(gen(3)) == [0, 1, 2]
try:
    fail()
except KeyError:
    pass
else:
    raise AssertionError
assert Fraction(1, 2) == same(Fraction(1, 2))
"""
    outcome = sandbox.run_tests(code, tests)
    assert outcome.passed, outcome.reason


def test_trusted_helpers_are_not_the_candidates():
    trusted = "def helper(x):\n    return x * 2\ndef f(x):\n    pass\n"
    cheat = "def helper(x):\n    return 0\ndef f(x):\n    return 0\n"
    assert not sandbox.run_tests(cheat, "assert f(3) == helper(3)", trusted=trusted, entry_point="f").passed
    right = "def f(x):\n    return x + x\n"
    assert sandbox.run_tests(right, "assert f(3) == helper(3)", trusted=trusted, entry_point="f").passed


def test_without_a_sandbox_it_is_refused_unless_allowed(monkeypatch):
    monkeypatch.setattr(sandbox, "_why_uncontained", sandbox._why_uncontained.__wrapped__)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(sandbox.Unavailable, match=r"install bubblewrap.*--unsafe-code"):
        sandbox.run_tests("x = 1", "assert x")
    with sandbox.unsafe_code(True):
        assert sandbox.run_tests("def f(): return 1", "assert f() == 1").passed
        assert not sandbox.run_tests("def f():\n    while True: pass", "f()", cpu_s=1).passed
        assert sandbox.run_tests("def f(): return len(b'x' * 10**10)", "f()").reason == "MemoryError: "
        assert not sandbox.run_tests("import os\ndef f(): os._exit(0)", "f()").passed
    with sandbox.unsafe_code(False), pytest.raises(sandbox.Unavailable):
        sandbox.run_tests("x = 1", "assert x")


def test_root_without_any_bound_is_refused(monkeypatch):
    monkeypatch.setattr(sandbox, "_why_uncontained", sandbox._why_uncontained.__wrapped__)
    monkeypatch.setattr(boxes.os, "geteuid", lambda: 0)
    monkeypatch.setattr(boxes, "_unused_uid", lambda: None)
    monkeypatch.setattr(cgroups, "make", lambda memory_bytes, processes: None)
    with pytest.raises(sandbox.Unavailable, match="neither a control group nor another uid"):
        sandbox.run_tests("x = 1", "assert x")


def test_nothing_but_plain_values_is_rebuilt():
    for hostile in ({"pickle": "x"}, {"int": "1", "float": "2"}, 3, [1], {"ref": "x"}):
        with pytest.raises((jail.Broken, KeyError, TypeError)):
            jail.decode(hostile, {}.__getitem__)
    assert sys.modules["poise.understand.jail"] is jail
