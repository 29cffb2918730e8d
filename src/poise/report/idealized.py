"""Idealized runtimes and rooflines as lines of text; every number in them was computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from poise.counted import counted
from poise.report.numbers import ABSENT, digits, seconds, size_bytes
from poise.understand.cost import Cost
from poise.understand.idealize import Coefficients, Drift, Fit, Noise
from poise.understand.idealize_apply import Applied, CellIdeal
from poise.understand.roofline import Efficiency, Roofline
from poise.understand.roofline_run import Beside


def fit_lines(made: Fit, noise: Sequence[Noise], drift: Drift | None) -> Iterator[str]:
    """What a fit found, how well it gives the points back, and how much the trials vary."""
    kind = f"method {made.method}" + (", denoised" if made.denoised else "")
    yield f"{made.coefficients.model}: {counted(made.n, 'point')}, {kind}"
    yield f"  {_curve(made.coefficients)}"
    if made.coefficients.overhead_s is not None:
        yield f"  {seconds(made.coefficients.overhead_s)} overhead per request, split off"
    yield f"  {_quality(made)}"
    varied = sorted((n for n in noise if n.cv is not None), key=lambda n: n.cv or 0.0)
    if varied:
        most, middle = varied[-1], varied[len(varied) // 2]
        yield (
            f"  trials vary by {percent(middle.cv)} (median over points), most by {percent(most.cv)} at prompt "
            f"{most.prompt_tokens}, output {most.output_tokens}: ± 5 % needs {most.trials_needed} trials"
        )
    if drift is not None:
        yield f"  {_drift(drift)}"


def profile_lines(found: Any, per_hour_usd: float | None) -> Iterator[str]:
    """What a profile found, how wrong it may be, and what it cost beside the full grid."""
    yield f"{found.coefficients.model}: {_curve(found.coefficients)}"
    if found.p95_error is not None:
        yield (
            f"  relative error over the grid of {found.grid_points} points: median at most "
            f"{percent(found.median_error)}, 95 % of points at most {percent(found.p95_error)} (stated to hold nine "
            "times in ten)"
        )
    if found.tile:
        yield f"  prompts seem to be worked off in tiles of {found.tile} (probability {found.tile_probability:.2f})"
    yield f"  at the measured points: {_quality(found.fit)}"
    paid = "" if per_hour_usd is None else f", {usd(found.spent_s * per_hour_usd / 3600)}"
    each = len(found.points) / len(found.design_points)
    full = found.grid_s * each
    yield (
        f"  {counted(len(found.design_points), 'point')}, {counted(len(found.points), 'trial')}, "
        f"took {seconds(found.spent_s)}{paid}: "
        f"{percent(found.spent_s / full)} of the full grid, {found.grid_points} points tried as often ({seconds(full)})"
    )
    if found.pace_spread > 0.01:
        yield f"  the machine's pace varied by ± {percent(found.pace_spread)} meanwhile; times are of the steady pace"
    for p, o in found.outliers:
        yield f"  taken for an outlier: prompt {p}, output {o}"


_OPTIONAL = ("denoised", "USD/1k ideal", "USD/1k", "J ideal")


def applied_rows(done: Applied) -> Iterator[tuple[str, ...]]:
    """A header, then a row for each cell: times are means per request, cost per 1 000 requests.

    What no cell has (a price, energy, points to denoise with) takes no column.
    """
    rows = [
        ("cell", "n", "measured", "denoised", "idealized", "overhead", "USD/1k ideal", "USD/1k", "J ideal"),
        *map(_applied_row, done.cells),
    ]
    known = [i for i, (name, *found) in enumerate(zip(*rows)) if name not in _OPTIONAL or set(found) != {ABSENT}]
    yield from (tuple(row[i] for i in known) for row in rows)


def _applied_row(c: CellIdeal) -> tuple[str, ...]:
    return (
        _name(c),
        str(c.n),
        seconds(c.measured_s),
        seconds(c.denoised_s),
        seconds(c.idealized_s),
        ABSENT if c.overhead is None else f"{digits(c.overhead)}x",
        _per_1000(c.cost),
        _per_1000(c.cost_measured),
        ABSENT if c.energy is None or c.energy.per_request_j is None else digits(c.energy.per_request_j),
    )


def applied_lines(done: Applied) -> Iterator[str]:
    """What stands under the table: its key, and each cell's gap, noise, drift and notes."""
    yield "overhead of serving = measured / idealized; times and J are means per request, costs per 1 000 requests"
    for c in done.cells:
        for line in _remarks(c):
            yield f"  {_name(c)}: {line}"


