import io

from rich.console import Console

from poise.plan.schedule import Extent
from poise.report.progress import Progress


def finished(**options) -> str:
    file = io.StringIO()
    progress = Progress(Console(file=file, width=100, **options))
    progress.start([Extent(10, None)] * 2)
    progress.cell_started("s · onnx · sst2", Extent(10, None), 4)
    for done in range(5, 11):
        progress.tick(done)
    progress.cell_done("s · onnx · sst2", 10, 0.0083, 0.82)
    progress.cell_started("m · onnx · \x1b[31msst2", Extent(10, None))
    progress.cell_done("m · onnx · \x1b[31msst2", 0, None, None, "the engine died")
    progress.close()
    progress.close()
    return file.getvalue()


def test_one_line_per_finished_cell_where_there_is_no_terminal():
    first, second = finished().splitlines()
    assert first.split() == ["1/2", "s", "·", "onnx", "·", "sst2", "n", "10", "8.30", "ms", "quality", "0.82"]
    assert second.startswith("2/2  m · onnx · ␛[31msst2")
    assert second.endswith("the engine died")


def test_a_terminal_gets_a_live_line_too_and_its_cursor_back():
    text = finished(force_terminal=True)
    assert "cells 1/2" in text
    assert text.rstrip().endswith("\x1b[2K") or "\x1b[?25h" in text


def test_redraws_are_rare(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("poise.report.progress.time.monotonic", lambda: now[0])
    progress = Progress(Console(file=io.StringIO(), width=100, force_terminal=True))
    progress.start([Extent(1000, None)])
    progress.cell_started("a", Extent(1000, None))
    drawn = []
    monkeypatch.setattr(progress, "_draw", lambda: (drawn.append(now[0]), setattr(progress, "_drawn", now[0])))
    for done in range(1000):
        now[0] += 0.001
        progress.tick(done)
    progress.close()
    assert 1 <= len(drawn) <= 4


def test_time_left_is_paced_by_what_this_run_did(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("poise.report.progress.time.monotonic", lambda: now[0])
    progress = Progress(Console(file=io.StringIO(), width=100))
    progress.start([Extent(50, None)] * 2)
    progress.cell_started("a", Extent(50, None), 40)
    assert progress.seconds_left() is None
    now[0] += 20
    progress.tick(50)
    assert progress.seconds_left() == 100.0  # 10 requests in 20 s, 50 to go


def test_loads_that_say_how_long_they_go_on_need_no_pace(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("poise.report.progress.time.monotonic", lambda: now[0])
    file = io.StringIO()
    progress = Progress(Console(file=file, width=120, force_terminal=True))
    progress.start([Extent(60, 60.0), Extent(None, 60.0), Extent(30, None)])  # a rate, a timed loop, items once
    progress.cell_started("rate", Extent(60, 60.0))
    now[0] += 20
    progress.tick(19)
    assert progress.seconds_left() is None, "the last cell's pace is unknown"
    assert "19 requests" in file.getvalue() and "19/60 requests · 20 of 60 s" in file.getvalue()
    progress.cell_done("rate", 60, 0.1)
    progress.cell_started("items", Extent(30, None))
    now[0] += 5
    progress.tick(10)
    assert progress.seconds_left() == 60 + 10.0  # 20 more at half a second each
    progress.cell_done("items", 30, 0.1)
    progress.cell_started("loop", Extent(None, 60.0), 7, 45.0)
    now[0] += 5
    progress.tick(9)
    assert progress.seconds_left() == 10.0
    assert "9 requests · 50 of 60 s" in file.getvalue()
    progress.close()
