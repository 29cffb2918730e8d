"""Where poise's choice log-likelihoods are how much faster than lm-evaluation-harness's model class.

    python benchmarks/loglikelihood_grid.py [--items 16] [--models s m] [--passes 2]

Both run the same bundled model, in this one process, on one thread in single precision: 2, 4 and 10 choices of about
five words (and 4 of one token, which the harness answers from one pass too), behind prompts of about 15 and 150 words
and behind five examples of 30 words, one item at a time and in batches of 16. `ratio` is lm-eval's CPU seconds over
poise's, of the best of `--passes` each, taken in turn. Needs an environment that has lm-eval. Prints a table and one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

from local_overhead import WORDS
from loglikelihood import poise_choices

from poise.measure.backends.transformers import Transformers
from poise.plan.sources import bundled_folder
from poise.plan.spec import Deployment, Model

Items = list[tuple[str, list[str]]]
PROMPTS = {"short": 15, "long": 150, "5-shot": 30}
CHOICES = (2, 4, 10)
BATCHES = (1, 16)


def made(kind: str, choices: int, count: int, one_token: bool = False) -> Items:
    """Seeded items; all those of five examples begin alike."""
    source = random.Random(f"{kind} {choices}")

    def words(number: int) -> str:
        return " ".join(source.choices(WORDS, k=number))

    shots = "".join(f"{words(30)}\nAnswer: {words(5)}\n\n" for _ in range(5)) if kind == "5-shot" else ""
    ends = [f" {letter}" for letter in "ABCDEFGHIJ"[:choices]]
    return [
        (f"{shots}{words(PROMPTS[kind])}\nAnswer:", ends if one_token else [f" {words(5)}" for _ in range(choices)])
        for _ in range(count)
    ]


def theirs(lm: Any, items: Items) -> Callable[[], list[float]]:
    from lm_eval.api.instance import Instance

    pairs = [(prompt, end) for prompt, ends in items for end in ends]
    asked = [Instance("loglikelihood", {}, pair, i, ("t", i, 1)) for i, pair in enumerate(pairs)]
    return lambda: [float(value) for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]


def ratio(ours: Callable[[], list[float]], others: Callable[[], list[float]], passes: int) -> tuple[float, float, bool]:
    """CPU seconds of both, and whether they say the same."""
    best = [float("inf"), float("inf")]
    said = [ours(), others()]
    for _ in range(passes):
        for i, run in enumerate((ours, others)):
            began = time.process_time()
            run()
            best[i] = min(best[i], time.process_time() - began)
    return best[0], best[1], all(abs(a - b) <= 1e-3 * max(1.0, abs(b)) for a, b in zip(*said, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--models", nargs="+", default=["s", "m"])
    parser.add_argument("--passes", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    cells = [(kind, n, batch, False) for kind in PROMPTS for n in CHOICES for batch in BATCHES]
    cells += [(kind, 4, batch, True) for kind in PROMPTS for batch in BATCHES]
    rows: list[dict[str, Any]] = []
    print("model  prompt  choices     batch   poise CPU-s  lm-eval CPU-s  ratio")
    for name in arguments.models:
        folder = bundled_folder(name)
        backend = Transformers()
        backend.open(
            Model(name, {"hf": str(folder)}), Deployment("t", "transformers", device="cpu", options={"threads": 1})
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for kind, choices, batch, one_token in cells:
            items = made(kind, choices, arguments.items, one_token)
            lm = HFLM(pretrained=backend._model, tokenizer=tokenizer, batch_size=batch, device="cpu")
            ours, others, same = ratio(poise_choices(backend, items, batch), theirs(lm, items), arguments.passes)
            row = {"model": name, "prompt": kind, "choices": choices, "one_token": one_token, "batch": batch}
            rows.append({**row, "poise_cpu_s": ours, "lm_eval_cpu_s": others, "ratio": others / ours, "same": same})
            what = f"{choices}{' letters' if one_token else ''}"
            print(
                f"{name:6} {kind:7} {what:11} {batch:5} {ours:13.3f} {others:14.3f} {others / ours:6.2f}"
                f"{'' if same else '  DIFFERENT'}",
                flush=True,
            )
    by = {
        n: statistics.median(r["ratio"] for r in rows if r["choices"] == n and not r["one_token"]) for n in CHOICES
    } | {"one token": statistics.median(r["ratio"] for r in rows if r["one_token"])}
    print("median ratio by choices:", {k: round(v, 2) for k, v in by.items()})
    print(json.dumps({"benchmark": "loglikelihood_grid", "items": arguments.items, "median": by, "rows": rows}))


if __name__ == "__main__":
    main()
