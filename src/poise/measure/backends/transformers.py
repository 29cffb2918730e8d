"""Any causal language model through transformers and torch, in process, with its own stamped decoding loop.

`model.generate` shows tokens only through streamers and repeats bookkeeping every step; here a step is one forward
pass, one choice of token on the device and one transfer to the host for the whole batch.
"""

from __future__ import annotations

import copy
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from poise.measure.backends import _inprocess
from poise.measure.backends._inprocess import Prepared
from poise.measure.host import default_threads
from poise.measure.tokens import Codec, text_sha, tokenizer_sha
from poise.plan.spec import Deployment, Model
from poise.types import Answer, Opened, Raw, Request, UsageError

INSTALL = "pip install 'poise[transformers]'"
CHUNK = 512
"""Tokens whose logits are held at once while a text is scored."""
OPTIONS_AT_ONCE = 16
"""Continuations of one choice that run as one batch over copies of the prompt's cache."""
DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    threads: int | None = None
    """CPU threads; null: 1 for small models, else all physical cores."""
    attention: str | None = None
    """Attention implementation (sdpa, eager, flash_attention_2 …); null: the model's own choice."""
    device_map: str | None = None
    """`auto` spreads a large model over all accelerators."""
    merge_adapter: bool = False
    trust_remote_code: bool = False
    """Run the model's own Python code (needs --allow-code)."""
    allow_pickle: bool = False
    """Load weights that are not safetensors (needs --allow-code)."""


