"""What is known of each OpenAI-compatible server: paths, quirks, and the hosts its keys may go to.

`docs/servers.md` prints this table with what was run and what was only read.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from poise.registry import did_you_mean
from poise.types import UsageError


class Preset(Struct, frozen=True):
    """One kind of server. `None` for a path or a field: the server has none."""

    name: str
    port: int | None = None
    base_path: str = "/v1"
    chat: str | None = "/chat/completions"
    completions: str | None = "/completions"
    health: str | None = "/health"
    usage: Literal["option", "always", "none"] = "option"
    """How token counts come with a stream: on `stream_options.include_usage`, unasked, or never."""
    logprobs: bool = True
    echo_logprobs: bool = False
    """Completions with `echo` and `logprobs` return the prompt's log-probabilities: choices can be scored."""
    min_tokens: str | None = None
    ignore_eos: str | None = None
    chat_max_tokens: str = "max_tokens"
    seed: bool = True
    plain: dict[str, Any] = field(default_factory=dict)
    """Body fields that switch off this server's own sampling defaults that change answers: penalties, top-k."""
    no_cache: dict[str, Any] = field(default_factory=dict)
    """Body fields that switch the reuse of cached prompts off."""
    prefix_cache: Literal["on", "off", "unknown"] = "unknown"
    """Whether a prompt's beginning is computed anew when an earlier request began alike."""
    hints: dict[str, str] = field(default_factory=dict)
    """Kind of failure -> what it means with this server, and what to do."""
    hosts: tuple[str, ...] = ()
    """Hosts that may be given the provider's key; a leading dot stands for any subdomain."""
    auth: Literal["bearer", "api-key"] = "bearer"
    basis: Literal["run", "read"] = "read"

    @property
    def exact_length(self) -> bool:
        return self.min_tokens is not None or self.ignore_eos is not None


# vLLM and SGLang take what a request leaves open from the model's generation config
_MODEL = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}
_LLAMA = {"repeat_penalty": 1.0, "top_k": 0, "min_p": 0.0}
_TABLE = (
    Preset("generic", health=None),
    Preset("mock-server", min_tokens="min_tokens", ignore_eos="ignore_eos", basis="run"),
    Preset("openai", health=None, chat_max_tokens="max_completion_tokens", hosts=("api.openai.com",)),
    Preset(
        "azure",
        base_path="/openai/v1",
        health=None,
        chat_max_tokens="max_completion_tokens",
        hosts=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
        auth="api-key",
    ),
    Preset("hf-router", completions=None, health=None, hosts=("router.huggingface.co",)),
    Preset(
        "vllm",
        port=8000,
        echo_logprobs=True,
        min_tokens="min_tokens",
        ignore_eos="ignore_eos",
        plain=_MODEL,
        prefix_cache="on",
        basis="run",
    ),
    Preset("sglang", port=30000, echo_logprobs=True, min_tokens="min_tokens", ignore_eos="ignore_eos", plain=_MODEL),
    Preset("tgi", port=8080),
    Preset(
        "llama-server",
        port=8080,
        ignore_eos="ignore_eos",
        plain=_LLAMA,
        no_cache={"cache_prompt": False},
        prefix_cache="off",
        basis="run",
    ),
    Preset(
        "llama-cpp-python",
        port=8000,
        health="/v1/models",
        usage="none",
        echo_logprobs=True,
        min_tokens="min_tokens",
        plain=_LLAMA,
        prefix_cache="on",
        hints={
            "closed": "unless it died: this server breaks a stream off when the next request comes; "
            "start it with --interrupt_requests false"
        },
        basis="run",
    ),
    Preset("litellm", port=4000, health="/health/readiness", basis="run"),  # /health asks every model
    Preset("ollama", port=11434, health="/api/version"),
    Preset("lmstudio", port=1234, health="/v1/models"),
    Preset("mlx", port=8080, prefix_cache="on", basis="run"),
    Preset("mlc", port=8000, health="/v1/models"),
    Preset("lightllm", port=8000, completions=None, usage="none", logprobs=False, ignore_eos="ignore_eos"),
    Preset("deepspeed-mii", port=8000, usage="none", logprobs=False, seed=False, min_tokens="min_tokens"),
    Preset(
        "transformers-serve",
        port=8000,
        usage="always",
        logprobs=False,
        plain={"frequency_penalty": 0.0},  # it replaces the repetition penalty of the model's generation config
        prefix_cache="off",
        basis="run",
    ),
)
PRESETS = {p.name: p for p in _TABLE}


def preset_for(name: str | None, host: str = "") -> Preset:
    """The preset of that name; without a name the one whose provider owns `host`, else `generic`.

    UsageError for an unknown name, with a suggestion.
    """
    if name is not None:
        if name not in PRESETS:
            raise UsageError(f"unknown server preset {name!r}{did_you_mean(name, PRESETS)}")
        return PRESETS[name]
    return next((p for p in _TABLE if owns(p, host)), PRESETS["generic"])


def owns(preset: Preset, host: str) -> bool:
    """Whether `host` belongs to the preset's provider, so that its key may go there."""
    host = host.lower().rstrip(".")
    return any(host == h or (h.startswith(".") and host.endswith(h)) for h in preset.hosts)
