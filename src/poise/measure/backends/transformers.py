"""Any causal language model through transformers and torch, in process, with its own stamped decoding loop.

`model.generate` shows tokens only through streamers and repeats bookkeeping every step; here a step is one forward
pass, one choice of token on the device and one transfer to the host for the whole batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from poise.measure.backends import _inprocess
from poise.measure.backends._inprocess import Prepared
from poise.measure.backends._transformers_load import Options, check, load
from poise.measure.backends._transformers_score import Scorer
from poise.plan.spec import Deployment, Model
from poise.protocols import Answer, Opened, Raw
from poise.types import Request, UsageError

CACHE_NAMES = ("cache", "past_key_values")
"""What `forward` and its output call the key-value cache: transformers 5.24 renamed it."""


class Transformers:
    name = "transformers"
    reads = ("hf",)
    capabilities = frozenset({"stream", "batch", "score", "chat", "exact_length"})
    Options = Options
    requires = ("torch", "transformers")
    extra = "transformers"
    check = staticmethod(check)

    def open(self, model: Model, deployment: Deployment) -> Opened:
        """Load model and tokenizer; UsageError where an extra, the device or the model is missing."""
        loaded = load(model, deployment)
        self._torch, self._model, self._codec = loaded.torch, loaded.model, loaded.codec
        self._device = loaded.model.device
        # an adapter's wrapper takes anything: what counts is the causal model inside
        inner = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
        self._takes = frozenset(inspect.signature(inner.forward).parameters)
        self._cache = next((name for name in CACHE_NAMES if name in self._takes), "")
        if not self._cache or getattr(inner, "_is_stateful", False):  # a recurrent state cannot be padded or cut
            kind, why = loaded.model.config.model_type, "keeps no key-value cache"
            if "input_ids" not in self._takes:  # forward(*args, **kwargs): a mask or positions might be lost unseen
                why = f"has a forward that names none of its inputs, so that {CACHE_NAMES[-1]} cannot be relied on"
            raise UsageError(f"model {model.name!r} ({kind}) {why}; serve it and use backend openai")
        self._scorer = Scorer(self._torch, self._device, self._forward, loaded.codec.size)
        return Opened(loaded.versions, loaded.settings, loaded.codec.tokenizer_sha, loaded.codec.template_sha)

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
        if kind != "generate":
            score = self._scorer.options if kind == "choice" else self._scorer.windows
            return [_inprocess.scored(sent_ns, scores) for scores in score(batch)]
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
                logits, past = forward(ids, past, 1, attention_mask=mask[:, :width], position_ids=positions)
                positions = positions[:, -1:] + 1
            else:
                logits, past = forward(ids, past, 1)
            token = choose(logits[:, -1])
            ids = token[:, None]
            width += 1
            chosen: list[int] = token.tolist()
            return chosen

        return step

    def _forward(self, ids: Any, past: Any, keep: int, **more: Any) -> tuple[Any, Any]:
        """One pass: logits of the last `keep` positions (at least these, where a model gives all), and the cache."""
        given = {"logits_to_keep": keep, **more}
        known = {k: v for k, v in given.items() if k in self._takes}
        out = self._model(input_ids=ids, use_cache=True, **{self._cache: past}, **known)
        return out.logits, getattr(out, self._cache)

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
