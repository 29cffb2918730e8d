"""The command `poise roofline`: what a model would take on hardware one may not own."""

from __future__ import annotations

from pathlib import Path

import click

from poise import cli_options as option
from poise.cli_print import print_json, print_lines
from poise.types import UsageError


@click.command()
@click.argument("model")
@click.option("--hardware", required=True, help="Catalogue names, comma list: A100-80GB,H100.")
@click.option("--accelerators", type=option.COUNT, help="Default: the fewest that hold it.")
@click.option("--prompt-tokens", default=512, help="Prompt length.")
@click.option("--output-tokens", default=128, help="Answer length.")
@click.option("--batch", default=1, help="Equal sequences at once.")
@click.option("--width", help="Weights as float16, int8, int4, q4_k_m …")
@click.option("--kv-bits", default=16.0, help="Bits of a value in the KV cache.")
@click.option("--compute-efficiency", "compute", default=0.5, help="Share of peak FLOP/s reached.")
@click.option("--memory-efficiency", "memory", default=0.6, help="Share of peak bytes/s reached.")
@click.option("--overhead-s", type=option.NOT_NEGATIVE, default=0.0, help="Seconds added to every phase.")
@click.option("--refit", type=option.PATH, help="CSV of measured points: refit both efficiencies from them.")
@click.option("--against", type=option.PATH, help="Run folder: MFU, MBU and gap of its cells.")
@click.option("--per-hour-usd", type=option.NOT_NEGATIVE, help="Price of one accelerator per hour.")
@click.option("--price-date", help="When that price was read, YYYY-MM-DD.")
@option.json
def roofline(
    model: str,
    hardware: str,
    accelerators: int | None,
    prompt_tokens: int,
    output_tokens: int,
    batch: int,
    width: str | None,
    kv_bits: float,
    compute: float,
    memory: float,
    overhead_s: float,
    refit: Path | None,
    against: Path | None,
    per_hour_usd: float | None,
    price_date: str | None,
    as_json: bool,
) -> None:
    """What a model would take on hardware you may not own.

    Bytes, FLOPs, accelerators, times, cost, energy.

    MODEL is a config.json, a model folder, or a name such as llama-2-7b.
    """
    from poise.plan.spec import Price
    from poise.report.idealized import roofline_lines
    from poise.store.run import open_run
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
        results.append((made, efficiency, paid, compare(open_run(against), shape, setting) if against else []))
    if as_json:
        print_json([dict(zip(("roofline", "efficiency", "cost", "against"), result)) for result in results])
        return
    for result in results:
        print_lines(roofline_lines(*result))
