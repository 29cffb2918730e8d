"""Memory, processor, power and start-up estimates of one cell from the monitor's readings and the segments.

The monitor watches the worker's process tree: engine and client in one, or the client alone where a server answers.

Cumulative counters (`cpu_s`, `energy_j`) are interpolated at the edges of each measured window; gauges are averaged
over the readings inside it. Energy comes from counters only: an integral of power samples would look like one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from poise.types import Better, Estimate, ResourceSample
from poise.understand.derive import Window
from poise.understand.estimates import absent, mean_of
from poise.understand.gather import CellData

Pick = Callable[[ResourceSample], float | None]
NO_MONITOR = "no reading of the monitor"


def is_gpu(device: str) -> bool:
    """Whether a reading is of an accelerator rather than of the host's process tree."""
    return device.lower().startswith(("gpu", "cuda", "nvidia", "mps"))


def resources(data: CellData) -> dict[str, Estimate]:
    """Peaks, means and totals over the measured windows of all repeats."""
    host = [[s for s in repeat if not is_gpu(s.device)] for repeat in data.resources]
    gpu = [[s for s in repeat if is_gpu(s.device)] for repeat in data.resources]
    windows = [[w for w in data.columns.windows if w.repeat == r] for r in data.repeats]
    memory = _peak(host, windows, lambda s: s.mem_bytes, "B")
    processor = _cpu(data, host, windows)
    if data.remote:
        unseen = "the server's processes are not watched; client_cpu and client_mem_bytes are poise's own"
        own = {"mem_bytes.peak": absent(unseen, "B", "lower"), "cpu_util.mean": absent(unseen, "cores")}
        own |= {"client_mem_bytes.peak": memory, "client_cpu": processor}
    else:
        own = {"mem_bytes.peak": memory, "cpu_util.mean": processor}
    found = own | {
        "gpu_mem_bytes.peak": _peak(gpu, windows, lambda s: s.mem_bytes, "B"),
        "gpu_util.mean": _mean(gpu, windows, lambda s: s.util, "", None),
        "power_w.mean": _mean([a + b for a, b in zip(host, gpu)], windows, lambda s: s.power_w, "W", "lower"),
        "energy_j": _energy([a + b for a, b in zip(host, gpu)], windows),
    }
    found["energy_j.request"] = _per_request(found["energy_j"], data)
    loads = [s.load_s for repeat in data.segments for s in repeat if s.load_s is not None]
    found["load_s"] = mean_of(loads, "s", "lower", "the engine's start was not timed", "start")
    cold = "no cold request was recorded"
    found["cold_s"] = mean_of(data.columns.cold_s.tolist(), "s", "lower", cold, "first request after a start")
    return found


def _peak(readings: Sequence[list[ResourceSample]], windows: Sequence[list[Window]], pick: Pick, unit: str) -> Estimate:
    """Largest total over devices seen up to the end of the measuring (loading included)."""
    totals = []
    for samples, own in zip(readings, windows):
        end = max((w.end_ns for w in own), default=0)
        at: dict[str, float] = {}
        for s in samples:
            value = pick(s)
            if value is not None and (s.t_ns <= end or not own):
                at[s.device] = max(at.get(s.device, 0.0), float(value))
        if at:
            totals.append(sum(at.values()))
    if not totals:
        return absent(NO_MONITOR, unit, "lower")
    return Estimate(max(totals), None, None, len(totals), unit, "lower", "largest reading; no interval")


def _inside(samples: list[ResourceSample], window: Window) -> list[ResourceSample]:
    return [s for s in samples if window.start_ns <= s.t_ns <= window.end_ns]


