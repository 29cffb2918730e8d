"""A run without targets shows times and rates instead of empty quality columns."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import asked, cell, write_run

from poise.plan.spec import Deployment, Price
from poise.report.terminal import print_summary
from poise.understand.summarize import summarize


def printed(tmp_path: Path, **more: Any) -> str:
    items = [asked(str(i), "x", ["x", "y"], at_s=[0.5, 0.75], sent_s=float(i), output_tokens=2) for i in range(3)]
    console = Console(width=120)
    with console.capture() as capture:
        print_summary(summarize(write_run(tmp_path / "run", [cell("m", "t", items, **more)])), console)
    return capture.get()


def test_scored_runs_keep_the_published_shape(tmp_path: Path) -> None:
    assert "quality ± 95 %" in printed(tmp_path)


def test_unscored_runs_show_speed(tmp_path: Path) -> None:
    text = printed(tmp_path, metrics=())
    header, row = next(
        (a.split(), b) for a, b in zip(text.splitlines(), text.splitlines()[1:], strict=False) if "ttft p50" in a
    )
    assert header[:3] == ["model", "n", "ttft"] and "quality ±" not in text
    # first piece after .5 s, the second .25 s later; 6 tokens from the first sending to the last arrival, 2.75 s
    assert row.split() == ["m", "3", *"500 ms 500 ms 250 ms 250 ms 750 ms 750 ms".split(), "2.18"]


@pytest.mark.parametrize("metrics", [("accuracy",), ()])
def test_where_a_price_is_stated_the_cost_of_1000_requests_is_shown(tmp_path: Path, metrics: tuple[str, ...]) -> None:
    priced = Deployment("d", "scripted", price=Price(per_hour_usd=3.6))
    text = printed(tmp_path, metrics=metrics, deployment="d", deployment_spec=priced)
    lines = text.splitlines()
    row = next(b for a, b in pairwise(lines) if "USD/1000" in a or "1000 req." in a)
    assert row.split()[-1] == "0.917"  # 2.75 s at .1 cents a second for three requests
    assert "USD" not in printed(tmp_path / "free", metrics=metrics)