class Transformers:
    name = "transformers"
    reads = ("hf",)
    capabilities = frozenset({"stream", "batch", "score", "chat", "exact_length"})
    Options = Options

    def open(self, model: Model, deployment: Deployment) -> Opened:
        """Load model and tokenizer; UsageError where an extra, the device or the model is missing."""
        torch, transformers = _libraries()
        options = msgspec.convert(deployment.options, Options)
        source = _inprocess.source_of(model, "hf", deployment.quantization)
        device = _device(torch, deployment.device)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._model = _load(transformers, torch, source, model, deployment, device, options)
                if model.adapter:
                    self._model = _adapt(self._model, model.adapter, options)
                self._codec = _codec(transformers, source, model, self._model, options)
            except (OSError, ValueError) as error:
                raise UsageError(f"model {model.name!r} ({source}) cannot be loaded: {_plain(error)}") from None
        self._model.eval()
        self._torch, self._device = torch, self._model.device
        self._takes = frozenset(inspect.signature(_forward_of(self._model)).parameters)
        if "past_key_values" not in self._takes:
            kind = self._model.config.model_type
            raise UsageError(f"model {model.name!r} ({kind}) keeps no key-value cache; serve it and use backend openai")
        size = sum(p.numel() * p.element_size() for p in self._model.parameters())
        torch.set_num_threads(options.threads or default_threads(size))
        return Opened(
            versions=_versions(),
            settings={
                "device": str(self._device),
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "threads": torch.get_num_threads(),
                "attention": getattr(self._model.config, "_attn_implementation", None),
                "parameters": self._model.num_parameters(),
                "revision": getattr(self._model.config, "_commit_hash", None),
            },
            tokenizer_sha=self._codec.tokenizer_sha,
            template_sha=self._codec.template_sha,
        )

    def prepare(self, request: Request) -> Prepared:
        return _inprocess.prepare(request, self._codec)

    def send(self, batch: list[Prepared]) -> list[Raw]:
        """Run one batch; the device is idle before its first stamp, and each stamp waits for its token."""
        if self._device.type in ("cuda", "mps"):
            getattr(self._torch, self._device.type).synchronize()
        with self._torch.inference_mode():
            return _inprocess.run(batch, self._answer)

    def finish(self, prepared: Prepared, raw: Raw) -> Answer:
        return _inprocess.finish(prepared, raw, self._codec)

    def close(self) -> None:
        self._model = None
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    def _answer(self, batch: list[Prepared], sent_ns: int) -> list[Raw]:
        kind = batch[0].request.kind
        if kind == "choice":
            return [_inprocess.scored(sent_ns, self._score_options(p)) for p in batch]
        if kind == "windows":
            return [_inprocess.scored(sent_ns, self._score_windows(p)) for p in batch]
        return _inprocess.decode(batch, self._stepper(batch), sent_ns, self._codec)

    def _stepper(self, batch: Sequence[Prepared]) -> Callable[[], list[int]]:
        """The model step over a batch, padded on the left: the first call is the prefill, each later one a token.

        Without padding there is no mask to build and positions count by themselves.
        """
        torch, device, forward = self._torch, self._device, self._forward
        lengths = [len(p.ids) for p in batch]
        width = max(lengths)
        ids = torch.tensor([[0] * (width - len(p.ids)) + p.ids for p in batch], device=device)
        choose = self._chooser(batch[0].request)
        padded = min(lengths) < width
        if padded:
            room = width + max(p.request.max_tokens for p in batch)
            mask = torch.ones((len(batch), room), dtype=torch.long, device=device)
            for row, length in enumerate(lengths):
                mask[row, : width - length] = 0
            positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
        past: Any = None

        def step() -> list[int]:
            nonlocal ids, past, width, positions
            if padded:
                out = forward(ids, past, 1, attention_mask=mask[:, :width], position_ids=positions)
                positions = positions[:, -1:] + 1
            else:
                out = forward(ids, past, 1)
            past = out.past_key_values
            token = choose(out.logits[:, -1])
            ids = token[:, None]
            width += 1
            return token.tolist()  # type: ignore[no-any-return]

        return step

    def _forward(self, ids: Any, past: Any, keep: int, **more: Any) -> Any:
        """One forward pass with logits for the last `keep` positions (at least these, where a model gives all)."""
        given = {"logits_to_keep": keep, **more}
        known = {k: v for k, v in given.items() if k in self._takes}
        return self._model(input_ids=ids, past_key_values=past, use_cache=True, **known)

    def _chooser(self, request: Request) -> Callable[[Any], Any]:
        """Logits (batch, vocabulary) -> token ids (batch,): greedy, or seeded sampling with temperature and top-p.

        Until `min_tokens` the end-of-text tokens cannot be chosen.
        """
        torch, eos = self._torch, sorted(self._codec.eos)
        greedy = request.temperature == 0
        generator = None if greedy else torch.Generator(self._device).manual_seed(request.seed)
        left = request.min_tokens

        def choose(logits: Any) -> Any:
            nonlocal left
            if left > 0:
                left -= 1
                logits = logits.clone()
                logits[:, eos] = -torch.inf
            if greedy:
                return logits.argmax(-1)
            chances = (logits.float() / request.temperature).softmax(-1)
            if request.top_p < 1:
                ranked, order = chances.sort(-1, descending=True)
                ranked[ranked.cumsum(-1) - ranked >= request.top_p] = 0
                chances = torch.zeros_like(chances).scatter(-1, order, ranked)
            return torch.multinomial(chances, 1, generator=generator)[:, 0]

        return choose

    def _score_options(self, prepared: Prepared) -> list[list[float]]:
        """Log-probabilities of every continuation.

        The prompt is run once; longer continuations run as a batch over copies of its cache (padding stands to
        their right, where causal attention never looks).
        """
        torch = self._torch
        out = self._forward(self._row(prepared.ids), None, 1)
        first = out.logits[0, -1].float().log_softmax(-1)
        scores = [[first[option[0]]] for option in prepared.options]
        longer = [i for i, option in enumerate(prepared.options) if len(option) > 1]
        for low in range(0, len(longer), OPTIONS_AT_ONCE):
            part = longer[low : low + OPTIONS_AT_ONCE]
            options = [prepared.options[i] for i in part]
            width = max(map(len, options))
            fed = torch.tensor([o[:-1] + [0] * (width - len(o)) for o in options], device=self._device)
            aims = torch.tensor([o[1:] + [0] * (width - len(o)) for o in options], device=self._device)
            past = copy.deepcopy(out.past_key_values)
            past.batch_repeat_interleave(len(part))
            logits = self._forward(fed, past, width - 1).logits[:, 1 - width :].float().log_softmax(-1)
            found = logits.gather(-1, aims[:, :, None])[:, :, 0]
            for i, option, row in zip(part, options, found):
                scores[i] += list(row[: len(option) - 1])
        flat = torch.stack([value for row in scores for value in row]).tolist()
        taken = iter(flat)
        return [[next(taken) for _ in row] for row in scores]

    def _score_windows(self, prepared: Prepared) -> list[float]:
        torch, parts = self._torch, []
        for start, scored, end in prepared.windows:
            past = None
            for low in range(start, end - 1, CHUNK):
                high = min(low + CHUNK, end - 1)
                wanted = max(0, high - max(low, scored - 1))
                out = self._forward(self._row(prepared.ids[low:high]), past, max(1, wanted))
                past = out.past_key_values
                if wanted:
                    aims = self._row(prepared.ids[high - wanted + 1 : high + 1])[0]
                    logits = out.logits[0, -wanted:].float().log_softmax(-1)
                    parts.append(logits.gather(-1, aims[:, None])[:, 0])
        return torch.cat(parts).tolist()  # type: ignore[no-any-return]

    def _row(self, ids: list[int]) -> Any:
        return self._torch.tensor([ids], device=self._device)


# ---------------------------------------------------------------- loading


def _libraries() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            import transformers
    except ImportError as error:
        raise UsageError(f"backend transformers needs {error.name or 'torch'}: {INSTALL}") from None
    return torch, transformers


