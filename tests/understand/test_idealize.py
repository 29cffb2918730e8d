"""Golden values: the published point sets and coefficients of stanford-crfm/helm-efficiency, and HELM's formula."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from poise.types import UsageError
from poise.understand.idealize import (
    Coefficients,
    Point,
    drift,
    errors,
    fit,
    isotonic,
    noise,
    predict,
)

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "helm_efficiency"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="published point sets (helm_efficiency) are not here")


def published(stem: str, model: str) -> tuple[list[Point], dict]:
    rows = csv.DictReader((DATA / f"{stem}.csv").read_text().splitlines())
    points = [Point(int(r["prompt_tokens"]), int(r["output_tokens"]), float(r["runtime_s"]), model) for r in rows]
    return points, json.loads((DATA / "published_coefficients.json").read_text())[model]


@needs_data
@pytest.mark.parametrize("stem,model", [("gptj_6b", "huggingface/gptj_6b"), ("openai_davinci", "openai/davinci")])
def test_paper_method_gives_the_published_coefficients_to_the_digit(stem, model):
    points, expected = published(stem, model)
    made = fit(points, "paper")
    assert made.coefficients.per_output_token_s == expected["runtime_per_output_token"]
    assert {str(p): a for p, a in made.coefficients.prompt_s} == expected["runtime_for_prompt_tokens"]
    assert made.n == 270
    assert made.r2 > 0.9999


@needs_data
@pytest.mark.parametrize("stem,model", [("gptj_6b", "huggingface/gptj_6b"), ("openai_davinci", "openai/davinci")])
def test_default_method_is_no_worse_than_the_paper_where_it_counts(stem, model):
    points, _ = published(stem, model)
    default, paper = fit(points).coefficients, fit(points, "paper").coefficients
    assert np.mean(errors(default, points)) <= 1.1 * np.mean(errors(paper, points))
    assert np.median(errors(default, points)) < 0.002
    assert fit(points).r2 > 0.9999


def test_helm_mode_gives_helm_numbers():
    # openai/davinci on 8 A100: .178 + 63·.081, and .523·1600/1664 + 19·.081 (HELM's own rule, worked by hand).
    davinci = Coefficients("openai/davinci", 0.081, ((512, 0.178), (1536, 0.476), (1664, 0.523)))
    assert predict(davinci, 512, 64, "helm") == pytest.approx(5.281, abs=1e-9)
    assert predict(davinci, 1600, 20, "helm") == pytest.approx(2.041884615384615, abs=1e-9)
    assert predict(davinci, 3328, 0, "helm") == pytest.approx(1.046, abs=1e-9)
    assert predict(davinci, 512, 0, "helm") == pytest.approx(0.178, abs=1e-12)


def test_helm_mode_adds_the_overhead():
    c = Coefficients("m", 0.01, ((10, 0.02),), overhead_s=0.5)
    assert predict(c, 10, 1, "helm") == pytest.approx(0.52)


def points_of(alpha, beta, prompts=(1, 64, 256), outputs=(1, 8, 64)):
    return [Point(p, o, alpha(p) + beta * (o - 1)) for p in prompts for o in outputs]


def test_default_fit_gives_back_an_exact_model():
    made = fit(points_of(lambda p: 0.02 + 1e-4 * p, 0.003))
    assert made.coefficients.per_output_token_s == pytest.approx(0.003)
    assert dict(made.coefficients.prompt_s) == pytest.approx({1: 0.0201, 64: 0.0264, 256: 0.0456})
    assert made.max_relative_error < 1e-9


def test_default_fit_resists_an_outlier():
    points = points_of(lambda p: 0.02 + 1e-4 * p, 0.003, outputs=(1, 2, 4, 8, 16, 32, 64))
    points[10] = Point(points[10].prompt_tokens, points[10].output_tokens, points[10].runtime_s * 3)
    made = fit(points).coefficients
    assert made.per_output_token_s == pytest.approx(0.003, rel=0.01)
    assert dict(made.prompt_s)[64] == pytest.approx(0.0264, rel=0.05)


def growing(p, o):
    """β = .003 with an empty cache and 10 µs more per cached token, as small engines on a CPU have it."""
    return 0.02 + 1e-4 * p + sum(0.003 + 1e-5 * (p + j) for j in range(1, o))


def test_a_cache_that_slows_decoding_is_found_and_kept_apart():
    points = [Point(p, o, growing(p, o)) for p in (1, 100, 400, 900) for o in (1, 4, 16, 64)]
    c = fit(points).coefficients
    assert c.per_cached_token_s == pytest.approx(1e-5, rel=1e-3)
    assert c.per_output_token_s == pytest.approx(0.003 + 1e-5 * c.cached_tokens, rel=1e-3)
    assert max(errors(c, points)) < 1e-3
    assert predict(c, 250, 30) == pytest.approx(growing(250, 30), rel=1e-3)
    assert fit(points, "paper").coefficients.per_cached_token_s == 0
    assert predict(c, 100, 5, "helm") == pytest.approx(dict(c.prompt_s)[100] + 4 * c.per_output_token_s)


def test_without_need_there_is_no_such_slope():
    assert fit(points_of(lambda p: 0.02 + 1e-4 * p, 0.003)).coefficients.per_cached_token_s == 0


def test_one_output_length_at_most_prompts_is_enough_for_the_default():
    points = [Point(1, 1, 0.02), Point(1, 64, 0.65), Point(500, 1, 0.05)]
    c = fit(points).coefficients
    assert c.per_output_token_s == pytest.approx(0.01)
    assert predict(c, 500, 11) == pytest.approx(0.15)


def test_denoised_takes_the_minimum_and_splits_off_the_overhead():
    # α_1 = .13, β = .01: the overhead is α_1 − β = .12, what is left of α_1 is one token (Narayanan et al., §4).
    clean = points_of(lambda p: 0.13 + 1e-3 * (p - 1), 0.01, prompts=(1, 101), outputs=(1, 2, 4, 8))
    noisy = [Point(p.prompt_tokens, p.output_tokens, p.runtime_s * k) for p in clean for k in (1.0, 1.7, 1.2)]
    made = fit(noisy, "paper", denoised=True)
    assert made.coefficients.overhead_s == 0.12
    assert made.coefficients.prompt_s == ((1, 0.01), (101, 0.11))
    assert predict(made.coefficients, 101, 5) == pytest.approx(0.27)
    default = fit(noisy, denoised=True).coefficients
    assert default.overhead_s == pytest.approx(0.12)
    assert predict(default, 101, 5) == pytest.approx(0.27)


tables = st.lists(st.floats(0.001, 10), min_size=1, max_size=12).map(
    lambda values: Coefficients("m", 0.01, tuple((1 + 50 * i, v) for i, v in enumerate(values)))
)


@given(tables, st.floats(0, 5000), st.floats(0, 5000), st.integers(0, 500))
def test_default_mode_is_monotone_and_never_below_the_smallest_prompt(c, p, q, o):
    low, high = sorted((p, q))
    assert predict(c, low, o) <= predict(c, high, o) * (1 + 1e-12)
    assert predict(c, low, o) <= predict(c, low, o + 1)
    assert predict(c, low, 0) >= c.prompt_s[0][1]


@given(tables, st.floats(0, 2000))
def test_default_mode_is_continuous(c, p):
    steepest = max([abs(b - a) / 50 for (_, a), (_, b) in zip(c.prompt_s, c.prompt_s[1:], strict=False)], default=0)
    reach = max(v for _, v in c.prompt_s)
    assert abs(predict(c, p + 1e-3, 1) - predict(c, p, 1)) <= (steepest + reach / 50) * 1.001e-3 + 1e-12


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_isotonic_agrees_with_scipy(values):
    ours = isotonic(values, [1.0] * len(values))
    assert ours == pytest.approx(list(isotonic_regression(values).x), abs=1e-9)


def test_noise_states_spread_and_trials_needed():
    # cv of (1, 1.2, 1.4) is .2/1.2; (1.96·.16667/.05)² = 42.7.
    made = noise([Point(8, 4, t) for t in (1.0, 1.2, 1.4)] + [Point(8, 8, 2.0)])
    assert (made[0].min_s, made[0].median_s, made[0].trials, made[0].trials_needed) == (1.0, 1.2, 3, 43)
    assert made[0].cv == pytest.approx(1 / 6)
    assert (made[1].cv, made[1].trials_needed) == (None, None)


def test_drift_finds_a_rise_and_needs_times():
    rising = [Point(8, 4, 1.0 * 1.1 ** (i / 10), at_s=i * 360.0) for i in range(11)]
    made = drift(rising)
    assert made is not None
    assert made.per_hour == pytest.approx(np.log(1.1), rel=1e-6)
    assert made.lo <= made.per_hour <= made.hi
    assert made.span_s == 3600
    assert drift([Point(8, 4, 1.0), Point(8, 4, 1.1)]) is None


@pytest.mark.parametrize(
    "points,sentence",
    [
        ([], "no points"),
        ([Point(1, 1, 0.1)], "too few distinct points"),
        ([Point(1, 1, 0.1), Point(2, 2, 0.1)], "too few distinct points"),
        ([Point(1, 1, -0.1), Point(1, 2, 0.1)], "a time is positive"),
        ([Point(1, 1, float("nan")), Point(1, 2, 0.1)], "a time is positive"),
        ([Point(1, 0, 0.1), Point(1, 2, 0.1)], "1 or more output tokens"),
        ([Point(1, 1, 0.1, "a"), Point(1, 2, 0.1, "b")], "several models"),
    ],
)
def test_bad_points_are_refused_in_one_sentence(points, sentence):
    with pytest.raises(UsageError, match=sentence):
        fit(points)


def test_paper_needs_two_outputs_everywhere():
    with pytest.raises(UsageError, match="method paper needs two output lengths"):
        fit([Point(1, 1, 0.1), Point(1, 2, 0.2), Point(5, 1, 0.1)], "paper")


def test_predict_refuses_what_cannot_be_asked():
    c = Coefficients("m", 0.01, ((1, 0.1),), context_tokens=2048)
    assert predict(c, 2000, 48) > 0
    with pytest.raises(UsageError, match="beyond the context of m, 2048"):
        predict(c, 2000, 49)
    with pytest.raises(UsageError, match="never negative"):
        predict(c, -1, 4)
