"""Idealized runtime: fit and evaluate T(p, o) = α_p + β·(o − 1), T(p, 0) = α_p (p prompt, o output tokens).

Source: Narayanan et al., "Cheaply Evaluating Inference Efficiency Metrics for Autoregressive Transformer APIs",
NeurIPS 2023, arXiv 2305.02440. α_p includes the first output token. The `paper` fit rounds as the published one
does; the `default` fit weighs relative errors, resists outliers and makes α monotone. Small engines on a CPU do not
keep to one β (measured: five times as much after 960 prompt tokens as after 1), so the default may add a slope γ over
the cached tokens: β(s) = β + γ·(s − s̄), where β at the mean context s̄ is the number that HELM's form has.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from poise.types import UsageError

Method = Literal["paper", "default"]
Mode = Literal["default", "helm"]


class Point(Struct, frozen=True):
    """One timed generation: exact lengths in tokens, wall time in seconds, and when it began (if known)."""

    prompt_tokens: int
    output_tokens: int
    runtime_s: float
    model: str = "model"
    at_s: float | None = None


class Coefficients(Struct, frozen=True):
    """α at the profiled prompt lengths (ascending) and β, in seconds; `overhead_s` only where one was split off α."""

    model: str
    per_output_token_s: float
    prompt_s: tuple[tuple[int, float], ...]
    overhead_s: float | None = None
    per_cached_token_s: float = 0.0
    """γ: how much longer an output token takes for each token in the cache; 0 in the published form."""
    cached_tokens: float = 0.0
    """s̄: the cached tokens at which `per_output_token_s` holds; of no account without γ."""
    onset: float = 0.0
    """What the first step after the prompt costs besides, as a share of α; 0 in the published form."""
    context_tokens: int | None = None
    """The model's context, where known: `predict` refuses prompts beyond it."""


class Fit(Struct, frozen=True):
    """Coefficients and how well they give back the points they were made from (relative errors as fractions)."""

    coefficients: Coefficients
    method: Method
    denoised: bool
    n: int
    r2: float
    mean_relative_error: float
    max_relative_error: float


class Noise(Struct, frozen=True):
    """Trials of one point: minimum, median, coefficient of variation, and trials needed (None with one trial)."""

    prompt_tokens: int
    output_tokens: int
    trials: int
    min_s: float
    median_s: float
    cv: float | None
    trials_needed: int | None


class Drift(Struct, frozen=True):
    """Slope of log(runtime / median of its point) over time, per hour, with a two-sided 95 % interval."""

    per_hour: float
    lo: float
    hi: float
    span_s: float


def fit(
    points: Iterable[Point],
    method: Method = "default",
    denoised: bool = False,
    model: str | None = None,
) -> Fit:
    """Coefficients of one model from its points; a point is the median of its trials, denoised the minimum.

    Raises UsageError for a time that is not positive, lengths below 1 output or 0 prompt tokens, points of several
    models, or too few distinct points (two output lengths at one prompt length are the least that give β).
    """
    points = list(points)
    names = {p.model for p in points}
    if model is None and len(names) > 1:
        raise UsageError(f"the points are of several models ({', '.join(sorted(names))}); fit one at a time")
    runtimes = _aggregate(points, min if denoised else _median)
    lengths = defaultdict(list)
    for p, o in runtimes:
        lengths[p].append(o)
    if not any(len(o) > 1 for o in lengths.values()):
        raise UsageError(
            f"too few distinct points ({len(runtimes)}): α and β need at least two output lengths at one prompt length"
        )
    gamma = centre = 0.0
    if method == "paper":
        alpha, beta = _fit_paper(runtimes)
    else:
        alpha, beta, gamma, centre = _fit_default(runtimes)
    overhead = None
    if denoised:
        overhead = max(alpha[min(alpha)] - beta, 0.0) if method == "default" else round(alpha[min(alpha)] - beta, 3)
        digits = 3 if method == "paper" else 12
        alpha = {p: round(a - overhead, digits) for p, a in alpha.items()}
    coefficients = Coefficients(model or next(iter(names)), beta, tuple(sorted(alpha.items())), overhead, gamma, centre)
    return judge(coefficients, runtimes, method, denoised)


