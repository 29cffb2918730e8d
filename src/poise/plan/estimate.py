"""What a plan will take, before anything starts: requests, a rough time, disk, dollars; shown by `poise plan`."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from poise.counted import counted
from poise.plan.build import Plan, label
from poise.plan.search import ladder, most_probes
from poise.plan.spec import Cell, Load
from poise.plan.turns import turn
from poise.plan.weights import model_bytes
from poise.types import Request

_READ_BYTES_S = 8e9
"""Weights read per second by a small server's CPU: decoding reads all of them for every token."""
_STEP_S = 5e-4
_REMOTE_TOKEN_S, _REMOTE_FIRST_S = 0.02, 0.5
_CHARS_PER_TOKEN = 4


class CellEstimate(Struct, frozen=True):
    """One planned cell. `seconds` is a rough guess from the size of the weights, not a measurement."""

    cell: Cell
    requests: int
    seconds: float
    disk_bytes: int
    usd: float | None


def estimate(plan: Plan) -> list[CellEstimate]:
    """A guess per cell, from the size of the model's weights where they are local."""
    found = []
    for cell in plan.cells:
        kind, source = plan.sources[cell.model.name, cell.deployment.name]
        size = model_bytes(source) if kind != "api" and Path(source).exists() else None
        requests = cell.planned if cell.state == "planned" else 0
        asked = plan.items[cell.task.items_sha].requests
        tokens_out = min(cell.task.n_ref / len(asked[0].parts) * 1.5 + 2, asked[0].max_tokens or 1) if asked else 0
        if asked and asked[0].min_tokens:
            tokens_out = sum(r.min_tokens for r in asked) / len(asked)
        again = requests / max(1, sum(len(r.parts) for r in asked))
        tokens_in = again * sum(_tokens_in(r, tokens_out) for r in asked)
        token_s = _REMOTE_TOKEN_S if size is None else _STEP_S + size / _READ_BYTES_S
        first_s = _REMOTE_FIRST_S if size is None else token_s * 2
        if cell.load.kind == "search":
            requests = _probed(plan, cell)
        seconds = requests * (first_s + tokens_out * token_s) / cell.load.width
        if cell.load.timed and (cell.load.requests is None or seconds > (cell.load.duration_s or 0)):
            seconds = cell.load.duration_s or 0.0
        if cell.load.kind == "search":  # each probe goes on for about as long as its arrivals
            seconds = requests / _middle(cell.load)
        elif requests and (due := plan.due_ns(cell)):
            seconds = due[-1] / 1e9 + first_s + tokens_out * token_s
        disk = int(requests * (260 + 18 * tokens_out))
        price, usd = cell.deployment.price, None
        if price and price.per_hour_usd is not None:
            usd = seconds / 3600 * price.per_hour_usd
        elif price and (price.input_per_mtok_usd or price.output_per_mtok_usd):
            usd = tokens_in / 1e6 * (price.input_per_mtok_usd or 0)
            usd += requests * tokens_out / 1e6 * (price.output_per_mtok_usd or 0)
        found.append(CellEstimate(cell, requests, seconds, disk, usd))
    return found


def _tokens_in(request: Request, tokens_out: float) -> float:
    """Prompt tokens of a request; every turn of a conversation sends again what was said before it."""
    if request.prompt_tokens:
        return request.prompt_tokens
    answer = " " * int(tokens_out * _CHARS_PER_TOKEN)
    turns = [turn(request, [answer] * k) for k in range(len(request.parts))]
    return sum(len(t.prompt or "") + sum(len(m.content) for m in t.messages or ()) for t in turns) / _CHARS_PER_TOKEN


def _probed(plan: Plan, cell: Cell) -> int:
    """Requests of a search: as many probes as it takes at most, of a rate in the middle."""
    return most_probes(cell.load) * plan.probe(cell, _middle(cell.load))[0].planned


def _middle(load: Load) -> float:
    rates = ladder(load)
    return rates[len(rates) // 2]


def describe(plan: Plan) -> str:
    """The plan as a few lines of text: what `print(poise.plan(study))` shows."""
    cells = estimate(plan)
    seconds, disk = sum(c.seconds for c in cells), sum(c.disk_bytes for c in cells)
    usd = sum(c.usd or 0.0 for c in cells)
    asked = f"{counted(len(cells), 'cell')}, {counted(plan.requests, 'request')}"
    lines = [f"{asked}, about {rough_time(seconds)} and {rough_size(disk)}" + (f", {usd:.2f} USD" if usd else "")]
    for c in cells:
        about = f"not measurable: {c.cell.reason}"
        if c.requests:
            about = f"{counted(c.requests, 'request')}, about {rough_time(c.seconds)}"
        lines.append(f"  {label(c.cell)}: {about}")
    for (model, _), (kind, source) in plan.sources.items():
        size = model_bytes(source)
        lines.append(f"  {model} ({kind}): " + (f"{rough_size(size)} of weights" if size else "size unknown"))
    return "\n".join(dict.fromkeys(lines))


def rough_time(seconds: float) -> str:
    """A guessed duration: no digits that it has not, nothing below a second."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def rough_size(size: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
