"""Memory, CPU, power, energy over the measured windows only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import asked, cell, ns, write_run

from poise.store.run import Segment, open_run
from poise.types import Estimate, ResourceSample
from poise.understand.gather import gather
from poise.understand.resources import resources


def found(path: Path, readings: list[ResourceSample], segments: list[Segment] | None = None) -> dict[str, Estimate]:
    # one request from second 10 to second 20
    spec: Any = cell("m", "t", [asked("a", "x", "x", sent_s=10, e2e_s=10)], resources=readings, segments=segments or [])
    return resources(gather([open_run(write_run(path / "run", [spec]))])[0])


def test_counters_are_interpolated_at_the_windows_edges(tmp_path: Path) -> None:
    # 1 core until second 12, 3 cores after: 2·1 + 8·3 = 26 CPU seconds in ten
    at = [(8, 0.0), (12, 4.0), (24, 40.0)]
    got = found(tmp_path, [ResourceSample(ns(t), "cpu", cpu_s=v, energy_j=10 * v) for t, v in at])
    assert got["cpu_util.mean"].value == pytest.approx(2.6)
    assert got["energy_j"].value == pytest.approx(260)
    assert got["energy_j.request"].value == pytest.approx(260), "of one request"


def test_gauges_are_averaged_inside_the_window(tmp_path: Path) -> None:
    readings = [
        ResourceSample(ns(t), d, util=u, power_w=100 * u)
        for d in ("gpu0", "gpu1")
        for t, u in ((5, 9.0), (12, 0.5), (18, 0.7))
    ]
    got = found(tmp_path, readings)
    assert got["gpu_util.mean"].value == pytest.approx(1.2), "summed over two devices"
    assert got["power_w.mean"].value == pytest.approx(120)
    assert got["energy_j"].value is None and "counter" in (got["energy_j"].reason or "")


def test_peak_memory_counts_loading_but_not_what_follows(tmp_path: Path) -> None:
    at = [(2, 700), (15, 500), (90, 9000)]
    readings = [ResourceSample(ns(t), "cpu", mem_bytes=v) for t, v in at]
    readings += [ResourceSample(ns(15), "gpu0", mem_bytes=40), ResourceSample(ns(16), "gpu1", mem_bytes=50)]
    got = found(tmp_path, readings)
    assert got["mem_bytes.peak"].value == 700 and got["gpu_mem_bytes.peak"].value == 90


def test_a_counter_that_falls_is_not_believed(tmp_path: Path) -> None:
    got = found(tmp_path, [ResourceSample(ns(t), "cpu", cpu_s=v) for t, v in ((9, 5.0), (15, 1.0), (21, 2.0))])
    assert got["cpu_util.mean"].value is None


def test_segments_stand_in_for_a_monitor(tmp_path: Path) -> None:
    segments = [Segment("start", 0, ns(5), 0, load_s=1.5, cpu_s=1.0), Segment("end", 0, ns(25), 0, cpu_s=31.0)]
    got = found(tmp_path, [], segments)
    assert got["cpu_util.mean"].value == pytest.approx(1.5) and "whole segment" in got["cpu_util.mean"].method
    assert got["load_s"].value == 1.5


def test_nothing_read_is_not_zero(tmp_path: Path) -> None:
    got = found(tmp_path, [])
    assert all(e.value is None and e.reason for e in got.values())
