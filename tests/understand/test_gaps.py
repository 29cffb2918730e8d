"""Gaps by rank, by answer and by limit are those of plain sorted numbers, whatever their size."""

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from poise.understand import gaps
from poise.understand.gaps import LONG, Gaps

NS = (
    st.integers(0, 60_000_000)
    | st.sampled_from([0, 1, 65535, 65536, LONG - 1, LONG, LONG + 1])
    | st.integers(0, 10**12)
)
ANSWERS = st.lists(st.lists(NS, max_size=6), max_size=12)


def collected(answers: list[list[int]], at_once: int = 5) -> Gaps:
    made = Gaps()
    for start in range(0, len(answers), at_once):
        some = answers[start : start + at_once]
        made.add(
            np.array([ns for a in some for ns in a], dtype=np.int64), np.array([len(a) for a in some], dtype=np.int64)
        )
    return made


@given(ANSWERS, st.floats(0, 10), st.data())
def test_as_plain_numbers(answers, limit_s, data):
    with mock.patch.multiple(gaps, AT_ONCE=7, MOST_HELD=data.draw(st.sampled_from([4, 9, 1000]))):
        there, flat = collected(answers), [ns / 1e9 for a in answers for ns in a]
        assert there.in_order().tolist() == flat and len(there) == len(flat)
        assert [there[k] for k in range(len(flat))] == sorted(flat)
        for limit in (limit_s, *flat[:3]):
            assert there.over(limit).tolist() == [sum(ns / 1e9 > limit for ns in a) for a in answers if a]
        rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(answers), max_size=len(answers))), dtype=bool)
        some = there.of(rows)
        kept = [a for a, row in zip(answers, rows) if row]
        assert some.in_order().tolist() == [ns / 1e9 for a in kept for ns in a]
        assert some.counts.tolist() == [len(a) for a in kept]
        both = Gaps.joined([some, there])
        assert both.in_order().tolist() == [*some.in_order().tolist(), *flat]


def test_a_clock_that_ran_backwards():
    assert collected([[-5, 7]]).in_order().tolist() == [0, 7e-9]


def test_what_no_file_takes_is_held(monkeypatch):
    monkeypatch.setattr(gaps, "MOST_HELD", 4)
    monkeypatch.setattr(gaps.os, "pwrite", mock.Mock(side_effect=OSError("no space left")))
    answers = [[5, 4], [3], [2, 1], [7, 8, 9]]
    assert collected(answers, 1).in_order().tolist() == [ns / 1e9 for a in answers for ns in a]
