"""Stalls: gaps between the chunks of an answer that a reader would notice, and how many answers have one."""

from __future__ import annotations

import numpy as np

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
    rows = c.gap_counts[c.gap_counts > 0]
    if not len(rows):
        return {
            name: absent("no answer came in two or more pieces", "", "lower") for name in ("stall.count", "stall.share")
        }
    limit = threshold_s(data)
    long = c.gaps_s > limit
    hit = int((np.add.reduceat(long.astype(np.int64), np.cumsum(rows) - rows) > 0).sum())
    lo, hi = st.wilson(hit, len(rows))
    over = f"gaps over {limit:.3g} s"
    return {
        "stall.count": Estimate(float(long.sum()), None, None, len(c.gaps_s), "", "lower", f"{over}; no interval"),
        "stall.share": Estimate(hit / len(rows), lo, hi, len(rows), "", "lower", f"answers with {over}; Wilson"),
    }
