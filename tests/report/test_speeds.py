"""A run without targets shows times and rates instead of empty quality columns."""

from pathlib import Path
from typing import Any

from rich.console import Console
from support import asked, cell, write_run

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
