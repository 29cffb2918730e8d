"""The adaptive design on profiles of known truth (stairs, noise, outliers) and on the published point sets."""

import csv
from pathlib import Path

import numpy as np
import pytest

from poise.types import UsageError
from poise.understand.idealize import predict
from poise.understand.idealize_auto import MAX_POINTS, OUTPUTS, PROMPTS, auto

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "helm_efficiency"
GRID = [(p, o) for p in PROMPTS for o in OUTPUTS]


def stairs(tile, share, flat=0.1, beta=0.02):
    """Flat up to the weights' floor, then compute in tiles with a quadratic part."""
    p = np.array(PROMPTS, float)
    worked = (1 - share) * p + share * tile * np.ceil(p / tile) if tile else p
    rise = np.maximum(0.9 * worked / 1920 + 0.1 * (p / 1920) ** 2 - flat, 0)
    return {(int(q), o): 0.022 + 0.15 * r + beta * (o - 1) for q, r in zip(p, rise, strict=True) for o in OUTPUTS}


def asker(truth, noise=0.0, late=0.0, trials=3, seed=0):
    r = np.random.default_rng(seed)

    def measure(pairs):
        made = []
        for pair in pairs:
            times = truth[pair] * np.exp(noise * r.standard_normal(trials))
            made.append(list(np.where(r.random(trials) < late, times * r.uniform(1.3, 3, trials), times)))
        return made

    return measure


def held_out(design, truth):
    left = [k for k in truth if k not in design.points]
    return np.array([abs(predict(design.coefficients, *k) / truth[k] - 1) for k in left])


@pytest.mark.parametrize("tile,share", [(128, 0.8), (64, 0.6), (256, 0.5), (0, 0.0)])
def test_ten_points_learn_stairs(tile, share):
    truth = stairs(tile, share)
    design = auto(asker(truth))
    errors = held_out(design, truth)
    assert len(design.points) == len(set(design.points)) <= MAX_POINTS
    assert np.median(errors) <= 0.006
    assert np.percentile(errors, 95) <= 0.04
    assert np.percentile(errors, 95) <= design.p95_error


def test_noise_and_outliers_are_withstood_and_owned_up_to():
    covered, p95s, medians = [], [], []
    for seed in range(10):
        truth = stairs([0, 64, 128, 256, 96][seed % 5], 0.7, flat=0.02 * seed)
        design = auto(asker(truth, noise=0.01, late=0.03, seed=seed))
        errors = held_out(design, truth)
        p95s.append(np.percentile(errors, 95))
        medians.append(np.median(errors))
        covered.append(p95s[-1] <= design.p95_error)
    assert np.mean(p95s) <= 0.04
    assert max(p95s) <= 0.06
    assert np.mean(medians) <= 0.008
    assert sum(covered) >= 9


def test_one_wild_point_is_recognised():
    truth = stairs(0, 0.0)
    wild = dict(truth)
    wild[960, 1] *= 2
    design = auto(asker(wild, trials=1))
    assert design.outliers == ((960, 1),)
    assert np.percentile(held_out(design, truth), 95) <= 0.06


@pytest.mark.skipif(not DATA.is_dir(), reason="published point sets (helm_efficiency) are not here")
@pytest.mark.parametrize("stem", ["gptj_6b", "openai_davinci"])
def test_published_profiles(stem):
    rows = csv.DictReader((DATA / f"{stem}.csv").read_text().splitlines())
    truth = {(int(r["prompt_tokens"]), int(r["output_tokens"])): float(r["runtime_s"]) for r in rows}
    design = auto(asker(truth, trials=1))
    errors = held_out(design, truth)
    assert np.median(errors) <= 0.006
    assert np.percentile(errors, 95) <= 0.04
    assert np.percentile(errors, 95) <= design.p95_error
    assert design.spent_s / design.grid_s < 0.05


def test_the_table_is_monotone_and_stairs_show_in_it():
    design = auto(asker(stairs(256, 1.0)))
    prompts, alpha = zip(*design.coefficients.prompt_s, strict=True)
    assert list(alpha) == sorted(alpha)
    assert (design.tile, 1025 in prompts) == (256, True)
    step = predict(design.coefficients, 1025, 1) - predict(design.coefficients, 1024, 1)
    assert step == pytest.approx(0.15 * 0.9 * 256 / 1920, rel=0.1)


