"""Laying out a run folder: a write that fails half way leaves a folder that the same command goes on with."""

from pathlib import Path

import pytest

from poise.plan.build import Plan, plan
from poise.plan.read import load_study
from poise.store import write
from poise.store.run import Run
from poise.types import PoiseError


def small() -> Plan:
    study = {
        "models": [{"name": "a", "source": {"api": "a"}}],
        "deployments": ["scripted"],
        "tasks": [{"task": "synthetic", "options": {"n": 3}}],
    }
    return plan(load_study(study))


def prepare(out: Path) -> Run:
    return write.prepare(small(), out, source="", argv=["poise"], versions={"poise": "0"}, git=None)


@pytest.mark.parametrize("failing", range(4))
def test_a_disk_that_fills_up_at_any_file_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    real, written = write.write_atomic, 0

    def fills_up(path: Path, data: bytes) -> None:
        nonlocal written
        if written == failing:
            raise PoiseError("the disk is full")
        written += 1
        real(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(write, "write_atomic", fills_up)
        with pytest.raises(PoiseError, match="disk is full"):
            prepare(tmp_path / "run")
    (folder,) = prepare(tmp_path / "run").cells()
    assert len(list(folder.requests())) == len(folder.targets()) == 3
