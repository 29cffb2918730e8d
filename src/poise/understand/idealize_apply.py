"""Idealized beside measured: per request and cell, T(p, o), denoised time, cost, energy, overhead of serving.

overhead = measured / idealized (Narayanan et al. 2023). The gap is split where the record allows: wait in the client,
then time before the first token beyond α(p), then time between tokens beyond β·(o − 1). Denoised = the least of a
request's trials. Everything is a pure function of a run folder and a coefficient file.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, structs

from poise.counted import counted
from poise.plan.spec import Price
from poise.registry import did_you_mean
from poise.store.files import encode_pretty, write_atomic
from poise.store.run import Run
from poise.types import FORMAT, UsageError
from poise.understand.cost import (
    Cost,
    Energy,
    hardware_cost,
    idealized_cost,
    idealized_energy,
    token_cost,
    usage_tokens,
)
from poise.understand.gather import CellData, gather
from poise.understand.idealize import Coefficients, Drift, Point, drift, noise, predict


class Hardware(Struct, frozen=True):
    """What the coefficients were measured on, as far as cost and energy need it."""

    accelerators: int = 1
    power_w: float | None = None
    price: Price | None = None
    """None: the deployment's own."""


class Requests(Struct, frozen=True):
    """Columns, one row per answered request with known lengths, in the order of the records."""

    request: list[str]
    repeat: list[int]
    prompt_tokens: list[int]
    output_tokens: list[int]
    measured_s: list[float]
    idealized_s: list[float]
    denoised_s: list[float | None]
    """Least time of the request's trials; None with one trial."""
    overhead: list[float]
    cost_usd: list[float | None]
    energy_j: list[float | None]


class Gap(Struct, frozen=True):
    """Mean seconds of a request that idealized runtime does not explain; None where the record does not show it."""

    wait_s: float | None
    """In the client, from due to sent (open loop)."""
    first_token_s: float | None
    """Time to first token − α(p): queueing in the server, network, scheduling."""
    decode_s: float | None
    """Time between first and last token beyond β·(o − 1): batching, network; negative where tokens are speculated."""
    total_s: float


class CellIdeal(Struct, frozen=True):
    """One cell. All numbers are None, with the reason, where there are no coefficients or no token counts."""

    id: str
    model: str
    deployment: str
    task: str
    load: str
    coefficients: str | None
    n: int
    left_out: int
    reason: str | None = None
    measured_s: float | None = None
    idealized_s: float | None = None
    denoised_s: float | None = None
    overhead: float | None = None
    """Sum of measured / sum of idealized."""
    overhead_median: float | None = None
    overhead_denoised: float | None = None
    gap: Gap | None = None
    noise_cv: float | None = None
    """Median over requests of the trials' coefficient of variation."""
    trials: int | None = None
    trials_needed: int | None = None
    """For 90 % of the requests' mean times to be known to ± 5 %."""
    drift: Drift | None = None
    cost: Cost | None = None
    cost_measured: Cost | None = None
    energy: Energy | None = None
    notes: list[str] = msgspec.field(default_factory=list)
    requests: Requests | None = None


class Applied(Struct, frozen=True):
    """What `derived/idealized.json` holds."""

    format: int
    run: str
    accelerators: int
    power_w: float | None
    cells: list[CellIdeal]


def apply(
    run: Run, models: dict[str, Coefficients], hardware: Hardware | None = None, model: str | None = None
) -> Applied:
    """Idealized beside measured for every cell; also written to <run>/derived/idealized.json.

    A cell takes the coefficients of its model's name; `model` names the entry for all cells; a single entry serves a
    run of a single model. UsageError where `model` is not in the file or no cell finds coefficients.
    """
    hardware = hardware or Hardware()
    if model is not None and model not in models:
        raise UsageError(f"the coefficients have no model {model!r}{did_you_mean(model, models)}")
    cells = gather([run])
    if not cells:
        raise UsageError(f"{run.path} has no cells; `poise run` fills it")
    names = {c.cell.model.name for c in cells}
    chosen = {n: _choose(n, names, models, model) for n in names}
    if not any(chosen.values()):
        raise UsageError(
            f"the coefficients are of {', '.join(sorted(models))}, the run has {', '.join(sorted(names))}; "
            "say which to use with --model"
        )
    seen = _look(run)
    done = [_cell(c, chosen[c.cell.model.name], hardware, seen) for c in cells]
    applied = Applied(FORMAT, run.name, hardware.accelerators, hardware.power_w, done)
    path = run.path / "derived" / "idealized.json"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, encode_pretty(applied))
    return applied


