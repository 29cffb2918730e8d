"""Cohen's κ against published values, and its interval."""

import numpy as np
import pytest

from poise.understand.agreement import kappa, kappa_estimate


def table(a: list[int], b: list[int]) -> np.ndarray:
    counts = np.zeros((max(a + b) + 1,) * 2)
    np.add.at(counts, (a, b), 1)
    return counts


def test_published_values() -> None:
    # https://en.wikipedia.org/wiki/Cohen%27s_kappa, the worked example of grant proposals
    assert kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    # scikit-learn, sklearn/metrics/tests/test_classification.py, test_cohen_kappa: the first by hand from a table,
    # then Artstein and Poesio (2008), table 4, and its examples of weights
    assert kappa(table([0] * 40 + [1] * 60, [0] * 20 + [1] * 20 + [0] * 10 + [1] * 50)) == pytest.approx(
        0.348, abs=5e-4
    )
    artstein = [0] * 46 + [1] * 44 + [2] * 10
    assert kappa(table(artstein, [0] * 52 + [1] * 32 + [2] * 16)) == pytest.approx(0.8013, abs=5e-5)
    other = table(artstein, [0] * 50 + [1] * 40 + [2] * 10)
    assert kappa(other) == pytest.approx(0.9315, abs=5e-5)
    assert kappa(other, quadratic=True) == pytest.approx(0.9541, abs=5e-5)


def test_no_agreement_beyond_chance_and_all_of_it() -> None:
    assert kappa(np.array([[25, 25], [25, 25]])) == pytest.approx(0)
    assert kappa(np.array([[3, 0], [0, 4]])) == 1
    assert np.isnan(kappa(np.array([[7, 0], [0, 0]])))


def test_the_interval_is_over_items() -> None:
    a = [0, 1] * 40
    b = [*a[:70], *(1 - x for x in a[70:])]
    alone = kappa_estimate(a, b, [str(i) for i in range(80)], 2)
    assert alone.value == pytest.approx(0.75) and alone.n == 80
    assert alone.lo is not None and alone.hi is not None and alone.lo < 0.75 < alone.hi
    # Fleiss, Cohen and Everitt (1969): here SE = sqrt(po(1 - po)/n)/(1 - pe) = .074, so 1.96 SE = .145
    assert alone.hi - alone.lo == pytest.approx(2 * 0.145, rel=0.15)
    clustered = kappa_estimate(a, b, [str(i // 10) for i in range(80)], 2)
    assert clustered.lo is not None and clustered.hi is not None
    assert clustered.hi - clustered.lo > alone.hi - alone.lo


def test_what_has_no_kappa_says_so() -> None:
    assert "undefined" in str(kappa_estimate([1, 1], [1, 1], ["a", "b"], 3).reason)
    assert "labelled by both" in str(kappa_estimate([], [], [], 3).reason)
    assert kappa_estimate([0, 1], [0, 1], ["a", "a"], 2).lo is None
