"""Adaptive design: learn T(p, o) = α(p) + β·(o − 1) from at most ten points, and say how wrong it may be.

α is a Gaussian process (straight line + integrated Wiener process, the prior of cubic splines, + Wiener process) over
*worked* tokens u(p) = (1 − w)·p + w·tile·⌈p/tile⌉, flat up to a knee: engines round prompts up to tiles, and short ones
are bound by reading the weights. Tile, share w, knee, roughness and noise are unknown, so every combination is a
hypothesis, weighed by its marginal likelihood (Rasmussen & Williams 2006, §5.4.1), and so is "point i is an outlier".
β, its growth with the cached tokens, and the onset of decoding (a share of α) are linear parameters beside α. After a
skeleton, the next point is the one that lowers the expected relative error over the whole grid most (active learning:
Cohn 1996; Gramacy & Apley 2015).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from poise.types import UsageError
from poise.understand.idealize import Coefficients, predict
from poise.understand.pace import steady

# The published grid (Narayanan et al. 2023): 27 prompt lengths x 10 output lengths.
PROMPTS = (
    1, 16, 32, 64, 128, 192, 256, 320, 384, 428, 472, 512, 576, 640, 704, 768, 832, 896, 960, 1024, 1152, 1280,
    1408, 1536, 1664, 1792, 1920,
)  # fmt: skip
OUTPUTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
MAX_POINTS = 10
TARGET_P95 = 0.03

# The prior. Powers of two are the usual tiles; the other multiples of 16 and 32 are met less often.
_TILES = {64: 1.0, 128: 1.0, 256: 1.0, 512: 1.0} | dict.fromkeys((48, 96, 160, 192, 320, 384), 0.25)
_TILE_PRIOR = 1.0
_SHARES = (0.3, 0.5, 0.7, 0.9)
_KNEES = (0.0, 1 / 16, 1 / 8, 1 / 4)
_SMOOTH, _ROUGH = (0.1, 0.5, 2.0), (0.02, 0.1)
_GROWTH = ((0.05, 0.0), (2.0, 0.03))
"""Spreads of β's relative growth from an empty cache to the longest prompt, and of what the first step after a prompt
costs besides, as a share of α: little and none mostly, much of both on small engines, where the cache is not for free.
"""
_ONSET = 0.002
"""An onset below this is none."""
_NOISE = 0.005
"""Relative error of a point beyond what its trials show."""
_OUTLIER_PRIOR, _OUTLIER_SPREAD = 0.02, 0.3
_SKELETON = (0.5, 0.25, 0.75, 0.125)
_SAMPLES = 300
_STATED, _MARGIN = 95, 1.15
"""Percentile of the sampled errors that is stated, and a margin for what no hypothesis holds.

Without one the 95th percentile was too small on 1 or 2 of 11 published profiles: their α falls here and there.
"""

_UNQUIET, _UNEVEN, _PASSES, _FREE_S, _SHARE = 0.01, 0.03, 6, 10.0, 0.25
"""Where points are typically less sure than this, or the machine's pace varies more than that, each new one is measured
among all the others again, so that a slow phase of the machine meets all alike, and in the end all are, up to so many
times, as long as that is cheap: some seconds, or a share of what the full grid would take with as many trials.
"""

Pair = tuple[int, int]
Measure = Callable[[Sequence[Pair]], Sequence[Sequence[float]]]


class Design(Struct, frozen=True):
    """What was measured (trials in seconds, in order), what came out, and the stated relative errors over the grid.

    `p95_error` and `median_error` are meant not to be exceeded in nine profiles of ten. `tile` is the most probable
    one (0: none) and its probability; `outliers` are points taken for outliers with probability above one half.
    """

    coefficients: Coefficients
    points: tuple[Pair, ...]
    trials: tuple[tuple[float, ...], ...]
    seconds: tuple[float, ...]
    """Each point's time at the steady pace."""
    median_error: float
    p95_error: float
    tile: int
    tile_probability: float
    outliers: tuple[Pair, ...]
    pace_spread: float
    """How much the machine's pace varied meanwhile, relative (`pace.Steady.spread`); it is divided out."""
    spent_s: float
    grid_s: float
    """What one trial of each point of the grid would take, so that `spent_s` can be put beside it (x trials)."""


