"""Prompts of a given length and nothing to be right about: pure speed runs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from poise.types import Sample, UsageError

WORDS = (
    "river stone window letter garden summer market silver morning paper bridge winter doctor yellow music ocean "
    "kitchen forest engine teacher mountain corner island orange travel village square planet bottle candle feather "
    "harbor jacket ladder mirror needle pepper rabbit saddle ticket valley wagon basket copper dinner farmer gentle "
    "hammer insect jungle kettle lemon meadow noble onion pocket quiet ribbon simple tunnel useful velvet walnut "
    "autumn butter circle desert empty fabric ginger hollow iron jewel kind lamp metal narrow open plain quick round "
    "salt table under voice water young bread cloud dance early flame green heart inside joint knife light money "
    "north outer pearl queen rough smoke thick uncle visit wheel apple brown chair drive earth field grass horse"
).split()


class Synthetic:
    """Pure speed: `n` prompts of `prompt_tokens` tokens, asked for exactly `output_tokens` tokens.

    Each prompt differs from the first word on, so that no prefix cache helps, but for `shared_prefix_tokens` words that
    all have in common. The text has one word per token asked for: a backend with `exact_length` cuts it to measure.
    """

    name, version = "synthetic", 1
    instruction, answer_prefix, extract = "", "", "text"
    metrics: tuple[str, ...] = ()
    chance, n_ref, max_tokens = 0.0, 64.0, 64
    options = ("prompt_tokens", "output_tokens", "n", "shared_prefix_tokens", "seed")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        if data is not None:
            raise UsageError("task synthetic makes its own prompts; it reads no data")
        prompt = _count(options, "prompt_tokens", 128)
        output = _count(options, "output_tokens", 64)
        n = _count(options, "n", 32)
        shared = _count(options, "shared_prefix_tokens", 0, least=0)
        seed = _count(options, "seed", 0, least=0)
        if shared > prompt:
            raise UsageError(f"synthetic: shared_prefix_tokens {shared} is more than prompt_tokens {prompt}")
        prefix = Random(f"{seed}/prefix").choices(WORDS, k=shared)
        for number in range(n):
            r = Random(f"{seed}/{number}")
            # The number itself is the first own word: with few words to choose from, chance would repeat some.
            own = [f"{WORDS[number % len(WORDS)]}{number}", *r.choices(WORDS, k=prompt)]
            text = " ".join([*prefix, *own][:prompt])
            yield Sample(id=str(number), fields={"text": text, "prompt_tokens": prompt, "output_tokens": output})

    def question(self, sample: Sample) -> str:
        return str(sample.fields["text"])

    def answer(self, sample: Sample) -> str:
        return ""

    def exact_lengths(self, sample: Sample) -> tuple[int, int]:
        """Tokens of the prompt and of the output: both are held, where the engine can."""
        return sample.fields["prompt_tokens"], sample.fields["output_tokens"]


def _count(options: dict[str, Any], name: str, default: int, least: int = 1) -> int:
    value = options.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least or number != float(value):
        raise UsageError(f"synthetic: {name} must be a whole number of at least {least}, not {value!r}")
    return number
