"""The bundled miniature tasks: generated, seeded, and small enough for models of a few million parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec import structs

from poise.tasks.mini._items import Grammar, digest, held_out
from poise.tasks.mini.arithmetic import ARITHMETIC, LINEAR
from poise.tasks.mini.chat import CHAT
from poise.tasks.mini.qa import QA
from poise.tasks.mini.sentiment import SENTIMENT
from poise.tasks.mini.summary import SUMMARY
from poise.tasks.mini.translation import TRANSLATION
from poise.types import Sample, UsageError

N_ITEMS = 400
"""Test items of a task unless the option `n` says otherwise."""


@dataclass(frozen=True)
class Mini:
    """One miniature task: its grammar, and how it is asked. The options `n` and `seed` choose the test items."""

    name: str
    grammar: Grammar
    metrics: tuple[str, ...]
    n_ref: float
    """Tokens of a typical reference answer (median) in the bundled tokenizer, without the newline that ends it."""
    max_tokens: int
    answer_prefix: str = "Answer:"
    chance: float = 0.0
    choices: tuple[str, ...] | None = None
    extract: str = "first_line"
    version: int = 1
    instruction: str = ""
    stop: tuple[str, ...] = ("\n",)
    tau: str = "miniature"
    options: tuple[str, ...] = ("n", "seed")
    about: str = ""
    """One line for the list of tasks."""

    def samples(self, data: Any, options: Mapping[str, Any]) -> Iterator[Sample]:
        """The test split; `id` is a hash of the question."""
        if data is not None:
            raise UsageError(f"task {self.name} makes its own items; it reads no data")
        n, seed = int(options.get("n", N_ITEMS)), int(options.get("seed", 0))
        for category, item in held_out(self.name, self.grammar, n, seed):
            yield Sample(
                id=f"{digest(item.question):016x}",
                fields={"question": item.question},
                target=item.answer,
                choices=self.choices,
                category=category,
            )

    def question(self, sample: Sample) -> str | list[str]:
        return str(sample.fields["question"])

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


class _TwoTurns(Mini):
    """Questions and answers with a line for each turn."""

    def samples(self, data: Any, options: Mapping[str, Any]) -> Iterator[Sample]:
        for sample in super().samples(data, options):
            yield structs.replace(sample, target=str(sample.target).split("\n"))

    def question(self, sample: Sample) -> list[str]:
        return str(sample.fields["question"]).split("\n")


Sentiment = partial(
    Mini,
    "mini-sentiment",
    SENTIMENT,
    ("accuracy", "f1.macro"),
    n_ref=1,
    max_tokens=4,
    answer_prefix="Sentiment (good or bad):",
    chance=0.5,
    choices=("good", "bad"),
    extract="label",
    about="Short reviews to be called good or bad.",
)
Arithmetic = partial(
    Mini,
    "mini-arithmetic",
    ARITHMETIC,
    ("exact_match",),
    n_ref=4,
    max_tokens=12,
    about="Sums, differences and products of small integers.",
)
Linear = partial(
    Mini, "mini-linear", LINEAR, ("exact_match",), n_ref=2, max_tokens=12, about="Linear equations in one unknown."
)
Translation = partial(
    Mini,
    "mini-translation",
    TRANSLATION,
    ("chrf", "exact_match"),
    n_ref=24,
    max_tokens=64,
    answer_prefix="English:",
    about="Chinese sentences of a closed grammar, into English.",
)
QuestionAnswering = partial(
    Mini,
    "mini-qa",
    QA,
    ("exact_match", "f1"),
    n_ref=2,
    max_tokens=12,
    about="Values to be looked up in a few key–value pairs.",
)
Summarization = partial(
    Mini,
    "mini-summary",
    SUMMARY,
    ("rouge_l", "exact_match"),
    n_ref=19,
    max_tokens=40,
    answer_prefix="Summary:",
    about="A few sentences, in one.",
)
Chat = partial(
    _TwoTurns,
    "mini-chat",
    CHAT,
    ("exact_match",),
    n_ref=4,
    max_tokens=12,
    about="Two questions about a few key–value pairs, the second after the answer to the first.",
)

TASKS = tuple(task() for task in (Sentiment, Arithmetic, Linear, Translation, QuestionAnswering, Summarization))
