"""How far two raters agree beyond chance: Cohen's κ, plain or weighted, with its interval over items.

κ = 1 - Σ w·o / Σ w·e    o = observed shares, e = product of the margins, w = 0 where both say the same, else 1
                         (quadratic: the squared distance of the ranks; Cohen 1960, 1968)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poise.types import Estimate
from poise.understand import statistics as st
from poise.understand.estimates import absent

Floats = NDArray[np.float64]


def kappa(table: Floats, quadratic: bool = False) -> Floats:
    """Cohen's κ of counts [..., k, k] (one rater's labels by the other's); NaN where only one label was used."""
    table = np.asarray(table, dtype=float)
    ranks = np.arange(table.shape[-1])
    apart = (ranks[:, None] - ranks) ** 2 if quadratic else (ranks[:, None] != ranks)
    total = table.sum(axis=(-2, -1))
    expected = table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = (apart * expected).sum(axis=(-2, -1)) / total
        return np.asarray(np.where(chance > 0, 1 - (apart * table).sum(axis=(-2, -1)) / chance, np.nan))


def kappa_estimate(
    a: Sequence[int], b: Sequence[int], units: Sequence[str], labels: int, quadratic: bool = False
) -> Estimate:
    """κ of two raters' labels (0 … labels - 1) of the same things, resampled by `units` (what belongs together)."""
    if not len(a):
        return absent("no answer was labelled by both", "", "higher")
    index = {name: i for i, name in enumerate(dict.fromkeys(units))}
    codes = np.array(a) * labels + np.array(b)
    tables = np.zeros((len(index), labels * labels))
    np.add.at(tables, (np.array([index[u] for u in units]), codes), 1.0)
    value = float(kappa(tables.sum(axis=0).reshape(labels, labels), quadratic))
    if not np.isfinite(value):
        return absent("both used one and the same label throughout: κ is undefined", "", "higher")
    method = ("quadratically weighted" if quadratic else "Cohen's") + " κ"
    if len(index) < 2:
        return Estimate(value, None, None, len(a), "", "higher", f"{method}; one item has no interval")
    weights = st.bootstrap_weights(len(index), "kappa")
    drawn = kappa((weights @ tables).reshape(-1, labels, labels), quadratic)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < len(weights) / 2:
        return Estimate(value, None, None, len(a), "", "higher", f"{method}; undefined in most resamples")
    lo, hi = st.percentile_interval(drawn)
    return Estimate(value, lo, hi, len(a), "", "higher", f"{method}, bootstrap over {len(index)} items")
