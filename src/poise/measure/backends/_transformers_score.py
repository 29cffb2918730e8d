"""Log-probabilities through transformers: continuations that share their prompts' cache, and texts in windows.

Both run as batches: of as many rows as requests are sent together, or of a request's own continuations. Only rows
that are scored go through the head, and only scores leave the device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from poise.measure.backends._inprocess import Prepared, Ranked

ROWS = 16
"""Continuations that run at once over copies of their prompts' caches, also where fewer requests are sent together."""
LOGITS = 2**26
"""Logits that are held at once while texts are scored: 256 MB in single precision."""
LEAST = 512
"""Fewest tokens of a text that are fed at once."""


class Scorer:
    """`forward(ids, cache, keep, **more)` is one pass: logits of the last `keep` positions, and the cache."""

    def __init__(self, torch: Any, device: Any, forward: Callable[..., Any], vocabulary: int) -> None:
        self._torch, self._device, self._forward, self._vocabulary = torch, device, forward, vocabulary

    def options(self, batch: Sequence[Prepared]) -> list[list[Ranked]]:
        """Every continuation of every request. Prompts run once, padded on the left; their caches are copied.

        Continuations are padded on the right, where causal attention never looks.
        """
        contexts = [context for p in batch for context in p.contexts]
        bases = _starts(len(p.contexts) for p in batch)
        options = [option for p in batch for option in p.options]
        after = [base + place for base, p in zip(bases, batch) for place in p.after]

        prompts = _Prompts(self, contexts)
        ahead = prompts.logits
        places, firsts = self._tensor(after), self._tensor([option[0] for option in options])
        first = ahead[places, firsts] - ahead.logsumexp(-1)[places]
        likeliest = ahead.argmax(-1)[places] == firsts

        order = sorted((i for i, option in enumerate(options) if len(option) > 1), key=lambda i: len(options[i]))
        rest: list[tuple[list[int], Any, Any]] = []
        for part in _parts(order, max(ROWS, len(batch))):
            fed = self._padded([options[i][:-1] for i in part])
            aims = self._padded([options[i][1:] for i in part])
            logits = prompts.follow([after[i] for i in part], fed)
            rest.append((part, self._logprobs(logits, aims), logits.argmax(-1) == aims))
        values = [[value] for value in first.tolist()]
        greedy = likeliest.tolist()
        for part, scores, same in rest:
            for i, score, equal in zip(part, scores.tolist(), same.tolist()):
                length = len(options[i]) - 1
                values[i] += score[:length]
                greedy[i] = greedy[i] and all(equal[:length])
        ranked = iter(zip(values, greedy))
        return [[next(ranked) for _ in p.options] for p in batch]

    def windows(self, batch: Sequence[Prepared]) -> list[list[float]]:
        """Every scored token of every text, in order; windows are padded on the right."""
        scores: list[list[float]] = [[] for _ in batch]
        todo = [(i, window) for i, p in enumerate(batch) for window in p.windows]
        for part in _parts(todo, len(batch)):
            texts = [batch[i].ids[start:end] for i, (start, _, end) in part]
            first = min(scored - 1 - start for _, (start, scored, _) in part)
            table = self._window_logprobs(self._padded(texts), first).tolist()
            for (i, (start, scored, end)), row in zip(part, table):
                scores[i] += row[scored - 1 - start - first : end - 1 - start - first]
        return scores

    def _window_logprobs(self, ids: Any, first: int) -> Any:
        """Log-probability of each next token, from column `first` on; longer rows are fed piece by piece."""
        rows, width = ids.shape[0], ids.shape[1] - 1
        step = max(LEAST, LOGITS // (rows * self._vocabulary))
        past, parts = None, []
        for low in range(0, width, step):
            high = min(low + step, width)
            wanted = high - max(low, first)
            logits, past = self._forward(ids[:, low:high], past, max(1, wanted))
            if wanted > 0:
                parts.append(self._logprobs(logits[:, -wanted:], ids[:, high - wanted + 1 : high + 1]))
        return self._torch.cat(parts, dim=1)

    def _logprobs(self, logits: Any, aims: Any) -> Any:
        logits = logits.float()
        return logits.gather(-1, aims[:, :, None])[:, :, 0] - logits.logsumexp(-1)

    def _tensor(self, values: Any) -> Any:
        return self._torch.tensor(values, device=self._device)

    def _padded(self, rows: Sequence[list[int]]) -> Any:
        width = max(map(len, rows))
        return self._tensor([row + [0] * (width - len(row)) for row in rows])


class _Prompts:
    """Prompts that were run once: what may follow each, and passes that go on from any of them."""

    def __init__(self, scorer: Scorer, contexts: Sequence[list[int]]) -> None:
        self._scorer, torch = scorer, scorer._torch
        lengths = list(map(len, contexts))
        width = max(lengths)
        ids = scorer._tensor([[0] * (width - len(c)) + c for c in contexts])
        given: dict[str, Any] = {}
        self._mask: Any = None
        if min(lengths) < width:  # without padding there is no mask to build, and positions count by themselves
            self._lengths = scorer._tensor(lengths)[:, None]
            self._mask = (torch.arange(width, device=ids.device) >= width - self._lengths).long()
            given = {"attention_mask": self._mask, "position_ids": (self._mask.cumsum(-1) - 1).clamp(min=0)}
        logits, self._past = scorer._forward(ids, None, 1, **given)
        self.logits = logits[:, -1].float()

    def follow(self, places: list[int], fed: Any) -> Any:
        """Logits (row, token, vocabulary) of `fed`, whose row i goes on from the prompt `places[i]`."""
        rows, width = self._scorer._tensor(places), fed.shape[1]
        given: dict[str, Any] = {}
        if self._mask is not None:
            mask = self._mask[rows]
            steps = self._scorer._torch.arange(width, device=fed.device)
            given = {
                "attention_mask": self._scorer._torch.cat([mask, mask.new_ones(fed.shape)], dim=1),
                "position_ids": self._lengths[rows] + steps,
            }
        logits, _ = self._scorer._forward(fed, _copies(self._past, rows), width, **given)
        return logits[:, -width:].float()


def _copies(cache: Any, rows: Any) -> Any:
    """The cache with one row for each of `rows`; the original stays as it is."""
    plain = all(type(layer).__name__ in ("DynamicLayer", "DynamicSlidingWindowLayer") for layer in cache.layers)
    if plain:  # these replace their tensors and never write into them
        kept = copy.copy(cache)
        kept.layers = [copy.copy(layer) for layer in cache.layers]
    else:
        kept = copy.deepcopy(cache)
    kept.batch_select_indices(rows)
    return kept


def _starts(sizes: Iterator[int]) -> list[int]:
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += size
    return starts


def _parts(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[low : low + size] for low in range(0, len(items), size))
