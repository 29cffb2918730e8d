"""Whether the client kept up: its event loop, its processor, its lateness, the load it put on the server; as checks.

What the client cannot do in time would otherwise be read as the model's latency. A check names the side that was the
limit by its facts: a loop that came late or a processor without time to spare is the client's; requests that wait in
a queue while the client has time to spare are the server's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise.counted import counted
from poise.types import Check, Estimate
from poise.understand.delivered import delivered, flying, most_flying
from poise.understand.derive import Window
from poise.understand.estimates import absent
from poise.understand.gather import CellData, failures
from poise.understand.resources import resources

LATE_SHARE, LEAST_S = 0.1, 0.001
"""Late is what takes more than a tenth of what was measured, and more than a millisecond."""
FULL, BUSY = 0.9, 0.7
"""Cores of one client process from which on it is the limit, or a suspect."""
LAG_EXPLAINS = 2.0
"""A request that left late by less than so many times the loop's own worst lateness waited for the client."""
DELIVERED = 0.95
REFUSALS = ("connect", "reset", "closed", "http")
QUEUE_SHARE, GROWTH = 0.1, 1.5


def client(data: CellData) -> dict[str, Estimate]:
    """How late the client's event loop was: quantiles over seconds of the worst in each."""
    worst = np.sort(_lags(data))
    if not len(worst):
        reason = (
            "no event loop was watched: requests went one after another" if len(data.columns) else "nothing was sent"
        )
        return {f"loop_lag_s.{name}": absent(reason, "s", "lower") for name in ("p50", "p99", "max")}
    method = "over seconds, of the worst lateness of a 10 ms tick in each; no interval"
    values = {"p50": float(np.quantile(worst, 0.5)), "p99": float(np.quantile(worst, 0.99)), "max": float(worst[-1])}
    return {f"loop_lag_s.{q}": Estimate(v, None, None, len(worst), "s", "lower", method) for q, v in values.items()}


def _lags(data: CellData) -> NDArray[np.float64]:
    """Seconds of lateness of every reading that reaches into a measured window."""
    found = []
    for repeat, processes in zip(data.repeats, data.lags):
        own = [w for w in data.columns.windows if w.repeat == repeat]
        for readings in processes:
            before = 0
            for r in readings:
                if any(before <= w.end_ns and r.t_ns >= w.start_ns for w in own):
                    found.append(r.max_lag_ns / 1e9)
                before = r.t_ns
    return np.array(found)


# ---------------------------------------------------------------- facts


@dataclass(frozen=True)
class Facts:
    """What is known of the client's part; None = not recorded."""

    lag_s: float | None
    """Worst lateness of the event loop in a typical second."""
    lag_p99_s: float | None
    cpu: float | None
    """Cores of one client process, on average."""
    processes: int
    others: float | None
    """Cores that anything else kept busy on the client's host: a server there, other users."""
    late_s: float | None
    """99 % of the requests left no later than this after they were due."""
    e2e_s: float
    first_s: float
    """Median time to the first text, or of the whole answer."""

    @property
    def lagging(self) -> bool:
        return self.lag_s is not None and self.lag_s > max(LATE_SHARE * self.first_s, 2 * LEAST_S)

    @property
    def late(self) -> bool:
        return self.late_s is not None and self.late_s > max(LATE_SHARE * self.e2e_s, LEAST_S)

    @property
    def full(self) -> bool:
        return self.cpu is not None and self.cpu >= FULL

    @property
    def idle(self) -> bool:
        """Whether it is known that the client had time to spare, and that its loop does not explain what was late."""
        explained = self.late and (self.late_s or 0.0) < LAG_EXPLAINS * (self.lag_p99_s or 0.0)
        known = self.lag_s is not None and self.cpu is not None
        return known and not self.lagging and not explained and (self.cpu or 0.0) < BUSY

    def told(self) -> str:
        """The client's own state in a few words."""
        known = []
        if self.lag_p99_s is not None:
            known.append(f"event loop p99 {_ms(self.lag_p99_s)} late")
        if self.cpu is not None:
            known.append(f"{self.cpu:.2f} cores" + (" a process" if self.processes > 1 else ""))
        if self.lagging and self.others is not None:
            known.append(f"others on its host {self.others:.2f}")
        return f"client: {', '.join(known)}" if known else "nothing is recorded of the client"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def facts(data: CellData) -> Facts | None:
    """The client's facts of a cell; None where nothing was answered or no client stands apart from the engine."""
    c = data.columns
    took, first = (v[np.isfinite(v)] for v in (c.e2e_s, c.ttft_s))
    if not len(took):
        return None
    lags, wait = _lags(data), c.wait_s[np.isfinite(c.wait_s)]
    processes = max([len(p) for p in data.lags], default=1) or 1
    used = resources(data)["client_cpu"].value if data.remote else None
    host = _host_cpu(data)
    return Facts(
        lag_s=float(np.quantile(lags, 0.5)) if len(lags) else None,
        lag_p99_s=float(np.quantile(lags, 0.99)) if len(lags) else None,
        cpu=None if used is None else used / processes,
        processes=processes,
        others=None if host is None or used is None else max(host - used, 0.0),
        late_s=float(np.quantile(wait, 0.99)) if len(wait) else None,
        e2e_s=float(np.median(took)),
        first_s=float(np.median(first if len(first) and c.streamed else took)),
    )


