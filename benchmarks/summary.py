"""How long `summarize` takes over a folder of 100 000 recorded requests of 128 tokens, and how much memory.

    python benchmarks/summary.py [--requests N] [--tokens N] [--keep DIR]

Target: under 6 s and 200 MB. Prints one JSON document: CPU and wall seconds, peak memory of this process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from poise.plan.spec import Cell, CellTask, Deployment, Generation, Load, Model, Study, TaskUse
from poise.store.files import encode_pretty
from poise.store.run import Manifest
from poise.types import FORMAT, Record, Request, Sample, Timeline

WORDS = [" the", " of", "ing", " a", "tion", " model", "s", " fast", "\n", " 4", "er", " question", ",", " and"]


def write_run(folder: Path, requests: int, tokens: int) -> int:
    """A run folder of one synthetic cell; returns the bytes of its records."""
    (folder / "inputs").mkdir(parents=True)
    model = Model("large", {"api": "large"}, format="raw")
    deployment, load = Deployment("server", "openai"), Load("closed", 64)
    study = Study("bench", [model], [deployment], [TaskUse("synthetic", "synthetic")], [load])
    (folder / "manifest.json").write_bytes(encode_pretty(Manifest(FORMAT, "0.1.0", study, "", [])))
    task = CellTask(
        "synthetic", "synthetic", 1, "generate", "d", "t", "items", "text", (), 0.0, tokens, "conversational"
    )
    cell = Cell("bench", model, deployment, task, load, Generation(), 0, requests, "api")
    home = folder / "cells" / cell.folder
    home.mkdir(parents=True)
    (home / "cell.json").write_bytes(encode_pretty(cell))
    rng, encode = random.Random(0), msgspec.json.Encoder().encode
    pieces = [[rng.choice(WORDS) for _ in range(tokens)] for _ in range(50)]
    deltas = [[rng.randint(9_000_000, 11_500_000) for _ in range(tokens)] for _ in range(50)]
    size = 0
    with (
        (home / "records.jsonl").open("wb") as records,
        (folder / "inputs" / "items.requests.jsonl").open("wb") as asked,
        (folder / "inputs" / "items.targets.jsonl").open("wb") as targets,
    ):
        for i in range(requests):
            steps = [rng.randint(50_000_000, 200_000_000), *deltas[i % 47][1:]]
            timeline = Timeline(i * 20_000_000, steps, sum(steps) + 1000)
            line = encode(Record(str(i), str(i), "ok", timeline=timeline, pieces=pieces[i % 49], output_tokens=tokens))
            size += records.write(line + b"\n")
            asked.write(encode(Request(str(i), str(i), "generate", "a", prompt="p", max_tokens=tokens)) + b"\n")
            targets.write(encode(Sample(str(i), {})) + b"\n")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="folder to write the run to (reused if it is there)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch) / "run"
        records = folder / "cells" / "bench-r0" / "records.jsonl"
        size = records.stat().st_size if records.exists() else write_run(folder, args.requests, args.tokens)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu = time.perf_counter(), time.process_time()
        from poise.understand.summarize import summarize

        summary = summarize(folder)
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    cell = summary.cells[0]
    print(
        json.dumps(
            {
                "requests": cell.n,
                "chunk_gaps": cell.estimates["chunk_gap_s.p99"].n,
                "record_bytes": size,
                **{k: round(v, 2) for k, v in took.items()},
                "peak_bytes": peak,
                "peak_bytes_before": before * unit,
            }
        )
    )


if __name__ == "__main__":
    main()
