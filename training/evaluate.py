"""Scores the bundled models on the held-out items, times them, and compares the two engines token by token.

    python training/evaluate.py --out build/evaluation.json --card src/poise/bundled/MODEL_CARD.md

Scores and times come from onnxruntime-genai (one request at a time, one thread), the comparison from transformers in
fp32. Intervals: percentile bootstrap over items, within each task.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import prompt_and_answer
from rouge_score import rouge_scorer
from sacrebleu import sentence_chrf
from tokenizers import Tokenizer

from poise.tasks.mini import TASKS, Mini
from poise.types import Sample

SIZES = ("xs", "s", "m")
TAU_TTFT_S, TAU_TPOT_S = 0.003, 0.001
"""The reference time of the miniature profile: seconds, and seconds per token of the reference answer."""

BOOTSTRAP = 4000
MARKERS = "<!-- scores -->", "<!-- end of scores -->"

Generate = Callable[[list[int], int], list[int]]


def label(answer: str, target: str) -> float:
    return float(answer.lower() == target)


def exact(answer: str, target: str) -> float:
    return float(answer == target)


def chrf(answer: str, target: str) -> float:
    return sentence_chrf(answer, [target]).score / 100


_rouge = rouge_scorer.RougeScorer(["rougeL"])


def rouge_l(answer: str, target: str) -> float:
    return _rouge.score(target, answer)["rougeL"].fmeasure


METRICS = {"accuracy": label, "exact_match": exact, "chrf": chrf, "rouge_l": rouge_l}


def onnx_engine(folder: Path) -> Generate:
    import onnxruntime_genai as og

    model = og.Model(str(folder / "onnx"))

    def generate(prompt: list[int], limit: int) -> list[int]:
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(prompt) + limit, do_sample=False)
        generator = og.Generator(model, params)
        generator.append_tokens(np.asarray(prompt, np.int32))
        tokens: list[int] = []
        while not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
        return tokens

    return generate


def transformers_engine(folder: Path) -> Generate:
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def generate(prompt: list[int], limit: int) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit)
        return out[0, len(prompt) :].tolist()

    return generate


def timed(generate: Generate, prompt: list[int], limit: int) -> tuple[list[int], float]:
    started = time.perf_counter()
    tokens = generate(prompt, limit)
    return tokens, time.perf_counter() - started


def interval(groups: list[np.ndarray], seed: int = 0) -> tuple[float, float, float]:
    """Mean of the groups' means with a 95 % bootstrap interval."""
    rng = np.random.default_rng(seed)
    draws = np.mean(
        [rng.choice(g, (BOOTSTRAP, len(g))).mean(axis=1) for g in groups],
        axis=0,
    )
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(np.mean([g.mean() for g in groups])), float(low), float(high)


def evaluate(folder: Path, n: int, compare: int) -> dict[str, Any]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    onnx = onnx_engine(folder)
    reference = transformers_engine(folder) if compare else None
    result: dict[str, Any] = {"files_bytes": {p.name: p.stat().st_size for p in folder.rglob("*") if p.is_file()}}
    tasks: dict[str, dict[str, Any]] = {}
    qualities: dict[str, np.ndarray] = {}
    for task in TASKS:
        samples = list(task.samples(None, {"n": n}))
        prompts = [tokenizer.encode(prompt_of(task, s)).ids for s in samples]
        for prompt in prompts[:20]:
            onnx(prompt, task.max_tokens)
        runs = [timed(onnx, prompt, task.max_tokens) for prompt in prompts]
        answers = [first_line(tokenizer.decode(tokens)) for tokens, _ in runs]
        metric = METRICS[task.metrics[0]]
        q = np.array([metric(a, task.answer(s)) for a, s in zip(answers, samples)])
        qualities[task.name] = q
        row: dict[str, Any] = {
            "n": len(samples),
            "quality": interval([q]),
            "by_category": by_category(samples, q),
            "prompt_tokens": statistics.mean(map(len, prompts)),
            "answer_tokens": statistics.mean(len(tokens) for tokens, _ in runs),
            "onnx_s": statistics.median(t for _, t in runs),
            "onnx_token_s": per_token(runs),
            "onnx_speed_mark": speed_mark(task, [t for _, t in runs]),
            "examples": [[samples[i].fields["question"], answers[i], samples[i].target] for i in range(4)],
        }
        if reference is not None:
            others = [timed(reference, prompt, task.max_tokens) for prompt in prompts[:compare]]
            row["compared"] = len(others)
            row["same_tokens"] = sum(a == b for (a, _), (b, _) in zip(runs, others))
            row["transformers_s"] = statistics.median(t for _, t in others)
            row["transformers_token_s"] = per_token(others)
            row["transformers_speed_mark"] = speed_mark(task, [t for _, t in others])
        tasks[task.name] = row
    result["tasks"] = tasks
    result["mean_of_all"] = interval(list(qualities.values()))
    result["mean_of_mini"] = interval([qualities[name] for name in mini_names()])
    return result


