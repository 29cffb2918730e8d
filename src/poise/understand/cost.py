"""What answers cost, in USD and joules: by token price, hardware hours, or idealized: always labelled.

Pure functions of counts and a `plan.spec.Price`. A cost that cannot be known is None with the reason, never 0.
Requests that failed are paid for too, so the right answers bear them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from poise.plan.spec import Price

Basis = Literal["token price", "hardware hours", "idealized"]
EnergyBasis = Literal["measured", "idealized from power"]


class Tokens(Struct, frozen=True):
    """What one request is billed for. `cached` is part of `input`, `reasoning` part of `output`."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class Cost(Struct, frozen=True):
    """USD for the requests of a cell; `date` is the price's. None = not measurable, with the reason."""

    per_request_usd: float | None
    per_1000_usd: float | None
    per_right_usd: float | None
    total_usd: float | None
    basis: Basis
    currency: str = "USD"
    date: str | None = None
    reason: str | None = None


class Energy(Struct, frozen=True):
    """Joules for the requests of a cell, and whether a counter or only arithmetic says so."""

    per_request_j: float | None
    per_right_j: float | None
    total_j: float | None
    basis: EnergyBasis
    reason: str | None = None


def usage_tokens(usage: dict[str, Any] | None) -> Tokens | None:
    """Billed tokens from an engine's verbatim usage (`prompt_tokens` or `input_tokens` …); None where it has none.

    `cache_read_input_tokens` beside `input_tokens` is counted by those who write it as extra input, so it is added.
    """
    usage = usage or {}
    prompt = _count(usage, "prompt_tokens")
    output = _count(usage, "completion_tokens")
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens") or 0
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
    if prompt is None and output is None:
        prompt, output = _count(usage, "input_tokens"), _count(usage, "output_tokens")
        extra = _count(usage, "cache_read_input_tokens") or 0
        cached = _count(usage.get("input_tokens_details"), "cached_tokens") or extra
        reasoning = _count(usage.get("output_tokens_details"), "reasoning_tokens") or 0
        prompt = None if prompt is None else prompt + extra
    if prompt is None or output is None:
        return None
    return Tokens(prompt, output, min(cached, prompt), min(reasoning, output))


def request_cost_usd(price: Price, tokens: Tokens) -> float | None:
    """USD of one request at token prices; cached input at its own rate where one is given, reasoning as output.

    None where the price lacks a rate that this request needs.
    """
    fresh = tokens.input - tokens.cached
    cached_rate = price.cached_per_mtok_usd if price.cached_per_mtok_usd is not None else price.input_per_mtok_usd
    parts = (
        (fresh, price.input_per_mtok_usd),
        (tokens.cached, cached_rate),
        (tokens.output, price.output_per_mtok_usd),
    )
    total = 0.0
    for count, rate in parts:
        if count and rate is None:
            return None
        total += count * (rate or 0.0) / 1e6
    return total


def token_cost(price: Price, tokens: Sequence[Tokens | None], right: float | None = None) -> Cost:
    """Cost of a cell by token price: `tokens` of every request sent, `right` = sum of qualities (right answers).

    Requests without token counts (None) make the total unknown; with none at all, or no rate, all is None.
    """
    if price.input_per_mtok_usd is None and price.output_per_mtok_usd is None:
        return _unknown("token price", price, "the deployment has no token price")
    known = [t for t in tokens if t is not None]
    if not known or len(known) < len(tokens):
        return _unknown(
            "token price", price, f"{len(tokens) - len(known)} of {len(tokens)} requests have no token count"
        )
    costs = [request_cost_usd(price, t) for t in known]
    if any(c is None for c in costs):
        missing = "input" if price.input_per_mtok_usd is None else "output"
        return _unknown("token price", price, f"the price lacks {missing}_per_mtok_usd")
    return _cost(sum(c for c in costs if c is not None), len(tokens), right, "token price", price)


def hardware_cost(
    price: Price, wall_s: float, requests: int, right: float | None = None, utilisation: float = 1.0
) -> Cost:
    """Cost of a cell by hardware hours: price per hour x wall time of the measured window.

    `utilisation` is the share of paid hours in which this load would run (1 = the machine is never idle).
    """
    if price.per_hour_usd is None:
        return _unknown("hardware hours", price, "the deployment has no per_hour_usd")
    if not wall_s > 0 or requests < 1:
        return _unknown("hardware hours", price, "nothing was measured")
    if not 0 < utilisation <= 1:
        return _unknown("hardware hours", price, f"utilisation {utilisation:g} is not a share between 0 and 1")
    return _cost(price.per_hour_usd * wall_s / 3600 / utilisation, requests, right, "hardware hours", price)


def idealized_cost(
    price: Price, runtimes_s: Sequence[float], accelerators: int = 1, right: float | None = None
) -> Cost:
    """Cost of a cell on hardware of its own: sum of T x accelerators x price per hour / 3600 (METRICS: idealized)."""
    if price.per_hour_usd is None:
        return _unknown("idealized", price, "the deployment has no per_hour_usd")
    if not runtimes_s:
        return _unknown("idealized", price, "no request has an idealized runtime")
    total = sum(runtimes_s) * accelerators * price.per_hour_usd / 3600
    return _cost(total, len(runtimes_s), right, "idealized", price)


def measured_energy(joules: float | None, requests: int, right: float | None = None) -> Energy:
    """Energy of a cell from counters (joules over the measured window, the device's idle power included)."""
    if joules is None or requests < 1:
        return Energy(None, None, None, "measured", "no energy counter was read")
    return _energy(joules, requests, right, "measured")


def idealized_energy(
    runtimes_s: Sequence[float], accelerators: int, power_w: float | None, right: float | None = None
) -> Energy:
    """Energy of a cell from power: sum of T x accelerators x power of one."""
    if power_w is None or not runtimes_s:
        why = "the power of the hardware is not known" if power_w is None else "no request has an idealized runtime"
        return Energy(None, None, None, "idealized from power", why)
    return _energy(sum(runtimes_s) * accelerators * power_w, len(runtimes_s), right, "idealized from power")


def _cost(total: float, requests: int, right: float | None, basis: Basis, price: Price) -> Cost:
    each = total / requests
    reason = "no answer was right" if right is not None and right <= 0 else None
    per_right = total / right if right is not None and right > 0 else None
    return Cost(each, 1000 * each, per_right, total, basis, date=price.date, reason=reason)


def _unknown(basis: Basis, price: Price, reason: str) -> Cost:
    return Cost(None, None, None, None, basis, date=price.date, reason=reason)


def _energy(total: float, requests: int, right: float | None, basis: EnergyBasis) -> Energy:
    per_right = total / right if right is not None and right > 0 else None
    reason = "no answer was right" if right is not None and right <= 0 else None
    return Energy(total / requests, per_right, total, basis, reason)


def _count(usage: Any, key: str) -> int | None:
    """A token count of untrusted usage: a whole number that is not negative, else None."""
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
