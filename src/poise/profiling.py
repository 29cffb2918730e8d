"""Profile a model here: an engine timing exact lengths (measure) and the design and fit that ask it (understand)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, structs

from poise.measure.profile import Profiler, Trial
from poise.types import UsageError
from poise.understand.idealize import Coefficients, Fit, Method, Point, fit, judge, predict
from poise.understand.idealize_auto import OUTPUTS, PROMPTS, Design, auto
from poise.understand.pace import steady

Pair = tuple[int, int]


class Plan(Struct, frozen=True):
    """Which points and how often. `points`: auto, paper, or `p=1,256,o=1,64` (all combinations)."""

    points: str = "auto"
    repeats: int = 5
    method: Method = "default"
    seed: int = 0
    max_prompt: int | None = None


class Profile(Struct, frozen=True):
    """What was found. The errors are relative, over the grid, stated by the adaptive design only (else None)."""

    coefficients: Coefficients
    fit: Fit
    points: list[Point]
    """Every trial."""
    design_points: list[Pair]
    pace_spread: float
    """How much the machine's pace varied meanwhile, relative; it is divided out."""
    spent_s: float
    """Seconds generated, warm-up included."""
    grid_points: int
    grid_s: float
    """One trial of each point of the full grid, by these coefficients."""
    median_error: float | None = None
    p95_error: float | None = None
    tile: int = 0
    tile_probability: float = 0.0
    outliers: list[Pair] = []


def grid(context: int | None, max_prompt: int | None = None) -> tuple[list[int], list[int]]:
    """The published grid, cut to a context (and to `max_prompt`), with the longest prompt that fits as its end."""
    longest = min(max_prompt or PROMPTS[-1], (context or 10**9) - 1)
    outputs = [o for o in OUTPUTS if o <= max(2, (context or 10**9) // 4)]
    longest = min(longest, (context or 10**9) - outputs[-1])
    if longest < 3:
        raise UsageError(f"a context of {context} is too short to profile")
    prompts = [p for p in PROMPTS if p < longest]
    if len(prompts) < 12:  # a short context: keep the grid's density
        prompts = sorted({1, *(max(1, round(longest * p / PROMPTS[-1])) for p in PROMPTS)} - {longest})
    return [*prompts, longest], outputs


def profile_points(profiler: Profiler, plan: Plan, name: str) -> Profile:
    """Warm up, measure what the plan asks for, fit, and say what it cost beside the full grid."""
    prompts, outputs = grid(profiler.context, plan.max_prompt)
    pairs = _pairs(plan.points, prompts, outputs)
    profiler.warm_up([(prompts[-1], 2), (prompts[0], outputs[-1])] if pairs is None else [pairs[0], pairs[-1]])
    trials: list[Trial] = []
    design: Design | None = None
    if pairs is not None:
        trials = sorted((t for row in profiler.measure(pairs, plan.repeats) for t in row), key=lambda t: t.at_s)
        found = steady([((t.prompt_tokens, t.output_tokens), t.runtime_s) for t in trials])
        made = fit((Point(p, o, seconds, name) for (p, o), seconds in found.seconds.items()), plan.method)
        table, spread = made.coefficients, found.spread
    else:

        def measure(asked: Sequence[Pair]) -> list[list[float]]:
            rows = profiler.measure(asked, plan.repeats)
            trials.extend(t for row in rows for t in row)
            return [[t.runtime_s for t in row] for row in rows]

        design = auto(measure, prompts, outputs, name, seed=plan.seed)
        table, spread = design.coefficients, design.pace_spread
        made = judge(table, dict(zip(design.points, design.seconds, strict=True)), "default", denoised=False)
    limited = structs.replace(table, context_tokens=profiler.context)
    profile = Profile(
        coefficients=limited,
        fit=made,
        points=_points(trials, name),
        design_points=list(dict.fromkeys((t.prompt_tokens, t.output_tokens) for t in trials)),
        pace_spread=spread,
        spent_s=profiler.spent_s,
        grid_points=len(prompts) * len(outputs),
        grid_s=sum(predict(limited, p, o) for p in prompts for o in outputs),
    )
    if design is None:
        return profile
    return structs.replace(
        profile,
        median_error=design.median_error,
        p95_error=design.p95_error,
        tile=design.tile,
        tile_probability=design.tile_probability,
        outliers=list(design.outliers),
    )


def _points(trials: Sequence[Trial], name: str) -> list[Point]:
    return [Point(t.prompt_tokens, t.output_tokens, t.runtime_s, name, t.at_s) for t in trials]


def _pairs(text: str, prompts: Sequence[int], outputs: Sequence[int]) -> list[Pair] | None:
    """None for auto; UsageError for what is no list of points."""
    if text == "auto":
        return None
    if text == "paper":
        return [(p, o) for p in prompts for o in outputs]
    lists: dict[Literal["p", "o"], list[int]] = {"p": [], "o": []}
    key: Literal["p", "o"] | None = None
    for word in text.split(","):
        name, equals, rest = word.strip().partition("=")
        if equals:
            if name not in ("p", "o"):
                break
            key = "p" if name == "p" else "o"
        number = rest if equals else name
        if key is None or not number.isascii() or not number.isdigit() or int(number) < 1:
            break
        lists[key].append(int(number))
    else:
        if lists["p"] and lists["o"]:
            return [(p, o) for p in dict.fromkeys(lists["p"]) for o in dict.fromkeys(lists["o"])]
    raise UsageError(
        f"--points {text!r} is none of: auto, paper, p=1,256,o=1,64 (prompt and output lengths, 1 or more)"
    )
