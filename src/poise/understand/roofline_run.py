"""A measured run beside the roofline: how much of the peaks each cell reached, and the gap that is left."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from poise.store.run import Run
from poise.understand.gather import gather
from poise.understand.roofline import Setting, Use, total_s, use
from poise.understand.shapes import Shape


class Beside(Struct, frozen=True):
    """One cell: mean seconds of a request measured and by roofline, their ratio, and MFU and MBU at the medians."""

    cell: str
    n: int
    prompt_tokens: float
    output_tokens: float
    measured_s: float | None
    roofline_s: float | None
    gap: float | None
    use: Use


def compare(run: Run, shape: Shape, setting: Setting) -> list[Beside]:
    """Every cell of the run, as if all of it ran in this setting (one model, this hardware)."""
    found = []
    for data in gather([run]):
        c, cell = data.columns, data.cell
        keep = c.ok & np.isfinite(c.e2e_s) & (c.n_prompt >= 1) & (c.n_out >= 1)
        label = f"{cell.model.name} · {data.deployment} · {cell.task.name} · {cell.load.label}"
        if not keep.any():
            found.append(Beside(label, 0, 0.0, 0.0, None, None, None, Use(None, None, None)))
            continue
        prompt, output = c.n_prompt[keep], c.n_out[keep]
        ideal = [total_s(shape, setting, int(p), int(o)) for p, o in zip(prompt, output, strict=True)]
        measured, bound = float(c.e2e_s[keep].mean()), float(np.mean(ideal))
        at = float(prompt.mean()), float(output.mean())
        reached = use(shape, setting, *at, _middle(c.ttft_s[keep]), _middle(c.tpot_s[keep]))
        found.append(Beside(label, int(keep.sum()), *at, measured, bound, measured / bound, reached))
    return found


def _middle(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None
