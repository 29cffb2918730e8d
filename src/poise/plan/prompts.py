"""Samples to what a model is asked: chat messages or raw text (CONTRACT §2), with the hashes that make runs comparable.

raw:  instruction, then shots (question, prefix + answer), then question and prefix, blank lines between.
chat: system if given, shots as user/assistant turns, the instruction before the first question.
The later turns of a conversation travel with its request; `plan.turns` joins them to the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from poise.plan.spec import Generation, Mode
from poise.protocols import Task
from poise.types import Message, Request, Sample, UsageError

RAW_STOP = ("\n\n",)


class Asker:
    """How one task is asked in one format: renders a sample's prompt, continuations and stops."""

    def __init__(
        self,
        task: Task,
        *,
        format: str,
        mode: Mode,
        system: str | None,
        shots: Sequence[Sample],
        generation: Generation,
        prompt: dict[str, str],
        seed: int,
    ) -> None:
        self.task, self.format, self.mode, self.system = task, format, mode, system
        self.shots, self.generation, self.seed = shots, generation, seed
        self._templates = _compile(prompt)
        if prompt and hasattr(task, "asks"):
            raise UsageError(f"task {task.name} writes its prompts itself; leave out prompt: {', '.join(prompt)}")
        self.stop = self._stops()

    def _stops(self) -> tuple[str, ...]:
        if self.generation.stop is not None:
            return tuple(self.generation.stop)
        if self.format == "chat":
            return ()
        return tuple(getattr(self.task, "stop", RAW_STOP))

    def _part(self, name: str, sample: Sample) -> str:
        if name in self._templates:
            return str(self._templates[name].render(**sample.fields))
        if name == "question":
            return self._questions(sample)[0]
        return str(getattr(self.task, name))

    def _questions(self, sample: Sample) -> list[str]:
        """What is asked, turn by turn; a template for the question asks once."""
        if "question" in self._templates:
            return [self._part("question", sample)]
        question = self.task.question(sample)
        turns = [question] if isinstance(question, str) else list(question)
        if not turns:
            raise UsageError(f"task {self.task.name}: item {sample.id!r} asks nothing")
        if len(turns) > 1 and (self.mode != "generate" or self.shots):
            what = f"mode {self.mode}" if self.mode != "generate" else "a task with shots"
            raise UsageError(f"task {self.task.name} asks in several turns; {what} asks once")
        return turns

    def raw(self, sample: Sample) -> str:
        instruction = self._part("instruction", sample)
        blocks = [instruction] if instruction else []
        blocks += [self._block(shot) + " " + self.task.answer(shot) for shot in self.shots]
        blocks.append(self._block(sample))
        return "\n\n".join(blocks)

    def _block(self, sample: Sample, question: str | None = None) -> str:
        prefix = self._part("answer_prefix", sample)
        question = self._part("question", sample) if question is None else question
        return f"{question}\n{prefix}" if prefix else question

    def _turns(self, sample: Sample) -> tuple[str, ...]:
        """What follows the first answer; see `plan.turns`."""
        later = self._questions(sample)[1:]
        return tuple(q if self.format == "chat" else self._block(sample, q) for q in later)

    def _temperature(self, sample: Sample) -> float:
        """What the study says, else the task of this sample, else 0."""
        given = self.generation.temperature
        own = getattr(self.task, "temperature", None)
        return given if given is not None else float(own(sample)) if own else 0.0

    def chat(self, sample: Sample) -> tuple[Message, ...]:
        messages = [Message("system", self.system)] if self.system else []
        instruction = self._part("instruction", sample)
        for i, shot in enumerate((*self.shots, sample)):
            question = self._part("question", shot)
            content = f"{instruction}\n\n{question}" if i == 0 and instruction else question
            messages.append(Message("user", content))
            if i < len(self.shots):
                messages.append(Message("assistant", self.task.answer(shot)))
        return tuple(messages)

    def _said(self, sample: Sample) -> dict[str, Any]:
        """The prompt in the model's format, and what may follow it; of some tasks just as they write it."""
        if own := getattr(self.task, "asks", None):
            return dict(own(sample, self.format, self.system))
        chat = self.format == "chat"
        continuations: tuple[str, ...] = ()
        if self.mode == "choice":
            if not sample.choices:
                raise UsageError(f"task {self.task.name} has no choices to rank; use mode: generate")
            continuations = tuple(c if chat else f" {c}" for c in sample.choices)
        prompt, messages = (None, self.chat(sample)) if chat else (self.raw(sample), None)
        turns = self._turns(sample)
        said = {"prompt": prompt, "messages": messages, "continuations": continuations}
        return said | ({"turns": turns} if turns else {})

    def request(self, sample: Sample, draw: int) -> Request:
        """The request for one sample and draw; `asked_sha` covers everything but the seed."""
        g = self.generation
        said = self._said(sample)
        lengths = getattr(self.task, "exact_lengths", None)  # tasks of pure speed fix both lengths
        prompt_tokens, fixed = lengths(sample) if lengths else (None, None)
        if g.ignore_eos and self.mode == "generate":
            fixed = fixed or g.max_tokens or self.task.max_tokens
        shared = getattr(self.task, "shared_chars", None)
        asked: dict[str, Any] = {
            "kind": {"generate": "generate", "choice": "choice", "perplexity": "windows"}[self.mode],
            **said,
            "stop": () if fixed else self.stop,
            "max_tokens": 0 if said["continuations"] else (fixed or g.max_tokens or self.task.max_tokens),
            "min_tokens": fixed or g.min_tokens,
            "temperature": self._temperature(sample),
            "top_p": g.top_p,
            "deadline_s": g.deadline_s,
            "prompt_tokens": prompt_tokens,
            "shared_chars": shared(sample) if shared else None,
        }
        identity = sample.id if g.draws == 1 else f"{sample.id}/{draw}"
        return Request(
            id=identity,
            sample_id=sample.id,
            draw=draw,
            asked_sha=sha({k: v for k, v in asked.items() if v is not None}),
            seed=int(sha([self.seed, sample.id, draw])[:7], 16),
            **asked,
        )


