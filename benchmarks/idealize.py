"""Ten adaptive points against twelve fixed ones and the full grid of 270: errors on profiles with known truth.

    python benchmarks/idealize.py [--seeds 20] [--published FOLDER] [--model bundled:s --backend onnx]

Synthetic profiles (seeded) have stairs of usual and unusual tiles, flat starts, quadratic attention, noise and
outlying trials; errors are against the noise-free truth. Published ones are measured point sets (CSV files with
prompt_tokens, output_tokens, runtime_s); errors are against the points that were not used. `--model` measures one here:
rounds over a part of its grid, and designs in between. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from poise.measure.profile import Profiler, Trial
from poise.plan.sources import bundled_names
from poise.plan.spec import Deployment, Model
from poise.profiling import grid
from poise.understand.idealize import Coefficients, Point, fit, predict
from poise.understand.idealize_auto import OUTPUTS, PROMPTS, Design, auto
from poise.understand.idealize_files import read_points
from poise.understand.pace import steady

Pair = tuple[int, int]
KINDS = {
    "stairs 64-256": lambda r: [(int(r.choice([64, 128, 128, 256])), r.uniform(0.4, 1.0))],
    "two stairs": lambda r: [(64, r.uniform(0.1, 0.4)), (256, r.uniform(0.1, 0.5))],
    "chunks of 512": lambda r: [(512, r.uniform(0.15, 0.4))],
    "odd stairs": lambda r: [(int(r.choice([48, 96, 160, 200, 384])), r.uniform(0.3, 1.0))],
    "smooth": lambda r: [],
    "small engine": lambda r: [],
    "slow phases": lambda r: [(int(r.choice([64, 128, 256])), r.uniform(0.0, 0.5))],
}
TRIALS, OUTLIERS, REPEATS = 3, 0.03, 5


@dataclass
class Profile:
    """Truth at every point of the grid, and a way to measure (a list of trials) that is noisier."""

    name: str
    truth: dict[Pair, float]
    measure: Callable[[Sequence[Pair]], list[list[float]]]
    """Trials of each of these points, interleaved."""

    def points(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        return {k: float(np.median(times)) for k, times in zip(pairs, self.measure(pairs), strict=True)}


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
    beta, growth, onset = floor * r.uniform(0.85, 1.0), r.uniform(0, 0.02), 0.0
    if kind == "small engine":  # on a CPU, reading the cache soon costs more than the weights
        growth, onset = r.uniform(0.5, 4.0), r.uniform(0.0, 0.05)
    truth = {
        (int(q), o): float(a * (1 + onset * (o > 1)) + beta * (1 + growth * (q + o / 2) / last) * (o - 1))
        for q, a in zip(p, alpha, strict=True)
        for o in OUTPUTS
    }
    noise = 10 ** r.uniform(-2.7, -1.7)

    if kind == "slow phases":  # of a shared machine: a quarter of the time, for the trials of several points
        noise, slow = 10 ** r.uniform(-1.8, -1.2), r.uniform(1.2, 1.5)
        return Profile(f"{kind} #{seed}", truth, phased(truth, noise, slow, r))

    def trials(pair: Pair) -> list[float]:
        times = truth[pair] * np.exp(noise * r.standard_normal(TRIALS))
        late = r.random(TRIALS) < OUTLIERS
        return [float(t) for t in np.where(late, times * r.uniform(1.2, 3.0, TRIALS), times)]

    def measure(pairs: Sequence[Pair]) -> list[list[float]]:
        return [trials(pair) for pair in pairs]

    return Profile(f"{kind} #{seed}", truth, measure)


def phased(
    truth: Mapping[Pair, float], noise: float, slow: float, r: np.random.Generator
) -> Callable[[Sequence[Pair]], list[list[float]]]:
    """Trials on a machine that is `slow` now and then, for some 60 trials after some 180 that are not."""
    late = False

    def measure(pairs: Sequence[Pair]) -> list[list[float]]:
        nonlocal late
        rows: list[list[float]] = [[] for _ in pairs]
        for _ in range(REPEATS):
            for row, pair in zip(rows, pairs, strict=True):
                late = r.random() < (59 / 60 if late else 1 / 180)
                row.append(float(truth[pair] * (slow if late else 1.0) * np.exp(noise * r.standard_normal())))
        return rows

    return measure


def published(folder: Path) -> Iterator[Profile]:
    for path in sorted(folder.glob("*.csv")):
        table = {(p.prompt_tokens, p.output_tokens): p.runtime_s for p in read_points(path)}
        yield Profile(path.stem, table, lambda pairs, table=table: [[table[k]] for k in pairs])


@dataclass
class Here:
    """A model measured now: rounds over a part of the grid (the truth), with whole designs in between.

    The truth is a part so large that a round takes a tenth of the time; it has its own error, which is given. The
    machine's pace moves between a design and the rounds around it, so the errors are given as they are and freed of the
    one factor that this makes.
    """

    model: str
    backend: str
    seconds: float
    designs: int
    errors: list[dict[str, float]] = field(default_factory=list)
    truth: dict[Pair, float] = field(default_factory=dict)
    truth_error: float = 0.0
    rounds: int = 0

    def run(self) -> None:
        chosen = Model(self.model, {"bundled": self.model} if self.model in bundled_names() else {"any": self.model})
        trials: list[Trial] = []
        made: list[tuple[Design, float]] = []
        with Profiler(chosen, Deployment(self.backend, self.backend)) as profiler:
            prompts, outputs = grid(profiler.context)
            profiler.warm_up([(prompts[-1], 2), (prompts[0], outputs[-1])])
            pairs = self._part(profiler, prompts, outputs)
            start = time.monotonic()
            while time.monotonic() - start < self.seconds or len(made) < 1:
                trials += self._rounds(profiler, pairs)
                if len(made) < self.designs:
                    before = profiler.spent_s
                    design = auto(
                        lambda asked: [[t.runtime_s for t in row] for row in profiler.measure(asked, REPEATS)],
                        prompts, outputs, self.model, seed=len(made),
                    )  # fmt: skip
                    made.append((design, profiler.spent_s - before))
            trials += self._rounds(profiler, pairs)
        found = steady(
            [((t.prompt_tokens, t.output_tokens), t.runtime_s) for t in sorted(trials, key=lambda t: t.at_s)]
        )
        self.truth, self.rounds = found.seconds, len(trials) // len(pairs)
        self.truth_error = float(np.median(list(found.error.values())))
        self.errors = [self._compared(design, spent) for design, spent in made]

    def _part(self, profiler: Profiler, prompts: Sequence[int], outputs: Sequence[int]) -> list[Pair]:
        """Points of the grid in random order, as many as a round has time for."""
        ends = [(p, o) for p in (prompts[0], prompts[-1]) for o in (outputs[0], outputs[-1])]
        first = {k: min(t.runtime_s for t in row) for k, row in zip(ends, profiler.measure(ends, 3), strict=True)}
        slope = (first[ends[3]] - first[ends[2]]) / (outputs[-1] - 1)
        pairs = [(p, o) for p in prompts for o in outputs]
        order = np.random.default_rng(0).permutation(len(pairs))
        left, part = self.seconds / 10, []
        for i in order:
            p, o = pairs[i]
            left -= first[ends[0]] + (first[ends[2]] - first[ends[0]]) * p / prompts[-1] + slope * (o - 1)
            if left < 0 and len(part) >= 20:
                break
            part.append(pairs[i])
        return part

    def _rounds(self, profiler: Profiler, pairs: Sequence[Pair]) -> list[Trial]:
        """At least one round, and more for a tenth of the time."""
        start, trials = time.monotonic(), []
        while not trials or time.monotonic() - start < self.seconds / 10:
            trials += [t for row in profiler.measure(pairs, 1) for t in row]
        return trials

    def _compared(self, design: Design, spent_s: float) -> dict[str, float]:
        ratio = np.array(
            [predict(design.coefficients, *k) / t for k, t in self.truth.items() if k not in set(design.points)]
        )
        pace = float(np.median(ratio))
        raw, shape = 100 * np.abs(ratio - 1), 100 * np.abs(ratio / pace - 1)
        return {
            "points": len(design.points),
            "median": round(float(np.median(shape)), 2),
            "p95": round(float(np.percentile(shape, 95)), 2),
            "raw_p95": round(float(np.percentile(raw, 95)), 2),
            "pace": round(pace, 3),
            "stated_median": round(100 * design.median_error, 2),
            "stated_p95": round(100 * design.p95_error, 2),
            "pace_spread": round(100 * design.pace_spread, 1),
            "seconds": round(spent_s, 1),
            "grid_seconds": round(REPEATS * design.grid_s, 1),
        }


def measured(one: Here) -> dict[str, object]:
    """Run, print and return what was found."""
    one.run()
    print(
        f"{one.model} on {one.backend}: truth {len(one.truth)} points x {one.rounds} rounds, each known to about "
        f"{100 * one.truth_error:.1f} %"
    )
    for e in one.errors:
        print(
            f"   {e['points']:>2} points: median {e['median']:5.2f}  p95 {e['p95']:6.2f}  stated {e['stated_p95']:6.2f}"
            f"  | with the pace's factor of {e['pace']:.3f}: p95 {e['raw_p95']:6.2f}"
            f"  | {e['seconds']:.1f} of {e['grid_seconds']:.0f} s",
            flush=True,
        )
    return {"truth_points": len(one.truth), "rounds": one.rounds, "truth_error": one.truth_error, "designs": one.errors}


def naive(profile: Profile) -> tuple[Coefficients, list[Pair]]:
    """Nine prompts at one output token, three at the most; linear interpolation between them."""
    prompts = sorted({p for p, _ in profile.truth})
    most = max(o for _, o in profile.truth)
    near = [min(prompts, key=lambda p, f=f: abs(p - f * prompts[-1])) for f in np.linspace(0, 1, 9)]
    ends = [near[0], near[4], near[8]]
    pairs = list(dict.fromkeys([(p, 1) for p in near] + [(p, most) for p in ends]))
    time = profile.points(pairs)
    beta = float(np.mean([(time[p, most] - time[p, 1]) / (most - 1) for p in ends]))
    return Coefficients("naive", beta, tuple(sorted({p: time[p, 1] for p in near}.items()))), pairs


def full(profile: Profile) -> tuple[Coefficients, list[Pair]]:
    """Every point of the grid, by the default fit."""
    pairs = list(profile.truth)
    return fit(Point(p, o, t) for (p, o), t in profile.points(pairs).items()).coefficients, pairs


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
        design = auto(profile.measure, sorted(prompts), sorted(outputs), profile.name)
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
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--published", type=Path, help="folder of measured point sets")
    parser.add_argument("--model", action="append", default=[], help="profile this model here, on the full grid too")
    parser.add_argument("--backend", action="append", default=[], help="engines for --model (default onnx)")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each --model and engine")
    parser.add_argument("--designs", type=int, default=3, help="designs for each --model and engine")
    arguments = parser.parse_args()
    head = "kind            method       n  points  median    p95 max p95  worst   time    stated  covered"
    print("relative error in %, over the points that were not measured\n" + head)
    results: dict[str, object] = {}
    first = arguments.first_seed
    for kind in KINDS if arguments.seeds else ():
        results[kind] = rows = compare([synthetic(kind, seed) for seed in range(first, first + arguments.seeds)])
        show(kind, rows)
    if arguments.published:
        results["published"] = rows = compare(list(published(arguments.published)))
        show("published", rows)
    for model in arguments.model:
        for backend in arguments.backend or ["onnx"]:
            name = model.removeprefix("bundled:")
            results[f"{name} {backend}"] = measured(Here(name, backend, arguments.seconds, arguments.designs))
    print(json.dumps({"benchmark": "idealize", "seeds": arguments.seeds, "results": results}))


if __name__ == "__main__":
    main()
