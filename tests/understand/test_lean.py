"""Lean columns show what plain lists would, whatever is put into them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.understand.lean import Counts, Names, Numbers, Words, lean

FLOATS = st.sampled_from([math.nan, math.inf, 0.0, 0.5])
WORDS = st.lists(st.sampled_from([None, "a", "b", "timeout"]), max_size=9)


@given(st.lists(FLOATS, max_size=9), st.lists(FLOATS, max_size=9))
def test_numbers(one_by_one, at_once):
    column = Numbers("d")
    for value in one_by_one:
        column.append(value)
    column.extend(np.array(at_once, dtype=float))
    given = [*one_by_one, *at_once]
    assert len(column) == len(given)
    assert np.array_equal(column.view(), np.array(given, dtype=float), equal_nan=True)
    assert np.array_equal(lean(np.array(given, dtype=float)), np.array(given, dtype=float), equal_nan=True)


def test_what_is_alike_is_held_once():
    column = Numbers("q")
    for _ in range(1000):
        column.append(7)
    assert column.view().strides == (0,) and column.view().dtype == np.int64 and column.view().sum() == 7000
    assert lean(np.full(1000, math.nan)).strides == (0,)


def test_a_number_that_does_not_fit_is_refused_wherever_it_stands():
    for before in ([], [1], [1, 2]):
        column = Numbers("q")
        for value in before:
            column.append(value)
        with pytest.raises(OverflowError):
            column.append(2**64)


@given(WORDS, WORDS, st.data())
def test_words(one, other, data):
    a, b = Words(one), Words(other)
    assert a == one and list(a) == one and len(a) == len(one) and (a == b) == (one == other)
    assert Words.joined([a, b, a]) == [*one, *other, *one]
    rows = data.draw(st.lists(st.integers(0, len(one) - 1), max_size=5)) if one else []
    assert a.picked(np.array(rows, dtype=np.int64)) == [one[i] for i in rows]
    assert a[1:] == one[1:] and [a[i] for i in range(len(one))] == one
    assert a.among("a", None).tolist() == [word in ("a", None) for word in one]
    assert ("b" in a) == ("b" in one) and a.count("a") == one.count("a")


ROWS = st.integers(1, 3).flatmap(
    lambda width: st.lists(
        st.lists(
            st.integers(0, 2**33) | st.sampled_from([0.5, -1.0, 255, 256, math.nan]), min_size=width, max_size=width
        ),
        max_size=5,
    )
)


@given(ROWS)
def test_counts(rows):
    column = Counts()
    for row in rows:
        column.append(row)
    assert column.even and np.array_equal(
        column.rows(), np.array(rows, dtype=float).reshape(len(rows), column.width), equal_nan=True
    )


def test_small_counts_take_a_byte():
    column = Counts()
    for row in ([1, 2], [255, 0]):
        column.append(row)
    assert column.rows().nbytes == 4
    column.append([1, 2, 3])
    assert not column.even


NAMES = st.lists(st.text(max_size=3) | st.sampled_from(["", "a", "né", "\ud800"]), max_size=7)


@given(NAMES, NAMES, st.data())
def test_names(one, other, data):
    a = Names(one)
    assert a == one and list(a) == one and len(a) == len(one) and Names.joined([a, Names(other)]) == [*one, *other]
    assert [a[i] for i in range(-len(one), len(one))] == [*one, *one] and a[1:] == one[1:] and a[:-1] == one[:-1]
    assert a.distinct == (len(set(one)) == len(one))
    for outside in (len(one), -len(one) - 1):
        with pytest.raises(IndexError):
            a[outside]
