"""Choice log-likelihoods and rolling perplexity: poise against a bare loop, and other tools beside it.

Items have a prompt of 30 to 150 words and four endings of 3 to 20 words; all seeded, all on one thread in single
precision, on a random Llama of 10 million parameters or on `--model`, a folder. The bare loop is what one would write
by hand for speed: items sorted by length, prompts run once in batches, the endings go on from copies of their cache,
only their rows pass through the head. poise runs through its backend, `prepare`, `send` and `finish`, on the same
loaded model, block by block in turn with the bare loop (A B B A …); a ratio is the median over pairs of neighbouring
blocks, `cpu` the same in CPU seconds, which other load on the host disturbs less. Then the whole command `poise run`
on the same items: its seconds outside imports, model load and the model. The last line is one JSON document.

    python benchmarks/loglikelihood.py [--items 120] [--blocks 6] [--model FOLDER]
                                       [--peers lm-eval=PYTHON,lighteval=PYTHON]

`--peers` names the interpreters of environments in which these tools are installed; each runs its own model class on
the same model, items and text, in a process of its own: the best of three passes, in CPU seconds.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from local_overhead import WORDS, interleaved, random_llama

from poise.measure.backends.transformers import Transformers
from poise.plan.spec import Deployment, Model
from poise.store.run import open_run
from poise.types import Request

IMPORT = re.compile(r"import time: +\d")
BATCH = 16
TARGETS = {"choice": 1.05, "perplexity": 1.05, "outside_s": 0.5}
CONTEXT = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=120, help="items of four endings in a block")
    parser.add_argument("--words", type=int, default=12_000, help="words of the text for perplexity")
    parser.add_argument("--blocks", type=int, default=6, help="timed blocks of each kind")
    parser.add_argument("--model", type=Path, help="a model folder with config.json; default: a random Llama")
    parser.add_argument("--peers", default="", help="NAME=PYTHON,…: lm-eval, lighteval")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.model or random_llama(Path(scratch) / "random-10m")
        items, text = made_items(arguments.items), made_text(arguments.words)
        backend = Transformers()
        backend.open(
            Model("m", {"hf": str(folder)}), Deployment("t", "transformers", device="cpu", options={"threads": 1})
        )
        bare = Bare(backend)
        rows = [
            compare(
                f"choice, batch {size}",
                partial(bare.choices, items, size),
                poise_choices(backend, items, size),
                arguments,
            )
            for size in (1, BATCH)
        ]
        windows = poise_windows(backend, text)
        rows.append(compare("perplexity", partial(bare.windows, text), windows, arguments))
        command = whole_command(folder, items, Path(scratch))
        peers = [peer.partition("=")[::2] for peer in arguments.peers.split(",") if peer]
        found = [run_peer(name, python, folder, items, text, Path(scratch)) for name, python in peers]
    show(rows, command, found, arguments)


def show(
    rows: list[dict[str, Any]], command: dict[str, float], peers: list[dict[str, Any]], a: argparse.Namespace
) -> None:
    model = a.model.name if a.model else "10 M parameters"
    print(f"{a.items * 4} choice log-likelihoods, {a.words} words of text; one thread, float32, {model}")
    print("what                    bare      poise   ratio        quartiles     cpu  target  values")
    for row in rows:
        spread = f"{row['ratio_lo']:.3f}–{row['ratio_hi']:.3f}"
        print(
            f"{row['what']:<18}{row['bare_s']:>9.3f}s{row['poise_s']:>10.3f}s{row['ratio']:>8.3f}{spread:>17}{row['cpu_ratio']:>8.3f}"
            f"{row['target']:>8}  {'same' if row['same'] else 'DIFFERENT'}"
        )
    by = {row["what"]: row for row in rows}
    for peer in peers:
        for what in ("choice", "perplexity"):
            if seconds := peer.get(f"{what}_cpu_s"):
                base = by["perplexity" if what == "perplexity" else f"choice, batch {BATCH}"]
                peer[f"{what}_ratio"] = seconds / base["bare_cpu_s"]
                peer[f"{what}_over_poise"] = seconds / base["poise_cpu_s"]
                over = f"{peer[f'{what}_ratio']:.2f} of the bare loop, {peer[f'{what}_over_poise']:.2f} of poise"
                print(f"{peer['peer'] + ', ' + what:<28}{seconds:>10.3f} CPU-s: {over}")
        if peer.get("error"):
            print(f"{peer['peer']}: {peer['error']}")
    print(
        f"poise run: {command['wall_s']:.2f} s = imports {command['imports_s']:.2f} + load {command['load_s']:.2f} + "
        f"model {command['model_s']:.2f} + outside {command['outside_s']:.2f} (target {TARGETS['outside_s']})"
    )
    print(json.dumps({"benchmark": "loglikelihood", "rows": rows, "command": command, "peers": peers}))


# ---------------------------------------------------------------- what is asked


def made_items(count: int) -> list[tuple[str, list[str]]]:
    """(prompt, four endings), seeded."""
    source = random.Random(1)

    def words(low: int, high: int) -> str:
        return " ".join(source.choices(WORDS, k=source.randint(low, high)))

    return [(words(30, 150), [f" {words(3, 20)}" for _ in range(4)]) for _ in range(count)]


def made_text(words: int) -> str:
    return " ".join(random.Random(2).choices(WORDS, k=words))


def request(number: int, kind: Any, prompt: str, **more: Any) -> Request:
    return Request(id=str(number), sample_id=str(number), kind=kind, asked_sha="", prompt=prompt, **more)


# ---------------------------------------------------------------- the two that are compared


class Bare:
    """The same loaded model without a tool around it."""

    def __init__(self, backend: Transformers) -> None:
        import torch

        self.torch, self.model, self.encode = torch, backend._model, backend._codec.encode
        self.start, self.cache = backend._codec.start, backend._cache
        self.context = backend._codec.context or CONTEXT

    def choices(self, items: list[tuple[str, list[str]]], size: int) -> list[float]:
        torch, found = self.torch, [[0.0] * 4 for _ in items]
        order = sorted(range(len(items)), key=lambda i: len(items[i][0])) if size > 1 else list(range(len(items)))
        with torch.inference_mode():
            for low in range(0, len(items), size):
                self._group(order[low : low + size], items, found)
        return [value for row in found for value in row]

    def _group(self, group: list[int], items: list[tuple[str, list[str]]], found: list[list[float]]) -> None:
        torch = self.torch
        prompts = [self.encode(items[i][0], True) for i in group]
        ends = [self.encode(items[i][0] + e, True)[len(p) :] for i, p in zip(group, prompts) for e in items[i][1]]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        lengths = torch.tensor([len(p) for p in prompts])[:, None]
        mask = (torch.arange(width) >= width - lengths).long()
        alike = bool(mask.all())
        given = {} if alike else {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
        out = self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **given)
        first = out.logits[:, -1].log_softmax(-1)
        rows = [row for row in range(len(group)) for _ in range(4)]
        order = sorted(range(len(ends)), key=lambda i: len(ends[i]))
        for low in range(0, len(order), BATCH):
            part = order[low : low + BATCH]
            longest = max(len(ends[i]) for i in part)
            fed = torch.tensor([ends[i][:-1] + [0] * (longest - len(ends[i])) for i in part])
            aims = torch.tensor([ends[i][1:] + [0] * (longest - len(ends[i])) for i in part])
            at = torch.tensor([rows[i] for i in part])
            cache = copy.copy(getattr(out, self.cache))
            cache.layers = [copy.copy(layer) for layer in cache.layers]
            cache.batch_select_indices(at)
            if not alike:
                seen = torch.cat([mask[at], mask.new_ones(fed.shape)], dim=1)
                given = {"attention_mask": seen, "position_ids": lengths[at] + torch.arange(longest - 1)}
            more = self.model(input_ids=fed, use_cache=True, logits_to_keep=longest - 1, **{self.cache: cache}, **given)
            scores = more.logits.log_softmax(-1).gather(-1, aims[:, :, None])[:, :, 0]
            for i, row, score in zip(part, at.tolist(), scores.tolist()):
                whole = float(first[row, ends[i][0]]) + sum(score[: len(ends[i]) - 1])
                found[group[row]][i % 4] = whole

    def windows(self, text: str) -> list[float]:
        """Disjoint windows, the first token predicted too; the last reaches back for a whole context."""
        torch, ids, found = self.torch, [self.start, *self.encode(text, True)], []
        with torch.inference_mode():
            for low in range(0, len(ids) - 1, self.context):
                high = min(low + self.context, len(ids) - 1)
                begin = max(0, high - self.context)
                logits = self.model(input_ids=torch.tensor([ids[begin:high]]), use_cache=False).logits[0, low - begin :]
                aims = torch.tensor(ids[low + 1 : high + 1])
                found += logits.log_softmax(-1).gather(-1, aims[:, None])[:, 0].tolist()
        return found


def poise_choices(backend: Transformers, items: list[tuple[str, list[str]]], size: int) -> Callable[[], list[float]]:
    requests = [request(i, "choice", p, continuations=tuple(e)) for i, (p, e) in enumerate(items)]
    ordered = sorted(requests, key=lambda r: len(r.prompt or "")) if size > 1 else requests
    groups = [ordered[i : i + size] for i in range(0, len(ordered), size)]

    def run() -> list[float]:
        found: dict[int, list[float]] = {}
        for group in groups:
            prepared = [backend.prepare(one) for one in group]
            for one, raw in zip(prepared, backend.send(prepared), strict=True):
                answer = backend.finish(one, raw)
                found[int(one.request.id)] = [sum(option) for option in answer.option_logprobs or ()]
        return [value for i in range(len(items)) for value in found[i]]

    return run


def poise_windows(backend: Transformers, text: str) -> Callable[[], list[float]]:
    def run() -> list[float]:
        prepared = backend.prepare(request(0, "windows", text, windows="disjoint"))
        [raw] = backend.send([prepared])
        return backend.finish(prepared, raw).token_logprobs or []

    return run


def compare(
    what: str, bare: Callable[[], list[float]], poise: Callable[[], list[float]], arguments: argparse.Namespace
) -> dict[str, Any]:
    ours, theirs = poise(), bare()  # also warms both up
    same = len(ours) == len(theirs) and all(abs(a - b) <= 1e-3 * max(1.0, abs(b)) for a, b in zip(ours, theirs))
    return {
        "what": what,
        **interleaved(bare, poise, arguments.blocks),
        "target": TARGETS[what.partition(",")[0]],
        "same": same,
    }


# ---------------------------------------------------------------- the whole command


def whole_command(folder: Path, items: list[tuple[str, list[str]]], scratch: Path) -> dict[str, float]:
    """Where the wall time of `poise run` goes. Imports: of the parent (the worker's are part of its model load)."""
    data, out = scratch / "items.jsonl", scratch / "run"
    rows = [{"question": p, "choices": [e.strip() for e in ends], "answer": i % 4} for i, (p, ends) in enumerate(items)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = {
        "models": [{"name": "m", "source": {"hf": str(folder)}}],
        "deployments": [{"backend": "transformers", "device": "cpu", "options": {"threads": 1}}],
        "tasks": [{"task": "multiple-choice", "data": str(data), "mode": "choice", "options": {"answer_with": "text"}}],
        "loads": [{"batch": BATCH, "order": "length"}],
    }
    (scratch / "study.yaml").write_text(json.dumps(study))
    python = [sys.executable, "-X", "importtime", "-c", "from poise.cli import main; main()"]
    start = time.perf_counter()
    command = [*python, "run", str(scratch / "study.yaml"), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"poise run failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [line for line in done.stderr.splitlines() if IMPORT.match(line)]
    imports = sum(int(line.split(":")[1].split("|")[0]) for line in lines) / 1e6
    (cell,) = open_run(out).cells()
    load = sum(segment.load_s or 0.0 for segment in cell.segments())
    records = list(cell.records())
    batches = {r.batch.id: r.batch.end_ns - r.batch.start_ns for r in records if r.batch}
    warm = sum(r.timeline.done_ns for r in records if r.timeline and not r.batch)
    model = (sum(batches.values()) + warm) / 1e9
    return {
        "wall_s": wall,
        "imports_s": imports,
        "load_s": load,
        "model_s": model,
        "outside_s": wall - imports - load - model,
    }


# ---------------------------------------------------------------- others, in their own environments

LM_EVAL = """
import json, sys, time
import torch
torch.set_num_threads(1)
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
job = json.load(open(sys.argv[1]))
lm = HFLM(pretrained=job["model"], device="cpu", dtype="float32", batch_size=job["batch"])
def ask(kind, arguments):
    return [Instance(kind, {}, a, i, ("t", i, 1)) for i, a in enumerate(arguments)]
pairs = [(p, e) for p, ends in job["items"] for e in ends]
def timed(verb, requests):
    times = []
    for _ in range(3):
        start = time.process_time()
        verb(requests, disable_tqdm=True)
        times.append(time.process_time() - start)
    return min(times)
found = {"choice_cpu_s": timed(lm.loglikelihood, ask("loglikelihood", pairs)),
    "perplexity_cpu_s": timed(lm.loglikelihood_rolling, ask("loglikelihood_rolling", [(job["text"],)]))}
print("RESULT" + json.dumps(found))
"""
LIGHTEVAL = """
import json, sys, time
import torch
torch.set_num_threads(1)
from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
from lighteval.tasks.requests import Doc, SamplingMethod
job = json.load(open(sys.argv[1]))
config = TransformersModelConfig(model_name=job["model"], device="cpu", dtype="float32", batch_size=job["batch"],
    model_parallel=False)
model = TransformersModel(config)
docs = [Doc(query=p, choices=ends, gold_index=0, task_name="t", id=str(i), sampling_methods=[SamplingMethod.LOGPROBS])
    for i, (p, ends) in enumerate(job["items"])]
times = []
for _ in range(3):
    start = time.process_time()
    model._loglikelihood_tokens(docs)  # without its cache of answers
    times.append(time.process_time() - start)
print("RESULT" + json.dumps({"choice_cpu_s": min(times)}))
"""
PEERS = {"lm-eval": ("lm_eval", LM_EVAL), "lighteval": ("lighteval", LIGHTEVAL)}


def run_peer(
    name: str, python: str, folder: Path, items: list[tuple[str, list[str]]], text: str, scratch: Path
) -> dict[str, Any]:
    job = scratch / "job.json"
    job.write_text(json.dumps({"model": str(folder), "items": items, "text": text, "batch": BATCH}))
    package, script = PEERS[name]
    asked = f"import importlib.metadata as m; print(m.version('{name if package == 'lighteval' else 'lm-eval'}'))"
    version = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False).stdout.strip()
    done = subprocess.run([python, "-c", script, str(job)], capture_output=True, text=True, check=False)
    _, _, result = done.stdout.rpartition("RESULT")
    if done.returncode or not result:
        return {"peer": name, "version": version, "error": (done.stderr.strip().splitlines() or ["nothing"])[-1][:300]}
    return {"peer": name, "version": version, **json.loads(result)}


if __name__ == "__main__":
    main()
