"""A mean or a metric of one cell as a share of another cell's, with a paired interval over the items of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise.understand import statistics as st
from poise.understand.compare import asked
from poise.understand.estimates import item_means
from poise.understand.gather import CellData

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Sums:
    """What a number is made of: statistics that add up over items, a row an item, and what their sum comes to."""

    rows: Floats
    reduce: Callable[[Floats], Floats]


def asked_alike(a: CellData, b: CellData) -> bool:
    """Whether both were asked the very same questions, no matter how often each."""
    first, second = ({(sample, sha) for sample, _, sha in asked(c)} for c in (a, b))
    return first == second


def paired_share(a: CellData, b: CellData, name: str) -> tuple[float, float] | None:
    """Interval of `name` of a ÷ that of b, items (clusters) of both resampled together.

    `name`: a metric, quality or output_tokens. None where it is no function of sums over items, or the resamples of
    it do not tell.
    """
    sums = [_sums(c, name) for c in (a, b)]
    index = {unit: i for i, unit in enumerate(sorted({*a.unit_names(), *b.unit_names()}))}
    if len(index) < 2:
        return None
    weights = st.bootstrap_weights(len(index), f"share {len(index)}")
    drawn = []
    for c, own in zip((a, b), sums):
        if own is None:
            return None
        units = np.array([index[u] for u in c.unit_names()])
        by_unit = np.stack([np.bincount(units, weights=col, minlength=len(index)) for col in own.rows.T], axis=1)
        with np.errstate(all="ignore"):
            drawn.append(np.asarray(own.reduce(weights @ by_unit), dtype=np.float64))
    with np.errstate(all="ignore"):
        shares = drawn[0] / drawn[1]
    known = shares[np.isfinite(shares)]
    return st.percentile_interval(known) if len(known) > len(shares) / 2 else None


def _sums(c: CellData, name: str) -> _Sums | None:
    first = c.scores.first
    if name == "output_tokens":
        return _mean(c, np.where(c.columns.ok, c.columns.n_out, np.nan))
    if name == "quality":
        return None if first is None else _mean(c, first.q)
    values = c.scores.by_metric.get(name)
    if values is None or values.aggregate is not None:
        return None
    if values.reduce is None or values.stats is None:
        return _mean(c, values.values)
    return _Sums(values.sums(c.items[1], len(c.items[0])), values.reduce)


def _mean(c: CellData, values: Floats) -> _Sums:
    per_item, has = item_means(c, values)
    rows = np.zeros((len(c.items[0]), 2))
    rows[has] = np.stack([per_item, np.ones(len(has))], axis=1)
    return _Sums(rows, lambda sums: sums[..., 0] / sums[..., 1])
