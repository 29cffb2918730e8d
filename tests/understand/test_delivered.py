"""The delivered load against what was asked, on schedules whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import asked, cell, write_run

from poise.plan.spec import Load
from poise.store.run import open_run
from poise.types import Estimate, Record, Timeline
from poise.understand.delivered import delivered
from poise.understand.gather import gather


def got(path: Path, items: list[Any], load: Load, *more: Any) -> dict[str, Estimate]:
    return delivered(gather([open_run(write_run(path / "run", [cell("m", "t", items, load=load), *more]))])[0])


def lanes(width: int, rounds: int, took_s: float, pause_s: float, **more: Any) -> list[Any]:
    """Each lane sends, waits for the answer, pauses: a closed loop."""
    step = took_s + pause_s
    return [
        asked(f"i{lane}.{k}", "x", "x", sent_s=10 + k * step, e2e_s=took_s, **more)
        for k in range(rounds)
        for lane in range(width)
    ]


def test_a_closed_loop_that_keeps_its_width(tmp_path: Path) -> None:
    found = got(tmp_path, lanes(8, 10, 1.0, 0.0), Load("closed", 8))
    assert found["delivered_concurrency"].value == pytest.approx(8)
    assert found["load_delivered"].value == pytest.approx(1) and found["in_flight.max"].value == 8
    assert found["asked_rps"].value is None and "no request has a due time" in (found["asked_rps"].reason or "")


def test_what_the_client_loses_between_two_requests(tmp_path: Path) -> None:
    found = got(tmp_path, lanes(8, 10, 0.9, 0.1), Load("closed", 8))
    assert found["delivered_concurrency"].value == pytest.approx(7.2)
    assert found["load_delivered"].value == pytest.approx(0.9)


def test_the_tail_without_requests_left_to_send_is_left_out(tmp_path: Path) -> None:
    """One straggler runs on for a hundred seconds: the loop could not have been fuller."""
    items = [*lanes(4, 5, 1.0, 0.0), asked("slow", "x", "x", sent_s=15.0, e2e_s=100.0)]
    assert got(tmp_path, items, Load("closed", 4))["delivered_concurrency"].value == pytest.approx(4)


def test_fewer_requests_than_places(tmp_path: Path) -> None:
    found = got(tmp_path, lanes(4, 1, 1.0, 0.0), Load("closed", 8))
    assert found["delivered_concurrency"].value is None
    assert "too few requests" in (found["load_delivered"].reason or "") and found["in_flight.max"].value == 4


def test_segments_are_weighed_by_their_length(tmp_path: Path) -> None:
    full, half = (
        lanes(4, 21, 1.0, 0.0),
        [
            asked(f"j{k}.{lane}", "x", "x", sent_s=1000 + 2.0 * k, e2e_s=1.0, segment=1)
            for k in range(6)
            for lane in range(4)
        ],
    )
    found = got(tmp_path, full + half, Load("closed", 4))
    assert found["delivered_concurrency"].value == pytest.approx((20 * 4 + 10 * 2) / 30)


def test_a_retry_is_in_flight_too(tmp_path: Path) -> None:
    items = lanes(1, 4, 1.0, 1.0)
    again = Timeline(11_000_000_000, [1_000_000_000], 1_000_000_000)
    items[0].records[0] = Record("i0.0", "i0.0", "error", timeline=Timeline(10_000_000_000, [], 1_000_000_000))
    items[0].records.append(Record("i0.0", "i0.0", "ok", attempt=2, timeline=again, pieces=["x"]))
    # 10 to 16 s: two attempts of the first, one of the second and third, of one second each
    assert got(tmp_path, items, Load("closed", 1))["delivered_concurrency"].value == pytest.approx(4 / 6)


def arrivals(n: int, rate: float, late_s: float = 0.0, every: int = 1, **more: Any) -> list[Any]:
    return [
        asked(f"i{i}", "x", "x", due_s=10 + i / rate, sent_s=10 + i / rate + late_s * i, e2e_s=0.5, **more)
        for i in range(n)
    ]


def test_an_open_loop_on_time(tmp_path: Path) -> None:
    found = got(tmp_path, arrivals(101, 20), Load("open", 20))
    assert found["asked_rps"].value == pytest.approx(20) == found["delivered_rps"].value
    assert found["load_delivered"].value == pytest.approx(1)
    assert found["delivered_concurrency"].value == pytest.approx(20 * 0.5, rel=0.06)  # Little; empty at the start
    assert found["dropped.count"].value == 0 and found["failed.share"].value == 0


def test_a_client_that_falls_behind(tmp_path: Path) -> None:
    """Due every 50 ms, sent every 60 ms: 16.7 of 20 per second."""
    found = got(tmp_path, arrivals(101, 20, late_s=0.01), Load("open", 20))
    assert found["delivered_rps"].value == pytest.approx(100 / 6)
    assert found["load_delivered"].value == pytest.approx(5 / 6)


def test_dropped_and_failed_requests_are_counted(tmp_path: Path) -> None:
    items = arrivals(100, 20)
    for i in range(0, 100, 4):
        due = items[i].records[0].due_ns
        items[i].records[0] = Record(f"i{i}", f"i{i}", "dropped", due_ns=due, timeline=Timeline(due, [], 0))
    items.append(asked("e", "x", status="error", due_s=14.98, sent_s=14.98, done_s=0.1))
    found = got(tmp_path, items, Load("open", 20))
    assert found["dropped.count"].value == 25 and found["failed.count"].value == 26
    assert found["dropped.share"].value == pytest.approx(25 / 101) and found["dropped.share"].n == 101
    assert found["load_delivered"].value == pytest.approx(75 / 100, rel=0.01)


def test_a_static_batch_has_no_concurrency(tmp_path: Path) -> None:
    items = [asked(f"i{i}", "x", "x", e2e_s=1.0, batch=("b", 4, 0, 1.0)) for i in range(4)]
    found = got(tmp_path, items, Load("batch", 4))
    assert found["delivered_concurrency"].reason == "a static batch is handed over whole"


def test_repeats_give_an_interval(tmp_path: Path) -> None:
    other = cell("m", "t", lanes(8, 10, 0.8, 0.2), load=Load("closed", 8), repeat=1)
    found = got(tmp_path, lanes(8, 10, 1.0, 0.0), Load("closed", 8), other)
    assert found["load_delivered"].value == pytest.approx(0.9) and found["load_delivered"].lo is not None