def auto(
    measure: Measure,
    prompts: Sequence[int] = PROMPTS,
    outputs: Sequence[int] = OUTPUTS,
    model: str = "model",
    max_points: int = MAX_POINTS,
    target_p95: float = TARGET_P95,
    seed: int = 0,
) -> Design:
    """Choose points, have them measured (`measure` gives the trials of each, in seconds), stop when sure enough.

    `prompts` x `outputs` is the grid that the error is stated for and points are chosen from. `measure` interleaves
    the trials of the points it is given: every round has one of each. A point stands for its time at the machine's
    steady pace.
    """
    prompts, outputs = sorted(set(prompts)), sorted(set(outputs))
    if len(prompts) < 3 or len(outputs) < 2:
        raise UsageError("an adaptive profile needs three prompt lengths and two output lengths to choose from")
    longest = outputs[-1]
    skeleton = _skeleton(prompts, outputs[0], longest)
    points, waiting = skeleton[:5], skeleton[5:]
    first = measure(points)
    history = _in_rounds(points, first)
    rng = np.random.default_rng(seed)
    passes = 0
    while True:
        now = steady(history)
        times, noise = [now.seconds[p] for p in points], np.array([now.error[p] for p in points])
        unquiet = float(np.median(noise)) > _UNQUIET or now.spread > _UNEVEN
        belief = _believe(points, times, noise, prompts, rng)
        centre = belief.centre(model, outputs)
        grid = _grid(centre, prompts, outputs)
        cheap = sum(t for _, t in history) < max(_FREE_S, _SHARE * len(first[0]) * grid.sum())
        errors = belief.times(outputs) / grid - 1
        p95 = _stated(np.percentile(np.abs(errors), 95, axis=(1, 2)))
        if len(points) < min(max_points, 2 * len(prompts)) and not (len(points) > 5 and p95 <= target_p95):
            point = waiting.pop(0) if waiting else _next(errors, prompts, outputs, points)
            points.append(point)
            asked = points if unquiet else [point]
            history += _in_rounds(asked, measure(asked))
        elif unquiet and cheap and passes < _PASSES:
            passes += 1
            history += _in_rounds(points, measure(points))
        else:
            break
    tile, probability = belief.tile()
    table = sorted({*prompts, *_edges(tile, prompts)})
    coefficients = _believe(points, times, noise, table, rng).centre(model, outputs)
    return Design(
        coefficients=coefficients,
        points=tuple(points),
        trials=tuple(tuple(t for q, t in history if q == p) for p in points),
        seconds=tuple(times),
        median_error=_stated(np.median(np.abs(errors), axis=(1, 2))),
        p95_error=p95,
        tile=tile,
        tile_probability=probability,
        outliers=tuple(p for p, share in zip(points, belief.outliers, strict=True) if share > 0.5),
        pace_spread=now.spread,
        spent_s=sum(t for _, t in history),
        grid_s=float(_grid(coefficients, prompts, outputs).sum()),
    )


def _in_rounds(points: Sequence[Pair], trials: Sequence[Sequence[float]]) -> list[tuple[Pair, float]]:
    """Trials in the order in which they were measured: the first of every point, the second of every point …"""
    return [(p, t) for times in itertools.zip_longest(*trials) for p, t in zip(points, times) if t is not None]


def _grid(coefficients: Coefficients, prompts: Sequence[int], outputs: Sequence[int]) -> Any:
    """T at every point: prompts x outputs."""
    return np.array([[predict(coefficients, p, o) for o in outputs] for p in prompts])


class _Belief(Struct):
    """The mixture after some points: samples of α (samples x prompts), of β without cache and of γ; its weights."""

    prompts: tuple[int, ...]
    alpha: Any
    beta: Any
    gamma: Any
    onset: Any
    tiles: dict[int, float]
    outliers: list[float]

    def times(self, outputs: Sequence[int]) -> Any:
        """Sampled T at every point of the grid: samples x prompts x outputs."""
        context = np.array(self.prompts)[:, None] + np.array(outputs) / 2
        decode = (np.array(outputs) - 1) * (self.beta[:, None, None] + self.gamma[:, None, None] * context)
        begun = 1 + self.onset[:, None, None] * (np.array(outputs) > 1)
        return self.alpha[:, :, None] * begun + decode

    def centre(self, model: str, outputs: Sequence[int]) -> Coefficients:
        """Coefficients of the mean, α monotone; a γ that moves β by less than 5 % over the prompts is none."""
        alpha = np.maximum.accumulate(self.alpha.mean(axis=0)).tolist()
        beta, gamma, onset = float(self.beta.mean()), float(self.gamma.mean()), float(self.onset.mean())
        steps = np.array(outputs) - 1.0
        cached = float(np.mean(self.prompts) + np.average(np.array(outputs) / 2, weights=steps))
        table = tuple(zip(self.prompts, alpha, strict=True))
        sloped = gamma * self.prompts[-1] > 0.05 * (beta + gamma * cached)
        return Coefficients(
            model,
            beta + gamma * cached,
            table,
            None,
            gamma if sloped else 0.0,
            cached if sloped else 0.0,
            onset if onset > _ONSET else 0.0,
        )

    def tile(self) -> tuple[int, float]:
        best = max(self.tiles, key=lambda t: self.tiles[t])
        return best, self.tiles[best]