def prompt_of(task: Mini, sample: Sample) -> str:
    return prompt_and_answer(task, task.question(sample), task.answer(sample))[0]


def first_line(text: str) -> str:
    return text.strip(" ").split("\n")[0].strip()


def per_token(runs: list[tuple[list[int], float]]) -> float:
    """Median over items of request time by generated tokens, the prompt's share included."""
    return statistics.median(t / len(tokens) for tokens, t in runs)


def speed_mark(task: Mini, seconds: list[float]) -> float:
    tau = TAU_TTFT_S + TAU_TPOT_S * task.n_ref
    return statistics.mean(tau / (tau + t) for t in seconds)


def by_category(samples: list[Sample], q: np.ndarray) -> dict[str, float]:
    names = dict.fromkeys(s.category or "" for s in samples)
    return {c: round(float(np.mean([x for x, s in zip(q, samples) if s.category == c])), 3) for c in names}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The scores, times and agreements as Markdown."""
    sizes = list(results)
    lines = [f"| task (metric) | {' | '.join(sizes)} |", f"|---|{'---|' * len(sizes)}"]

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    def percent(value: tuple[float, float, float]) -> str:
        return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * v for v in value))

    for task in TASKS:
        row(f"{task.name} ({task.metrics[0]})", [percent(r["tasks"][task.name]["quality"]) for r in results.values()])
    row("**mean of the group `mini`**", [percent(r["mean_of_mini"]) for r in results.values()])
    row("mean of all six", [percent(r["mean_of_all"]) for r in results.values()])
    for engine in ("onnx", "transformers"):
        if any(f"{engine}_s" not in t for r in results.values() for t in r["tasks"].values()):
            continue
        for key, unit, scale, digits in (("speed_mark", "speed mark", 1, 2), ("token_s", "ms per token", 1e3, 2)):
            means = [statistics.mean(r["tasks"][n][f"{engine}_{key}"] for n in mini_names()) for r in results.values()]
            row(f"{unit}, {engine}", [f"{scale * m:.{digits}f}" for m in means])
    if all("same_tokens" in t for r in results.values() for t in r["tasks"].values()):
        same = [sum(t["same_tokens"] for t in r["tasks"].values()) for r in results.values()]
        asked = [sum(t["compared"] for t in r["tasks"].values()) for r in results.values()]
        row("items with the same tokens on both engines", [f"{a} of {b}" for a, b in zip(same, asked)])
    return "\n".join(lines) + "\n"


def mini_names() -> tuple[str, ...]:
    from poise.registry import TASK_GROUPS

    return TASK_GROUPS["mini"]


def write_card(card: Path, text: str) -> None:
    """Put the table between the card's two markers."""
    before, _, rest = card.read_text().partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    card.write_text(f"{before}{MARKERS[0]}\n{text}{MARKERS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, default=Path("src/poise/bundled"))
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("-n", type=int, default=400, help="held-out items per task")
    parser.add_argument("--compare", type=int, default=400, help="items per task that transformers answers too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--card", type=Path, help="model card whose table is to be replaced")
    args = parser.parse_args()
    results = {size: evaluate(args.models / size, args.n, args.compare) for size in args.sizes.split(",")}
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    if args.card:
        write_card(args.card, table(results))
    print(table(results))
    for size, r in results.items():
        for name, t in r["tasks"].items():
            print(size, name, f"S {t['onnx_speed_mark']:.3f}", t["by_category"])


if __name__ == "__main__":
    main()
