"""Prompts of given lengths and nothing to be right about: pure speed runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from random import Random
from typing import Any

from poise.types import Sample, Traced, UsageError

WORDS = (
    "river stone window letter garden summer market silver morning paper bridge winter doctor yellow music ocean "
    "kitchen forest engine teacher mountain corner island orange travel village square planet bottle candle feather "
    "harbor jacket ladder mirror needle pepper rabbit saddle ticket valley wagon basket copper dinner farmer gentle "
    "hammer insect jungle kettle lemon meadow noble onion pocket quiet ribbon simple tunnel useful velvet walnut "
    "autumn butter circle desert empty fabric ginger hollow iron jewel kind lamp metal narrow open plain quick round "
    "salt table under voice water young bread cloud dance early flame green heart inside joint knife light money "
    "north outer pearl queen rough smoke thick uncle visit wheel apple brown chair drive earth field grass horse"
).split()
_OF_BYTE = [WORDS[byte % len(WORDS)] for byte in range(256)]
MOST = 10_000_000
"""More prompts, or tokens of one, are a slip of the keyboard."""
BLOCK_TOKENS = 512
"""Tokens of a prompt that one hash id of a trace stands for (Mooncake's block size)."""


class Synthetic:
    """Pure speed: `n` prompts of `prompt_tokens` tokens, asked for exactly `output_tokens` tokens.

    A length is a number, a list to draw from, or {mean, stdev, min, max} of a normal distribution cut at its ends.
    Each prompt differs from the first word on, so that no prefix cache helps, but for `prefix_tokens` words which it
    has in common with every `prefixes`-th other. The text has one word per token asked for: a backend with
    `exact_length` cuts it to measure, and so does the plan where a server's tokenizer is known. Asked again, a prompt
    has its first words in another order (unless `cache_bust: false`).
    """

    name, version = "synthetic", 2
    instruction, answer_prefix, extract = "", "", "text"
    metrics: tuple[str, ...] = ()
    chance, n_ref, max_tokens = 0.0, 64.0, 64
    options = ("prompt_tokens", "output_tokens", "n", "prefix_tokens", "prefixes", "cache_bust", "seed")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        if data is not None:
            raise UsageError("task synthetic makes its own prompts; it reads no data")
        prompt_length = _lengths(options, "prompt_tokens", 128)
        output_length = _lengths(options, "output_tokens", 64)
        n = _count(options, "n", 32)
        shared = _count(options, "prefix_tokens", 0, least=0)
        prefixes = [
            _words(Random(f"{_seed(options)}/prefix/{k}"), shared) for k in range(_count(options, "prefixes", 1))
        ]
        for number in range(n):
            r = Random(f"{_seed(options)}/{number}")
            prompt, output = prompt_length(r), output_length(r)
            if shared > prompt:
                raise UsageError(f"synthetic: prefix_tokens {shared} is more than a prompt of {prompt} tokens")
            prefix = prefixes[number % len(prefixes)]
            text = " ".join([*prefix, *_own(r, number, prompt)][:prompt])
            start = len(" ".join(prefix)) + 1 if prefix else 0
            parts = [shared, prompt - shared] if 0 < shared < prompt else []
            yield _sample(number, text, prompt, output, parts, start if _bust(options) else None)

    def traced(self, rows: Iterable[Traced], options: dict[str, Any]) -> Iterator[Sample]:
        """A prompt for every row of a trace, of its lengths; equal hash ids are equal blocks of text."""
        for name in options:
            if name not in ("seed", "cache_bust"):
                raise UsageError(f"synthetic: the trace gives the lengths and what is shared; leave out {name!r}")
        seed = _seed(options)
        for number, row in enumerate(rows):
            parts, left = [], row.input_tokens
            for block in row.blocks[: -(-row.input_tokens // BLOCK_TOKENS)]:
                text = _block(seed, block)
                parts.append(text if left >= BLOCK_TOKENS else " ".join(text.split(" ")[:left]))
                left -= BLOCK_TOKENS
            if left > 0:
                parts += _own(Random(f"{seed}/{number}"), number, left)
            lengths = [part.count(" ") + 1 for part in parts[: len(row.blocks)]]
            if rest := row.input_tokens - sum(lengths):
                lengths.append(rest)
            yield _sample(number, " ".join(parts), row.input_tokens, row.output_tokens, lengths, None)

    def question(self, sample: Sample) -> str:
        return str(sample.fields["text"])

    def answer(self, sample: Sample) -> str:
        return ""

    def exact_lengths(self, sample: Sample) -> tuple[int, int]:
        """Tokens of the prompt and of the output: both are held, where the engine can."""
        return sample.fields["prompt_tokens"], sample.fields["output_tokens"]

    def parts(self, sample: Sample) -> list[int]:
        """Words of the stretches of its text that other prompts may have too; empty: it is one whole."""
        return list(sample.fields.get("parts", ()))

    def shared_chars(self, sample: Sample) -> int | None:
        """Where the text begins that is new each time the sample is asked."""
        found: int | None = sample.fields.get("shared_chars")
        return found


def _sample(number: int, text: str, prompt: int, output: int, parts: list[int], shared_chars: int | None) -> Sample:
    fields: dict[str, Any] = {"text": text, "prompt_tokens": prompt, "output_tokens": output}
    if len(parts) > 1:
        fields["parts"] = parts
    if shared_chars is not None:
        fields["shared_chars"] = shared_chars
    return Sample(id=str(number), fields=fields)


def _own(random: Random, number: int, count: int) -> list[str]:
    """Words of one prompt alone. The number stands in the first: with few words to choose from, chance repeats some."""
    return [f"{WORDS[number % len(WORDS)]}{number}", *_words(random, count)][:count]


def _words(random: Random, count: int) -> list[str]:
    return list(map(_OF_BYTE.__getitem__, random.randbytes(count)))


@lru_cache(maxsize=4096)
def _block(seed: int, block: int) -> str:
    return " ".join(_words(Random(f"{seed}/block/{block}"), BLOCK_TOKENS))


def _lengths(options: dict[str, Any], name: str, default: int) -> Callable[[Random], int]:
    """A draw of lengths as an option describes them."""
    given = options.get(name, default)
    if isinstance(given, list) and given:
        choices = [_whole(name, length) for length in given]
        return lambda random: random.choice(choices)
    if isinstance(given, dict):
        if unknown := set(given) - {"mean", "stdev", "min", "max"}:
            raise UsageError(f"synthetic: {name} has no {sorted(unknown)[0]!r}; it has: mean, stdev, min, max")
        mean, least, most = (_whole(name, given.get(k, d)) for k, d in (("mean", None), ("min", 1), ("max", MOST)))
        stdev = given.get("stdev", 0)
        if not isinstance(stdev, int | float) or not 0 <= stdev < 1e9 or least > most:
            raise UsageError(f"synthetic: {name} needs a stdev of 0 or more, and min below max, not {given!r}")
        return lambda random: min(max(round(random.gauss(mean, stdev)), least), most)
    fixed = _whole(name, given)
    return lambda random: fixed


def _count(options: dict[str, Any], name: str, default: int, least: int = 1) -> int:
    return _whole(name, options.get(name, default), least)


def _seed(options: dict[str, Any]) -> int:
    return _whole("seed", options.get("seed", 0), 0, 2**63)


def _bust(options: dict[str, Any]) -> bool:
    value = options.get("cache_bust", True)
    if not isinstance(value, bool):
        raise UsageError(f"synthetic: cache_bust is true or false, not {value!r}")
    return value


def _whole(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    try:
        number, whole = int(value), float(value).is_integer()
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if not whole or not least <= number <= most:
        raise UsageError(f"synthetic: {name} must be a whole number from {least} to {most}, not {value!r}")
    return number
