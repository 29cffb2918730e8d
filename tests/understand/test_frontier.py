"""Pareto front, its probability under resampling, hypervolume."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from poise.understand.frontier import front_probability, hypervolume, on_front


def test_dominated_systems_are_off_the_front() -> None:
    quality = np.array([0.9, 0.5, 0.5, 0.4])
    speed = np.array([0.3, 0.8, 0.7, 0.8])
    assert on_front(quality, speed).tolist() == [True, True, False, False]


def test_equals_share_the_front() -> None:
    assert on_front(np.array([0.5, 0.5]), np.array([0.5, 0.5])).tolist() == [True, True]


def test_probability_counts_resamples() -> None:
    quality = np.array([[0.9, 0.5], [0.9, 0.95], [0.9, 0.5], [0.9, 0.5]])
    speed = np.array([[0.5, 0.4]] * 3 + [[0.5, 0.6]])
    assert front_probability(quality, speed).tolist() == [1.0, 0.5]


def test_hypervolume_by_hand() -> None:
    # .9 x .3 + .5 x (.8 - .3)
    assert hypervolume(np.array([0.9, 0.5]), np.array([0.3, 0.8])) == pytest.approx(0.52)
    assert hypervolume(np.array([]), np.array([])) == 0


points = some.lists(some.tuples(some.floats(0, 1), some.floats(0, 1)), min_size=1, max_size=8)


@given(points)
def test_front_and_volume_against_brute_force(drawn: list[tuple[float, float]]) -> None:
    q, s = (np.array(x) for x in zip(*drawn))
    expected = [not any(a >= x and b >= y and (a > x or b > y) for a, b in drawn) for x, y in drawn]
    assert on_front(q, s).tolist() == expected
    grid = np.linspace(0, 1, 201)
    covered = np.zeros((201, 201), dtype=bool)
    for a, b in drawn:
        covered |= (grid[:, None] < a) & (grid[None, :] < b)
    assert hypervolume(q, s) == pytest.approx(covered.mean(), abs=0.015)