def _host_cpu(data: CellData) -> float | None:
    """Cores busy on the client's host, on average over the measured windows."""
    found = []
    for repeat, readings in zip(data.repeats, data.resources):
        own = [w for w in data.columns.windows if w.repeat == repeat]
        inside = (s for s in readings if any(w.start_ns <= s.t_ns <= w.end_ns for w in own))
        found += [s.host_cpu for s in inside if s.host_cpu is not None]
    return float(np.mean(found)) if found else None


# ---------------------------------------------------------------- checks


def client_checks(data: CellData) -> list[Check | None]:
    """`client_bound`, `load_not_delivered` and `server_saturated`, each where its facts are there."""
    known = facts(data)
    if known is None:
        return []
    lost = _not_delivered(data, known)
    return [_bound(known), lost, None if lost else _saturated(data, known)]


def _relief(known: Facts) -> str:
    """What helps a client that is the limit: more processes where its own use its time up, else less company."""
    if known.cpu is not None and known.cpu < BUSY:
        return "keep other programs off the client's processors, or run poise on another machine than they"
    wanted = max(known.processes + 1, math.ceil((known.cpu or 0.0) * known.processes / 0.6))
    return f"spread the load over more client processes: --client-processes {wanted}"


def _bound(known: Facts) -> Check | None:
    late = known.late and not known.idle
    if not (late or known.lagging or known.full):
        return None
    evidence = []
    if late and known.late_s is not None:
        evidence.append(
            f"1 % of requests left {_ms(known.late_s)} late or later, the median answer takes {_ms(known.e2e_s)}"
        )
    if known.lagging and known.lag_s is not None:
        usual = f"the median first text takes {_ms(known.first_s)}"
        evidence.append(f"in a typical second the event loop was {_ms(known.lag_s)} late, {usual}")
    if known.cpu is not None and (known.lagging or known.full):
        evidence.append(f"each client process used {known.cpu:.2f} of a core")
        evidence += [f"others on its host kept {known.others:.2f} busy"] if known.others is not None else []
    unknown = "lower the rate, or find the client's limit on this machine with `poise doctor --load N`"
    return Check("client_bound", "warn", "; ".join(evidence), unknown if known.cpu is None else _relief(known))


def _not_delivered(data: CellData, known: Facts) -> Check | None:
    """The load that was asked did not come about: how much of it did, and whose limit it was."""
    load, c = data.cell.load, data.columns
    if (load.form == "closed" and load.width <= 1) or load.scenario == "offline":
        return None
    numbers = delivered(data)
    share = numbers.get("load_delivered")
    if load.form == "closed" and c.windows and max(len(w.sent_ns) for w in c.windows) <= load.width:
        evidence = f"{counted(len(c) // data.folders, 'request')} cannot keep {load.width} places taken"
        return Check("load_not_delivered", "warn", evidence, f"ask at least {10 * load.width} (limit, or requests)")
    dropped = int(c.failure.among("dropped").sum())
    late = known.late and known.idle
    if share is None or share.value is None or (share.value >= DELIVERED and not dropped and not late):
        return None
    if load.form == "closed":
        evidence = f"{numbers['delivered_concurrency'].value:.3g} requests in flight of {load.width} asked"
    else:
        evidence = f"{numbers['delivered_rps'].value:.4g} requests/s sent of {numbers['asked_rps'].value:.4g} asked"
    evidence += f" ({share.value:.1%})"
    if dropped:
        return _dropped(
            data, numbers, f"{evidence}; {dropped} of {len(c)} dropped at max_in_flight {load.max_in_flight}", known
        )
    again = int((c.attempts - c.reruns > 1).sum())
    if load.form == "closed" and again > 0.01 * len(c):
        evidence += f"; {again} of {len(c)} requests were tried again, and held their places while they waited for it"
        return Check("load_not_delivered", "warn", evidence, "see why they failed (`poise show`), or set retries: 0")
    if known.full or known.lagging:
        return Check("load_not_delivered", "warn", f"{evidence}; {known.told()}", _relief(known))
    refused = {k: n for k, n in failures(data).items() if k in REFUSALS}
    if sum(refused.values()) > 0.01 * len(c):
        listed = ", ".join(f"{n} {k}" for k, n in refused.items())
        action = "the server refused requests: raise its limit of connections or requests, or lower the load"
        return Check("load_not_delivered", "warn", f"{evidence}; {listed}", action)
    if late and known.late_s is not None:
        evidence += f"; 1 % of requests left {_ms(known.late_s)} late or later"
    if known.idle:
        action = "the server was slow to take up connections: see that it keeps them alive, and raise its backlog"
    else:
        action = "find the client's limit on this machine with `poise doctor --load N`"
    return Check("load_not_delivered", "warn", f"{evidence}; {known.told()}", action)