def warmups(requests: Sequence[Request], count: int) -> list[Request]:
    """`count` requests of the measured ones' kind and length, their words reversed: prompts that are not measured."""

    def reverse(text: str) -> str:
        return " ".join(reversed(text.split(" ")))

    made = []
    for i in range(count if requests else 0):
        model = requests[i % len(requests)]
        messages = model.messages and (
            *model.messages[:-1],
            Message("user", f"{i + 1}. {reverse(model.messages[-1].content)}"),
        )
        prompt = None if model.prompt is None else f"{i + 1}. {reverse(model.prompt)}"
        contexts = tuple(f"{i + 1}. {reverse(context)}" for context in model.contexts)
        asked = {"prompt": prompt, "messages": messages, "contexts": contexts, "turns": ()}
        made.append(msgspec.structs.replace(model, id=f"warmup/{i}", sample_id=f"warmup/{i}", **asked))
    return made


def sha(value: Any) -> str:
    """SHA-256 (hex) of canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def sha_of_each(values: Iterable[Any]) -> str:
    """`sha` of a list whose entries are never held together."""
    found, mark = hashlib.sha256(), b"["
    for value in values:
        found.update(mark + msgspec.json.encode(value, order="sorted"))
        mark = b","
    found.update(b"[]" if mark == b"[" else b"]")
    return found.hexdigest()


def _compile(prompt: dict[str, str]) -> dict[str, Any]:
    if not prompt:
        return {}
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        return {name: environment.from_string(text) for name, text in prompt.items()}
    except TemplateError as error:
        raise UsageError(f"prompt: not a Jinja template: {error}") from None