def _device(torch: Any, asked: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind = asked.partition(":")[0]
    if kind not in there:
        raise UsageError(f"backend transformers has no device {asked!r}; there are: auto, {', '.join(there)}")
    if not there[kind]:
        raise UsageError(
            f"device {asked!r} is not on this machine (torch {torch.__version__} sees none); use auto or cpu"
        )
    return asked


def _dtype(torch: Any, asked: str, device: str) -> Any:
    """The dtype to load in: as asked; auto = float32 on a CPU, the checkpoint's own on an accelerator."""
    if asked == "auto":
        return torch.float32 if device == "cpu" else "auto"
    if asked not in DTYPES:
        raise UsageError(f"backend transformers has no dtype {asked!r}; there are: auto, float32, float16, bfloat16")
    return getattr(torch, DTYPES[asked])


def _load(
    transformers: Any, torch: Any, source: str, model: Model, deployment: Deployment, device: str, options: Options
) -> Any:
    auto = transformers.AutoModelForCausalLM
    dtype = _dtype(torch, deployment.dtype, device)
    common = {"trust_remote_code": options.trust_remote_code, "attn_implementation": options.attention}
    if model.weights == "random":
        if deployment.quantization != "none":
            raise UsageError("random weights cannot be quantised; use quantization: none")
        config = transformers.AutoConfig.from_pretrained(
            source, revision=model.revision, trust_remote_code=options.trust_remote_code
        )
        torch.manual_seed(0)
        with torch.device(device):
            return auto.from_config(config, **({} if dtype == "auto" else {"dtype": dtype}), **common)
    where = options.device_map or (None if device == "cpu" else {"": device})
    return auto.from_pretrained(
        source,
        revision=model.revision,
        dtype=dtype,
        device_map=where,
        use_safetensors=None if options.allow_pickle else True,
        quantization_config=_quantization(transformers, torch, deployment.quantization, device),
        **common,
    )


def _quantization(transformers: Any, torch: Any, asked: str, device: str) -> Any:
    """By what is installed: int8 with torchao on a CPU (the faster there), all else with bitsandbytes."""
    if asked == "none":
        return None
    if asked not in ("int8", "int4"):
        raise UsageError(f"backend transformers has no quantization {asked!r}; there are: none, int8, int4")
    if asked == "int8" and device == "cpu" and _installed("torchao"):
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    if not _installed("bitsandbytes"):
        other = " (or torchao)" if asked == "int8" and device == "cpu" else ""
        raise UsageError(f"quantization {asked} needs bitsandbytes{other}: pip install bitsandbytes")
    if asked == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if device == "cpu" else torch.bfloat16
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _adapt(model: Any, adapter: str, options: Options) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise UsageError(f"the adapter {adapter!r} needs peft: {INSTALL}") from None
    adapted = PeftModel.from_pretrained(model, adapter)
    return adapted.merge_and_unload() if options.merge_adapter else adapted


def _forward_of(model: Any) -> Any:
    """The causal model's own `forward`, also inside an adapter's wrapper (which takes anything)."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).forward


def _codec(transformers: Any, source: str, model: Model, loaded: Any, options: Options) -> Codec:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        source, revision=model.revision, trust_remote_code=options.trust_remote_code
    )
    config = loaded.config.get_text_config()
    context = next(
        (getattr(config, n) for n in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
         if getattr(config, n, None)), None
    )  # fmt: skip
    ends = getattr(loaded.generation_config, "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    template = tokenizer.chat_template
    fast = getattr(tokenizer, "backend_tokenizer", None)

    def decode(ids: Sequence[int]) -> str:
        if fast is not None:  # what the wrapper calls, some ten times faster for the short windows of `split_pieces`
            return str(fast.decode(list(ids), skip_special_tokens=True))
        return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def render(messages: Sequence[Any]) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    return Codec(
        encode=lambda text, special: list(tokenizer.encode(text, add_special_tokens=special)),
        decode=decode,
        surface=tokenizer.convert_ids_to_tokens,
        size=len(tokenizer),
        eos=frozenset([ends] if isinstance(ends, int) else ends or ()),
        bos=tokenizer.bos_token_id,
        context=context,
        render=render if template else None,
        tokenizer_sha=_tokenizer_sha(transformers, source, model.revision),
        template_sha=text_sha(template) if isinstance(template, str) else None,
    )


def _tokenizer_sha(transformers: Any, source: str, revision: str | None) -> str | None:
    if Path(source).is_dir():
        return tokenizer_sha(Path(source))
    found = transformers.utils.cached_file(
        source, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False
    )
    return tokenizer_sha(Path(found).parent) if found else None


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return package in sys.modules or find_spec(package) is not None


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "tokenizers", "accelerate", "peft", "bitsandbytes", "torchao"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(error: Exception) -> str:
    """The first sentence of a library's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
