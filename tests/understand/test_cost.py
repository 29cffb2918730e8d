import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.plan.spec import Price
from poise.understand.cost import (
    Tokens,
    hardware_cost,
    idealized_cost,
    idealized_energy,
    measured_energy,
    request_cost_usd,
    token_cost,
    usage_tokens,
)

API = Price(input_per_mtok_usd=2.5, output_per_mtok_usd=10, cached_per_mtok_usd=1.25, date="2026-11-01")
RENT = Price(per_hour_usd=3.6, date="2026-11-01")


def test_token_price_by_hand():
    # 800 fresh · 2.5 + 200 cached · 1.25 + 50 out · 10 = 2 750 micro-dollars.
    assert request_cost_usd(API, Tokens(1000, 50, cached=200)) == pytest.approx(2750e-6)
    no_cached = Price(input_per_mtok_usd=2.5, output_per_mtok_usd=10)
    assert request_cost_usd(no_cached, Tokens(1000, 50, cached=200)) == pytest.approx(3000e-6)


def test_reasoning_is_billed_as_output_and_only_once():
    assert request_cost_usd(API, Tokens(0, 100, reasoning=80)) == pytest.approx(1e-3)


def test_a_cell_by_token_price():
    made = token_cost(API, [Tokens(1000, 0), Tokens(3000, 0)], right=1)
    assert made.per_request_usd == pytest.approx(0.005)
    assert made.per_1000_usd == pytest.approx(5)
    assert made.per_right_usd == pytest.approx(0.01)
    assert (made.basis, made.currency, made.date) == ("token price", "USD", "2026-11-01")


def test_what_is_missing_is_a_reason_and_never_zero():
    assert token_cost(RENT, [Tokens(1, 1)]).reason == "the deployment has no token price"
    assert token_cost(API, [Tokens(1, 1), None]).reason == "1 of 2 requests have no token count"
    half = Price(input_per_mtok_usd=1)
    assert token_cost(half, [Tokens(1, 1)]).reason == "the price lacks output_per_mtok_usd"
    assert token_cost(half, [Tokens(1, 0)]).total_usd == pytest.approx(1e-6)
    for made in (token_cost(API, []), hardware_cost(API, 1, 1), hardware_cost(RENT, 0, 1), idealized_cost(RENT, [])):
        assert made.per_request_usd is None and made.reason
    assert hardware_cost(RENT, 1, 1, utilisation=1.5).reason == "utilisation 1.5 is not a share between 0 and 1"


def test_no_right_answer_has_no_price():
    made = token_cost(API, [Tokens(1000, 0)], right=0)
    assert made.per_right_usd is None and made.reason == "no answer was right"
    assert made.per_request_usd == pytest.approx(0.0025)


def test_hardware_hours_by_hand():
    # 3.6 USD/h is a milli-dollar a second: 100 s for 50 requests, half of the paid time idle.
    made = hardware_cost(RENT, wall_s=100, requests=50, right=20, utilisation=0.5)
    assert made.per_request_usd == pytest.approx(0.004)
    assert made.per_right_usd == pytest.approx(0.01)


def test_idealized_cost_and_energy_by_hand():
    assert idealized_cost(RENT, [1.0, 3.0], accelerators=8).per_request_usd == pytest.approx(0.016)
    assert idealized_energy([1.0, 3.0], 8, 400).per_request_j == pytest.approx(6400)
    assert idealized_energy([1.0], 1, None).reason == "the power of the hardware is not known"


def test_measured_energy_is_labelled():
    made = measured_energy(120.0, requests=60, right=30)
    assert (made.per_request_j, made.per_right_j, made.basis) == (2.0, 4.0, "measured")
    assert measured_energy(None, 10).reason == "no energy counter was read"


@pytest.mark.parametrize(
    "usage,expected",
    [
        ({"prompt_tokens": 10, "completion_tokens": 4}, Tokens(10, 4)),
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8},
             "completion_tokens_details": {"reasoning_tokens": 3}},
            Tokens(10, 4, 8, 3),
        ),
        ({"input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": 90}, Tokens(100, 4, 90)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 99}}, Tokens(9, 4, 9)),
        ({"prompt_tokens": 10, "completion_tokens": -4}, None),
        ({"prompt_tokens": "10", "completion_tokens": True}, None),
        ({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": [1]}, Tokens(1, 1)),
        (None, None),
    ],
)  # fmt: skip
def test_usage_of_untrusted_servers(usage, expected):
    assert usage_tokens(usage) == expected


counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts)
def test_more_tokens_never_cost_less(fresh, cached, output, more):
    base = request_cost_usd(API, Tokens(fresh + cached, output, cached))
    assert base is not None
    for bigger in (Tokens(fresh + cached + more, output, cached), Tokens(fresh + cached, output + more, cached)):
        assert (request_cost_usd(API, bigger) or 0) >= base
    assert base <= (request_cost_usd(API, Tokens(fresh + cached, output)) or 0) + 1e-15
