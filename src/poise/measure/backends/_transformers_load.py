"""Load a causal model and its tokenizer with transformers: device, precision, quantisation, adapter, random weights.

The only file that imports torch and transformers; what can be refused without them is refused before.
"""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from poise.measure.backends import _inprocess
from poise.measure.host import default_threads, has_nvidia
from poise.measure.tokens import Codec
from poise.plan.contexts import NAMES
from poise.plan.spec import Deployment, Model
from poise.plan.tokenizer import text_sha, tokenizer_sha
from poise.types import UsageError

INSTALL = "pip install 'poise[transformers]'"
DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}
DEVICES = ("auto", "cpu", "cuda", "mps")
QUANTIZATIONS = ("none", "int8", "int4")


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


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, and how it is set."""

    torch: Any
    model: Any
    codec: Codec
    versions: dict[str, str]
    settings: dict[str, Any]


# ---------------------------------------------------------------- before anything is imported


def check(model: Model, deployment: Deployment, allow_code: bool = True) -> None:
    """UsageError for what can be known to fail without loading anything (or without the permission to run code)."""
    options = msgspec.convert(deployment.options, Options)
    source = Path(_inprocess.source_of(model, "hf", deployment.quantization))
    for package in ("torch", "transformers", *(["peft"] if model.adapter else [])):
        if not installed(package):
            raise UsageError(f"backend transformers needs {package}: {INSTALL}")
    device, _, number = deployment.device.partition(":")
    _one_of("device", device if number.isdigit() or not number else deployment.device, DEVICES)
    if device == "cuda" and not (has_nvidia() or Path("/dev/kfd").exists()):
        raise UsageError("device 'cuda' is not on this machine (there is no GPU driver); use auto or cpu")
    if device == "mps" and platform.system() != "Darwin":
        raise UsageError("device 'mps' is only on Apple machines; use auto or cpu")
    _one_of("dtype", deployment.dtype, ("auto", *DTYPES))
    _one_of("quantization", deployment.quantization, QUANTIZATIONS)
    if deployment.quantization != "none":
        if model.weights == "random":
            raise UsageError("random weights cannot be quantised; use quantization: none")
        if not (installed("bitsandbytes") or (deployment.quantization == "int8" and installed("torchao"))):
            raise UsageError(f"quantization {deployment.quantization} needs bitsandbytes: pip install bitsandbytes")
    if not allow_code and (options.trust_remote_code or options.allow_pickle):
        which = "trust_remote_code" if options.trust_remote_code else "allow_pickle"
        raise UsageError(f"the option {which} runs code that comes with the model; add --allow-code if you trust it")
    if not source.is_dir():
        if source.is_absolute() or len(source.parts) > 2 or source.parts[0] in (".", ".."):  # no name of a hub
            raise UsageError(f"model {model.name!r}: there is no folder {source}")
    elif model.weights == "trained" and not options.allow_pickle and not any(source.glob("*.safetensors")):
        raise UsageError(f"model {model.name!r}: {source} has no safetensors (pickled weights need allow_pickle)")


def _one_of(what: str, asked: str, known: Sequence[str]) -> None:
    if asked not in known:
        raise UsageError(f"backend transformers has no {what} {asked!r}; there are: {', '.join(known)}")


def installed(package: str) -> bool:
    return package in sys.modules or find_spec(package) is not None


# ---------------------------------------------------------------- loading


def load(model: Model, deployment: Deployment) -> Loaded:
    """Model and tokenizer in memory; UsageError where an extra, the device or the model is missing."""
    check(model, deployment)
    options = msgspec.convert(deployment.options, Options)
    source = _inprocess.source_of(model, "hf", deployment.quantization)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import transformers

        log: Any = transformers.utils.logging
        log.set_verbosity_error()
        log.disable_progress_bar()
        device = _device(torch, deployment.device)
        try:
            loaded = _weights(transformers, torch, source, model, deployment, device, options)
            if model.adapter:
                loaded = _adapt(loaded, model.adapter, options)
            codec = _codec(transformers, source, model, loaded, options)
        except (OSError, ValueError) as error:
            raise UsageError(f"model {model.name!r} ({source}) {_why_not(error)}") from None
    size = sum(p.numel() * p.element_size() for p in loaded.parameters())
    torch.set_num_threads(options.threads or default_threads(size))
    settings = {
        "device": str(loaded.device),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "attention": getattr(loaded.config, "_attn_implementation", None),
        "parameters": loaded.num_parameters(),
        "revision": getattr(loaded.config, "_commit_hash", None),
    }
    return Loaded(torch, loaded.eval(), codec, _versions(), settings)


def _device(torch: Any, asked: str) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(name for name, usable in there.items() if usable)
    if not there[asked.partition(":")[0]]:
        raise UsageError(f"torch {torch.__version__} cannot use device {asked!r} here; use auto or cpu")
    return asked


def _weights(
    transformers: Any, torch: Any, source: str, model: Model, deployment: Deployment, device: str, options: Options
) -> Any:
    """Weights in the dtype asked for; auto = float32 on a CPU, the checkpoint's own on an accelerator."""
    auto = transformers.AutoModelForCausalLM
    own = "auto" if device != "cpu" else torch.float32
    dtype = own if deployment.dtype == "auto" else getattr(torch, DTYPES[deployment.dtype])
    code = {"trust_remote_code": options.trust_remote_code}
    if model.weights == "random":
        config = transformers.AutoConfig.from_pretrained(source, revision=model.revision, **code)
        torch.manual_seed(0)
        with torch.device(device):
            given = {} if dtype == "auto" else {"dtype": dtype}
            return auto.from_config(config, attn_implementation=options.attention, **given, **code)
    return auto.from_pretrained(
        source,
        revision=model.revision,
        dtype=dtype,
        device_map=options.device_map or (None if device == "cpu" else {"": device}),
        use_safetensors=None if options.allow_pickle else True,
        attn_implementation=options.attention,
        quantization_config=_quantization(transformers, torch, deployment.quantization, device),
        **code,
    )