def _stated(errors: Any) -> float:
    return _MARGIN * float(np.percentile(errors, _STATED))


def _skeleton(prompts: Sequence[int], first: int, longest: int) -> list[Pair]:
    """Both ends, the middle, and β at two prompts; then prompts in between, before the adaptive choice begins."""

    def nearest(share: float) -> int:
        return min(prompts, key=lambda p: abs(p - share * prompts[-1]))

    near = [nearest(share) for share in _SKELETON]
    points = [(prompts[0], first), (prompts[-1], first), (near[0], first), (prompts[0], longest), (near[0], longest)]
    return list(dict.fromkeys(points + [(p, first) for p in near[1:]]))


def _next(errors: Any, prompts: Sequence[int], outputs: Sequence[int], taken: Sequence[Pair]) -> Pair:
    """The point whose measurement shrinks the summed spread of relative errors most, given the samples' covariances.

    Candidates have the least or the most output tokens, which tell α and β apart best, or a few, which tell
    the onset where the prompt is known.
    """
    centred = (errors - errors.mean(axis=0)).reshape(len(errors), -1)
    variance = centred.var(axis=0)
    best, most = None, -1.0
    few = min(2, len(outputs) - 1)
    for row, prompt in enumerate(prompts):
        for column in sorted({0, few, len(outputs) - 1}):
            if (prompt, outputs[column]) in taken or (column == few and (prompt, outputs[0]) not in taken):
                continue
            seen = centred[:, row * len(outputs) + column]
            explained = (seen @ centred / len(seen)) ** 2 / (seen.var() + _NOISE**2)
            gain = float(np.sum(np.sqrt(variance) - np.sqrt(np.maximum(variance - explained, 0))))
            if gain > most:
                best, most = (prompt, outputs[column]), gain
    assert best is not None
    return best


def _edges(tile: int, prompts: Sequence[int]) -> list[int]:
    """The last prompt before and the first after each step, so that a table shows the stairs."""
    stops = range(tile, prompts[-1], tile) if tile else ()
    return [p for stop in stops for p in (stop, stop + 1) if prompts[0] <= p <= prompts[-1]]


# ---------------------------------------------------------------- the mixture


