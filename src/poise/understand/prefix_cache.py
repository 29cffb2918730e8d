"""Whether a server answered from a prefix cache, so that the time to first token understates that of a new prompt.

A client cannot see the cache. It sees what the server says (`usage.prompt_tokens_details.cached_tokens`), and whether
prompts that came word for word again were answered faster than at first sight. Two ratios of the time to first token
are held against 1: of each repeated prompt to its own first time (geometric mean, Student's t interval of the
logarithms); and, since a server that warms up or a load that falls is no cache, the jump from the last half of first
times to the first half of the repeats, which follow on them, beside a trend in time that both share (least squares of
the logarithms, as in a regression discontinuity design; Imbens and Lemieux 2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poise.counted import counted
from poise.types import Check, Request
from poise.understand import statistics as st
from poise.understand.gather import CellData

Floats = NDArray[np.float64]

SHARE = 0.05
"""Cached tokens below this share of all prompt tokens are not worth a word."""
FASTER, FASTER_NEXT = 0.9, 0.95
"""Repeats are faster where the intervals of both ratios end below these."""
SURE = 0.9995
"""One-sided level of the jump: a trend that bends must not pass for one."""
KNOWN = 0.8
"""A prompt of which so much was cached, though others share less than half of that, had been asked before."""
FEW = 10
_COMPARED = 500


class Repeats(Struct, frozen=True):
    """Prompts that were asked word for word again, and how fast they were answered then."""

    prompts: int
    requests: int
    """Times that they were asked again."""
    ratio: tuple[float, float, float] | None
    """Time to first token of a repeat against the first time: geometric mean and interval; None: too few."""
    faster: bool


def prefix_cache(data: CellData) -> Check | None:
    """`prefix_cache`: warn where repeats or prompts known from before were answered from a cache, else a remark.

    Not of judges: equal answers make equal prompts, and nobody's speed is compared with theirs.
    """
    c = data.columns
    if not data.remote or data.judges or not c.ok.any():
        return None
    said = c.ok & ~np.isnan(c.n_cached) & (c.n_prompt > 0)
    cached = np.minimum(c.n_cached, c.n_prompt)[said]
    share = float(cached.sum() / c.n_prompt[said].sum()) if said.any() else 0.0
    again = _repeats(data)
    evidence = [f"the server took {share:.0%} of its prompt tokens from a cache"] if share >= SHARE else []
    if again is not None:
        evidence.append(
            f"{counted(again.prompts, 'prompt')} came again word for word ({counted(again.requests, 'request')})"
        )
        if again.ratio is not None:
            ratio = "{:.2f} [{:.2f}, {:.2f}]".format(*again.ratio)
            evidence.append(f"their first text came after {ratio} of the first time's")
        if share < SHARE and not again.faster:
            if again.ratio is not None:
                unlike = again.ratio[2] < 1
                evidence.append("too little to tell a cache from a trend" if unlike else "no sign of a prefix cache")
            told = not _switched_off(data)
            return Check("prefix_cache", "info", "; ".join(evidence), _action(data, again)) if told else None
    elif share < SHARE:
        return None
    elif float(np.median(cached / c.n_prompt[said])) < KNOWN or (own := _shared(data.folder.requests())) > KNOWN / 2:
        evidence.append("these prompts begin alike; others would wait longer for their first text")
        return Check("prefix_cache", "info", "; ".join(evidence), "say so where the times are quoted")
    else:
        evidence.append(f"these prompts share but {own:.0%}: it knew them from an earlier cell or run")
    evidence.append("the time to first token understates that of a new prompt")
    return Check("prefix_cache", "warn", "; ".join(evidence), _action(data, again))


def _action(data: CellData, again: Repeats | None) -> str:
    if again is None:
        return "start the server anew for this cell, or switch its prefix cache off"
    if data.cell.task.options.get("cache_bust") is False:
        return "leave out cache_bust: false, and repeated prompts are new to a cache"
    return "ask each item once, give more items, or switch the server's prefix cache off"


def _switched_off(data: CellData) -> bool:
    starts = [s for repeat in data.segments for s in repeat if s.event == "start"]
    return bool(starts) and all(s.settings.get("prefix_cache") == "off" for s in starts)


class _Asked(Struct, gc=False):
    """The fields of a request that tell whether another asks the same."""

    sample_id: str
    asked_sha: str
    draw: int = 0
    shared_chars: int | None = None


def _repeats(data: CellData) -> Repeats | None:
    """Rows grouped by what was asked, in order of sending."""
    c = data.columns
    hashes = np.fromiter((hash(r.asked_sha) for r in data.folder.requests(_Asked)), np.int64)
    if c.sample.distinct and len(np.unique(hashes)) == len(hashes):
        return None
    asked: dict[str, str] = {}
    draws = 1
    renewed = set()
    for r in data.folder.requests(_Asked):
        asked[r.sample_id] = r.asked_sha
        draws = max(draws, r.draw + 1)
        if r.shared_chars is not None:
            renewed.add(r.sample_id)
    groups: dict[tuple[str, int], list[int]] = {}
    for i in np.argsort(c.sent_ns, kind="stable"):
        if c.part[i] == 0 and c.sample[i] in asked:
            turn = int(c.draw[i]) // draws if c.sample[i] in renewed else 0
            groups.setdefault((asked[c.sample[i]], turn), []).append(int(i))
    known = [rows for rows in groups.values() if len(rows) > 1]
    if not known:
        return None
    ratio, faster = _ratio(c.ttft_s, c.sent_ns, known, [rows[0] for rows in groups.values()])
    return Repeats(len(known), sum(len(rows) - 1 for rows in known), ratio, faster)


def _ratio(
    ttft_s: Floats, sent_ns: NDArray[np.int64], known: list[list[int]], firsts: list[int]
) -> tuple[tuple[float, float, float] | None, bool]:
    """The paired ratio, and whether both ratios say that repeats are faster."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(ttft_s)
    paired = np.array([np.nanmean(_finite(logs[rows[1:]])) - logs[rows[0]] for rows in known if _some(logs, rows)])
    paired = _finite(paired)
    if len(paired) < FEW:
        return None, False
    mean, (lo, hi) = st.repeat_interval(list(paired))
    assert lo is not None and hi is not None
    later = sorted((i for rows in known for i in rows[1:]), key=sent_ns.__getitem__)
    near = np.array(firsts[len(firsts) // 2 :] + later[: max(len(later) // 2, 1)])
    again = np.arange(len(near)) >= len(firsts) - len(firsts) // 2
    good = np.isfinite(logs[near])
    jump = _jump(logs[near][good], sent_ns[near][good], again[good])
    return (math.exp(mean), math.exp(lo), math.exp(hi)), math.exp(hi) < FASTER and jump < FASTER_NEXT


def _some(logs: Floats, rows: list[int]) -> bool:
    return bool(np.isfinite(logs[rows[0]]) and np.isfinite(logs[rows[1:]]).any())


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _jump(logs: Floats, sent_ns: NDArray[np.int64], again: NDArray[np.bool_]) -> float:
    """Upper end of the interval of the factor by which repeats differ beside a trend in time."""
    from scipy.special import stdtrit

    freedom = len(logs) - 3
    if freedom < 3 or min(again.sum(), (~again).sum()) < 3:
        return math.inf
    seconds = (sent_ns - sent_ns.mean()) / 1e9
    design = np.column_stack([np.ones(len(logs)), seconds / max(np.abs(seconds).max(), 1e-9), again])
    found, _, rank, _ = np.linalg.lstsq(design, logs, rcond=None)
    if rank < design.shape[1]:
        return math.inf
    off = logs - design @ found
    error = math.sqrt(float(off @ off) / freedom * float(np.linalg.inv(design.T @ design)[2, 2]))
    return math.exp(float(found[2]) + float(stdtrit(freedom, SURE)) * error)


def _shared(requests: Iterable[Request]) -> float:
    """The share of the prompts' text that others of them begin with too: what a cache may know from this cell alone."""
    texts = sorted(text for r, _ in zip(requests, range(_COMPARED)) if (text := _text(r)))
    if len(texts) < 2:
        return 0.0
    common = [_common(a, b) for a, b in pairwise(texts)]
    longest = np.maximum([0, *common], [*common, 0])
    return float(longest.sum()) / sum(map(len, texts))


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _text(request: Request) -> str:
    return request.prompt or "\n".join(m.content for m in request.messages or ())
