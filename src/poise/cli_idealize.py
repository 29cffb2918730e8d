"""The commands `poise idealize fit | predict | profile | apply`: read, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from poise import cli_options as option
from poise.cli_print import print_json, print_lines, written
from poise.types import UsageError

if TYPE_CHECKING:
    from poise.understand.idealize import Method, Mode

METHODS = click.Choice(["default", "paper"])
coefficients = click.argument("coefficients", type=option.PATH)
model_name = click.option("--model", help="Which model of the file.")
price = option.options(
    click.option("--accelerators", type=option.COUNT, default=1, help="Accelerators that T was measured on."),
    click.option("--power-w", type=option.NOT_NEGATIVE, help="Power of one accelerator, for energy."),
    click.option("--per-hour-usd", type=option.NOT_NEGATIVE, help="Price of one accelerator per hour."),
    click.option("--price-date", help="When that price was read, YYYY-MM-DD."),
)


@click.group()
def idealize() -> None:
    """What a model costs, apart from who serves it."""


@idealize.command()
@click.argument("points", type=option.PATH)
@click.option("--method", type=METHODS, default="default", help="paper: the published procedure.")
@click.option("--denoised", is_flag=True, help="Minimum over trials, overhead split off: for shared services.")
@click.option("-o", "--out", type=option.PATH, help="Where to write the coefficients.")
@option.json
def fit(points: Path, method: Method, denoised: bool, out: Path | None, as_json: bool) -> None:
    """Fit alpha(p) and beta to timed generations, model by model.

    POINTS is a CSV file (prompt_tokens,output_tokens,runtime_s[,model][,at_s]) or a run folder.
    """
    from poise.report.idealized import fit_lines
    from poise.store.run import open_run
    from poise.understand import idealize, idealize_files
    from poise.understand.idealize_apply import run_points

    found = run_points(open_run(points)) if points.is_dir() else idealize_files.read_points(points)
    fits = [
        idealize.fit([p for p in found if p.model == name], method, denoised)
        for name in dict.fromkeys(p.model for p in found)
    ]
    if not fits:
        raise UsageError(f"{points} has no answered request with token counts; there is nothing to fit")
    noises = {f.coefficients.model: idealize.noise(p for p in found if p.model == f.coefficients.model) for f in fits}
    drifts = {f.coefficients.model: idealize.drift(p for p in found if p.model == f.coefficients.model) for f in fits}
    if out is not None:
        notes = {f.coefficients.model: {"method": f.method, "denoised": f.denoised, "points": f.n} for f in fits}
        idealize_files.write_coefficients(out, [f.coefficients for f in fits], notes)
    if as_json:
        print_json([msgspec.to_builtins(f) | {"noise": noises[f.coefficients.model]} for f in fits])
        return
    for f in fits:
        print_lines(fit_lines(f, noises[f.coefficients.model], drifts[f.coefficients.model]))
    written(out)


@idealize.command()
@coefficients
@click.option("--prompt-tokens", type=int, required=True, help="Prompt length.")
@click.option("--output-tokens", type=int, required=True, help="Answer length.")
@click.option("--mode", type=click.Choice(["default", "helm"]), default="default", help="helm: HELM's own rule.")
@option.options(model_name, price, option.json)
def predict(
    coefficients: Path,
    prompt_tokens: int,
    output_tokens: int,
    mode: Mode,
    model: str | None,
    accelerators: int,
    power_w: float | None,
    per_hour_usd: float | None,
    price_date: str | None,
    as_json: bool,
) -> None:
    """T(p, o) in seconds, with cost and energy where prices are given.

    COEFFICIENTS is a file in HELM's JSON form, as fit and profile write it.
    """
    from poise.plan.spec import Price
    from poise.report.idealized import prediction_lines
    from poise.understand import cost, idealize, idealize_files

    chosen = idealize_files.pick(idealize_files.read_coefficients(coefficients), model)
    seconds = idealize.predict(chosen, prompt_tokens, output_tokens, mode)
    price = cost.idealized_cost(Price(per_hour_usd=per_hour_usd, date=price_date), [seconds], accelerators)
    energy = cost.idealized_energy([seconds], accelerators, power_w)
    if as_json:
        given = {"model": chosen.model, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "mode": mode}
        print_json(given | {"runtime_s": seconds, "cost": price, "energy": energy})
        return
    what = f"{chosen.model}, {prompt_tokens} prompt and {output_tokens} output tokens ({mode})"
    print_lines(prediction_lines(seconds, what, price, energy.per_request_j))


@idealize.command()
@click.argument("model")
@click.option("-b", "--backend", default="onnx", help="In-process engine.")
@click.option("--points", default="auto", help="auto, paper (270 points), or p=1,256,o=1,64.")
@click.option("-o", "--out", type=option.PATH, default=Path("coef.json"), help="Where to write the coefficients.")
@click.option("--save-points", "save", type=option.PATH, help="Also write every trial as CSV.")
@click.option("--repeats", type=option.COUNT, default=5, help="Trials of each point, interleaved.")
@click.option("--method", type=METHODS, default="default", help="Fit for paper and p=,o= points.")
@click.option("--batch", type=option.COUNT, default=1, help="Equal sequences at once.")
@click.option("--seed", default=0, help="Seed of prompts, order and design.")
@click.option("--random-weights", is_flag=True, help="Shape only; no weights needed.")
@click.option("--name", help="Name in the coefficient file.")
@option.backend_option
@click.option("--max-prompt", type=click.IntRange(min=3), help="Longest prompt of the grid.")
@click.option("--per-hour-usd", type=option.NOT_NEGATIVE, help="Price of one accelerator per hour.")
@option.json
def profile(
    model: str,
    backend: str,
    points: str,
    out: Path,
    save: Path | None,
    repeats: int,
    method: Method,
    batch: int,
    seed: int,
    random_weights: bool,
    name: str | None,
    backend_options: tuple[str, ...],
    max_prompt: int | None,
    per_hour_usd: float | None,
    as_json: bool,
) -> None:
    """Measure T(p, o) of a model on this machine, and fit it.

    At exact lengths: ten points instead of 270.

    MODEL is bundled:s, a folder, or a hub name.
    """
    from poise.measure.profile import Profiler
    from poise.profiling import Plan, profile_points
    from poise.report.idealized import profile_lines

    chosen, deployment = _engine(model, backend, backend_options, random_weights)
    plan = Plan(points, repeats, method, seed, max_prompt)
    with Profiler(chosen, deployment, batch, seed) as profiler:
        found = profile_points(profiler, plan, name or chosen.name)
    _keep_profile(found, out, save, profiler, batch)
    if as_json:
        print_json(found)
        return
    print_lines(profile_lines(found, per_hour_usd))
    written(out)


@idealize.command()
@click.argument("run", type=option.PATH)
@coefficients
@option.options(model_name, price, option.json)
def apply(
    run: Path,
    coefficients: Path,
    model: str | None,
    accelerators: int,
    power_w: float | None,
    per_hour_usd: float | None,
    price_date: str | None,
    as_json: bool,
) -> None:
    """Idealized beside measured for every request and cell of a run.

    Kept in RUN/derived/idealized.json.

    COEFFICIENTS is a file in HELM's JSON form, as fit and profile write it.
    """
    from poise.plan.spec import Price
    from poise.report.idealized import applied_lines, applied_rows
    from poise.report.terminal import table
    from poise.store.run import open_run
    from poise.understand.idealize_apply import Hardware, apply
    from poise.understand.idealize_files import read_coefficients

    price = None if per_hour_usd is None else Price(per_hour_usd=per_hour_usd, date=price_date)
    done = apply(open_run(run), read_coefficients(coefficients), Hardware(accelerators, power_w, price), model)
    if as_json:
        print_json(done)
        return
    head, *rows = applied_rows(done)
    option.console(140).print(table(head, rows, right=range(1, len(head))))
    print_lines(applied_lines(done))
    written(run / "derived" / "idealized.json")


def _engine(model: str, backend: str, options: tuple[str, ...], random_weights: bool) -> tuple[Any, Any]:
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
