"""Turns the generators' training split into packed rows of tokens, round by round, each round from its own seed."""

from collections.abc import Iterator
from itertools import islice
from random import Random

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from poise.tasks.mini import TASKS, Mini
from poise.tasks.mini._items import training_items

EOS, PAD = "<eos>", "<pad>"
VOCABULARY = 512
ROW = 128
"""Tokens in a training row; the longest question with its answer fits."""

SHARES = {
    "mini-arithmetic": 3.0,
    "mini-linear": 1.0,
    "mini-qa": 2.0,
    "mini-sentiment": 2.0,
    "mini-translation": 0.8,
    "mini-summary": 0.7,
}
"""Examples per task relative to each other: short and hard ones more often."""

CORPUS = {
    "mini-arithmetic": 10_000,
    "mini-linear": 10_000,
    "mini-qa": 35_000,
    "mini-sentiment": 20_000,
    "mini-translation": 40_000,
    "mini-summary": 20_000,
}
"""Examples the tokenizer sees: Chinese characters need the most merges."""

PROMPT_WEIGHT = 0.03
"""Weight of a prompt's token in the loss; a whole answer weighs 1."""

OPEN_ROWS = 0.1
"""Share of rows in which earlier examples stay visible, as in a prompt with shots."""


def prompt_and_answer(task: Mini, question: str, answer: str) -> tuple[str, str]:
    """The raw prompt of the contract, and what the model is to write after it."""
    return f"{question}\n{task.answer_prefix}", f" {answer}\n"


def texts(task: Mini, n: int, seed: int) -> Iterator[tuple[str, str]]:
    """Prompt and answer of `n` training items."""
    for _, item in islice(training_items(task.name, task.grammar, seed), n):
        yield prompt_and_answer(task, item.question, item.answer)


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE of 512 tokens, digits always alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [p + a for task in TASKS for p, a in texts(task, CORPUS[task.name], seed=1)]
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


class Rows:
    """Packed rows: tokens, targets and their weights, position and segment of each token.

    An answer weighs as much as any other however long it is (else long translations drown the one word of a sentiment),
    and the tokens of a prompt a little, for the words and the copying they teach.
    """

    def __init__(self, shape: tuple[int, int]):
        self.tokens = np.zeros(shape, np.int64)
        self.targets = np.zeros(shape, np.int64)
        self.weights = np.zeros(shape, np.float32)
        self.positions = np.zeros(shape, np.int64)
        self.segments = np.full(shape, -1, np.int64)
        self.answer_tokens = 0

    def __len__(self) -> int:
        return len(self.tokens)


def make_rows(tokenizer: Tokenizer, examples: int, seed: int) -> Rows:
    """About `examples` examples, shuffled over the tasks and packed first-fit into rows of `ROW` tokens."""
    rng = Random(f"rows/{seed}")
    pairs: list[tuple[str, str]] = []
    for task in TASKS:
        n = round(examples * SHARES[task.name] / sum(SHARES.values()))
        pairs += texts(task, n, seed)
    rng.shuffle(pairs)
    prompts = tokenizer.encode_batch_fast([p for p, _ in pairs])
    answers = tokenizer.encode_batch_fast([a for _, a in pairs])
    newline = tokenizer.encode("\n").ids

    done: list[list[tuple[list[int], list[int]]]] = []
    bins: list[tuple[int, list[tuple[list[int], list[int]]]]] = []
    for prompt, answer in zip(prompts, answers):
        length = len(prompt.ids) + len(answer.ids) + 1
        if length > ROW + 1:
            raise ValueError("an example does not fit into a row")
        for i, (used, items) in enumerate(bins):
            if used + length <= ROW + 1:
                items.append((prompt.ids, answer.ids))
                bins[i] = (used + length, items)
                break
        else:
            bins.append((length, [(prompt.ids, answer.ids)]))
            if len(bins) > 16:  # the fullest open row is closed
                fullest = max(range(len(bins)), key=lambda i: bins[i][0])
                done.append(bins.pop(fullest)[1])
    done += [items for _, items in bins]
    rng.shuffle(done)

    rows = Rows((len(done), ROW))
    tokens, positions, segments = rows.tokens, rows.positions, rows.segments
    for r, items in enumerate(done):
        shots = rng.random() < OPEN_ROWS
        at = 0
        for s, (prompt_ids, answer_ids) in enumerate(items):
            ids = prompt_ids + answer_ids
            if shots and s > 0:  # a blank line between shots
                ids = newline + ids
            n = min(len(ids), ROW + 1 - at) - 1
            tokens[r, at : at + n] = ids[:n]
            first = len(ids) - len(answer_ids) - 1
            rows.targets[r, at : at + n] = ids[1 : n + 1]
            rows.weights[r, at : at + first] = PROMPT_WEIGHT
            rows.weights[r, at + first : at + n] = 1 / len(answer_ids)
            rows.answer_tokens += n - first
            if shots:  # the newline that ends an answer is seen by the next shot
                tokens[r, at + n : at + n + 1] = ids[n : n + 1]
                n = min(n + 1, ROW - at)
                positions[r, at : at + n] = np.arange(at, at + n)
                segments[r, at : at + n] = 0
            else:
                positions[r, at : at + n] = np.arange(n)
                segments[r, at : at + n] = s
            at += n
            if at >= ROW:
                break
    return rows
