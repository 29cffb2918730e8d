"""A first look at a finished cell, for the progress display: point values only, no intervals."""

from __future__ import annotations

import numpy as np

from poise.store.run import CellFolder
from poise.understand.derive import columns
from poise.understand.score import score_cell


def glance(folder: CellFolder, allow_code: bool = False) -> tuple[float | None, float | None]:
    """(mean seconds per request, mean mark q in [0, 1]) of a cell's measured requests; None where there is none."""
    rows = columns(folder)
    if not len(rows):
        return None, None
    times = rows.e2e_s[np.isfinite(rows.e2e_s)]
    first = score_cell(folder, rows, folder.targets(), allow_code).first
    marks = first.q[np.isfinite(first.q)] if first is not None else np.array([])
    return (float(times.mean()) if len(times) else None), (float(marks.mean()) if len(marks) else None)
