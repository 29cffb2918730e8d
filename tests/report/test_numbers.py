import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.report import numbers
from poise.types import Estimate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0 s"), (2.5e-7, "250 ns"), (8.31e-5, "83.1 µs"), (0.00831, "8.31 ms"), (0.9996, "1.00 s"),
        (1.2345, "1.23 s"), (12.34, "12.3 s"), (123.4, "123 s"), (1500, "25.0 min"), (86_400, "24.0 h"),
        (math.inf, "∞"),
    ],
)  # fmt: skip
def test_seconds(value, text):
    assert numbers.seconds(value) == text


@given(st.floats(1e-9, 1e6))
def test_seconds_keep_three_digits(value):
    number, unit = numbers.seconds(value).split()
    factor = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}[unit]
    assert float(number) * factor == pytest.approx(value, rel=0.006)


def test_quantities_in_their_units():
    assert numbers.quantity(213e6, "bytes") == "213 MB"
    assert numbers.quantity(0.8154, "") == "0.815"
    assert numbers.quantity(43.21, "BLEU") == "43.2 BLEU"
    assert numbers.quantity(1234.5, "tok/s") == "1234 tok/s"


def test_half_width_is_the_farther_end_and_never_too_small():
    assert numbers.half_width(Estimate(0.9, 0.7438, 0.9654)) == "±.16"
    assert numbers.half_width(Estimate(0.5, 0.459, 0.541)) == "±.05"
    assert numbers.half_width(Estimate(0.5)) == ""
    assert numbers.half_width(Estimate(None)) == ""


def test_intervals_share_their_unit_and_may_be_open():
    assert numbers.interval(Estimate(0.0083, 0.0081, 0.0086, unit="s")) == "[8.10, 8.60 ms]"
    assert numbers.interval(Estimate(0.9, 0.8, 1.2, unit="s")) == "[800 ms, 1.20 s]"
    assert numbers.interval(Estimate(0.9, 0.8, math.inf, unit="s")) == "[800 ms, ∞]"
    assert numbers.interval(Estimate(0.9, 0.8, None, unit="s")) == "[800 ms, ∞]"
    assert numbers.interval(Estimate(0.9)) == ""


def test_missing_is_never_zero():
    for shown in (numbers.mark(None), numbers.seconds(None), numbers.quantity(None, "s"), numbers.size_bytes(None)):
        assert shown == numbers.ABSENT
