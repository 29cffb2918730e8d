"""Who runs first on a shared core; in processes of their own, because a priority cannot always be taken back."""

import subprocess
import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")


def told(code: str) -> str:
    head = "import os; from poise.measure.priority import *; "
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, check=True
    ).stdout.strip()


@linux
def test_idle_never_keeps_a_core() -> None:
    assert told("run_when_idle(); print(os.sched_getscheduler(0) == os.SCHED_IDLE)") == "True"


@linux
def test_short_turns_change_no_share() -> None:
    assert (
        told("os.nice(3); run_on_arrival(); print(os.sched_getscheduler(0) == os.SCHED_OTHER, os.nice(0))") == "True 3"
    )


@linux
def test_another_policy_is_left_alone() -> None:
    assert told("run_when_idle(); run_on_arrival(); print(os.sched_getscheduler(0) == os.SCHED_IDLE)") == "True"
