"""A control group holds what runs in it to its limits, and takes it along when it is closed."""

import subprocess
import sys
import time

import pytest

from poise.understand import cgroups

GREEDY = "import time\nhold = bytearray(2**28)\nhold[::4096] = b'x' * len(hold[::4096])\nprint('held', flush=True)"
MANY = """
import os, time
n = 0
try:
    while n < 100:
        if os.fork() == 0:
            time.sleep(60)
        n += 1
except OSError:
    pass
print(n, flush=True)
"""


@pytest.fixture
def group():
    made = cgroups.make(2**26, 20)
    if made is None:
        pytest.skip("no control group can be made here (neither root nor a delegated subtree)")
    yield made
    made.close()


def run(group, code):
    return subprocess.run(
        group.within([sys.executable, "-c", code]), stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )


def test_memory_is_bounded(group):
    done = run(group, GREEDY)
    assert done.returncode != 0 and "held" not in done.stdout


def test_processes_are_bounded_and_end_with_the_group(group):
    with subprocess.Popen(group.within([sys.executable, "-c", MANY]), stdout=subprocess.PIPE, text=True) as process:
        assert 0 < int(process.stdout.readline()) < 20
        start = time.monotonic()
        group.close()
        process.wait()
    assert time.monotonic() - start < 30
    assert not any(path.exists() for path in group.paths)


def test_where_groups_can_be_made(tmp_path, monkeypatch):
    """Version 2: own group and those above it that hand memory and processes on and can be written to."""
    own = tmp_path / "user.slice" / "app.slice" / "run.scope"
    own.mkdir(parents=True)
    for path, controllers in ((own, ""), (own.parent, "cpu memory pids\n"), (own.parent.parent, "memory\n")):
        (path / "cgroup.subtree_control").write_text(controllers)
    monkeypatch.setattr(cgroups, "_own", lambda: {"": "/user.slice/app.slice/run.scope"})
    monkeypatch.setattr(cgroups, "_mounts", lambda kind, controller: ("/", tmp_path) if kind == "cgroup2" else None)
    assert cgroups._parents.__wrapped__() == ((own.parent,),)
    (own.parent / "poise-999999999-ab").mkdir()  # of a process that is gone
    cgroups._parents.__wrapped__()
    assert not (own.parent / "poise-999999999-ab").exists()


def test_none_where_there_is_nowhere(monkeypatch):
    monkeypatch.setattr(cgroups, "_parents", lambda: ())
    assert cgroups.make(2**26, 20) is None
