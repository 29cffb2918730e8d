"""Stalls: gaps between the chunks of an answer that a reader would notice, and how many answers have one."""

from __future__ import annotations

from poise.types import Estimate
from poise.understand import statistics as st
from poise.understand.estimates import absent
from poise.understand.gather import CellData

TIMES_MEDIAN, LEAST_S = 10.0, 0.1


def threshold_s(data: CellData) -> float:
    """From which gap on it is a stall: the study's word, else ten times the median gap, and at least 0.1 s."""
    if data.analysis.stall_s is not None:
        return data.analysis.stall_s
    return max(LEAST_S, TIMES_MEDIAN * data.usual_gap_s)


def stalls(data: CellData) -> dict[str, Estimate]:
    """How many gaps are stalls, and the share of the answers in several pieces that have one."""
    c = data.columns
    if not len(c.gaps):
        return {
            name: absent("no answer came in two or more pieces", "", "lower") for name in ("stall.count", "stall.share")
        }
    limit = threshold_s(data)
    long = c.gaps.over(limit)
    hit, answers = int((long > 0).sum()), len(long)
    lo, hi = st.wilson(hit, answers)
    over = f"gaps over {limit:.3g} s"
    return {
        "stall.count": Estimate(float(long.sum()), None, None, len(c.gaps), "", "lower", f"{over}; no interval"),
        "stall.share": Estimate(hit / answers, lo, hi, answers, "", "lower", f"answers with {over}; Wilson"),
    }
