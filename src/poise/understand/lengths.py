"""Prompts and answers of fixed lengths as they came about: by the engine's own count, or as the server counts them."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from poise.types import Check
from poise.understand.gather import CellData

Floats = NDArray[np.float64]


class _Fixed(Struct, gc=False):
    """The fields of a request that fix lengths."""

    sample_id: str
    prompt_tokens: int | None = None
    max_tokens: int = 0
    min_tokens: int = 0


def length_checks(data: CellData) -> list[Check | None]:
    """`prompt_length` and `length_not_held` (of the answers), each where lengths were fixed and came out otherwise."""
    if not any(r.prompt_tokens or 0 < r.max_tokens <= r.min_tokens for r in data.folder.requests(_Fixed)):
        return []
    names, item = data.items
    place = {name: i for i, name in enumerate(names)}
    prompts, answers = np.full(len(names), np.nan), np.full(len(names), np.nan)
    for r in data.folder.requests(_Fixed):
        if (i := place.get(r.sample_id)) is not None:
            prompts[i] = r.prompt_tokens or np.nan
            answers[i] = r.max_tokens if 0 < r.max_tokens <= r.min_tokens else np.nan
    return [
        None if np.isnan(prompts).all() else _prompts(data, prompts[item]),
        None if np.isnan(answers).all() else _answers(data, answers[item]),
    ]


def _off(got: Floats, wanted: Floats, what: str) -> str | None:
    """In words how many lengths differ from those asked for; None if none does."""
    off = int((got != wanted).sum())
    if not off:
        return None
    means = f"mean {got.mean():.1f}, asked {wanted.mean():.1f}"
    return f"{off} of {len(got)} {what} are not as many tokens long as asked ({means})"


def _answers(data: CellData, wanted: Floats) -> Check | None:
    got = data.columns.n_out
    known = data.columns.ok & ~np.isnan(got) & ~np.isnan(wanted)
    said = _off(got[known], wanted[known], "answers")
    return Check("length_not_held", "warn", said, "compare times per token, not per request") if said else None


def _prompts(data: CellData, wanted: Floats) -> Check | None:
    """A server counts what it read itself: that is held against what was asked, and says what stands round the text."""
    got, fitted = data.columns.n_prompt, data.cell.task.fitted_by is not None
    asked = data.columns.ok & ~np.isnan(wanted)
    known = asked & ~np.isnan(got)
    words = "" if fitted or not data.remote else "prompts have one word for each token asked for; "
    name = "name the served model's tokenizer (-O tokenizer=FOLDER), which cuts prompts to the token"
    if not known.any():
        if not asked.any() or not data.remote:
            return None
        by = words or "prompts are as long as asked for by the tokenizer that was named; "
        action = "ask without streaming (-O stream=false) to hear how many" if fitted else name
        return Check("prompt_length", "info", f"{by}the server does not say how many tokens it read", action)
    said = _off(got[known], wanted[known], "prompts")
    if said is None:
        return None
    more = got[known] - wanted[known]
    if not fitted:
        return Check("prompt_length", "warn", words + said, name if data.remote else "compare times per token")
    if (more == more[0]).all():
        said += f"; the server counts {abs(more[0]):.0f} {'more' if more[0] > 0 else 'fewer'} in every one"
        cause = "its chat template is not the tokenizer's (format: raw asks without one)"
    else:
        cause = "it counts in another tokenizer"
    action = f"{cause}: name the folder of the very model it serves"
    return Check("prompt_length", "warn", said, action)
