"""Ten adaptive points against twelve fixed ones and the full grid of 270: errors on profiles with known truth.

    python benchmarks/idealize.py [--seeds 20] [--published FOLDER] [--model bundled:s --backend onnx]

Synthetic profiles (seeded) have stairs of usual and unusual tiles, flat starts, quadratic attention, noise and
outlying trials; errors are against the noise-free truth. Published ones are measured point sets (CSV files with
prompt_tokens, output_tokens, runtime_s) and `--model` measures one here; errors are against the points that were not
used. On a machine that does other things at the time, the last show that rather than the design. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from poise.measure.profile import Profiler
from poise.plan.spec import Deployment, Model
from poise.profiling import grid
from poise.understand.idealize import Coefficients, Point, Statistic, fit, predict
from poise.understand.idealize_auto import OUTPUTS, PROMPTS, auto
from poise.understand.idealize_files import read_points

Pair = tuple[int, int]
KINDS = {
    "stairs 64-256": lambda r: [(int(r.choice([64, 128, 128, 256])), r.uniform(0.4, 1.0))],
    "two stairs": lambda r: [(64, r.uniform(0.1, 0.4)), (256, r.uniform(0.1, 0.5))],
    "chunks of 512": lambda r: [(512, r.uniform(0.15, 0.4))],
    "odd stairs": lambda r: [(int(r.choice([48, 96, 160, 200, 384])), r.uniform(0.3, 1.0))],
    "smooth": lambda r: [],
    "small engine": lambda r: [],
}
TRIALS, OUTLIERS = 3, 0.03


@dataclass
class Profile:
    """Truth at every point of the grid, and a way to measure (a list of trials) that is noisier."""

    name: str
    truth: dict[Pair, float]
    measure: Callable[[int, int], list[float]]
    statistic: Statistic = "median"

    def point(self, p: int, o: int) -> float:
        times = self.measure(p, o)
        return min(times) if self.statistic == "min" else float(np.median(times))


@dataclass
class Tally:
    """Errors in percent, one entry per profile."""

    median: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    stated: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float | None]:
        covered = [s >= e for s, e in zip(self.stated, self.p95, strict=False)]
        return {
            "profiles": len(self.p95),
            "points": round(float(np.mean(self.points)), 1),
            "median": round(float(np.mean(self.median)), 2),
            "p95": round(float(np.mean(self.p95)), 2),
            "largest_p95": round(max(self.p95), 2),
            "worst": round(max(self.worst), 1),
            "share_of_grid": round(float(np.mean(self.share)), 3),
            "stated_p95": round(float(np.mean(self.stated)), 2) if self.stated else None,
            "covered": round(float(np.mean(covered)), 2) if covered else None,
        }


def synthetic(kind: str, seed: int) -> Profile:
    """α = floor with a slight rise, then compute in tiles and quadratic attention beyond a knee; β grows a little."""
    r = np.random.default_rng([seed, sum(map(ord, kind))])
    floor, ratio = 10 ** r.uniform(-3, -0.8), 10 ** r.uniform(0.15, 1.15)
    last = PROMPTS[-1]
    p = np.array(PROMPTS, float)
    tiles, quadratic = KINDS[kind](r), r.uniform(0, 0.35)

    def compute(q: np.ndarray) -> np.ndarray:
        worked = q * (1 - sum(w for _, w in tiles)) + sum((w * t * np.ceil(q / t) for t, w in tiles), np.zeros_like(q))
        return (1 - quadratic) * worked / last + quadratic * (q / last) ** 2

    knee = compute(np.array([r.uniform(0, 0.15) * last]))[0] if r.random() < 0.8 else 0.0
    rise = np.maximum(compute(p) - knee, 0)
    alpha = floor * (1 + r.uniform(0, 0.05) * p / last + (ratio - 1) * rise / rise[-1])
    beta, growth = floor * r.uniform(0.85, 1.0), r.uniform(0, 0.02)
    if kind == "small engine":  # on a CPU, reading the cache soon costs more than the weights
        growth = r.uniform(0.5, 4.0)
    truth = {
        (int(q), o): float(a + beta * (1 + growth * (q + o / 2) / last) * (o - 1))
        for q, a in zip(p, alpha, strict=True)
        for o in OUTPUTS
    }
    noise = 10 ** r.uniform(-2.7, -1.7)

    def measure(q: int, o: int) -> list[float]:
        times = truth[q, o] * np.exp(noise * r.standard_normal(TRIALS))
        late = r.random(TRIALS) < OUTLIERS
        return [float(t) for t in np.where(late, times * r.uniform(1.2, 3.0, TRIALS), times)]

    return Profile(f"{kind} #{seed}", truth, measure)


def published(folder: Path) -> Iterator[Profile]:
    for path in sorted(folder.glob("*.csv")):
        table = {(p.prompt_tokens, p.output_tokens): p.runtime_s for p in read_points(path)}
        yield Profile(path.stem, table, lambda p, o, table=table: [table[p, o]])


def here(model: str, backend: str, repeats: int) -> Iterator[Profile]:
    """The whole grid measured now (the truth), and fresh trials of single points for the designs."""
    name = model.partition(":")[2] or model
    chosen = Model(name, {"bundled": name} if model.startswith("bundled:") else {"any": model})
    with Profiler(chosen, Deployment(backend, backend)) as profiler:
        prompts, outputs = grid(profiler.context)
        pairs = [(p, o) for p in prompts for o in outputs]
        profiler.warm_up([pairs[0], pairs[-1]])
        rows = profiler.measure(pairs, repeats, 4 * repeats)
        truth = {k: min(t.runtime_s for t in row) for k, row in zip(pairs, rows, strict=True)}
        yield Profile(
            f"{name} {backend}",
            truth,
            lambda p, o: [t.runtime_s for t in profiler.measure([(p, o)], repeats, 4 * repeats)[0]],
            "min",
        )


def naive(profile: Profile) -> tuple[Coefficients, list[Pair]]:
    """Nine prompts at one output token, three at the most; linear interpolation between them."""
    prompts = sorted({p for p, _ in profile.truth})
    most = max(o for _, o in profile.truth)
    near = [min(prompts, key=lambda p, f=f: abs(p - f * prompts[-1])) for f in np.linspace(0, 1, 9)]
    ends = [near[0], near[4], near[8]]
    pairs = list(dict.fromkeys([(p, 1) for p in near] + [(p, most) for p in ends]))
    time = {pair: profile.point(*pair) for pair in pairs}
    beta = float(np.mean([(time[p, most] - time[p, 1]) / (most - 1) for p in ends]))
    return Coefficients("naive", beta, tuple(sorted({p: time[p, 1] for p in near}.items()))), pairs


def full(profile: Profile) -> tuple[Coefficients, list[Pair]]:
    """Every point of the grid, by the default fit."""
    pairs = list(profile.truth)
    times = profile.truth if profile.statistic == "min" else {k: profile.point(*k) for k in pairs}
    return fit(Point(p, o, t) for (p, o), t in times.items()).coefficients, pairs


def note(tally: Tally, profile: Profile, coefficients: Coefficients, used: Sequence[Pair]) -> None:
    held_out = [k for k in profile.truth if k not in set(used)] or list(profile.truth)
    errors = [100 * abs(predict(coefficients, p, o) / profile.truth[p, o] - 1) for p, o in held_out]
    tally.median.append(float(np.median(errors)))
    tally.p95.append(float(np.percentile(errors, 95)))
    tally.worst.append(max(errors))
    tally.points.append(len(used))
    tally.share.append(sum(profile.truth[k] for k in used) / sum(profile.truth.values()))


def compare(profiles: Sequence[Profile]) -> dict[str, dict[str, float | None]]:
    tallies = {name: Tally() for name in ("auto", "naive 12", "full grid")}
    for profile in profiles:
        prompts, outputs = {p for p, _ in profile.truth}, {o for _, o in profile.truth}
        design = auto(
            lambda pairs, m=profile.measure: [m(*k) for k in pairs],
            sorted(prompts),
            sorted(outputs),
            profile.name,
            statistic=profile.statistic,
        )
        note(tallies["auto"], profile, design.coefficients, design.points)
        tallies["auto"].stated.append(100 * design.p95_error)
        note(tallies["naive 12"], profile, *naive(profile))
        note(tallies["full grid"], profile, *full(profile))
    return {name: tally.row() for name, tally in tallies.items()}


def show(name: str, rows: dict[str, dict[str, float | None]]) -> None:
    for method, r in rows.items():
        stated = "" if r["stated_p95"] is None else f"  {r['stated_p95']:6.2f}  {r['covered']:5.2f}"
        print(
            f"{name:<15} {method:<9} {r['profiles']:>4} {r['points']:>7} {r['median']:>7.2f} {r['p95']:>6.2f} "
            f"{r['largest_p95']:>7.2f} {r['worst']:>6.1f} {100 * (r['share_of_grid'] or 0):>6.1f} %{stated}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="synthetic profiles of each kind")
    parser.add_argument("--published", type=Path, help="folder of measured point sets")
    parser.add_argument("--model", action="append", default=[], help="profile this model here, on the full grid too")
    parser.add_argument("--backend", action="append", default=[], help="engines for --model (default onnx)")
    parser.add_argument("--repeats", type=int, default=3, help="trials of a point with --model (up to 4 x as many)")
    arguments = parser.parse_args()
    head = "kind            method       n  points  median    p95 max p95  worst   time    stated  covered"
    print("relative error in %, over the points that were not measured\n" + head)
    results: dict[str, object] = {}
    for kind in KINDS if arguments.seeds else ():
        results[kind] = rows = compare([synthetic(kind, seed) for seed in range(arguments.seeds)])
        show(kind, rows)
    if arguments.published:
        results["published"] = rows = compare(list(published(arguments.published)))
        show("published", rows)
    for model in arguments.model:
        for backend in arguments.backend or ["onnx"]:
            for profile in here(model, backend, arguments.repeats):
                results[profile.name] = rows = compare([profile])
                show(profile.name, rows)
    print(json.dumps({"benchmark": "idealize", "seeds": arguments.seeds, "results": results}))


if __name__ == "__main__":
    main()
