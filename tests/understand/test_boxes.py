"""Containers as a box: the real commands, against a stand-in engine that checks them and runs what is inside."""

import os
import sys

import pytest

from poise.understand import boxes, sandbox

ENGINE = f"""#!{sys.executable}
import json, os, subprocess, sys
log = os.open({{log!r}}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(log, (json.dumps(sys.argv[1:]) + "\\n").encode())  # one call: two engines write at the same time
verb, *rest = sys.argv[1:]
if verb == "rm":
    sys.exit(0)
assert verb == "run", verb
flags = {{{{"--rm", "--interactive", "--read-only"}}}}
given = {{{{}}}}
while rest[0].startswith("--"):
    flag = rest.pop(0)
    given[flag] = None if flag in flags else rest.pop(0)
wanted = {{{{"--network": "none", "--read-only": None, "--cap-drop": "ALL", "--security-opt": "no-new-privileges",
           "--user": "65534:65534", "--pull": "never", "--pids-limit": "16", "--memory": str(512 * 2**20),
           "--memory-swap": str(512 * 2**20), "--entrypoint": "python3", "--interactive": None, "--rm": None}}}}
wrong = [f"{{{{k}}}} {{{{given.get(k, 'absent')}}}}" for k, v in wanted.items() if given.get(k, "absent") != v]
if wrong or not given["--name"].startswith("poise-"):
    sys.exit(f"not as it should be: {{{{wrong}}}}")
if rest[0] != {{image!r}}:
    sys.exit(f"No such image: {{{{rest[0]}}}}")
print("WARNING: No swap limit support", file=sys.stderr, flush=True)
os.execv(sys.executable, [sys.executable, *rest[1:]])
"""


@pytest.fixture(params=["docker", "podman"])
def engine(request, tmp_path, monkeypatch):
    log = tmp_path / "log"
    script = tmp_path / request.param
    script.write_text(ENGINE.format(log=str(log), image="local/python:test"))
    script.chmod(0o755)
    monkeypatch.setattr(sandbox, "_why_uncontained", sandbox._why_uncontained.__wrapped__)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv(sandbox.ENGINE, request.param)
    monkeypatch.setenv(boxes.IMAGE, "local/python:test")
    return log


def test_a_container_runs_the_tests_and_is_removed_by_name(engine):
    import json

    outcome = sandbox.run_tests("def f(x):\n    return x + 1\n", "assert f(1) == 2")
    assert outcome == sandbox.Outcome(True)
    assert sandbox.run_tests("def f(x):\n    return x\n", "assert f(1) == 2, f(1)").reason == "AssertionError: 1"
    calls = [json.loads(line) for line in engine.read_text().splitlines()]
    started = {c[c.index("--name") + 1] for c in calls if c[0] == "run"}
    removed = {name for c in calls if c[0] == "rm" for name in c[2:]}
    assert started == removed and len(started) == 2 * sum(c[0] == "rm" for c in calls)


def test_a_missing_image_is_said_with_the_engines_own_words(engine, monkeypatch):
    monkeypatch.setenv(boxes.IMAGE, "local/none")
    with pytest.raises(sandbox.Unavailable, match=r"does not work here .*No such image: local/none"):
        sandbox.run_tests("x = 1", "assert x")


def test_an_unknown_or_absent_engine_is_said(monkeypatch):
    monkeypatch.setattr(sandbox, "_why_uncontained", sandbox._why_uncontained.__wrapped__)
    monkeypatch.setenv(sandbox.ENGINE, "dokcer")
    with pytest.raises(sandbox.Unavailable, match=r"POISE_SANDBOX=dokcer: no such sandbox.*docker"):
        sandbox.run_tests("x = 1", "assert x")
    monkeypatch.setenv(sandbox.ENGINE, "podman")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(sandbox.Unavailable, match="install podman"):
        sandbox.run_tests("x = 1", "assert x")