def applied(run: Run) -> Applied | None:
    """What `apply` last found for this run, or None where it was never asked (or is of another version)."""
    path = run.path / "derived" / "idealized.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Applied)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.format == FORMAT else None


def run_points(run: Run) -> list[Point]:
    """Every answered request of the run as a point, its model's name with it, to fit from (first attempts only).

    Static batches are left out: their sequences do not run alone.
    """
    seen = _look(run)
    return [p for c in gather([run]) for p in _points(c, seen)]


_Seen = dict[tuple[str, int, str], tuple[float | None, dict[str, Any] | None]]


def _choose(name: str, names: set[str], models: dict[str, Coefficients], model: str | None) -> Coefficients | None:
    if model is not None:
        return models[model]
    if name in models:
        return models[name]
    return next(iter(models.values())) if len(models) == len(names) == 1 else None


def _usable(data: CellData) -> Any:
    c = data.columns
    return c.ok & np.isfinite(c.e2e_s) & (c.e2e_s > 0) & np.isfinite(c.n_prompt) & (c.n_out >= 1)


def _points(data: CellData, seen: _Seen) -> list[Point]:
    c = data.columns
    keep = np.flatnonzero(_usable(data) & (c.batch_size == 0))
    return [
        Point(
            int(c.n_prompt[i]),
            int(c.n_out[i]),
            float(c.e2e_s[i]),
            data.cell.model.name,
            seen[data.cell.id, int(c.repeat[i]), c.request[i]][0],
        )
        for i in keep.tolist()
    ]


def _look(run: Run) -> _Seen:
    """When each request's first attempt was sent (seconds of the run's clock), and its last attempt's usage."""
    found: _Seen = {}
    for folder in run.cells():
        for r in folder.records():
            if r.phase == "measure":
                key = (folder.cell.id, folder.cell.repeat, r.request_id)
                sent = None if r.timeline is None else r.timeline.sent_ns / 1e9
                found[key] = (found[key][0] if key in found else sent, r.usage)
    return found


def _cell(data: CellData, coefficients: Coefficients | None, hardware: Hardware, seen: _Seen) -> CellIdeal:
    c, cell = data.columns, data.cell
    keep = np.flatnonzero(_usable(data))
    base = CellIdeal(
        id=cell.id,
        model=cell.model.name,
        deployment=data.deployment,
        task=cell.task.name,
        load=cell.load.label,
        coefficients=coefficients.model if coefficients else None,
        n=len(keep),
        left_out=len(c) - len(keep),
    )
    if coefficients is None:
        return structs.replace(base, reason=f"no coefficients for model {cell.model.name}")
    if not len(keep):
        return structs.replace(base, reason="no answered request has token counts and a time")
    prompt, output = c.n_prompt[keep].astype(int), c.n_out[keep].astype(int)
    try:
        ideal = np.array([predict(coefficients, p, o) for p, o in zip(prompt.tolist(), output.tolist(), strict=True)])
    except UsageError as error:
        return structs.replace(base, reason=str(error))
    measured = c.e2e_s[keep]
    trials: dict[str, list[float]] = defaultdict(list)
    asked = c.request.picked(keep.tolist())
    for request, seconds in zip(asked, measured, strict=True):
        trials[request].append(float(seconds))
    denoised = [min(trials[request]) if len(trials[request]) > 1 else None for request in asked]
    least = [v for v in denoised if v is not None]
    price = hardware.price or cell.deployment.price or Price()
    right = _right(data)
    spread = noise([Point(i, 1, t) for i, (_, ts) in enumerate(trials.items()) for t in ts])
    varied = [s for s in spread if s.cv is not None]
    rows = Requests(
        request=list(asked),
        repeat=[int(c.repeat[i]) for i in keep],
        prompt_tokens=prompt.tolist(),
        output_tokens=output.tolist(),
        measured_s=measured.tolist(),
        idealized_s=ideal.tolist(),
        denoised_s=denoised,
        overhead=(measured / ideal).tolist(),
        cost_usd=[idealized_cost(price, [t], hardware.accelerators).per_request_usd for t in ideal.tolist()],
        energy_j=[idealized_energy([t], hardware.accelerators, hardware.power_w).per_request_j for t in ideal.tolist()],
    )
    return structs.replace(
        base,
        measured_s=float(measured.mean()),
        idealized_s=float(ideal.mean()),
        denoised_s=float(np.mean(least)) if len(least) == len(keep) else None,
        overhead=float(measured.sum() / ideal.sum()),
        overhead_median=float(np.median(measured / ideal)),
        overhead_denoised=float(sum(least) / ideal.sum()) if len(least) == len(keep) else None,
        gap=_gap(data, keep, coefficients, ideal),
        noise_cv=float(np.median([s.cv for s in varied])) if varied else None,
        trials=max(len(t) for t in trials.values()),
        trials_needed=int(np.percentile([s.trials_needed for s in varied], 90)) if varied else None,
        drift=_drift(data, keep, seen),
        cost=idealized_cost(price, ideal.tolist(), hardware.accelerators, right),
        cost_measured=_measured_cost(data, price, right, seen),
        energy=idealized_energy(ideal.tolist(), hardware.accelerators, hardware.power_w, right),
        notes=_notes(data, coefficients, prompt),
        requests=rows,
    )