def test_it_stops_when_sure_and_goes_on_when_not():
    truth = stairs(0, 0.0, flat=0.0)
    assert len(auto(asker(truth), target_p95=0.5).points) == 6
    assert len(auto(asker(truth), target_p95=0.0).points) == MAX_POINTS
    assert len(auto(asker(truth), target_p95=0.0, max_points=8).points) == 8


def test_the_same_seed_chooses_the_same_points():
    truth = stairs(128, 0.8)
    first, second = (auto(asker(truth, noise=0.01), seed=3) for _ in range(2))
    assert first == second


def test_an_exact_straight_line_is_found_exactly():
    truth = {(p, o): 0.01 + 1e-5 * p + 0.002 * (o - 1) for p, o in GRID}
    design = auto(asker(truth))
    assert design.coefficients.per_output_token_s == pytest.approx(0.002, rel=0.005)
    assert held_out(design, truth).max() < 0.01
    assert design.grid_s == pytest.approx(sum(truth.values()), rel=0.005)
    assert design.spent_s == pytest.approx(3 * sum(truth[k] for k in design.points))


def test_decoding_that_slows_with_the_cache_is_learnt():
    truth = {(p, o): 0.01 + 1e-4 * p + sum(0.002 + 4e-6 * (p + j) for j in range(1, o)) for p, o in GRID}
    design = auto(asker(truth, noise=0.003))
    errors = held_out(design, truth)
    assert design.coefficients.per_cached_token_s == pytest.approx(4e-6, rel=0.1)
    assert np.median(errors) < 0.006
    assert np.percentile(errors, 95) <= min(0.04, design.p95_error)


def test_a_first_step_that_costs_more_is_learnt():
    """An onset of decoding, on an engine whose decoding slows with the cache."""
    plain = {(p, o): 0.01 + 1e-4 * p + sum(0.002 + 4e-6 * (p + j) for j in range(1, o)) for p, o in GRID}
    truth = {(p, o): t + (0.05 * plain[p, 1] if o > 1 else 0.0) for (p, o), t in plain.items()}
    design = auto(asker(truth, noise=0.003))
    assert design.coefficients.onset == pytest.approx(0.05, rel=0.3)
    assert np.percentile(held_out(design, truth), 95) <= min(0.04, design.p95_error)
    assert auto(asker(plain, noise=0.003)).coefficients.onset == 0


def test_a_slow_phase_of_the_machine_is_not_the_points():
    """The trials of a point that is measured alone in a slow phase agree with each other and are wrong."""
    covered, p95s = [], []
    for seed in range(8):
        r = np.random.default_rng(seed)
        truth, late = stairs([0, 128][seed % 2], 0.4), False

        def measure(pairs, truth=truth, r=r):
            nonlocal late
            rows = [[] for _ in pairs]
            for _ in range(5):
                for row, pair in zip(rows, pairs, strict=True):
                    late = r.random() < (59 / 60 if late else 1 / 180)
                    row.append(truth[pair] * (1.4 if late else 1) * np.exp(0.03 * r.standard_normal()))
            return rows

        design = auto(measure)
        p95s.append(np.percentile(held_out(design, truth), 95))
        covered.append(p95s[-1] <= design.p95_error)
        assert design.pace_spread > 0.005
    assert sum(covered) >= 7
    assert np.mean(p95s) < 0.06


def test_a_small_grid_is_enough():
    truth = {(p, o): 0.01 + 1e-4 * p + 0.002 * (o - 1) for p in (1, 20, 40) for o in (1, 4)}
    design = auto(asker(truth), prompts=(1, 20, 40), outputs=(1, 4), target_p95=0.0)
    assert set(design.points) == set(truth)


def test_bad_grids_and_times_are_refused():
    with pytest.raises(UsageError, match="three prompt lengths and two output lengths"):
        auto(asker(stairs(0, 0.0)), prompts=(1, 2))
    with pytest.raises(UsageError, match="not positive"):
        auto(lambda pairs: [[0.0] for _ in pairs])
