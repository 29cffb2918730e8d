"""The client's verdict on folders whose truth is known: who was the limit, by which evidence, and what to do."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from support import asked, cell, ns, write_run

from poise.plan.schedule import due_times, planned
from poise.plan.spec import Generation, Load
from poise.store.run import open_run
from poise.types import Check, Failure, LagSample, ResourceSample
from poise.understand.checks import checks
from poise.understand.client import client
from poise.understand.gather import CellData, gather
from poise.understand.resources import resources

OURS = ("client_bound", "load_not_delivered", "server_saturated")


def data(
    path: Path,
    items: list[Any],
    load: Load,
    *,
    cpu: float | None,
    lag_s: float | None,
    until: int = 40,
    generation: Generation = Generation(),
) -> CellData:
    """A cell answered by a server; the client used `cpu` cores and its loop came `lag_s` late in every second."""
    seconds = range(9, until)
    spec = cell(
        "m",
        "t",
        items,
        load=load,
        generation=generation,
        source_kind="api",
        resources=[]
        if cpu is None
        else [ResourceSample(ns(t), "cpu", cpu_s=cpu * t, mem_bytes=50, host_cpu=1.9) for t in seconds],
        lags=[] if lag_s is None else [LagSample(ns(t), ns(lag_s)) for t in seconds],
    )
    return gather([open_run(write_run(path / "run", [spec]))])[0]


def verdict(path: Path, items: list[Any], load: Load, **client_facts: Any) -> dict[str, Check]:
    found = data(path, items, load, **client_facts)
    return {c.code: c for c in checks(found) if c.code in OURS}


def closed(took_s: float, pause_s: float, width: int = 16, rounds: int = 20) -> list[Any]:
    step = took_s + pause_s
    return [
        asked(f"i{lane}.{k}", "x", ["x", "y"], sent_s=10 + k * step, at_s=[took_s / 10, took_s])
        for k in range(rounds)
        for lane in range(width)
    ]


def opened(rate: float, took: Any, n: int = 200, late_s: float = 0.0, dropped: Any = lambda i: False) -> list[Any]:
    items = []
    for i in range(n):
        due = 10 + i / rate
        if dropped(i):
            items.append(asked(f"i{i}", "x", status="dropped", due_s=due, sent_s=due))
        else:
            items.append(asked(f"i{i}", "x", "x", due_s=due, sent_s=due + late_s, e2e_s=took(i)))
    return items


GOOD = {"cpu": 0.2, "lag_s": 0.001}
FULL = {"cpu": 0.98, "lag_s": 0.06}


def test_sound_loops_raise_nothing(tmp_path: Path) -> None:
    assert verdict(tmp_path / "a", closed(1.0, 0.0), Load("closed", 16), **GOOD) == {}
    assert verdict(tmp_path / "b", opened(20, lambda i: 0.5), Load("open", 20), **GOOD) == {}


def test_a_closed_loop_whose_client_has_no_processor_left(tmp_path: Path) -> None:
    found = verdict(tmp_path, closed(0.4, 0.1), Load("closed", 16), **FULL)
    assert list(found) == ["client_bound", "load_not_delivered"]
    assert "each client process used 0.98 of a core" in found["client_bound"].evidence
    assert (
        "in a typical second the event loop was 60 ms late, the median first text takes 40 ms"
        in found["client_bound"].evidence
    )
    assert "12.8 requests in flight of 16 asked (80.0%)" in found["load_not_delivered"].evidence
    for check in found.values():
        assert check.action == "spread the load over more client processes: --client-processes 2"


def test_a_full_processor_is_told_even_where_the_load_was_held(tmp_path: Path) -> None:
    assert list(verdict(tmp_path, closed(1.0, 0.0), Load("closed", 16), **FULL)) == ["client_bound"]


def test_a_late_loop_on_an_idle_client_is_the_work_of_others(tmp_path: Path) -> None:
    found = verdict(tmp_path, closed(1.0, 0.0), Load("closed", 16), cpu=0.2, lag_s=0.05)
    assert list(found) == ["client_bound"] and found["client_bound"].action.startswith("keep other programs off")
    assert found["client_bound"].evidence.endswith(
        "each client process used 0.20 of a core; others on its host kept 1.70 busy"
    )


def test_a_gap_between_requests_that_the_client_did_not_make(tmp_path: Path) -> None:
    found = verdict(tmp_path, closed(0.9, 0.1), Load("closed", 16), **GOOD)
    assert list(found) == ["load_not_delivered"]
    assert "the server was slow to take up connections" in found["load_not_delivered"].action
    assert "client: event loop p99 1 ms late, 0.20 cores" in found["load_not_delivered"].evidence


def test_places_held_by_retries_that_wait(tmp_path: Path) -> None:
    items = closed(0.5, 2.0)
    for again in items[::8]:
        [answered] = again.records
        refused = structs.replace(answered, status="error", error=Failure("http", "busy", 503), pieces=[])
        again.records[:] = [refused, structs.replace(answered, attempt=2)]
    found = verdict(tmp_path, items, Load("closed", 16), cpu=0.2, lag_s=0.5)["load_not_delivered"]
    assert "40 of 320 requests were tried again" in found.evidence and "retries: 0" in found.action


def test_too_few_requests_for_the_places(tmp_path: Path) -> None:
    found = verdict(tmp_path, closed(1.0, 0.0, width=16, rounds=2), Load("closed", 64), **GOOD)
    assert found["load_not_delivered"].evidence == "32 requests cannot keep 64 places taken"
    assert "ask at least 640" in found["load_not_delivered"].action


def test_a_limit_that_is_too_low_for_the_rate(tmp_path: Path) -> None:
    """Answers take 2 s from the first one on, at 20/s: 40 in flight, and only 16 allowed."""
    items = opened(20, lambda i: 2.0, dropped=lambda i: i % 40 >= 16)
    found = verdict(tmp_path, items, Load("open", 20, max_in_flight=16), **GOOD)
    assert list(found) == ["load_not_delivered"]
    assert "120 of 200 dropped at max_in_flight 16" in found["load_not_delivered"].evidence
    assert found["load_not_delivered"].action == "raise max_in_flight to 80"


def test_a_server_that_falls_behind_until_requests_are_dropped(tmp_path: Path) -> None:
    items = opened(20, lambda i: 0.1 + 0.04 * min(i, 100), dropped=lambda i: i > 100 and i % 2 == 0)
    found = verdict(tmp_path, items, Load("open", 20, max_in_flight=64), **GOOD)
    assert list(found) == ["load_not_delivered"]
    assert found["load_not_delivered"].action.startswith("the server is the limit, not the client")
    assert "0.38 s at first; client: event loop p99 1 ms late, 0.20 cores" in found["load_not_delivered"].evidence


def test_a_server_whose_queue_grows_to_the_end(tmp_path: Path) -> None:
    """10/s of 20/s are answered: answer i is done at 0.1·i seconds."""
    found = verdict(tmp_path, opened(20, lambda i: 0.1 + 0.05 * i), Load("open", 20), **GOOD)
    assert list(found) == ["server_saturated"]
    assert "the server answered 9.95/s of 20/s; client: event loop p99 1 ms late" in found["server_saturated"].evidence
    assert found["server_saturated"].action.startswith("the server is the limit, not the client")


def queued(due_s: list[float], service_s: float, servers: int, patience_s: float = 1e9) -> list[Any]:
    """Requests answered first come, first served, so many at a time."""
    free = [0.0] * servers
    items = []
    for i, due in enumerate(due_s):
        k = min(range(servers), key=free.__getitem__)
        free[k] = done = max(free[k], due) + service_s
        items.append(asked(f"i{i}", "x", "x", due_s=10 + due, sent_s=10 + due, e2e_s=min(done - due, patience_s)))
    return items


RAMP = Load("ramp", 20, low=1, duration_s=30)
BURSTS = [t + k / 40 for t in range(0, 30, 5) for k in range(40)]
"""A trace: 40 requests within a second, every 5 s."""


@pytest.mark.parametrize(
    ("load", "due_s", "saturated"),
    [
        (RAMP, None, True),  # from 10/s on it falls behind
        (Load("mlperf", 20, scenario="server"), [i / 20 for i in range(400)], True),
        (Load("trace", 1, trace="t.csv"), [i / 15 for i in range(400)], True),
        (Load("trace", 1, trace="t.csv"), BURSTS, False),  # behind within every burst, through before the next
        (Load("trace", 1, trace="t.csv"), BURSTS[:-20], False),  # cut off in the middle of one
    ],
)
def test_every_timed_load_can_saturate_a_server(tmp_path: Path, load: Load, due_s: Any, saturated: bool) -> None:
    """Ten answers a second: five places, half a second each."""
    if due_s is None:
        due_s = [at / 1e9 for at in due_times(load, planned(load, 1, 0), 0) or []]
    found = verdict(tmp_path, queued(due_s, 0.5, 5), load, **GOOD, until=60)
    assert list(found) == ["server_saturated"] * saturated
    if load is RAMP:
        assert "the server answered 10" in found["server_saturated"].evidence
        assert "stay below 10" in found["server_saturated"].action


def test_a_queue_that_deadlines_cut_is_still_one(tmp_path: Path) -> None:
    due_s = [i / 20 for i in range(150)]  # the last ones wait for the deadline, no longer for each other
    items = queued(due_s, 0.5, 5, patience_s=3.0)
    found = verdict(tmp_path, items, Load("open", 20), **GOOD, until=60, generation=Generation(deadline_s=3.0))
    assert list(found) == ["server_saturated"]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.1, 0.65), st.sampled_from(["poisson", "gamma", "constant"]), st.booleans())
def test_a_server_that_keeps_up_is_never_called_saturated(seed: int, use: float, arrivals: Any, ramp: bool) -> None:
    """Twenty answers a second at most, asked for no more than 65 % of it at the end."""
    value = 20 * use
    load = Load("ramp" if ramp else "open", value, low=value / 10 if ramp else None, arrivals=arrivals, duration_s=30)
    due_s = [at / 1e9 for at in due_times(load, planned(load, 1, seed), seed) or []]
    with tempfile.TemporaryDirectory() as folder:
        assert "server_saturated" not in verdict(Path(folder), queued(due_s, 0.5, 10), load, **GOOD, until=60)


def test_a_client_that_sends_late(tmp_path: Path) -> None:
    busy = verdict(tmp_path / "a", opened(20, lambda i: 0.5, late_s=0.2), Load("open", 20), **FULL)
    assert busy["client_bound"].evidence.startswith(
        "1 % of requests left 200 ms late or later, the median answer takes 500 ms"
    )
    spare = verdict(tmp_path / "b", opened(20, lambda i: 0.5, late_s=0.2), Load("open", 20), **GOOD)
    assert list(spare) == ["load_not_delivered"] and "take up connections" in spare["load_not_delivered"].action
    unknown = verdict(tmp_path / "c", opened(20, lambda i: 0.5, late_s=0.2), Load("open", 20), cpu=None, lag_s=None)
    assert list(unknown) == ["client_bound"] and "poise doctor" in unknown["client_bound"].action


def test_a_server_that_refuses(tmp_path: Path) -> None:
    items = closed(0.8, 0.2)
    for i in range(0, 320, 8):
        items[i] = asked(
            f"f{i}", "x", status="error", kind="connect", sent_s=items[i].records[0].timeline.sent_ns / 1e9
        )
    found = verdict(tmp_path, items, Load("closed", 16), **GOOD)
    assert "40 connect" in found["load_not_delivered"].evidence
    assert found["load_not_delivered"].action.startswith("the server refused requests")


def test_lag_and_processor_are_estimates(tmp_path: Path) -> None:
    items = closed(1.0, 0.0)
    cell_data = data(tmp_path, items, Load("closed", 16), cpu=0.5, lag_s=0.002)
    got = client(cell_data)
    assert {e.value for e in got.values()} == {0.002} and got[
        "loop_lag_s.max"
    ].n == 22  # the readings that end at 10, 11 … 31 s
    used = resources(cell_data)
    assert used["client_cpu"].value == pytest.approx(0.5) and used["client_mem_bytes.peak"].value == 50
    assert "not watched" in (used["cpu_util.mean"].reason or "")


def test_lag_outside_the_measured_window_does_not_count(tmp_path: Path) -> None:
    spec = cell(
        "m",
        "t",
        closed(1.0, 0.0),
        load=Load("closed", 16),
        lags=[LagSample(ns(t), ns(9.0 if t < 10 else 0.001)) for t in range(5, 40)],
    )
    got = client(gather([open_run(write_run(tmp_path / "run", [spec]))])[0])
    assert got["loop_lag_s.max"].value == pytest.approx(0.001)


def test_without_an_event_loop_there_is_no_lag(tmp_path: Path) -> None:
    got = client(gather([open_run(write_run(tmp_path / "run", [cell("m", "t", closed(1.0, 0.0, 1))]))])[0])
    assert got["loop_lag_s.p99"].value is None and "one after another" in (got["loop_lag_s.p99"].reason or "")


def test_lateness_that_the_loop_explains_is_the_clients(tmp_path: Path) -> None:
    late = {"late_s": 0.006}
    mine = verdict(tmp_path / "a", opened(20, lambda i: 0.05, **late), Load("open", 20), cpu=0.02, lag_s=0.0045)
    assert list(mine) == ["client_bound"] and "keep other programs off" in mine["client_bound"].action
    theirs = verdict(tmp_path / "b", opened(20, lambda i: 0.05, **late), Load("open", 20), cpu=0.02, lag_s=0.001)
    assert (
        list(theirs) == ["load_not_delivered"] and "slow to take up connections" in theirs["load_not_delivered"].action
    )
