"""How many tokens the models of a study can take in, as far as their configurations tell: no engine is asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from poise.plan.sources import hub_file
from poise.types import PoiseError

NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
"""How configurations call the positions a model was made for."""


def smallest_context(sources: Iterable[tuple[str, str, str | None]]) -> int | None:
    """The fewest tokens that prompt and answer may have together in any of these (kind, source, revision).

    None where none of them tells.
    """
    return min((known for source in sources if (known := _context(*source)) is not None), default=None)


def _context(kind: str, source: str, revision: str | None) -> int | None:
    if kind == "onnx":
        return _number(_read(Path(source) / "genai_config.json").get("model"), ("context_length",))
    if kind != "hf":
        return None
    folder = Path(source)
    try:
        path = folder / "config.json" if folder.is_dir() else hub_file(source, "config.json", revision)
    except (PoiseError, ValueError):  # whoever needs the model says so
        return None
    config = _read(path) if path else {}
    return _number(config, NAMES) or _number(config.get("text_config"), NAMES)


def _read(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, RecursionError):  # a damaged model is the engine's to refuse
        return {}


def _number(config: Any, names: Iterable[str]) -> int | None:
    found = config if isinstance(config, dict) else {}
    return next((v for name in names if isinstance(v := found.get(name), int) and 0 < v < 2**31), None)
