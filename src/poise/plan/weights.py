"""What a model's weights take in memory, from local files alone: safetensors headers, ONNX files or `config.json`."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import msgspec

BYTES: dict[str, float] = {
    "float32": 4,
    "fp32": 4,
    "float16": 2,
    "fp16": 2,
    "bfloat16": 2,
    "bf16": 2,
    "int8": 1,
    "int4": 0.5,
}


class _Tensor(msgspec.Struct):
    """An entry of a safetensors header."""

    shape: list[int]


def model_bytes(source: str | Path, dtype: str = "auto", quantization: str = "none") -> int | None:
    """Memory the weights of a local folder take as they would be loaded; None where nothing local tells.

    From the parameter count in the safetensors headers (times the bytes of the precision), the size of ONNX files,
    or `config.json` where there are no weights.
    """
    folder = Path(source)
    if not folder.is_dir():
        return None
    per_weight: float | None = BYTES.get(quantization) or BYTES.get(dtype)
    stored = [_safetensors(path) for path in sorted(folder.glob("*.safetensors"))]
    if stored:
        count, size = sum(c for c, _ in stored), sum(b for _, b in stored)
        return round(count * per_weight) if per_weight and count else size
    files: list[Path] = [p for pattern in ("*.onnx", "*.onnx.data", "*.bin", "*.gguf") for p in folder.glob(pattern)]
    if files:
        return sum(p.stat().st_size for p in files)
    return _config_bytes(folder / "config.json", per_weight or 4.0)


def _safetensors(path: Path) -> tuple[int, int]:
    """(parameters, bytes) from the header: 8 bytes of length, then JSON (github.com/huggingface/safetensors)."""
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 0 < length < 100_000_000:
            return 0, path.stat().st_size
        try:
            header: dict[str, Any] = msgspec.json.decode(file.read(length), type=dict[str, Any])
            header.pop("__metadata__", None)
            count = sum(math.prod(tensor.shape) for tensor in msgspec.convert(header, dict[str, _Tensor]).values())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return 0, path.stat().st_size
    return count, path.stat().st_size - length - 8


def _config_bytes(path: Path, per_weight: float) -> int | None:
    """Weights of a dense Llama-shaped model: embeddings, attention and gated feed-forward of every layer."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or hidden // heads
        attention = 2 * hidden * head * (heads + config.get("num_key_value_heads", heads))
        feed = 3 * hidden * config["intermediate_size"]
        tables = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
        return int((layers * (attention + feed) + tables) * per_weight)
    except (OSError, ValueError, KeyError, TypeError):
        return None