def _dropped(data: CellData, numbers: dict[str, Estimate], evidence: str, known: Facts) -> Check:
    """Too low a limit, or a server that fell behind until the limit was reached? Little's law on the first answers."""
    cap, rate = data.cell.load.max_in_flight, numbers["asked_rps"].value or 0.0
    c = data.columns
    order = np.argsort(c.sent_ns, kind="stable")
    took = c.e2e_s[order][np.isfinite(c.e2e_s[order])]
    early = float(np.median(took[: max(5, len(took) // 10)]))
    needed = rate * early
    if needed > 0.8 * cap:
        evidence += (
            f"; answers took {early:.3g} s from the start, so that about {needed:.0f} are in flight at this rate"
        )
        return Check("load_not_delivered", "warn", evidence, f"raise max_in_flight to {math.ceil(2 * needed)}")
    answered = float(np.mean([_completed(w) for w in c.windows]))
    evidence += f"; the server answered {answered:.3g}/s, {early:.3g} s at first; {known.told()}"
    action = "the server is the limit, not the client: lower the rate, or give the server more capacity"
    return Check("load_not_delivered", "warn", evidence, action)


def _completed(window: Window) -> float:
    """Answers per second while requests were being sent."""
    span = int(window.sent_ns[-1] - window.sent_ns[0]) if len(window.sent_ns) else 0
    return float((window.ended_ns <= window.sent_ns[-1]).sum()) / span * 1e9 if span else 0.0


def _saturated(data: CellData, known: Facts) -> Check | None:
    """A load of due times whose queue grew to the end: its latencies depend on how long it ran.

    By Little's law a server that keeps up has as many requests in flight as come in the time of an answer. One that
    is behind takes ever longer: by a tenth of a second and more for every second, up to the deadline.
    """
    if data.cell.load.form != "open" or not data.columns.windows or known.full or known.lagging:
        return None
    w = max(data.columns.windows, key=lambda w: len(w.sent_ns))
    n, start, end = len(w.sent_ns), int(w.sent_ns[0]), int(w.sent_ns[-1])
    third = (end - start) // 3
    if n < 20 or third <= 0:
        return None
    took = (w.ended_ns - w.sent_ns) / 1e9
    parts = [w.sent_ns < start + third, w.sent_ns >= end - third]
    if min(int(part.sum()) for part in parts) < 5:
        return None
    first, last = (float(np.median(took[part])) for part in parts)
    early, late = flying(w, start, start + third), flying(w, end - third, end)
    explained = early * float(parts[1].sum()) / float(parts[0].sum())
    queue = int((w.ended_ns > end).sum())
    growing = _slope(w.sent_ns[parts[1]] / 1e9, took[parts[1]]) >= QUEUE_SHARE
    if not growing and last < FULL * data.cell.generation.deadline_s:
        return None
    if queue < QUEUE_SHARE * n or last < GROWTH * first or late < GROWTH * explained:
        return None
    evidence = (
        f"requests in flight grew from {early:.3g} to {late:.3g} (at most {most_flying(w)}) and answers from "
        f"{first:.3g} s to {last:.3g} s: "
    )
    action = "the server is the limit, not the client: lower the rate"
    if data.cell.load.kind in ("ramp", "trace"):
        answered, asked = (_most_per_s(ns, start, end) for ns in (np.sort(w.ended_ns), w.sent_ns))
        evidence += f"the server answered {answered:.3g}/s at most, up to {asked:.3g}/s were asked"
        action = f"the server is the limit, not the client: stay below {answered:.3g}/s"
    else:
        evidence += f"the server answered {_completed(w):.3g}/s of {(n - 1) / (end - start) * 1e9:.3g}/s"
    evidence += f"; {known.told()}"
    return Check("server_saturated", "warn", evidence, f"{action}; these latencies depend on how long the run was")


def _slope(at_s: NDArray[np.float64], took_s: NDArray[np.float64]) -> float:
    """How much longer answers take for every second that passes: between the medians of both halves."""
    half = len(at_s) // 2
    apart = float(np.median(at_s[half:]) - np.median(at_s[:half]))
    return float(np.median(took_s[half:]) - np.median(took_s[:half])) / apart if apart > 0 else 0.0


def _most_per_s(at_ns: NDArray[np.int64], start_ns: int, end_ns: int) -> float:
    """The highest rate of events in any tenth of a stretch of time."""
    tenth = (end_ns - start_ns) / 10
    inside = at_ns[at_ns <= end_ns]
    counts = np.arange(1, len(inside) + 1) - np.searchsorted(inside, inside - tenth, side="right")
    return float(counts.max(initial=0)) / tenth * 1e9
