"""Shapes of decoder models from a Hugging Face `config.json`: parameters, what a decode step reads, KV width.

Parameters are counted layer by layer as the published implementations lay them out; the totals of the built-in
shapes equal the published checkpoints to the last parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from poise.registry import did_you_mean
from poise.types import UsageError


class Shape(Struct, frozen=True):
    """What a roofline needs to know of a model. Counts are of parameters and of values, widths in bits.

    With experts, `expert_params` is one expert over all layers that have experts, `experts` how many there are and
    `experts_used` how many a token visits; without, all three are 0 and everything is in `dense_params`.
    """

    name: str
    layers: int
    heads: int
    qk_dim: int
    v_dim: int
    kv_values: int
    """Values kept per token and layer: 2·n_kv·d, or latent + rotary part with latent attention (MLA)."""
    dense_params: int
    """All parameters that every token meets, without embedding tables and head."""
    embedding_params: int
    """Input tables (token and learned positions), a tied one included."""
    head_params: int
    """Output head as read in each step (a tied table counts here too, but once in `params`)."""
    tied: bool
    context: int
    experts: int = 0
    experts_used: int = 0
    expert_params: int = 0
    windowed_layers: int = 0
    window: int = 0
    weight_bits: float = 16
    table_bits: float = 16
    assumed: str | None = None
    """Why the shape is a guess, where it is one."""

    @property
    def params(self) -> int:
        tables = self.embedding_params + (0 if self.tied else self.head_params)
        return self.dense_params + tables + self.experts * self.expert_params

    @property
    def active_params(self) -> int:
        return self.params - (self.experts - self.experts_used) * self.expert_params


class Family(Struct, frozen=True):
    """How a family lays out its blocks; biases and norms are few parameters but make the count exact."""

    gated: bool = True
    norms: int = 2
    norm_width: int = 1
    """1: scale (RMS norm); 2: scale and shift (layer norm)."""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    head_norms: int = 0
    """Norms over single heads of query and key."""
    wide_norms: bool = False
    """Norms over all heads of query, and of key, at once."""
    positions: int | None = None
    """Learned positions beyond the context; None: rotary or the like, no table."""
    tied: bool = False


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "mixtral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen2_moe": Family(qkv_bias=True),
    "qwen3": Family(head_norms=2),
    "qwen3_moe": Family(head_norms=2),
    "gemma": Family(tied=True),
    "gemma2": Family(tied=True, norms=4),
    "gemma3_text": Family(tied=True, norms=4, head_norms=2),
    "phi": Family(gated=False, norms=1, norm_width=2, qkv_bias=True, out_bias=True, mlp_bias=True, head_bias=True),
    "phi3": Family(),
    "falcon": Family(gated=False, norms=1, norm_width=2, tied=True),
    "gpt2": Family(gated=False, norm_width=2, qkv_bias=True, out_bias=True, mlp_bias=True, positions=0, tied=True),
    "gptj": Family(gated=False, norms=1, norm_width=2, mlp_bias=True, head_bias=True),
    "gpt_neox": Family(gated=False, norm_width=2, qkv_bias=True, out_bias=True, mlp_bias=True),
    "opt": Family(gated=False, norm_width=2, qkv_bias=True, out_bias=True, mlp_bias=True, positions=2, tied=True),
    "stablelm": Family(norm_width=2),
    "olmo2": Family(wide_norms=True),
    "smollm3": Family(tied=True),
    "deepseek_v2": Family(),
    "deepseek_v3": Family(),
}
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab": ("vocab_size",),
    "context": ("max_position_embeddings", "n_positions", "seq_length", "model_max_length"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
}
BITS = {
    "float32": 32, "float16": 16, "bfloat16": 16, "fp32": 32, "fp16": 16, "bf16": 16, "f32": 32, "f16": 16,
    "fp8": 8, "int8": 8, "8bit": 8, "q8_0": 8.5, "q6_k": 6.56, "q5_k_m": 5.69, "q4_k_m": 4.85, "q4_0": 4.5,
    # 4-bit with one half-precision scale (and, except nf4, a zero point) a group of 64 to 128 weights
    "int4": 4.25, "nf4": 4.25, "awq": 4.25, "gptq": 4.25, "4bit": 4.25,
}  # fmt: skip
_WHOLE = (
    "float32",
    "float16",
    "bfloat16",
    "fp32",
    "fp16",
    "bf16",
    "f32",
    "f16",
    "q8_0",
    "q6_k",
    "q5_k_m",
    "q4_k_m",
    "q4_0",
)


def read_shape(source: str, width: str | None = None) -> Shape:
    """The shape of a built-in name, a `config.json`, or a folder that holds one; `width` overrides its dtype.

    Raises UsageError for an unknown name (did you mean), a file that is no such config, or a missing field.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        try:
            config = msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not a config.json: {error}") from None
        if not isinstance(config, dict):
            raise UsageError(f"{path} is not a config.json: it holds no object")
        return shape_of(config, path.parent.name or str(path), width)
    if source.endswith(".json") or "/" in source:
        raise UsageError(f"no model config {source}; give a config.json, a folder with one, or a built-in name")
    name = source.lower()
    if name not in BUILT_IN:
        raise UsageError(f"no file and no built-in model {source!r}{did_you_mean(name, BUILT_IN)}")
    return shape_of(BUILT_IN[name], name, width)


