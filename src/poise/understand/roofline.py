"""Roofline: what a model would take on hardware one may not own, phase by phase.

Time of a phase = max(FLOPs / (F·η_c), bytes / (W·η_m)) + overhead, with F FLOP/s and W bytes/s of all accelerators
(Williams et al., CACM 2009; counts as in Pope et al., "Efficiently Scaling Transformer Inference", 2211.05102):
prefill FLOPs = 2·N·p·B + 4·L·n_q·d·p²·B, decode FLOPs a step = 2·N·B + 4·L·n_q·d·s·B; a decode step reads all weights
once (head in, input table out) and the KV cache. N active parameters, p prompt, s context, B sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct, structs

from poise.types import UsageError
from poise.understand.hardware import Hardware
from poise.understand.shapes import Shape

USABLE = 0.9
"""Share of the memory that weights and KV cache may fill; the rest is for activations and the runtime."""


class Efficiency(Struct, frozen=True):
    """Share of peak compute and of peak bandwidth that is reached, and seconds added to every phase."""

    compute: float = 0.5
    memory: float = 0.6
    overhead_s: float = 0.0


class Setting(Struct, frozen=True):
    """Where and how a request runs: `batch` equal sequences on `accelerators` of one kind (work and bytes shared)."""

    hardware: Hardware
    accelerators: int = 1
    batch: int = 1
    efficiency: Efficiency = Efficiency()
    kv_bits: float = 16


class Use(Struct, frozen=True):
    """How much of the peaks a measured deployment reached: MFU of prefill and decode, MBU of decode (fractions)."""

    prefill_mfu: float | None
    decode_mfu: float | None
    decode_mbu: float | None


class Roofline(Struct, frozen=True):
    """The answer for one model, hardware and request. Energy is None where the catalogue has no power."""

    model: str
    hardware: str
    accelerators: int
    smallest_accelerators: int
    batch: int
    prompt_tokens: int
    output_tokens: int
    params: int
    active_params: int
    weight_bytes: float
    kv_bytes_per_token: float
    kv_bytes: float
    prefill_flops: float
    decode_flops: float
    """Of all decode steps together."""
    decode_bytes_per_step: float
    ttft_s: float
    tpot_s: float | None
    total_s: float
    decode_bound: str
    energy_j: float | None
    notes: tuple[str, ...] = ()


def weight_bytes(shape: Shape) -> float:
    """Bytes of all weights in memory, experts included."""
    blocks = shape.dense_params + shape.experts * shape.expert_params
    tables = shape.embedding_params + (0 if shape.tied else shape.head_params)
    return (blocks * shape.weight_bits + tables * shape.table_bits) / 8


def step_weight_bytes(shape: Shape, batch: float = 1) -> float:
    """Weight bytes that one decode step of `batch` tokens reads: head in, input table out.

    Of E experts, k a token, a batch meets E·(1 − (1 − k/E)^B) on average (independent uniform routing).
    """
    experts = 0.0
    if shape.experts:
        experts = shape.experts * (1 - (1 - shape.experts_used / shape.experts) ** batch)
    blocks = shape.dense_params + experts * shape.expert_params
    return (blocks * shape.weight_bits + shape.head_params * shape.table_bits) / 8


def kv_bytes_per_token(shape: Shape, kv_bits: float = 16) -> float:
    """2·L·n_kv·d·bytes (for MLA: L·(latent + rotary)·bytes), every layer keeping the token."""
    return shape.layers * shape.kv_values * kv_bits / 8


def kv_bytes(shape: Shape, context: float, batch: float = 1, kv_bits: float = 16) -> float:
    """KV cache of `batch` sequences of `context` tokens; windowed layers keep no more than their window."""
    full = shape.layers - shape.windowed_layers
    kept = full * context + shape.windowed_layers * min(context, shape.window or context)
    return kept * shape.kv_values * batch * kv_bits / 8


def prefill_flops(shape: Shape, prompt_tokens: float, batch: float = 1, causal: bool = False) -> float:
    """2·N·p·B + 4·L·n_q·d·p²·B; the second term halved where causal masking is exploited, windows cut it to p·w."""
    full = shape.layers - shape.windowed_layers
    window = min(prompt_tokens, shape.window or prompt_tokens)
    pairs = prompt_tokens * (full * prompt_tokens + shape.windowed_layers * window)
    if causal:
        pairs = full * prompt_tokens**2 / 2 + shape.windowed_layers * (prompt_tokens - window / 2) * window
    return batch * (2 * shape.active_params * prompt_tokens + _flops_per_pair(shape) * pairs)


def decode_flops(shape: Shape, context: float, batch: float = 1) -> float:
    """One step: 2·N·B + 4·L·n_q·d·s·B, windowed layers looking back no further than their window."""
    full = shape.layers - shape.windowed_layers
    seen = full * context + shape.windowed_layers * min(context, shape.window or context)
    return batch * (2 * shape.active_params + _flops_per_pair(shape) * seen)


def smallest_count(shape: Shape, hardware: Hardware, context: float, batch: float = 1, kv_bits: float = 16) -> int:
    """Fewest accelerators whose usable memory (90 %) holds the weights and the KV cache."""
    need = weight_bytes(shape) + kv_bytes(shape, context, batch, kv_bits)
    return max(math.ceil(need / (hardware.mem_bytes * USABLE)), 1)


def ttft_s(shape: Shape, setting: Setting, prompt_tokens: float) -> float:
    """Seconds of the prefill, which ends with the first token."""
    batch = setting.batch
    moved = step_weight_bytes(shape, batch * prompt_tokens) + kv_bytes(shape, prompt_tokens, batch, setting.kv_bits)
    return _phase(prefill_flops(shape, prompt_tokens, batch), moved, setting)


def step_s(shape: Shape, setting: Setting, context: float) -> float:
    """Seconds of one decode step with `context` tokens in the cache of each sequence."""
    return _phase(decode_flops(shape, context, setting.batch), step_bytes(shape, setting, context), setting)


def step_bytes(shape: Shape, setting: Setting, context: float) -> float:
    """Bytes that one decode step moves: weights once, KV cache of every sequence."""
    return step_weight_bytes(shape, setting.batch) + kv_bytes(shape, context, setting.batch, setting.kv_bits)


def total_s(shape: Shape, setting: Setting, prompt_tokens: int, output_tokens: int) -> float:
    """Prefill and the o − 1 decode steps after it, each at its own context."""
    steps = (step_s(shape, setting, prompt_tokens + j) for j in range(1, output_tokens))
    return ttft_s(shape, setting, prompt_tokens) + sum(steps)


def roofline(
    shape: Shape,
    hardware: Hardware,
    prompt_tokens: int,
    output_tokens: int,
    batch: int = 1,
    accelerators: int | None = None,
    efficiency: Efficiency | None = None,
    kv_bits: float = 16,
) -> Roofline:
    """Everything about one request (or a batch of equal ones); `accelerators` None = the fewest that fit.

    Raises UsageError for counts below 1 and for lengths beyond the model's context.
    """
    counts = {"prompt tokens": prompt_tokens, "output tokens": output_tokens, "batch": batch}
    for name, value in (counts | ({} if accelerators is None else {"accelerators": accelerators})).items():
        if value < 1:
            raise UsageError(f"{name} must be 1 or more, not {value}")
    context = prompt_tokens + output_tokens
    if shape.context and context > shape.context:
        raise UsageError(
            f"{prompt_tokens} + {output_tokens} tokens are beyond the context of {shape.name}, {shape.context}"
        )
    smallest = smallest_count(shape, hardware, context, batch, kv_bits)
    count = accelerators or smallest
    setting = Setting(hardware, count, batch, efficiency or Efficiency(), kv_bits)
    first = ttft_s(shape, setting, prompt_tokens)
    total = total_s(shape, setting, prompt_tokens, output_tokens)
    moved = step_bytes(shape, setting, context - 1)
    compute_s = decode_flops(shape, context - 1, batch) / (hardware.flops * setting.efficiency.compute)
    notes = [shape.assumed] if shape.assumed else []
    if count < smallest:
        notes.append(f"{count} x {hardware.name} cannot hold it; {smallest} can")
    return Roofline(
        model=shape.name,
        hardware=hardware.name,
        accelerators=count,
        smallest_accelerators=smallest,
        batch=batch,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        params=shape.params,
        active_params=shape.active_params,
        weight_bytes=weight_bytes(shape),
        kv_bytes_per_token=kv_bytes_per_token(shape, kv_bits),
        kv_bytes=kv_bytes(shape, context, batch, kv_bits),
        prefill_flops=prefill_flops(shape, prompt_tokens, batch),
        decode_flops=sum(decode_flops(shape, prompt_tokens + j, batch) for j in range(1, output_tokens)),
        decode_bytes_per_step=moved,
        ttft_s=first,
        tpot_s=(total - first) / (output_tokens - 1) if output_tokens > 1 else None,
        total_s=total,
        decode_bound="compute" if compute_s > moved / (hardware.bandwidth * setting.efficiency.memory) else "memory",
        energy_j=None if hardware.power_w is None else total * count * hardware.power_w,
        notes=tuple(notes),
    )


def use(
    shape: Shape, setting: Setting, prompt_tokens: float, output_tokens: float, ttft: float | None, tpot: float | None
) -> Use:
    """MFU = achieved / peak FLOP/s; MBU = (weight + KV bytes of a step)/tpot / peak bytes/s, at the mean context."""
    flops = setting.hardware.flops * setting.accelerators
    bandwidth = setting.hardware.bandwidth * setting.accelerators
    context = prompt_tokens + output_tokens / 2
    return Use(
        prefill_mfu=prefill_flops(shape, prompt_tokens, setting.batch) / ttft / flops if ttft else None,
        decode_mfu=decode_flops(shape, context, setting.batch) / tpot / flops if tpot else None,
        decode_mbu=step_bytes(shape, setting, context) / tpot / bandwidth if tpot else None,
    )


def refit(shape: Shape, setting: Setting, points: Sequence[tuple[int, int, float]]) -> Efficiency:
    """The two efficiencies from measured (prompt tokens, output tokens, seconds), by least squares of log time.

    One that no point depends on (all are bound by the other) keeps its start value. UsageError below two points.
    """
    if len({(p, o) for p, o, _ in points}) < 2:
        raise UsageError("the two efficiencies need two distinct measured points or more")
    for p, o, t in points:
        if p < 1 or o < 1 or not (math.isfinite(t) and t > 0):
            raise UsageError(f"measured point ({p}, {o}, {t:g}): lengths are 1 or more and a time is positive")
    from scipy.optimize import least_squares

    start = setting.efficiency
    logs = np.log([t for _, _, t in points])

    def at(x: Sequence[float]) -> Efficiency:
        return structs.replace(start, compute=math.exp(x[0]), memory=math.exp(x[1]))

    def residual(x: Any) -> Any:
        there = structs.replace(setting, efficiency=at(x))
        return np.log([total_s(shape, there, p, o) for p, o, _ in points]) - logs

    # The surface has kinks where a phase changes its bound: start on both sides, keep the best.
    low, high = math.log(1e-5), math.log(2.0)
    tries = [
        least_squares(residual, (math.log(c), math.log(m)), bounds=((low, low), (high, high)))
        for c in (start.compute, 0.02)
        for m in (start.memory, 0.02)
    ]
    best: Any = min(tries, key=lambda r: float(r.cost))
    free = np.abs(best.jac).max(axis=0) > 1e-6
    found = at([float(v) for v in best.x])
    return structs.replace(
        start,
        compute=found.compute if free[0] else start.compute,
        memory=found.memory if free[1] else start.memory,
    )


def _flops_per_pair(shape: Shape) -> float:
    """Of one query–key pair in one layer, all heads: 4·n_q·d, or 2·n_q·(qk + v) where the widths differ."""
    return 2 * shape.heads * (shape.qk_dim + shape.v_dim)


def _phase(flops: float, moved: float, setting: Setting) -> float:
    hardware, count, efficiency = setting.hardware, setting.accelerators, setting.efficiency
    compute = flops / (hardware.flops * count * efficiency.compute)
    return max(compute, moved / (hardware.bandwidth * count * efficiency.memory)) + efficiency.overhead_s
