import io

from rich.console import Console

from poise.report.progress import Progress


def finished(**options) -> str:
    file = io.StringIO()
    progress = Progress(Console(file=file, width=100, **options))
    progress.start(2, 20)
    progress.cell_started("s · onnx · sst2", 10, 4)
    for done in range(5, 11):
        progress.tick(done)
    progress.cell_done("s · onnx · sst2", 10, 0.0083, 0.82)
    progress.cell_started("m · onnx · \x1b[31msst2", 10)
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
    progress.start(1, 1000)
    progress.cell_started("a", 1000)
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
    progress.start(2, 100)
    progress.cell_started("a", 50, 40)
    assert progress.seconds_left() is None
    now[0] += 20
    progress.tick(50)
    assert progress.seconds_left() == 100.0  # 10 requests in 20 s, 50 to go
