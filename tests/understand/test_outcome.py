"""Times of right answers against wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import asked, cell, write_run

from poise.store.run import open_run
from poise.types import Estimate
from poise.understand.gather import gather
from poise.understand.outcome import by_outcome


def outcome(path: Path, items: list[Any], **more: Any) -> dict[str, Estimate]:
    return by_outcome(gather([open_run(write_run(path / "run", [cell("m", "t", items, **more)]))])[0])


def test_right_and_wrong_answers_have_their_own_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    right, wrong = rng.uniform(0.9, 1.1, 80), rng.uniform(1.8, 2.2, 40)
    items = [asked(f"r{i}", "x", "x", e2e_s=float(t)) for i, t in enumerate(right)]
    items += [asked(f"w{i}", "x", "y", e2e_s=float(t)) for i, t in enumerate(wrong)]
    items += [asked("late", "x", status="timeout", done_s=60), asked("gone", "x", status="error")]
    got = outcome(tmp_path, items)
    assert got["right_e2e_s.mean"].value == pytest.approx(right.mean(), abs=1e-8)
    assert got["right_e2e_s.p50"].n == 80 and got["right_e2e_s.p50"].value == pytest.approx(np.median(right), abs=1e-8)
    assert got["wrong_e2e_s.mean"].value == pytest.approx(wrong.mean(), abs=1e-8)  # what never came has no mean
    assert got["wrong_e2e_s.p50"].n == 41  # but a timeout is a wrong answer that took for ever
    ratio = got["wrong_over_right"]
    assert ratio.value == pytest.approx(wrong.mean() / right.mean(), abs=1e-6)
    assert ratio.lo and ratio.hi and ratio.lo < 2 < ratio.hi and ratio.hi - ratio.lo < 0.1


def test_one_side_only(tmp_path: Path) -> None:
    got = outcome(tmp_path, [asked(f"r{i}", "x", "x", e2e_s=1.0) for i in range(5)])
    assert got["right_e2e_s.mean"].value == 1.0
    assert got["wrong_e2e_s.mean"].reason == "no answer with a time is wrong"
    assert got["wrong_over_right"].value is None and got["wrong_over_right"].reason


@pytest.mark.parametrize(
    ("more", "why"), [({"metrics": ()}, "nothing to score"), ({"metrics": ("chrf",)}, "graded, not right or wrong")]
)
def test_where_nothing_is_right_or_wrong(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    items = [asked(f"i{i}", "some words here", "some other words", e2e_s=1.0) for i in range(5)]
    got = outcome(tmp_path, items, **more)
    assert {e.value for e in got.values()} == {None} and all(why in (e.reason or "") for e in got.values())
