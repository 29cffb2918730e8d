"""Times at the steady pace: slow phases are divided out, noise is not taken for one."""

import numpy as np
import pytest

from poise.understand.pace import steady

TRUTH = {(p, 1): 0.01 + 1e-4 * p for p in (1, 100, 300, 700, 900)}


def trials(rounds, pace, noise, seed=0):
    r = np.random.default_rng(seed)
    return [(k, t * pace(i) * np.exp(noise * r.standard_normal())) for i in range(rounds) for k, t in TRUTH.items()]


def test_without_noise_the_times_are_exact():
    found = steady(trials(4, lambda i: 1.0, 0.0))
    assert found.seconds == pytest.approx(TRUTH)
    assert set(found.error.values()) == {0.0} and found.spread == pytest.approx(0)


@pytest.mark.parametrize("slow", [range(10), range(12, 20), [*range(5), *range(15, 22)]])
def test_slow_phases_are_divided_out(slow):
    found = steady(trials(40, lambda i: 1.4 if i in slow else 1.0, 0.0))
    assert found.seconds == pytest.approx(TRUTH, rel=1e-3)
    assert found.spread > 0.1


def test_points_that_met_only_slow_phases_are_put_right_by_their_neighbours():
    """(900, 1) is measured only while the machine is slow, beside the others."""
    slow = [i % 20 < 8 for i in range(60)]
    made = [(k, t * (1.5 if s else 1.0)) for s in slow for k, t in TRUTH.items() if k[0] < 900 or s]
    assert steady(made).seconds == pytest.approx(TRUTH, rel=1e-3)


def test_the_error_is_that_of_the_median_and_noise_is_no_pace():
    # Standard error of a median of n normal values: 1.2533 sigma / sqrt(n).
    found = [steady(trials(40, lambda i: 1.0, 0.05, seed)) for seed in range(20)]
    away = np.array([[np.log(f.seconds[k] / t) for k, t in TRUTH.items()] for f in found])
    stated = np.mean([list(f.error.values()) for f in found])
    assert stated == pytest.approx(1.2533 * 0.05 / np.sqrt(40), rel=0.2)
    assert np.sqrt(np.mean(away**2)) < 1.6 * stated
    assert abs(np.mean(away)) < 0.5 * stated


def test_single_trials_say_nothing_of_their_error():
    assert set(steady(list(TRUTH.items())).error.values()) == {0.0}