def predict(coefficients: Coefficients, prompt_tokens: float, output_tokens: float, mode: Mode = "default") -> float:
    """Seconds for a request, the split-off overhead added back where there is one.

    `default`: α linear between profiled prompts, along the last segment beyond, monotone, never below the first α.
    `helm`: the smallest profiled k ≥ p gives α_k·p/k (beyond the table the largest), which is not monotone in p.
    """
    if prompt_tokens < 0 or output_tokens < 0:
        raise UsageError(f"token counts are never negative (prompt {prompt_tokens:g}, output {output_tokens:g})")
    limit = coefficients.context_tokens
    if limit is not None and prompt_tokens + output_tokens > limit:
        raise UsageError(
            f"{prompt_tokens:g} + {output_tokens:g} tokens are beyond the context of {coefficients.model}, {limit}"
        )
    alpha = _alpha_helm(coefficients, prompt_tokens) if mode == "helm" else _alpha(coefficients, prompt_tokens)
    gamma = 0.0 if mode == "helm" else coefficients.per_cached_token_s
    if output_tokens > 1 and mode != "helm":
        alpha *= 1 + coefficients.onset
    return alpha + decode_s(coefficients, prompt_tokens, output_tokens, gamma) + (coefficients.overhead_s or 0.0)


def decode_s(coefficients: Coefficients, prompt_tokens: float, output_tokens: float, gamma: float) -> float:
    """Seconds of the o − 1 tokens after the first: Σ β + γ·(p + j − s̄) over j = 1 … o − 1."""
    steps = max(output_tokens - 1, 0)
    context = prompt_tokens + (steps + 1) / 2
    return steps * (coefficients.per_output_token_s + gamma * (context - coefficients.cached_tokens))


def noise(points: Iterable[Point], tolerance: float = 0.05) -> list[Noise]:
    """Spread of the trials of each point; trials needed = (1.96·cv/tolerance)², for a mean known to ± tolerance."""
    out = []
    for (p, o), times in sorted(_grouped(list(points)).items()):
        cv = float(np.std(times, ddof=1) / np.mean(times)) if len(times) > 1 else None
        needed = None if cv is None else max(math.ceil((1.96 * cv / tolerance) ** 2), 1)
        out.append(Noise(p, o, len(times), min(times), _median(times), cv, needed))
    return out


def drift(points: Iterable[Point]) -> Drift | None:
    """How times moved while they were taken; None without start times, repeated points, or four such trials."""
    timed = [p for p in points if p.at_s is not None]
    medians = {key: _median(times) for key, times in _grouped(timed).items() if len(times) > 1}
    pairs = [
        (float(p.at_s or 0.0), math.log(p.runtime_s / medians[p.prompt_tokens, p.output_tokens]))
        for p in timed
        if (p.prompt_tokens, p.output_tokens) in medians
    ]
    if len(pairs) < 4 or len({t for t, _ in pairs}) < 3:
        return None
    from scipy.stats import linregress, t

    hours, ratio = np.array(pairs).T
    line = linregress(hours / 3600, ratio)
    half = float(t.ppf(0.975, len(pairs) - 2) * line.stderr)
    slope = float(line.slope)
    return Drift(slope, slope - half, slope + half, float(np.ptp(hours)))


def errors(coefficients: Coefficients, points: Iterable[Point], mode: Mode = "default") -> list[float]:
    """|predicted − measured| / measured, one per point."""
    return [abs(predict(coefficients, p.prompt_tokens, p.output_tokens, mode) / p.runtime_s - 1) for p in points]


# ---------------------------------------------------------------- fits


def _fit_paper(runtimes: dict[tuple[int, int], float]) -> tuple[dict[int, float], float]:
    """The published procedure to the digit: every intermediate is rounded to three decimals as published."""
    alpha: dict[int, float] = {}
    for p in sorted({p for p, _ in runtimes}):
        outputs = [o for q, o in runtimes if q == p]
        if len(outputs) < 2:
            raise UsageError(
                f"method paper needs two output lengths or more at every prompt length; {p} has one "
                "(the default method does not need them)"
            )
        slope, intercept = np.polyfit(outputs, [runtimes[p, o] for o in outputs], 1)
        alpha[p] = round(round(float(slope), 3) + round(float(intercept), 3), 3)
        alpha[p] = max(alpha[p], alpha[min(alpha)])
    slope, _ = np.polyfit([o for _, o in runtimes], [t - alpha[p] for (p, _), t in runtimes.items()], 1)
    return alpha, round(float(slope), 3)


def _fit_default(runtimes: dict[tuple[int, int], float]) -> tuple[dict[int, float], float, float, float]:
    """α isotonic in p, β, γ, s̄. γ stays 0 unless it takes away half of the squared relative residuals."""
    keys = sorted(runtimes)
    prompts = sorted({p for p, _ in keys})
    time = np.array([runtimes[k] for k in keys])
    prompt, output = np.array(keys, float).T
    steps = output - 1
    context = prompt + output / 2
    centre = float(np.average(context, weights=steps)) if steps.any() else 0.0
    plain = np.column_stack([prompt[:, None] == np.array(prompts), steps])
    solution, left = _robust(plain, time)
    gamma = 0.0
    if len({p for p, o in keys if o > 1}) > 1 and len(keys) > len(prompts) + 2:
        sloped, less = _robust(np.column_stack([plain, steps * (context - centre)]), time)
        if sloped[-1] > 0 and sloped[-2] >= sloped[-1] * centre and less < 0.5 * left:
            solution, gamma = sloped[:-1], float(sloped[-1])
    counts = [sum(p == q for q, _ in keys) for p in prompts]
    alpha = isotonic(np.maximum(solution[:-1], 0.0), counts)
    return dict(zip(prompts, alpha, strict=True)), max(float(solution[-1]), 0.0), gamma, centre if gamma else 0.0