def _mean(
    readings: Sequence[list[ResourceSample]],
    windows: Sequence[list[Window]],
    pick: Pick,
    unit: str,
    better: Better | None,
) -> Estimate:
    """Mean of a gauge over its readings inside the windows, summed over devices; one value per repeat."""
    per_repeat = []
    for samples, own in zip(readings, windows):
        by_device: dict[str, list[float]] = {}
        for s in (s for w in own for s in _inside(samples, w)):
            value = pick(s)
            if value is not None:
                by_device.setdefault(s.device, []).append(float(value))
        if by_device:
            per_repeat.append(sum(float(np.mean(v)) for v in by_device.values()))
    return mean_of(per_repeat, unit, better, NO_MONITOR, "repeat")


def _counted(samples: list[ResourceSample], window: Window, pick: Pick, since_ns: int = 0) -> float | None:
    """Growth of a cumulative counter over a window; None where the readings do not reach over most of it.

    `since_ns`: when this segment's process started; what an earlier one counted is another counter.
    """
    known = [(s.t_ns, v) for s in samples if s.t_ns >= since_ns and (v := pick(s)) is not None]
    before = [i for i, (t, _) in enumerate(known) if t <= window.start_ns]
    after = [i for i, (t, _) in enumerate(known) if t >= window.end_ns]
    known = known[max(before[-1] if before else 0, 0) : (after[0] if after else len(known)) + 1]
    if len(known) < 2 or any(b[1] < a[1] for a, b in pairwise(known)):
        return None
    t, total = np.array([k[0] for k in known], dtype=float), np.array([k[1] for k in known], dtype=float)
    edges = np.clip([window.start_ns, window.end_ns], t[0], t[-1])
    covered = (edges[1] - edges[0]) / max(window.end_ns - window.start_ns, 1)
    if covered < 0.5:
        return None
    low, high = np.interp(edges, t, total)
    return float(high - low) / float(covered)


def _cpu(data: CellData, readings: Sequence[list[ResourceSample]], windows: Sequence[list[Window]]) -> Estimate:
    """CPU seconds of the engine's process tree per second of wall time, in cores."""
    per_repeat, whole = [], False
    for samples, own, segments in zip(readings, windows, data.segments):
        starts = {s.segment: s.t_ns for s in reversed(segments)}
        used = [_counted(samples, w, lambda s: s.cpu_s, starts.get(w.segment, 0)) for w in own]
        if own and all(u is not None for u in used):
            per_repeat.append(sum(u for u in used if u is not None) / max(sum(w.wall_s for w in own), 1e-12))
            continue
        by_segment: dict[int, list[tuple[int, float]]] = {}
        for s in segments:
            if s.cpu_s is not None:
                by_segment.setdefault(s.segment, []).append((s.t_ns, s.cpu_s))
        spans = [(v[-1][1] - v[0][1], (v[-1][0] - v[0][0]) * 1e-9) for v in by_segment.values() if len(v) > 1]
        if spans and sum(wall for _, wall in spans) > 0:
            per_repeat.append(sum(c for c, _ in spans) / sum(wall for _, wall in spans))
            whole = True
    found = mean_of(per_repeat, "cores", None, NO_MONITOR, "repeat")
    note = f"{found.method}; over the whole segment, warm-up included"
    return msgspec.structs.replace(found, method=note) if whole else found


def _per_request(energy: Estimate, data: CellData) -> Estimate:
    """Joules of a request: those of a repeat's window over its requests."""
    if energy.value is None or not len(data.columns):
        return energy
    share = data.folders / len(data.columns)
    lo, hi = (None if end is None else end * share for end in (energy.lo, energy.hi))
    return msgspec.structs.replace(energy, value=energy.value * share, lo=lo, hi=hi)


def _energy(readings: Sequence[list[ResourceSample]], windows: Sequence[list[Window]]) -> Estimate:
    per_repeat = []
    for samples, own in zip(readings, windows):
        devices = sorted({s.device for s in samples if s.energy_j is not None})
        used = [_counted([s for s in samples if s.device == d], w, lambda s: s.energy_j) for d in devices for w in own]
        if used and all(u is not None for u in used):
            per_repeat.append(sum(u for u in used if u is not None))
    return mean_of(per_repeat, "J", "lower", "no energy counter could be read", "repeat")
