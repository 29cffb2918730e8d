"""The commands `poise idealize fit | predict | profile | apply` and `poise roofline`: read, call, print."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from poise.types import UsageError

idealize_app = typer.Typer(
    help="Idealized runtime: what the model costs, apart from who serves it.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Coef = Annotated[Path, typer.Argument(help="Coefficient file (HELM's JSON form), as fit and profile write it.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Which model of the file.")]
Accelerators = Annotated[int, typer.Option("--accelerators", min=1, help="Accelerators that T was measured on.")]
Power = Annotated[float | None, typer.Option("--power-w", min=0, help="Power of one accelerator, for energy.")]
PerHour = Annotated[float | None, typer.Option("--per-hour-usd", min=0, help="Price of one accelerator per hour.")]
PriceDate = Annotated[str | None, typer.Option("--price-date", help="When that price was read, YYYY-MM-DD.")]
Prompt = Annotated[int, typer.Option("--prompt-tokens", help="Prompt length.")]
Output = Annotated[int, typer.Option("--output-tokens", help="Answer length.")]


@idealize_app.command()
def fit(
    points: Annotated[
        Path, typer.Argument(help="CSV (prompt_tokens,output_tokens,runtime_s[,model][,at_s]) or a run folder.")
    ],
    method: Annotated[str, typer.Option("--method", help="default, or paper: the published procedure.")] = "default",
    denoised: Annotated[
        bool, typer.Option("--denoised", help="Minimum over trials, overhead split off: for shared services.")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write the coefficients.")] = None,
    json: Json = False,
) -> None:
    """Fit alpha(p) and beta to timed generations, each model on its own."""
    from poise.report.idealized import fit_lines
    from poise.understand import idealize, idealize_files
    from poise.understand.idealize_apply import run_points

    if method not in ("default", "paper"):
        raise UsageError(f"unknown method {method!r}; there are: default, paper")
    found = run_points(_run(points)) if points.is_dir() else idealize_files.read_points(points)
    fits = [
        idealize.fit([p for p in found if p.model == name], method, denoised)  # type: ignore[arg-type]
        for name in dict.fromkeys(p.model for p in found)
    ]
    if not fits:
        raise UsageError(f"{points} has no answered request with token counts; there is nothing to fit")
    noises = {f.coefficients.model: idealize.noise(p for p in found if p.model == f.coefficients.model) for f in fits}
    drifts = {f.coefficients.model: idealize.drift(p for p in found if p.model == f.coefficients.model) for f in fits}
    if out is not None:
        notes = {f.coefficients.model: {"method": f.method, "denoised": f.denoised, "points": f.n} for f in fits}
        idealize_files.write_coefficients(out, [f.coefficients for f in fits], notes)
    if json:
        _print_json([msgspec.to_builtins(f) | {"noise": noises[f.coefficients.model]} for f in fits])
        return
    for f in fits:
        _print(fit_lines(f, noises[f.coefficients.model], drifts[f.coefficients.model]))
    _written(out)


@idealize_app.command()
def predict(
    coefficients: Coef,
    prompt_tokens: Prompt,
    output_tokens: Output,
    mode: Annotated[str, typer.Option("--mode", help="default, or helm: HELM's own rule.")] = "default",
    model: ModelName = None,
    accelerators: Accelerators = 1,
    power_w: Power = None,
    per_hour_usd: PerHour = None,
    price_date: PriceDate = None,
    json: Json = False,
) -> None:
    """T(p, o) in seconds, with idealized cost and energy where price and power are given."""
    from poise.plan.spec import Price
    from poise.report.idealized import prediction_lines
    from poise.understand import cost, idealize, idealize_files

    if mode not in ("default", "helm"):
        raise UsageError(f"unknown mode {mode!r}; there are: default, helm")
    chosen = idealize_files.pick(idealize_files.read_coefficients(coefficients), model)
    seconds = idealize.predict(chosen, prompt_tokens, output_tokens, mode)  # type: ignore[arg-type]
    price = cost.idealized_cost(Price(per_hour_usd=per_hour_usd, date=price_date), [seconds], accelerators)
    energy = cost.idealized_energy([seconds], accelerators, power_w)
    if json:
        given = {"model": chosen.model, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "mode": mode}
        _print_json(given | {"runtime_s": seconds, "cost": price, "energy": energy})
        return
    what = f"{chosen.model}, {prompt_tokens} prompt and {output_tokens} output tokens ({mode})"
    _print(prediction_lines(seconds, what, price, energy.per_request_j))


@idealize_app.command()
def profile(
    model: Annotated[str, typer.Argument(help="bundled:s, a folder, a hub name.")],
    backend: Annotated[str, typer.Option("-b", "--backend", help="In-process engine.")] = "onnx",
    points: Annotated[str, typer.Option("--points", help="auto, paper (270 points), or p=1,256,o=1,64.")] = "auto",
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write the coefficients.")] = Path("coef.json"),
    save: Annotated[Path | None, typer.Option("--save-points", help="Also write every trial as CSV.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Trials of each point, interleaved.")] = 5,
    method: Annotated[
        str, typer.Option("--method", help="Fit for paper and p=,o= points: default, paper.")
    ] = "default",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Equal sequences at once.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of prompts, order and design.")] = 0,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Shape only; no weights needed.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name in the coefficient file.")] = None,
    backend_option: Annotated[
        list[str] | None, typer.Option("-O", help="Backend option key=value (also device, dtype, quantization).")
    ] = None,
    max_prompt: Annotated[int | None, typer.Option("--max-prompt", min=3, help="Longest prompt of the grid.")] = None,
    per_hour_usd: PerHour = None,
    json: Json = False,
) -> None:
    """Measure T(p, o) of a model on this machine at exact lengths, and fit it: ten points instead of 270."""
    from poise.measure.profile import Profiler
    from poise.profiling import Plan, profile_points
    from poise.report.idealized import profile_lines

    chosen, deployment = _engine(model, backend, backend_option or [], random_weights)
    plan = Plan(points, repeats, method, seed, max_prompt)  # type: ignore[arg-type]
    with Profiler(chosen, deployment, batch, seed) as profiler:
        found = profile_points(profiler, plan, name or chosen.name)
    _keep_profile(found, out, save, profiler, batch)
    if json:
        _print_json(found)
        return
    _print(profile_lines(found, per_hour_usd))
    _written(out)


@idealize_app.command()
def apply(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    coefficients: Coef,
    model: ModelName = None,
    accelerators: Accelerators = 1,
    power_w: Power = None,
    per_hour_usd: PerHour = None,
    price_date: PriceDate = None,
    json: Json = False,
) -> None:
    """Idealized beside measured for every request and cell of a run, kept in RUN/derived/idealized.json."""
    from poise.plan.spec import Price
    from poise.report.idealized import applied_lines, applied_rows
    from poise.understand.idealize_apply import Hardware, apply
    from poise.understand.idealize_files import read_coefficients

    price = None if per_hour_usd is None else Price(per_hour_usd=per_hour_usd, date=price_date)
    done = apply(_run(run), read_coefficients(coefficients), Hardware(accelerators, power_w, price), model)
    if json:
        _print_json(done)
        return
    _console().print(_table(applied_rows(done)))
    _print(applied_lines(done))
    _written(run / "derived" / "idealized.json")


def roofline(
    model: Annotated[str, typer.Argument(help="config.json, a model folder, or a name such as llama-2-7b.")],
    hardware: Annotated[str, typer.Option("--hardware", help="Catalogue names, comma list: A100-80GB,H100.")],
    accelerators: Annotated[
        int | None, typer.Option("--accelerators", min=1, help="Default: the fewest that hold it.")
    ] = None,
    prompt_tokens: Prompt = 512,
    output_tokens: Output = 128,
    batch: Annotated[int, typer.Option("--batch", help="Equal sequences at once.")] = 1,
    width: Annotated[str | None, typer.Option("--width", help="Weights as float16, int8, int4, q4_k_m …")] = None,
    kv_bits: Annotated[float, typer.Option("--kv-bits", help="Bits of a value in the KV cache.")] = 16,
    compute: Annotated[float, typer.Option("--compute-efficiency", help="Share of peak FLOP/s reached.")] = 0.5,
    memory: Annotated[float, typer.Option("--memory-efficiency", help="Share of peak bytes/s reached.")] = 0.6,
    overhead_s: Annotated[float, typer.Option("--overhead-s", min=0, help="Seconds added to every phase.")] = 0.0,
    refit: Annotated[
        Path | None, typer.Option("--refit", help="CSV of measured points: refit both efficiencies from them.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Run folder: MFU, MBU and gap of its cells.")
    ] = None,
    per_hour_usd: PerHour = None,
    price_date: PriceDate = None,
    json: Json = False,
) -> None:
    """What a model would take on hardware you may not own: bytes, FLOPs, accelerators, times, cost, energy."""
    from poise.plan.spec import Price
    from poise.report.idealized import roofline_lines
    from poise.understand import cost, idealize_files
    from poise.understand import roofline as r
    from poise.understand.hardware import hardware as find
    from poise.understand.idealize import noise
    from poise.understand.roofline_run import compare
    from poise.understand.shapes import read_shape

    for flag, share in (("--compute-efficiency", compute), ("--memory-efficiency", memory)):
        if not 0 < share <= 2:
            raise UsageError(f"{flag} is a share of the peak, above 0, not {share:g}")
    shape = read_shape(model, width)
    chips = [find(n.strip()) for n in hardware.split(",") if n.strip()]
    if not chips:
        raise UsageError("--hardware names no hardware; for example --hardware A100-80GB,H100")
    results = []
    for chip in chips:
        efficiency = r.Efficiency(compute, memory, overhead_s)
        if refit is not None:
            measured = [(n.prompt_tokens, n.output_tokens, n.min_s) for n in noise(idealize_files.read_points(refit))]
            count = accelerators or r.smallest_count(shape, chip, prompt_tokens + output_tokens, batch, kv_bits)
            efficiency = r.refit(shape, r.Setting(chip, count, batch, efficiency, kv_bits), measured)
        made = r.roofline(shape, chip, prompt_tokens, output_tokens, batch, accelerators, efficiency, kv_bits)
        setting = r.Setting(chip, made.accelerators, batch, efficiency, kv_bits)
        price = Price(per_hour_usd=per_hour_usd, date=price_date)
        paid = cost.idealized_cost(price, [made.total_s / batch], made.accelerators)
        results.append((made, efficiency, paid, compare(_run(against), shape, setting) if against else []))
    if json:
        _print_json([dict(zip(("roofline", "efficiency", "cost", "against"), result)) for result in results])
        return
    for result in results:
        _print(roofline_lines(*result))


# ---------------------------------------------------------------- reading


def _run(path: Path) -> Any:
    from poise.store.run import open_run

    return open_run(path)


def _engine(model: str, backend: str, options: list[str], random_weights: bool) -> tuple[Any, Any]:
    """Model and deployment as a study would read them from the same words."""
    from msgspec import structs

    from poise.cli_study import Flags, study_from_flags

    study, _ = study_from_flags(Flags(models=model, backends=backend, tasks="synthetic", backend_options=options))
    if len(study.models) != 1 or len(study.deployments) != 1:
        raise UsageError("profile takes one model and one backend; give the command once for each")
    weights = "random" if random_weights else study.models[0].weights
    return structs.replace(study.models[0], weights=weights), study.deployments[0]


def _keep_profile(found: Any, out: Path, save: Path | None, profiler: Any, batch: int) -> None:
    from poise.understand.idealize_files import write_coefficients, write_points

    deployment = profiler.deployment
    notes = {
        "backend": deployment.backend, "device": deployment.device, "dtype": deployment.dtype, "batch": batch,
        "quantization": deployment.quantization, "settings": profiler.opened.settings,
        "versions": profiler.opened.versions, "points": len(found.design_points), "pace_spread": found.pace_spread,
        "p95_relative_error": found.p95_error, "median_relative_error": found.median_error,
    }  # fmt: skip
    write_coefficients(out, [found.coefficients], {found.coefficients.model: notes})
    if save is not None:
        write_points(save, found.points)


# ---------------------------------------------------------------- printing


def _print(lines: Iterable[str]) -> None:
    from poise.report.text import visible

    for line in lines:
        print(visible(line, newlines=False))


def _print_json(value: Any) -> None:
    """Finite numbers only: an infinite or undefined one becomes null."""
    print(msgspec.json.encode(_finite(msgspec.to_builtins(value))).decode())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


def _written(path: Path | None) -> None:
    if path is not None:
        print(f"written: {path}", file=sys.stderr)


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=140)


def _table(rows: Iterable[tuple[str, ...]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from poise.report.text import visible

    head, *body = rows
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=i > 0)
    for row in body:
        table.add_row(*(Text(visible(cell, newlines=False)) for cell in row))
    return table