def _believe(points: Sequence[Pair], times: Sequence[float], spread: Any, prompts: Sequence[int], rng: Any) -> _Belief:
    p, o = np.array(points, float).T
    cached = p + o / 2
    o -= 1
    time = np.array(times)
    scale = time[o == o.min()].max()
    y, top = time / scale, float(max(prompts[-1], p.max()))
    slope = max(float(np.max(np.where(o > 0, y / np.maximum(o, 1), 0))), 1e-9)
    tiles = {0: 1.0} | {t: w * _TILE_PRIOR for t, w in _TILES.items() if t <= top / 3}
    warps = [(t, s, k * top) for t in tiles for s in (_SHARES if t else (0.0,)) for k in _KNEES]
    prior = np.log([tiles[t] for t, _, _ in warps])
    ends = np.array([_warp(np.array([top]), *w) for w in warps])
    at = np.array([_warp(p, *w) for w in warps]) / ends
    grid_p = np.array(prompts, float)
    grid = np.array([_warp(grid_p, *w) for w in warps]) / ends
    hyper = np.array([(s, r, *g) for s, r, g in itertools.product(_SMOOTH, _ROUGH, _GROWTH)])

    # Covariance of the measured values under every warp (rows) and roughness and growth (columns).
    smooth, rough, growth, onset = hyper.T[:, :, None, None] ** 2
    cov = _alpha_kernel(at[:, None], at[:, None], smooth, rough)
    cov = cov + slope**2 * (np.outer(o, o) + growth * np.outer(o * cached, o * cached) / top**2)
    # The onset's share is of α, for which here stands what was measured at one output token.
    alone = o == o.min()
    by_prompt = np.argsort(p[alone])
    begun = (o > 0) * np.interp(p, p[alone][by_prompt], y[alone][by_prompt])
    cov = cov + onset * np.outer(begun, begun)
    cov = cov + np.diag((_NOISE**2 + spread**2) * y**2)
    weights = _weights(cov, y, prior)

    warp, h, outlier = np.unravel_index(rng.choice(weights.size, _SAMPLES, p=weights.ravel()), weights.shape)
    late = (np.arange(1, len(y) + 1) == outlier[:, None]) * _outlier_variance(y)
    seen = cov[warp, h] + late[:, :, None] * np.eye(len(y))
    smooth, rough, growth, onset = (hyper[h] * (1, 1, slope, 1)).T[:, :, None, None] ** 2
    to_beta = np.stack(np.broadcast_arrays(slope**2 * o, growth[:, 0] * o * cached / top, onset[:, 0] * begun), axis=1)
    cross = np.concatenate([_alpha_kernel(grid[warp], at[warp], smooth, rough), to_beta], axis=1)
    own = np.zeros((_SAMPLES, len(prompts) + 3, len(prompts) + 3))
    own[:, :-3, :-3] = _alpha_kernel(grid[warp], grid[warp], smooth, rough)
    own[:, -3, -3], own[:, -2, -2], own[:, -1, -1] = slope**2, growth[:, 0, 0], onset[:, 0, 0]
    draws = _draw(seen, cross, own, y, rng)
    by_warp = weights.sum(axis=(1, 2))
    return _Belief(
        prompts=tuple(prompts),
        alpha=np.maximum(draws[:, :-3] * scale, 1e-12),
        beta=np.maximum(draws[:, -3] * scale, 0.0),
        gamma=np.maximum(draws[:, -2] * scale / top, 0.0),
        onset=draws[:, -1],
        tiles={t: float(sum(w for w, (u, _, _) in zip(by_warp, warps, strict=True) if u == t)) for t in tiles},
        outliers=[float(w) for w in weights.sum(axis=(0, 1))[1:]],
    )


def _weights(cov: Any, y: Any, prior: Any) -> Any:
    """Posterior of every hypothesis: warps x (roughness, growth) x (no outlier, point 1, 2 …), by marginal likelihood.

    "Point i is an outlier" adds variance to one diagonal element; Sherman–Morrison gives its likelihood for free.
    """
    inverse = np.linalg.inv(cov)
    solved = inverse @ y
    plain = prior[:, None] - 0.5 * (solved @ y) - 0.5 * np.linalg.slogdet(cov)[1]
    extra = _outlier_variance(y)
    grown = 1 + extra * np.einsum("whii->whi", inverse)
    outlier = plain[..., None] + 0.5 * extra * solved**2 / grown - 0.5 * np.log(grown) + np.log(_OUTLIER_PRIOR)
    logs = np.concatenate([plain[..., None], outlier], axis=-1)
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _draw(seen: Any, cross: Any, own: Any, y: Any, rng: Any) -> Any:
    """One sample of each Gaussian conditioned on `y`: own covariance, cross covariance with y, covariance of y."""
    gain = np.linalg.solve(seen, cross.transpose(0, 2, 1))
    left = own - cross @ gain
    # Prompts below the knee are one and the same value: a little on the diagonal keeps the root real.
    root = np.linalg.cholesky(left + 1e-9 * np.eye(left.shape[1]))
    noise = rng.standard_normal((*left.shape[:2], 1))
    noise -= noise.mean(axis=0)  # so that the mean of the draws is nearly that of the Gaussians
    return (gain.transpose(0, 2, 1) @ y[:, None] + root @ noise)[..., 0]


def _warp(p: Any, tile: int, share: float, knee: float) -> Any:
    worked = (1 - share) * p + share * tile * np.ceil(p / tile) if tile else p
    return np.maximum(worked, knee) - knee


def _alpha_kernel(x: Any, y: Any, smooth: Any, rough: Any) -> Any:
    """Covariance of α: a line, the integral of a Wiener process (m²M/2 − m³/6), and the process itself (m = min)."""
    x, y = x[..., :, None], y[..., None, :]
    low, high = np.minimum(x, y), np.maximum(x, y)
    return 1 + x * y + smooth * (low**2 * high / 2 - low**3 / 6) + rough * low


def _outlier_variance(y: Any) -> Any:
    return (_OUTLIER_SPREAD * y) ** 2
