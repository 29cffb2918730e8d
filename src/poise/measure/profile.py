"""Measure T(p, o) of one engine: exact prompt and output lengths, repeats interleaved, nothing else on the clock."""

from __future__ import annotations

import gc
import hashlib
import random
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct

from poise.measure.recording import finish
from poise.plan.sources import sources
from poise.plan.spec import Deployment, Model
from poise.protocols import Opened
from poise.registry import lookup
from poise.types import PoiseError, Request, UsageError

_WORDS = 12
"""Words of a prompt before the engine cuts or repeats its tokens to length."""


class Trial(Struct, frozen=True):
    """One timed generation: seconds from handing over to the last token, of the slowest row where there is a batch."""

    prompt_tokens: int
    output_tokens: int
    runtime_s: float
    at_s: float
    """When it began, in seconds of the process's clock."""


class Profiler:
    """An opened in-process engine that times generations of exact lengths; use as a context manager.

    UsageError where the engine cannot hold exact lengths or the model cannot be opened with it; PoiseError where a
    generation fails or comes back with other lengths than asked.
    """

    def __init__(self, model: Model, deployment: Deployment, batch: int = 1, seed: int = 0) -> None:
        self._backend = lookup("backend", deployment.backend)()
        if "exact_length" not in self._backend.capabilities or "concurrent" in self._backend.capabilities:
            raise UsageError(
                f"backend {deployment.backend} cannot hold exact lengths; run task synthetic on it and "
                "fit that run: `poise idealize fit RUN --denoised`"
            )
        if batch < 1:
            raise UsageError(f"batch must be 1 or more, not {batch}")
        if batch > 1 and "batch" not in self._backend.capabilities:
            raise UsageError(f"backend {deployment.backend} has no batches; leave out --batch")
        found = sources(model, ".")
        self.model, self.deployment, self.batch = msgspec.structs.replace(model, source=found), deployment, batch
        self.context = _context(found)
        self._random = random.Random(seed)
        self.spent_s = 0.0
        """Seconds of everything generated so far, warm-up included."""
        self.opened: Opened = self._backend.open(self.model, deployment)

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._backend.close()

    def warm_up(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Generate once at each of these lengths and forget it: engines load and allocate late."""
        for pair in pairs:
            self._once(*pair)

    def measure(self, pairs: Sequence[tuple[int, int]], repeats: int) -> list[list[Trial]]:
        """`repeats` trials of each (prompt, output) pair; every round takes its pairs in a new random order.

        So a drift of the machine reaches all points alike. The collector of garbage rests meanwhile.
        """
        trials: list[list[Trial]] = [[] for _ in pairs]
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for _ in range(repeats):
                for i in self._random.sample(range(len(pairs)), len(pairs)):
                    trials[i].append(self._once(*pairs[i]))
        finally:
            gc.enable()
            gc.unfreeze()
        return trials

    def _once(self, prompt_tokens: int, output_tokens: int) -> Trial:
        """No two prompts are alike: an engine that keeps prefixes must not gain from it."""
        if self.context and prompt_tokens + output_tokens > self.context:
            raise UsageError(
                f"{prompt_tokens} + {output_tokens} tokens are beyond the context of {self.model.name}, "
                f"{self.context}; ask for shorter points"
            )
        requests = [self._request(prompt_tokens, output_tokens) for _ in range(self.batch)]
        prepared = [self._backend.prepare(r) for r in requests]
        start = time.perf_counter_ns()
        raws = self._backend.send(prepared)
        answers = [finish(self._backend, p, raw) for p, raw in zip(prepared, raws, strict=True)]
        for answer, raw in zip(answers, raws, strict=True):
            failure = answer.error or raw.error
            if failure is not None:
                raise PoiseError(f"{self._at(prompt_tokens, output_tokens)}: {failure.kind}: {failure.message}")
            usage = answer.usage or {}
            got = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
            if got != (prompt_tokens, output_tokens):
                raise PoiseError(
                    f"{self._at(prompt_tokens, output_tokens)}: the engine took {got[0]} and gave {got[1]} tokens; "
                    "the lengths were not held, so there is no point to fit"
                )
        runtime = max(raw.stamps[-1][0] - raw.sent_ns for raw in raws) / 1e9
        self.spent_s += runtime
        return Trial(prompt_tokens, output_tokens, runtime, start / 1e9)

    def _request(self, prompt_tokens: int, output_tokens: int) -> Request:
        text = " ".join(self._random.choice(_VOCABULARY) for _ in range(max(prompt_tokens, _WORDS)))
        sha = hashlib.sha256(f"{text}\0{prompt_tokens}\0{output_tokens}".encode()).hexdigest()
        return Request(
            id=sha[:16],
            sample_id=sha[:16],
            kind="generate",
            asked_sha=sha,
            prompt=text,
            prompt_tokens=prompt_tokens,
            max_tokens=output_tokens,
            min_tokens=output_tokens,
            deadline_s=3600.0,
        )

    def _at(self, prompt_tokens: int, output_tokens: int) -> str:
        return f"{self.model.name} on {self.deployment.backend}, prompt {prompt_tokens}, output {output_tokens}"


_VOCABULARY = (
    "river stone green seven under window market small bread cold ring walk light paper north five open cloud table "
    "horse early blue road milk garden four sing deep salt voice round two moon field winter glass"
).split()


def _context(found: dict[str, Any]) -> int | None:
    """The context length that the model's folder states, where it is a folder."""
    fields = {
        "config.json": ("max_position_embeddings", "n_positions", "seq_length"),
        "genai_config.json": ("context_length",),
    }
    for source in found.values():
        for name, keys in fields.items():
            path = Path(str(source)) / name
            try:
                config = msgspec.json.decode(path.read_bytes()) if path.is_file() else {}
            except msgspec.DecodeError:
                continue
            config = config.get("model", config) if isinstance(config, dict) else {}
            for key in keys:
                value = config.get(key) if isinstance(config, dict) else None
                if isinstance(value, int) and value > 0:
                    return value
    return None