def _gap(data: CellData, keep: Any, coefficients: Coefficients, ideal: Any) -> Gap:
    c = data.columns
    prompt, output = c.n_prompt[keep], c.n_out[keep]
    alpha = np.array([predict(coefficients, float(p), 1) for p in prompt])
    first = c.ttft_s[keep] - alpha
    decode = c.tpot_s[keep] * (output - 1) - (ideal - alpha)
    wait = c.wait_s[keep]
    return Gap(
        wait_s=_mean(wait) if data.open_loop else None,
        first_token_s=_mean(first),
        decode_s=_mean(np.where(output > 1, decode, 0.0)) if np.isfinite(c.tpot_s[keep]).any() else None,
        total_s=float((c.e2e_s[keep] - ideal).mean() + (_mean(wait) or 0.0 if data.open_loop else 0.0)),
    )


def _mean(values: Any) -> float | None:
    """Mean where every request has the value: a mean over some would not add up to the gap."""
    return float(np.mean(values)) if np.all(np.isfinite(values)) else None


def _drift(data: CellData, keep: Any, seen: _Seen) -> Drift | None:
    """Over time, on the times of requests that were asked several times."""
    c = data.columns
    number = {name: i for i, name in enumerate(dict.fromkeys(c.request[i] for i in keep))}
    points = [
        Point(number[c.request[i]], 1, float(c.e2e_s[i]), at_s=seen[data.cell.id, int(c.repeat[i]), c.request[i]][0])
        for i in keep
    ]
    return drift(points)


def _right(data: CellData) -> float | None:
    """Sum of the marks (right answers), failures 0; None where nothing is scored."""
    first = data.scores.first
    if first is None:
        return None
    return float(np.nansum(np.where(data.columns.ok, first.q, 0.0)))


def _measured_cost(data: CellData, price: Price, right: float | None, seen: _Seen) -> Cost:
    """By hardware hours where the price has them, else by tokens; failures that report no usage are not billed."""
    c = data.columns
    if price.per_hour_usd is not None:
        return hardware_cost(price, sum(w.wall_s for w in c.windows), len(c), right)
    usages = [seen[data.cell.id, int(k), r][1] for k, r in zip(c.repeat, c.request, strict=True)]
    return token_cost(price, [usage_tokens(u) for u, ok in zip(usages, c.ok, strict=True) if ok or u], right)


def _notes(data: CellData, coefficients: Coefficients, prompt: Any) -> list[str]:
    notes = []
    longest = coefficients.prompt_s[-1][0]
    beyond = int(np.sum(prompt > longest))
    if beyond:
        notes.append(f"{counted(beyond, 'prompt')} longer than the longest profiled one ({longest}): extrapolated")
    if np.any(data.columns.batch_size > 1):
        notes.append("static batches: measured times share the engine, idealized ones do not")
    return notes