def roofline_lines(r: Roofline, efficiency: Efficiency, cost: Cost, beside: Sequence[Beside]) -> Iterator[str]:
    """One hardware: what fits, what moves, how long it takes, what it costs; then measured cells beside it."""
    active = "" if r.active_params == r.params else f", {_count(r.active_params)} active"
    yield f"{r.model} on {r.accelerators} x {r.hardware}: {r.batch} x ({r.prompt_tokens} + {r.output_tokens} tokens)"
    yield (
        f"  {_count(r.params)} parameters{active}; weights {size_bytes(r.weight_bytes)}; KV cache "
        f"{size_bytes(r.kv_bytes_per_token)} per token, {size_bytes(r.kv_bytes)} in all; fits on "
        f"{r.smallest_accelerators}"
    )
    yield (
        f"  prefill {_count(r.prefill_flops)}FLOP, decode {_count(r.decode_flops)}FLOP; a decode "
        f"step reads {size_bytes(r.decode_bytes_per_step)} ({r.decode_bound}-bound)"
    )
    yield (
        f"  first token {seconds(r.ttft_s)}, per token {seconds(r.tpot_s)}, total {seconds(r.total_s)} "
        f"(efficiency: compute {digits(efficiency.compute)}, memory {digits(efficiency.memory)})"
    )
    if cost.per_request_usd is not None:
        yield f"  {usd(cost.per_request_usd)} per request, {usd(cost.per_1000_usd)} per 1 000, idealized{_dated(cost)}"
    if r.energy_j is not None:
        yield f"  {digits(r.energy_j / r.batch)} J per request, idealized from power"
    for note in r.notes:
        yield f"  note: {note}"
    for b in beside:
        yield (
            f"  {b.cell}: measured {seconds(b.measured_s)}, roofline {seconds(b.roofline_s)}"
            + (f" ({digits(b.gap)}x)" if b.gap is not None else "")
            + f"; MFU of prefill {percent(b.use.prefill_mfu)}, MBU of decode {percent(b.use.decode_mbu)}"
        )


def prediction_lines(runtime_s: float, what: str, cost: Cost, energy_j: float | None) -> Iterator[str]:
    yield f"{seconds(runtime_s)}  {what}"
    if cost.per_request_usd is not None:
        yield f"{usd(cost.per_request_usd)} per request, {usd(cost.per_1000_usd)} per 1 000, idealized{_dated(cost)}"
    if energy_j is not None:
        yield f"{digits(energy_j)} J per request, idealized from power"


def percent(share: float | None) -> str:
    return ABSENT if share is None else f"{digits(100 * share, 2)} %"


def usd(amount: float | None) -> str:
    return ABSENT if amount is None else f"{digits(amount)} USD"


def _curve(c: Coefficients) -> str:
    (first, low), (last, high) = c.prompt_s[0], c.prompt_s[-1]
    ends = f"prompts of {first} to {last} tokens take {seconds(low)} to {seconds(high)}"
    text = f"{ends}, each further output token {seconds(c.per_output_token_s)}"
    if c.onset:
        text += f", the first of these {percent(c.onset)} of the prompt's time more"
    if not c.per_cached_token_s:
        return text
    more = seconds(1000 * c.per_cached_token_s)
    return f"{text} at {c.cached_tokens:.0f} cached tokens, {more} more per 1 000 further ones"


def _quality(made: Fit) -> str:
    return (
        f"R² {made.r2:.6f}, relative error mean {percent(made.mean_relative_error)}, "
        f"max {percent(made.max_relative_error)}"
    )


def _drift(drift: Drift) -> str:
    sure = "not shown" if drift.lo <= 0 <= drift.hi else "the machine or service drifted"
    interval = f"[{100 * drift.lo:+.2g}, {100 * drift.hi:+.2g}]"
    return f"drift {100 * drift.per_hour:+.2g} % per hour {interval} over {seconds(drift.span_s)}: {sure}"


def _name(c: CellIdeal) -> str:
    return f"{c.model} · {c.deployment} · {c.task} · {c.load}"


def _remarks(c: CellIdeal) -> Iterator[str]:
    if c.reason:
        yield c.reason
    if c.gap is not None:
        parts = (
            (c.gap.wait_s, "waiting in the client"),
            (c.gap.first_token_s, "before the first token"),
            (c.gap.decode_s, "between tokens"),
        )
        known = ", ".join(f"{_signed(v)} {name}" for v, name in parts if v is not None)
        yield f"gap {_signed(c.gap.total_s)}: {known or 'no token times to split it by'}"
    if c.noise_cv is not None:
        needed = f"{c.trials} made, {c.trials_needed} needed for ± 5 % on nine of ten"
        yield f"trials of a request vary by {percent(c.noise_cv)}: {needed}"
    if c.drift is not None and not c.drift.lo <= 0 <= c.drift.hi:
        yield _drift(c.drift)
    yield from c.notes


def _count(value: float) -> str:
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{digits(value / factor, 4)} {unit}"
    return f"{digits(value)} "


def _signed(value: float) -> str:
    return seconds(value) if value < 0 else f"+{seconds(value)}"


def _per_1000(cost: Cost | None) -> str:
    return ABSENT if cost is None or cost.per_1000_usd is None else digits(cost.per_1000_usd)


def _dated(cost: Cost) -> str:
    return f", price of {cost.date}" if cost.date else ", price undated"
