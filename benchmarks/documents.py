"""Peak memory of translating long files as documents: planning, running against the mock server, scoring.

    python benchmarks/documents.py SOURCE.zh REFERENCE.en [--megabytes 9.5 38 152] [--score-up-to 38]

The files' lines are repeated up to each size (of the source). Each step is the `poise` command in processes of its own;
`mem` is the largest of them. Scored are the reference's own lines, some of them shifted to a neighbour's place, once as
a text file and once by sacreBLEU over the whole corpus (`--check-up-to` megabytes), which must say the same.
Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

MEASURED = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([done.returncode, time.perf_counter() - began, peak, done.stdout, done.stderr[-500:]]))
"""
POISE = [sys.executable, "-m", "poise.cli"]


def measured(*command: str) -> tuple[float, int, str]:
    """Wall seconds, peak bytes of the largest process, and stdout of a `poise` command."""
    line = [sys.executable, "-c", MEASURED, *POISE, *command]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    code, seconds, peak, out, err = json.loads(told)
    if code:
        raise SystemExit(f"poise {' '.join(command)} ended with {code}: {err}")
    return seconds, peak, out


def make_pair(source: Path, reference: Path, folder: Path, size: float) -> dict[str, Path]:
    """Source, reference and outputs of about `size` bytes of source."""
    pairs = list(zip(source.read_text("utf-8").splitlines(), reference.read_text("utf-8").splitlines(), strict=True))
    count = int(size / (sum(len(a.encode()) + 1 for a, _ in pairs) / len(pairs)))
    paths = {name: folder / name for name in ("source.txt", "reference.txt", "outputs.txt")}
    with paths["source.txt"].open("w") as a, paths["reference.txt"].open("w") as b, paths["outputs.txt"].open("w") as c:
        for i, (said, wanted) in enumerate(islice(cycle(pairs), count)):
            a.write(f"{said}\n")
            b.write(f"{wanted}\n")
            c.write(f"{pairs[(i + (i % 3 == 0)) % len(pairs)][1]}\n")
    return paths


def whole(paths: dict[str, Path]) -> dict[str, float]:
    """sacreBLEU over all lines at once."""
    import sacrebleu

    said, wanted = (paths[name].read_text("utf-8").splitlines() for name in ("outputs.txt", "reference.txt"))
    return {
        "bleu": sacrebleu.corpus_bleu(said, [wanted]).score,
        "chrf": sacrebleu.corpus_chrf(said, [wanted]).score,
    }


def steps(paths: dict[str, Path], folder: Path, url: str, score: bool, check: bool) -> dict[str, Any]:
    task = ["-t", "translation", "--data", f"{paths['source.txt']},{paths['reference.txt']}", "-T", "unit=document"]
    seconds, peak, _ = measured("plan", "-m", "bundled:s", "-b", "onnx", *task)
    row: dict[str, Any] = {"plan_s": seconds, "plan_mem": peak}
    run = ["run", "-m", "mock", "--base-url", url, "-b", "openai", *task, "--concurrency", "8", "-q"]
    seconds, peak, _ = measured(*run, "-o", str(folder / "run"))
    row |= {"run_s": seconds, "run_mem": peak}
    if score:
        seconds, peak, out = measured("score", str(paths["outputs.txt"]), *task, "--json")
        cell = json.loads(out)["cells"][0]["estimates"]
        found = {name: cell[name]["value"] for name in ("bleu", "chrf")}
        row |= {"score_s": seconds, "score_mem": peak, **found}
        if check:
            row["same_as_whole"] = all(abs(found[name] - value) < 1e-9 for name, value in whole(paths).items())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[9.5, 38.0, 152.0])
    parser.add_argument("--score-up-to", type=float, default=38.0)
    parser.add_argument("--check-up-to", type=float, default=9.5)
    args = parser.parse_args()
    command = [*POISE, "mock-server", "--port", "0", "--tokens", "32"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        rows = []
        for size in args.megabytes:
            with tempfile.TemporaryDirectory() as scratch:
                paths = make_pair(args.source, args.reference, Path(scratch), size * 1e6)
                began = time.perf_counter()
                row = steps(paths, Path(scratch), url, size <= args.score_up_to, size <= args.check_up_to)
                rows.append({"source_mb": size, **row})
                memory = {k: f"{v / 1e6:.0f} MB" for k, v in row.items() if k.endswith("_mem")}
                print(f"{size:6g} MB", memory, f"{time.perf_counter() - began:.0f} s", flush=True)
    finally:
        server.terminate()
    print(json.dumps({"cores": os.cpu_count(), "rows": rows}))


if __name__ == "__main__":
    main()
