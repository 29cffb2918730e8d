"""The verdict's words follow what the data show, no more."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from support import asked, cell, write_run

from poise.types import Verdict
from poise.understand.summarize import summarize


def system(model: str, right: float, seconds: float, n: int = 200, **more: Any) -> Any:
    """A system that gets the same seeded items right up to its share and takes about the same time each."""
    rng = random.Random(1)
    luck = [rng.random() for _ in range(n)]
    items = []
    for i, x in enumerate(luck):
        took = seconds * (0.9 + 0.2 * luck[-i])
        items.append(asked(f"i{i}", "x", "x" if x < right else "y", sent_s=i * seconds * 2, e2e_s=took))
    return cell(model, "t", items, **more)  # τ = 3 s


def verdict(path: Path, *cells: Any) -> Verdict:
    return summarize(write_run(path / "run", list(cells))).verdict


def test_a_clear_winner_and_what_the_fastest_gives_up(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("small", 0.3, 0.5), system("middle", 0.8, 1.0), system("large", 0.9, 8.0))
    text = found.text
    assert text.startswith("middle is best balanced, B ")
    assert "on the frontier, fastest first: small, middle and large" in text
    assert "the fastest, small, gives up " in text and " points of quality [" in text and "× " in text
    assert "the one of highest quality, large, gains " in text
    lost = {f["model"]: f for f in found.facts["against_best"]}["small"]
    assert lost["times_as_fast"]["value"] == pytest.approx(2.0)
    assert lost["times_as_fast"]["lo"] <= 2.0 <= lost["times_as_fast"]["hi"]
    assert lost["quality_points_lost"]["lo"] > 0


def test_numbers_without_spread_have_no_more_than_three_digits(tmp_path: Path) -> None:
    wrong = [asked(f"i{i}", "x", "y", sent_s=2.0 * i, e2e_s=0.05) for i in range(30)]
    assert verdict(tmp_path, cell("m", "t", wrong, chance=0.5)).text == "m: B 0, the only system compared"
    unscored = verdict(tmp_path / "2", cell("m", "t", wrong, metrics=()))
    assert unscored.text.endswith("; a request takes 50 ms on average")


def test_what_cannot_be_told_apart_is_not(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("a", 0.70, 1.0), system("b", 0.71, 1.04))
    assert "do not tell it apart from" in found.text and "is best balanced" not in found.text


def test_a_system_that_dominates(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("slow", 0.4, 5.0), system("quick", 0.8, 1.0))
    assert "only quick is on the frontier" in found.text
    assert [f["model"] for f in found.facts["frontier"]] == ["quick"]


def test_names_say_what_differs(tmp_path: Path) -> None:
    assert (
        "on llama is best"
        in verdict(
            tmp_path / "1", system("m", 0.5, 1.0, deployment="onnx"), system("n", 0.9, 1.0, deployment="llama")
        ).text
    )
    assert verdict(
        tmp_path / "2", system("m", 0.5, 1.0, deployment="onnx"), system("m", 0.9, 0.5, deployment="llama")
    ).text.startswith("llama is best")


def test_order_changes_with_the_reference_time(tmp_path: Path) -> None:
    # METRICS §4: (.9, 10 s) against (.6, 2 s) meet at τ = 14 s; here τ = 3 s, so the factor is near 14/3, beyond 4
    far = verdict(tmp_path / "far", system("good", 0.9, 10.0, 400), system("quick", 0.6, 2.0, 400))
    assert far.facts["best"]["model"] == "quick" and far.facts["order_changes"] == []
    near = verdict(tmp_path / "near", system("good", 0.9, 5.0, 400), system("quick", 0.6, 1.0, 400))
    change = near.facts["order_changes"][0]
    q1, q2 = 0.9, 0.6  # τ* = (q₂t₁ - q₁t₂)/(q₁ - q₂) = 7 s at the shares asked for
    assert change["model"] == "good" and 3 * change["tau_factor"] == pytest.approx((q2 * 5 - q1) / (q1 - q2), rel=0.25)
    assert "good would lead it at" in near.text


def test_unfinished_runs_are_provisional(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("a", 0.5, 1.0, planned=300), system("b", 0.9, 1.0))
    assert found.text.startswith("so far") and found.facts["complete"] is False


def test_no_better_than_guessing(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("a", 0.4, 1.0, chance=0.5), system("b", 0.3, 1.0, chance=0.5))
    assert found.text == "no system is better than guessing: every balanced score is 0"


def test_speed_alone(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("a", 0.4, 2.0, metrics=()), system("b", 0.3, 0.001, metrics=()))
    assert found.text.startswith("quality was not measured")
    assert re.search(r"fastest: b, 0\.99\d ms \[0\.98\d, 1\.00\d\] per request, then a 1\.99 s$", found.text)


def test_one_system(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("a", 0.5, 1.0))
    assert found.text.startswith("a: B ") and found.text.endswith("the only system compared")


def test_one_item_has_no_interval_but_a_verdict(tmp_path: Path) -> None:
    found = verdict(tmp_path, system("a", 1.0, 1.0, n=1), system("b", 1.0, 2.0, n=1))
    assert "a has the highest balanced score" in found.text or "a is best balanced" in found.text
