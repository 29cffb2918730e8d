"""What poise costs around a model in process: every token stamped, against a bare `model.generate` loop.

Both tokenise, generate greedily up to the same length and decode the same prompts, interleaved block by block in one
process (A B B A …), at batch 1 and as length-sorted batches of 16. A ratio is the median over pairs of neighbouring
blocks; `cpu` is the same ratio in CPU seconds, which other load on the host disturbs less. Then the whole command
`poise run` on the first model: its seconds outside imports, model load and generation. The last line is one JSON
document.

    python benchmarks/local_overhead.py [--blocks 8] [--prompts 32] [--tokens 48] [--model FOLDER …]

Without --model: a random Llama of 10 million parameters made on the fly, and the bundled models that are there.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poise.measure.backends.transformers import Transformers
from poise.plan.spec import Deployment, Model
from poise.store.run import open_run
from poise.types import Request

IMPORT = re.compile(r"import time: +\d")
TARGETS = {1: 1.02, 16: 1.05}
WORDS = "the a of in to dog fox river lamp quick lazy bright seven stands over under wall bottle sings walks".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=8, help="timed blocks of each kind")
    parser.add_argument("--prompts", type=int, default=32, help="prompts in a block")
    parser.add_argument("--tokens", type=int, default=48, help="tokens made for each prompt")
    parser.add_argument("--model", action="append", default=[], help="a local model folder (repeatable)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(f) for f in arguments.model] or [random_llama(Path(scratch) / "random-10m"), *bundled()]
        rows = [row for folder in folders for row in measure(folder, arguments)]
        command = whole_command(folders[0], Path(scratch) / "run", arguments)
    print("model            parameters batch   generate      poise   ratio        quartiles     cpu  target  tokens")
    for row in rows:
        spread = f"{row['ratio_lo']:.3f}–{row['ratio_hi']:.3f}"
        print(
            f"{row['model']:<15}{row['parameters']:>12,}{row['batch']:>6}{row['generate_s']:>10.3f}s{row['poise_s']:>10.3f}s"
            f"{row['ratio']:>8.3f}{spread:>17}{row['cpu_ratio']:>8.3f}"
            f"{row['target']:>8}  {'same' if row['same_tokens'] else 'DIFFERENT'}"
        )
    print(
        f"poise run: {command['wall_s']:.2f} s = imports {command['imports_s']:.2f} + load {command['load_s']:.2f} + "
        f"generation {command['generation_s']:.2f} + outside {command['outside_s']:.2f} (target 0.5)"
    )
    print(json.dumps({"benchmark": "local_overhead", "rows": rows, "command": command}))


def measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    backend = Transformers()
    deployment = Deployment("t", "transformers", device=arguments.device, options={"threads": 1})
    opened = backend.open(Model(folder.name, {"hf": str(folder)}), deployment)
    requests = [
        Request(
            id=str(i), sample_id=str(i), kind="generate", asked_sha="", prompt=prompt,
            max_tokens=arguments.tokens,
        )
        for i, prompt in enumerate(prompts(arguments.prompts))
    ]  # fmt: skip
    return [
        {
            "model": folder.name,
            "parameters": opened.settings["parameters"],
            **compare(backend, folder, requests, size, arguments),
        }
        for size in TARGETS
    ]


def compare(
    backend: Transformers, folder: Path, requests: list[Request], size: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    ordered = sorted(requests, key=lambda r: len(r.prompt or "")) if size > 1 else requests
    groups = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    bare = bare_generate(backend, folder, groups, arguments.tokens)

    def poise() -> list[list[int]]:
        made = []
        for group in groups:
            prepared = [backend.prepare(request) for request in group]
            raws = backend.send(prepared)
            for one, raw in zip(prepared, raws, strict=True):
                backend.finish(one, raw)
                made.append([token for _, token in raw.stamps])
        return made

    same = bare() == poise()  # also warms both up
    times = interleaved(bare, poise, arguments.blocks)
    return {
        "batch": size,
        "generate_s": times.pop("bare_s"),
        **times,
        "target": TARGETS[size],
        "same_tokens": same,
    }


def interleaved(bare: Callable[[], Any], poise: Callable[[], Any], blocks: int) -> dict[str, Any]:
    """Seconds of two ways that take turns (A B B A …); a ratio is the median over pairs of neighbouring blocks."""
    times: dict[Callable[[], Any], list[float]] = {bare: [], poise: []}
    cpu: dict[Callable[[], Any], list[float]] = {bare: [], poise: []}
    gc.collect()
    gc.freeze()
    gc.disable()
    for block in range(blocks):
        for run in (bare, poise) if block % 2 == 0 else (poise, bare):
            start, used = time.perf_counter(), time.process_time()
            run()
            times[run].append(time.perf_counter() - start)
            cpu[run].append(time.process_time() - used)
        gc.collect(1)
    gc.enable()
    ratios = sorted(p / b for b, p in zip(times[bare], times[poise], strict=True))
    return {
        "bare_s": statistics.median(times[bare]),
        "poise_s": statistics.median(times[poise]),
        "ratio": statistics.median(ratios),
        "ratio_lo": ratios[len(ratios) // 4],
        "ratio_hi": ratios[-1 - len(ratios) // 4],
        "cpu_ratio": statistics.median(p / b for b, p in zip(cpu[bare], cpu[poise], strict=True)),
        "bare_cpu_s": min(cpu[bare]),
        "poise_cpu_s": min(cpu[poise]),
    }


def bare_generate(
    backend: Transformers, folder: Path, groups: list[list[Request]], tokens: int
) -> Callable[[], list[list[int]]]:
    """What one would write without a tool: tokenise, generate, decode; the same loaded model, the same settings."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = backend._model
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    ends = backend._codec.eos

    def run() -> list[list[int]]:
        made = []
        for group in groups:
            texts = [request.prompt for request in group]
            batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False).to(model.device)
            with torch.inference_mode():
                out = model.generate(**batch, do_sample=False, max_new_tokens=tokens)
            rows = out[:, batch["input_ids"].shape[1] :].tolist()
            tokenizer.batch_decode(rows, skip_special_tokens=True)
            made += [row[: next((i + 1 for i, t in enumerate(row) if t in ends), None)] for row in rows]
        return made

    return run