def shape_of(config: dict[str, Any], name: str, width: str | None = None) -> Shape:
    """The shape that a decoder's `config.json` (as a dict) describes; UsageError names a field that is missing."""
    config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    kind = str(config.get("model_type", ""))
    family, assumed = FAMILIES.get(kind), None
    if family is None:
        family, assumed = FAMILIES["llama"], f"model type {kind!r} is not known; laid out like llama"
    get = _getter(config, name)
    hidden, layers, heads, vocab = get("hidden"), get("layers"), get("heads"), get("vocab")
    head_dim = _whole(config, "head_dim", hidden // heads)
    attention, qk_dim, v_dim, kv_values = _attention(config, family, kind, hidden, heads, head_dim)
    block_norms = _block_norms(config, family, kind) * family.norm_width * hidden
    block_norms += family.head_norms * head_dim
    dense_mlp, expert_mlp, experts, used, expert_layers = _mlps(config, family, get, hidden, layers)
    tied = bool(config.get("tie_word_embeddings", family.tied))
    table = _whole(config, "word_embed_proj_dim", hidden) * vocab
    context = get("context", default=0)
    positions = 0 if family.positions is None else (context + family.positions) * hidden
    windowed, window = _windows(config, kind, layers)
    weight_bits, table_bits = _widths(config, width)
    return Shape(
        name=name,
        layers=layers,
        heads=heads,
        qk_dim=qk_dim,
        v_dim=v_dim,
        kv_values=kv_values,
        dense_params=layers * (attention + block_norms) + dense_mlp + family.norm_width * hidden,
        embedding_params=table + positions,
        head_params=table + (vocab if family.head_bias else 0),
        tied=tied,
        context=context,
        experts=experts,
        experts_used=used,
        expert_params=expert_layers * expert_mlp,
        windowed_layers=windowed,
        window=window,
        weight_bits=weight_bits,
        table_bits=table_bits,
        assumed=assumed,
    )


def _whole(config: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number of the config; where it is absent (or 0) the default, and with none a UsageError."""
    value = config.get(key)
    if not value and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise UsageError(f"the config's {key} must be a positive whole number, not {value!r}")
    return value


def _getter(config: dict[str, Any], name: str) -> Callable[..., int]:
    def get(what: str, default: int | None = None) -> int:
        for key in _NAMES[what]:
            value = config.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            if value is not None:
                raise UsageError(f"config of {name}: {key} must be a positive whole number, not {value!r}")
        if default is None:
            raise UsageError(f"config of {name} lacks {_NAMES[what][0]}; without it there is no roofline")
        return default

    return get


def _attention(
    config: dict[str, Any], family: Family, kind: str, hidden: int, heads: int, head_dim: int
) -> tuple[int, int, int, int]:
    """Parameters of one layer's attention, query/key and value width of a head, values cached per token."""
    if config.get("kv_lora_rank"):  # multi-head latent attention, DeepSeek-V2 (arXiv 2405.04434)
        names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        latent, nope, rope, v_dim = (_whole(config, k) for k in names)
        rank, width = _whole(config, "q_lora_rank", 0), heads * (nope + rope)
        query = hidden * width if not rank else hidden * rank + rank + rank * width
        params = query + hidden * (latent + rope) + latent + latent * heads * (nope + v_dim) + heads * v_dim * hidden
        return params, nope + rope, v_dim, latent + rope
    kv_heads = _kv_heads(config, kind, heads)
    q, kv = heads * head_dim, 2 * kv_heads * head_dim
    qkv_bias = bool(config.get("attention_bias", config.get("bias") if kind == "falcon" else family.qkv_bias))
    out_bias = family.out_bias or (bool(config.get("attention_bias")) and kind == "llama")
    params = hidden * (q + kv) + q * hidden + (q + kv if qkv_bias else 0) + (hidden if out_bias else 0)
    params += q + kv // 2 if family.wide_norms else 0
    return params, head_dim, head_dim, kv


def _kv_heads(config: dict[str, Any], kind: str, heads: int) -> int:
    if kind == "falcon" and not config.get("new_decoder_architecture"):
        return 1 if config.get("multi_query", True) else heads
    return _whole(config, "num_key_value_heads", _whole(config, "num_kv_heads", heads))


def _block_norms(config: dict[str, Any], family: Family, kind: str) -> int:
    if kind == "falcon" and (config.get("new_decoder_architecture") or not config.get("parallel_attn", True)):
        return 2
    return family.norms


def _mlps(
    config: dict[str, Any], family: Family, get: Callable[..., int], hidden: int, layers: int
) -> tuple[int, int, int, int, int]:
    """Parameters of all dense MLPs (routers and shared experts too), of one expert; experts, used, layers with them."""
    inner = get("inner", default=4 * hidden if not family.gated else None)

    def one(width: int) -> int:
        bias = family.mlp_bias or bool(config.get("mlp_bias"))
        ins = 2 if family.gated else 1
        return (ins + 1) * hidden * width + (ins * width + hidden if bias else 0)

    experts = get("experts", default=0)
    if not experts:
        return layers * one(inner), 0, 0, 0, 0
    used = _whole(config, "num_experts_per_tok")
    if used > experts:
        raise UsageError(f"the config has {experts} experts, but num_experts_per_tok is {used}")
    expert = one(_whole(config, "moe_intermediate_size", inner))
    dense_layers = _whole(config, "first_k_dense_replace", 0) + len(config.get("mlp_only_layers") or ())
    expert_layers = max(layers - dense_layers, 0)
    shared = _whole(config, "n_shared_experts", 0) * expert
    if config.get("shared_expert_intermediate_size"):
        shared += one(_whole(config, "shared_expert_intermediate_size")) + hidden
    correction = experts if config.get("topk_method") == "noaux_tc" else 0
    dense = dense_layers * one(inner) + expert_layers * (hidden * experts + correction + shared)
    return dense, expert, experts, used, expert_layers


def _windows(config: dict[str, Any], kind: str, layers: int) -> tuple[int, int]:
    window = config.get("sliding_window")
    if not isinstance(window, int) or window <= 0 or config.get("use_sliding_window") is False:
        return 0, 0
    types = config.get("layer_types")
    if isinstance(types, list):
        return sum(t == "sliding_attention" for t in types), window
    if kind == "gemma2":
        return (layers + 1) // 2, window
    if kind == "gemma3_text":
        return layers - layers // _whole(config, "sliding_window_pattern", 6), window
    return layers, window


def _widths(config: dict[str, Any], width: str | None) -> tuple[float, float]:
    """Bits of block weights and of tables: most quantisers leave embedding and head in half precision."""
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "float16")
    table = float(BITS.get(dtype, 16))
    if width is None:
        quantised = config.get("quantization_config")
        if not isinstance(quantised, dict):
            return table, table
        method = str(quantised.get("quant_method", ""))
        bits = quantised.get("bits") or (4 if quantised.get("load_in_4bit") else 8)
        return (BITS["int4"] if bits == 4 else 8 if method == "fp8" else float(bits)), min(table, 16)
    name = width.lower()
    if name not in BITS:
        raise UsageError(f"unknown width {width!r}{did_you_mean(name, BITS)}")
    bits = float(BITS[name])
    return bits, bits if name in _WHOLE else min(table, 16)


def _llama(hidden: int, layers: int, heads: int, kv: int, inner: int, vocab: int, context: int) -> dict[str, Any]:
    return {
        "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "intermediate_size": inner, "vocab_size": vocab, "torch_dtype": "float16",
        "max_position_embeddings": context, "tie_word_embeddings": False,
    }  # fmt: skip


# Each from the `config.json` published with the checkpoint of that name on the Hugging Face hub.
BUILT_IN: dict[str, dict[str, Any]] = {
    "llama-2-7b": _llama(4096, 32, 32, 32, 11008, 32000, 4096),  # meta-llama/Llama-2-7b-hf
    "llama-2-13b": _llama(5120, 40, 40, 40, 13824, 32000, 4096),  # meta-llama/Llama-2-13b-hf
    "llama-2-70b": _llama(8192, 80, 64, 8, 28672, 32000, 4096),  # meta-llama/Llama-2-70b-hf
    "llama-3-8b": _llama(4096, 32, 32, 8, 14336, 128256, 8192),  # meta-llama/Meta-Llama-3-8B
    "llama-3-70b": _llama(8192, 80, 64, 8, 28672, 128256, 8192),  # meta-llama/Meta-Llama-3-70B
    # mistralai/Mistral-7B-v0.1
    "mistral-7b": _llama(4096, 32, 32, 8, 14336, 32000, 32768) | {"model_type": "mistral", "sliding_window": 4096},
    # mistralai/Mixtral-8x7B-v0.1
    "mixtral-8x7b": _llama(4096, 32, 32, 8, 14336, 32000, 32768)
    | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    # tiiuae/falcon-7b (its context of 2048 stands in the model card, not in the config)
    "falcon-7b": {
        "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
        "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False,
        "bias": False, "max_position_embeddings": 2048, "torch_dtype": "bfloat16",
    },
    # google/gemma-7b
    "gemma-7b": {
        "model_type": "gemma", "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24576, "vocab_size": 256000,
        "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    },
    # openai-community/gpt2
    "gpt2": {
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024,
    },
    # EleutherAI/gpt-j-6b
    "gpt-j-6b": {
        "model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "vocab_size": 50400, "n_positions": 2048,
        "tie_word_embeddings": False, "torch_dtype": "float16",
    },
}  # fmt: skip