def _quantization(transformers: Any, torch: Any, asked: str, device: str) -> Any:
    """By what is installed: int8 with torchao on a CPU (the faster there), all else with bitsandbytes."""
    if asked == "none":
        return None
    if asked == "int8" and installed("torchao") and (device == "cpu" or not installed("bitsandbytes")):
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    if asked == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if device == "cpu" else torch.bfloat16
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _adapt(model: Any, adapter: str, options: Options) -> Any:
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, adapter)
    return adapted.merge_and_unload() if options.merge_adapter else adapted


def _codec(transformers: Any, source: str, model: Model, loaded: Any, options: Options) -> Codec:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        source, revision=model.revision, trust_remote_code=options.trust_remote_code
    )
    ends = getattr(loaded.generation_config, "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    template = tokenizer.chat_template
    fast = getattr(tokenizer, "backend_tokenizer", None)

    def decode(ids: Sequence[int]) -> str:
        if fast is not None:  # what the wrapper calls, some ten times faster for short texts
            return str(fast.decode(list(ids), skip_special_tokens=True))
        return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode(text: str, special: bool) -> list[int]:
        if fast is not None:
            return list(fast.encode(text, add_special_tokens=special).ids)
        return list(tokenizer.encode(text, add_special_tokens=special))

    def render(messages: Sequence[Any]) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    return Codec(
        encode=encode,
        decode=decode,
        surface=tokenizer.convert_ids_to_tokens,
        size=len(tokenizer),
        eos=frozenset([ends] if isinstance(ends, int) else ends or ()),
        bos=tokenizer.bos_token_id,
        start=tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        context=_context(loaded.config.get_text_config()),
        render=render if template else None,
        tokenizer_sha=_tokenizer_sha(transformers, source, model.revision),
        template_sha=text_sha(template) if isinstance(template, str) else None,
    )


def _context(config: Any) -> int | None:
    """Positions the model was made for, under the names configurations use; None: no stated limit."""
    return next((int(getattr(config, n)) for n in NAMES if getattr(config, n, None)), None)


def _tokenizer_sha(transformers: Any, source: str, revision: str | None) -> str | None:
    if Path(source).is_dir():
        return tokenizer_sha(Path(source))
    found = transformers.utils.cached_file(
        source, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False
    )
    return tokenizer_sha(Path(found).parent) if found else None


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "tokenizers", "accelerate", "peft", "bitsandbytes", "torchao"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _why_not(error: Exception) -> str:
    """The first sentence of a library's message; its demand to run the model's code in this program's words."""
    if "trust_remote_code" in str(error):
        return "comes with code of its own; if you trust it: -O trust_remote_code=true --allow-code"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "cannot be loaded: " + (lines[0][:300] if lines else type(error).__name__)