def whole_command(folder: Path, out: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Where the wall time of `poise run` goes. Imports: of the parent (the worker's are part of its model load)."""
    argv = ["run", "-m", str(folder), "-b", "transformers", "-t", "synthetic", "-o", str(out)]
    size = ["--limit", str(arguments.prompts), "--max-tokens", str(arguments.tokens)]
    python = [sys.executable, "-X", "importtime", "-c", "from poise.cli import main; main()"]
    start = time.perf_counter()
    done = subprocess.run([*python, *argv, *size], capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"poise run failed: {done.stdout[-2000:]}")
    imports = (
        sum(int(line.split(":")[1].split("|")[0]) for line in done.stderr.splitlines() if IMPORT.match(line)) / 1e6
    )
    (cell,) = open_run(out).cells()
    load = sum(segment.load_s or 0.0 for segment in cell.segments())
    generation = sum(record.timeline.done_ns for record in cell.records() if record.timeline) / 1e9
    return {
        "wall_s": wall,
        "imports_s": imports,
        "load_s": load,
        "generation_s": generation,
        "outside_s": wall - imports - load - generation,
    }


def prompts(count: int) -> list[str]:
    """Texts of 8 to 72 words, seeded."""
    source = random.Random(0)
    return [" ".join(source.choices(WORDS, k=source.randint(8, 72))) for _ in range(count)]


def random_llama(folder: Path) -> Path:
    """A Llama of 10 million random parameters with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 50, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
        num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=0, bos_token_id=None, pad_token_id=0, initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    logging.disable_progress_bar()
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def bundled() -> list[Path]:
    import poise

    home = Path(poise.__file__).parent / "bundled"
    return sorted(f.parent for f in home.glob("*/config.json"))


if __name__ == "__main__":
    main()