def _robust(design: Any, time: Any) -> tuple[Any, float]:
    """Least squares of relative residuals, outliers weighed down (Huber); the solution and Σ weight·residual²."""
    weight = np.ones(len(time))
    for _ in range(8):
        scale = np.sqrt(weight) / time
        solution = np.linalg.lstsq(design * scale[:, None], time * scale, rcond=None)[0]
        residual = np.abs(design @ solution - time) / time
        spread = 1.4826 * float(np.median(residual)) * 1.345
        weight = np.minimum(1.0, spread / np.maximum(residual, 1e-12)) if spread > 1e-9 else np.ones(len(time))
    return solution, float(np.sum(np.minimum(residual, spread) * residual)) if spread > 1e-9 else float(
        residual @ residual
    )


def isotonic(values: Iterable[float], weights: Iterable[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values` in weighted squares (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([float(value), float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            v, w, n = blocks.pop()
            u = blocks[-1]
            u[0], u[1], u[2] = (u[0] * u[1] + v * w) / (u[1] + w), u[1] + w, u[2] + n
    return [v for v, _, n in blocks for _ in range(int(n))]


def judge(coefficients: Coefficients, runtimes: dict[tuple[int, int], float], method: Method, denoised: bool) -> Fit:
    """How well a table gives back measured {(p, o): seconds}; every p must be in it (no interpolation)."""
    measured = np.array(list(runtimes.values()))
    table, gamma = dict(coefficients.prompt_s), coefficients.per_cached_token_s
    overhead = coefficients.overhead_s or 0.0
    onset = coefficients.onset
    given = np.array(
        [table[p] * (1 + onset * (o > 1)) + decode_s(coefficients, p, o, gamma) + overhead for p, o in runtimes]
    )
    relative = np.abs(given / measured - 1)
    total = float(np.sum((measured - measured.mean()) ** 2))
    r2 = 1 - float(np.sum((measured - given) ** 2)) / total if total > 0 else math.nan
    return Fit(coefficients, method, denoised, len(measured), r2, float(relative.mean()), float(relative.max()))


# ---------------------------------------------------------------- evaluation


def _alpha(coefficients: Coefficients, prompt_tokens: float) -> float:
    keys = [k for k, _ in coefficients.prompt_s]
    # Published tables are not always monotone; the running maximum is, and it never falls below the first α.
    values = np.maximum.accumulate([v for _, v in coefficients.prompt_s])
    if prompt_tokens <= keys[-1] or len(keys) == 1:
        return float(np.interp(prompt_tokens, keys, values))
    slope = (values[-1] - values[-2]) / (keys[-1] - keys[-2])
    return float(values[-1] + slope * (prompt_tokens - keys[-1]))


def _alpha_helm(coefficients: Coefficients, prompt_tokens: float) -> float:
    keys = [k for k, _ in coefficients.prompt_s]
    key, value = coefficients.prompt_s[min(bisect_left(keys, prompt_tokens), len(keys) - 1)]
    return value * (prompt_tokens / key) if key else value


# ---------------------------------------------------------------- points


def _grouped(points: Sequence[Point]) -> dict[tuple[int, int], list[float]]:
    grouped: dict[tuple[int, int], list[float]] = defaultdict(list)
    for p in points:
        check_point(p.prompt_tokens, p.output_tokens, p.runtime_s)
        grouped[p.prompt_tokens, p.output_tokens].append(p.runtime_s)
    return grouped


def check_point(prompt_tokens: int, output_tokens: int, runtime_s: float) -> None:
    """UsageError where a point cannot be one: prompt below 0, no output token, a time that is not positive."""
    where = f"point (prompt {prompt_tokens}, output {output_tokens})"
    if prompt_tokens < 0 or output_tokens < 1:
        raise UsageError(f"{where}: a point has 0 or more prompt tokens and 1 or more output tokens")
    if not (math.isfinite(runtime_s) and runtime_s > 0):
        raise UsageError(f"{where}: runtime_s is {runtime_s:g}, but a time is positive; remove or measure it again")


def _aggregate(points: Sequence[Point], reduce: Callable[[list[float]], Any]) -> dict[tuple[int, int], float]:
    if not points:
        raise UsageError("no points to fit; give at least two output lengths at one prompt length")
    return {key: float(reduce(times)) for key, times in _grouped(points).items()}


def _median(times: list[float]) -> float:
    return float(np.median(times))
