"""The embedded default engine: an ONNX folder run in process by onnxruntime-genai, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from poise.measure.backends import _inprocess
from poise.measure.backends._inprocess import Prepared, Ranked
from poise.measure.host import default_threads
from poise.measure.tokens import Codec, folder_codec
from poise.plan.spec import Deployment, Model
from poise.plan.weights import model_bytes
from poise.protocols import Answer, Opened, Raw
from poise.types import Failure, Request, UsageError

ROOM = 1024
"""Least tokens a kept generator has room for."""
CHUNK = 512
"""Prompt tokens whose logits are held at once while scoring."""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    threads: int | None = None
    """Threads of one operator; null: 1 for small models, else all physical cores."""


class Onnx:
    name = "onnx"
    reads = ("onnx",)
    capabilities = frozenset({"stream", "batch", "score", "chat", "exact_length"})
    Options = Options
    requires = ("onnxruntime_genai",)

    @staticmethod
    def check(model: Model, deployment: Deployment, allow_code: bool = True) -> None:
        """UsageError for what can be known to fail without loading anything."""
        _config(model, deployment)

    def open(self, model: Model, deployment: Deployment) -> Opened:
        """Load the folder; UsageError where it is none, or asks for what an exported folder cannot change."""
        options = msgspec.convert(deployment.options, Options)
        folder = Path(_inprocess.source_of(model, "onnx", deployment.quantization))
        config = _config(model, deployment)
        eos = _as_ids(config["model"]["eos_token_id"])
        self._codec = folder_codec(folder, eos, int(config["model"]["context_length"]))
        self._pad = _padding(self._codec, int(config["model"]["pad_token_id"]))
        device = "cuda" if deployment.device == "cuda" else "cpu"
        threads = options.threads or default_threads(model_bytes(folder) or 0)
        self._model = _load(folder, device, threads, self._pad)
        self._kept: Any = None
        self._room = 0
        return Opened(
            versions={name: version(name) for name in ("onnxruntime-genai", "onnxruntime", "tokenizers")},
            settings={"device": device, "threads": threads},
            tokenizer_sha=self._codec.tokenizer_sha,
            template_sha=self._codec.template_sha,
        )

    def prepare(self, request: Request) -> Prepared:
        prepared = _inprocess.prepare(request, self._codec)
        if prepared.ids and prepared.ids[-1] == self._pad:  # only where the tokenizer has no byte 0xFF
            prepared.error = Failure("padding", "the prompt ends in the padding token, which onnxruntime-genai drops")
        return prepared

    def send(self, batch: list[Prepared]) -> list[Raw]:
        return _inprocess.run(batch, self._answer)

    def finish(self, prepared: Prepared, raw: Raw) -> Answer:
        return _inprocess.finish(prepared, raw, self._codec)

    def close(self) -> None:
        self._kept = self._model = None

    def _answer(self, batch: list[Prepared], sent_ns: int) -> list[Raw]:
        kind = batch[0].request.kind
        if kind == "choice":
            return [_inprocess.scored(sent_ns, self._score_options(p)) for p in batch]
        if kind == "windows":
            return [_inprocess.scored(sent_ns, self._score_windows(p)) for p in batch]
        return self._generate(batch, sent_ns)

    def _generate(self, batch: list[Prepared], sent_ns: int) -> list[Raw]:
        """Greedy or seeded sampling; rows are padded on the right, which the engine masks."""
        width = max(len(p.ids) for p in batch)
        ids = np.array([p.ids + [self._pad] * (width - len(p.ids)) for p in batch], dtype=np.int32)
        request = batch[0].request
        length = width + max(p.request.max_tokens for p in batch)
        exact = batch[0].exact
        alone = len(batch) == 1 and request.temperature == 0 and (exact or not request.min_tokens)
        if alone:
            generator = self._rewound(length, exact)
        else:
            generator = self._generator(
                length,
                batch_size=len(batch),
                min_length=width + request.min_tokens if request.min_tokens else 0,
                **_sampling(request),
            )
        generator.append_tokens(ids if len(batch) > 1 else ids[0])
        advance, tokens = generator.generate_next_token, generator.get_next_tokens

        def step() -> list[int]:
            advance()
            chosen: list[int] = tokens().tolist()
            return chosen

        raws = _inprocess.decode(batch, step, sent_ns, self._codec)
        if alone:  # not kept where anything was raised
            self._kept = (generator, exact)
        return raws

    def _rewound(self, length: int, exact: bool) -> Any:
        """A generator for one greedy request, the last one's rewound to nothing (none of its cache is used again).

        Making one takes 0.7 ms whatever the model, more than a small model's whole answer. One for exact lengths
        never ends by itself.
        """
        kept, self._kept = self._kept, None
        if kept is not None and kept[1] == exact and length <= self._room:
            kept[0].rewind_to(0)
            return kept[0]
        room = max(2 * length, ROOM)
        self._room = min(room, self._codec.context or room)
        return self._generator(self._room, min_length=self._room if exact else 0)

    def _generator(self, length: int, **search: Any) -> Any:
        import onnxruntime_genai as og

        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=min(length, self._codec.context or length), **search)
        return og.Generator(self._model, params)

    def _score_options(self, prepared: Prepared) -> list[Ranked]:
        """Every continuation; a prompt is run once and its cache rewound to."""
        scores: list[Ranked] = [([], True)] * len(prepared.options)
        for place, context in enumerate(prepared.contexts):
            asked = [i for i, after in enumerate(prepared.after) if after == place]
            generator = self._generator(len(context) + max(len(prepared.options[i]) for i in asked))
            first = log_softmax(_append(generator, context)[-1:])
            for i in asked:
                option, rows = prepared.options[i], first
                if len(option) > 1:
                    generator.rewind_to(len(context))
                    rows = np.concatenate([first, log_softmax(_append(generator, option[:-1], rows=len(option) - 1))])
                logprobs = rows[np.arange(len(option)), option].tolist()
                scores[i] = (logprobs, rows.argmax(axis=-1).tolist() == option)
        return scores

    def _score_windows(self, prepared: Prepared) -> list[float]:
        scores: list[float] = []
        for start, scored, end in prepared.windows:
            generator = self._generator(end - start)
            for low in range(start, end - 1, CHUNK):
                high = min(low + CHUNK, end - 1)
                skip = max(0, scored - 1 - low)
                wanted = max(0, high - low - skip)
                logits = _append(generator, prepared.ids[low:high], rows=wanted)
                if wanted:
                    targets = prepared.ids[high - wanted + 1 : high + 1]
                    scores += log_softmax(logits)[np.arange(wanted), targets].tolist()
        return scores


def _config(model: Model, deployment: Deployment) -> dict[str, Any]:
    """The folder's `genai_config.json`, where this deployment can be had from it."""
    folder = Path(_inprocess.source_of(model, "onnx", deployment.quantization))
    path = folder / "genai_config.json"
    if not path.is_file():
        raise UsageError(
            f"model {model.name!r}: {folder} has no genai_config.json; export one with "
            "`python -m onnxruntime_genai.models.builder -m MODEL -o FOLDER -p fp32 -e cpu`"
        )
    if deployment.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"backend onnx has no device {deployment.device!r}; there are: auto, cpu, cuda")
    if model.weights == "random" or model.adapter:
        what = "random weights" if model.weights == "random" else "adapters"
        raise UsageError(f"backend onnx cannot take {what} (model {model.name!r}); use backend transformers")
    if deployment.dtype != "auto":
        raise UsageError(f"backend onnx takes the precision of the folder; leave out dtype {deployment.dtype!r}")
    if deployment.quantization != "none" and not isinstance(model.source["onnx"], dict):
        raise UsageError(
            f"backend onnx does not quantise; export a folder and give "
            f"source: {{onnx: {{{deployment.quantization}: FOLDER}}}}"
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _padding(codec: Codec, given: int) -> int:
    """A token to pad with that no text contains: that of the byte 0xFF, which UTF-8 never uses.

    The engine drops trailing padding tokens of every prompt, also where the model's end-of-text token is its padding
    token and the prompt really ends in it.
    """
    for token in range(codec.size):
        surface = codec.surface(token)
        if surface in ("<0xFF>", "ÿ") and token not in codec.encode(surface, False):
            return token
    return given


def _load(folder: Path, device: str, threads: int, pad: int) -> Any:
    try:
        import onnxruntime_genai as og
    except ImportError:
        raise UsageError("backend onnx needs onnxruntime-genai: pip install onnxruntime-genai") from None
    config = og.Config(str(folder))
    config.clear_providers()
    if device != "cpu":
        config.append_provider(device)
    session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"pad_token_id": pad, "decoder": {"session_options": session}}}))
    try:
        return og.Model(config)
    except RuntimeError as error:
        raise UsageError(f"onnxruntime-genai cannot load {folder.name} on {device}: {error}") from None


def _as_ids(value: int | list[int]) -> frozenset[int]:
    return frozenset([value] if isinstance(value, int) else value)


def _sampling(request: Request) -> dict[str, Any]:
    if request.temperature == 0:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 0,
        "random_seed": request.seed % 2**31,
    }


def _append(generator: Any, ids: Sequence[int], rows: int = 1) -> Any:
    """Feed tokens; logits (rows, vocabulary) at the last `rows` of them, also where the model gives only the last."""
    array = np.array(ids, dtype=np.int32)
    generator.append_tokens(array)
    logits = generator.get_output("logits")[0]
    if len(logits) >= rows:
        return logits[len(logits) - rows :]
    kept = len(ids) - rows
    generator.rewind_to(generator.token_count() - rows)
    stepped = []
    for token in ids[kept:]:
        generator.append_tokens(np.array([token], dtype=np.int32))
        stepped.append(generator.get_output("logits")[0, -1].copy())
    return np.stack(stepped)


def log_softmax(logits: Any) -> Any:
    """Natural-log probabilities over the last axis, in float64 (float16 and float32 logits alike)."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
