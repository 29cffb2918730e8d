"""Whether one model gives the same quality through real servers as in process, on the same items.

    python benchmarks/servers.py [--model FOLDER] [--limit 100] [--python NAME=INTERPRETER …] [--program NAME=FILE …]
                                 [--only NAME …] [--kind generated …] [--concurrency 1 …]

Each server that is there (its program on the path, its modules in the interpreter given for it) is started here, on one
thread, asked, and stopped. *generated*: greedy answers to the miniature tasks' raw prompts. *chat*: the same questions
as messages, some in two turns, through a chat template that writes what the model was trained on. *scored*, where the
server scores prompts: a choice and a perplexity, with a begin-of-text token before every prompt in both places.
Per task: quality in process and through the server, the paired difference with its 95 % interval, the share of equal
texts, median time to first token and per token. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import poise
from poise.measure.presets import PRESETS
from poise.registry import lookup
from poise.store.run import Run, open_run
from poise.understand.compare import compare

HOME = Path(__file__).resolve().parents[1]
MODEL = HOME / "src" / "poise" / "bundled" / "s"
START_S = 240
CONTEXT, SLOTS = 1024, 4
LLAMA = f"--n_ctx {CONTEXT} --logits_all true --n_threads 1 --n_threads_batch 1 --type_k 0 --type_v 0".split()
LLAMA_SERVER = (
    f"--ctx-size {CONTEXT * SLOTS} --parallel {SLOTS} --threads 1 --threads-batch 1 --jinja"
    " --cache-type-k f32 --cache-type-v f32 --flash-attn off"
).split()


class Server(NamedTuple):
    needs: tuple[str, ...]
    """Modules of its interpreter, which also writes the file that it loads."""
    program: tuple[str, ...]
    """What is started: a program of its own, or arguments of the interpreter."""
    arguments: tuple[str, ...]
    takes: str
    """What it loads: the model's folder when asked for it by name, the folder at the start, or a GGUF file."""
    preset: str

    @property
    def own(self) -> bool:
        return not self.program[0].startswith("-")


TRANSFORMERS = Server(
    ("torch", "transformers", "fastapi", "uvicorn", "openai"),
    ("-m", "transformers.cli.transformers"),
    ("serve", "--device", "cpu"),
    "name",
    "transformers-serve",
)
SERVERS = {
    "transformers-serve": TRANSFORMERS,
    "transformers-batching": TRANSFORMERS._replace(arguments=(*TRANSFORMERS.arguments, "--continuous-batching")),
    "llama-server": Server(("gguf", "safetensors"), ("llama-server",), tuple(LLAMA_SERVER), "gguf", "llama-server"),
    "llama-cpp-python": Server(
        ("llama_cpp", "gguf", "safetensors", "uvicorn", "fastapi"),
        ("-m", "llama_cpp.server"),
        (*LLAMA, "--interrupt_requests", "false"),
        "gguf",
        "llama-cpp-python",
    ),
    "vllm": Server(
        ("vllm",),
        ("-m", "vllm.entrypoints.openai.api_server"),
        ("--dtype", "float32", "--max-model-len", str(CONTEXT), "--max-num-seqs", str(SLOTS), "--enforce-eager"),
        "folder",
        "vllm",
    ),
    "mlx": Server(("mlx_lm",), ("-m", "mlx_lm"), ("server",), "folder", "mlx"),
}
KINDS = ("generated", "chat", "scored")
CHAT_TASKS = ("mini-arithmetic", "mini-linear", "mini-qa", "mini-chat")
"""Those whose questions the template ends as the model expects."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="a folder of the bundled kind")
    parser.add_argument("--limit", type=int, default=100, help="items of each task")
    parser.add_argument("--python", action="append", default=[], help="NAME=INTERPRETER: a server's own environment")
    parser.add_argument("--program", action="append", default=[], help="NAME=FILE: a server that is not on the path")
    parser.add_argument("--only", action="append", choices=list(SERVERS), help="repeatable")
    parser.add_argument("--kind", action="append", choices=KINDS, help="repeatable")
    parser.add_argument("--concurrency", action="append", type=int, help="requests at once; repeatable")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(measure(Path(scratch), arguments))
    print(json.dumps({"benchmark": "servers", "model": arguments.model.name, "limit": arguments.limit, "rows": rows}))


def measure(scratch: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    pythons, programs = (dict(p.split("=", 1) for p in pairs) for pairs in (arguments.python, arguments.program))
    begun, templated = (scratch / f"{arguments.model.name}-{what}" for what in ("begin", "chat"))
    command(sys.executable, HOME / "training" / "begin_of_text.py", arguments.model, begun)
    command(sys.executable, HOME / "training" / "chat_template.py", arguments.model, templated)
    studies: dict[str, tuple[Path, list[dict[str, Any]]]] = {
        "generated": (arguments.model, [{"task": "mini"}]),
        "chat": (templated, [{"task": task} for task in CHAT_TASKS]),
        "scored": (begun, scored_tasks(scratch, arguments.limit)),
    }
    local: dict[str, Run] = {}
    in_process = {"name": "in process", "backend": "transformers"}
    for name in arguments.only or SERVERS:
        server, python = SERVERS[name], pythons.get(name, sys.executable)
        program = programs.get(name, server.program[0]) if server.own else python
        missing = [] if shutil.which(program) else [program]
        if missing := missing or missing_modules(python, server.needs):
            print(f"{name}: not run, {', '.join(missing)} is missing", file=sys.stderr)
            continue
        start = [program, *server.program[1:]] if server.own else [python, *server.program]
        for kind in arguments.kind or KINDS:
            model, tasks = studies[kind]
            if kind == "scored" and not PRESETS[server.preset].echo_logprobs:
                continue
            if kind not in local:
                local[kind] = run(scratch / kind, model, kind, in_process, tasks, arguments.limit)
            with serving(scratch, name, python, start, model) as (url, served):
                for streams in arguments.concurrency or [1]:
                    deployment = {"name": name, "backend": "openai", "base_url": url, "preset": server.preset}
                    out = scratch / f"{kind}-{name}-{streams}"
                    there = run(out, model, kind, deployment, tasks, arguments.limit, served, streams)
                    yield from compared({"server": name, "kind": kind, "concurrency": streams}, local[kind], there)


def scored_tasks(scratch: Path, limit: int) -> list[dict[str, Any]]:
    """The miniature reviews as a choice between their labels, and miniature texts for perplexity."""
    sentiment = lookup("task", "mini-sentiment")()
    reviews = list(itertools.islice(sentiment.samples(None, {}), limit))
    with (scratch / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((s.fields["question"], s.target) for s in reviews)])
    (scratch / "texts").mkdir()
    for start in range(0, limit, 10):  # about 500 tokens each
        texts = [f"{s.fields['question']}\n{s.target}\n" for s in reviews[start : start + 10]]
        (scratch / "texts" / f"{start:03}.txt").write_text("\n".join(texts))
    reviews_task = {
        "name": "reviews",
        "version": 1,
        "data": "reviews.csv",
        "question": "{{ text }}",
        "answer": "{{ label }}",
        "answer_prefix": sentiment.answer_prefix,
        "choices": list(sentiment.choices),
        "extract": "label",
        "metrics": ["accuracy"],
        "max_tokens": 4,
        "n_ref": 2,
    }
    (scratch / "reviews.yaml").write_text(json.dumps(reviews_task))
    return [
        {"task": str(scratch / "reviews.yaml"), "mode": "choice"},
        {"task": "perplexity", "data": str(scratch / "texts"), "options": {"split": "file"}},
    ]


def run(
    out: Path,
    model: Path,
    kind: str,
    deployment: dict[str, Any],
    tasks: list[dict[str, Any]],
    limit: int,
    served: str = "none",
    streams: int = 1,
) -> Run:
    source = {"hf": str(model), "api": served}
    study = {
        "models": [{"name": model.name, "source": source, "format": "chat" if kind == "chat" else "raw"}],
        "deployments": [deployment],
        "tasks": [{**task, "limit": limit} for task in tasks],
        "loads": [{"closed": streams}],
    }
    file = out.with_suffix(".yaml")
    file.write_text(json.dumps(study))
    command(sys.executable, "-m", "poise.cli", "run", file, "-o", out)
    return open_run(out)


def compared(what: dict[str, Any], local: Run, there: Run) -> Iterator[dict[str, Any]]:
    """One row a task, printed and returned."""
    here_all, there_all = poise.summarize(local), poise.summarize(there)
    quality = {d.task: d for d in compare([local], [there]).rows if d.name == "quality"}
    for cell in there_all.cells:
        task, other = cell.task, here_all.cell(task=cell.task)
        row: dict[str, Any] = {**what, "task": task, "n": cell.n, "failed": cell.failed, **same(local, there, task)}
        if task in quality:
            d = quality[task]
            row |= {"in_process": d.value_a, "server_quality": d.value_b, "difference": d.difference.value}
            row |= {"lo": d.difference.lo, "hi": d.difference.hi, "p": d.p}
        else:  # perplexity of the tokens that both scored: no server says anything of a text's first one
            pairs = list(shared_scores(local, there, task))
            row["in_process"], row["server_quality"] = (
                math.exp(-sum(side) / len(pairs)) for side in zip(*pairs, strict=True)
            )
        for name in ("ttft_s.p50", "tpot_s.p50", "e2e_s.p50"):
            row[name] = [s.estimates[name].value if name in s.estimates else None for s in (other, cell)]
        print(line(row), flush=True)
        yield row


def same(local: Run, there: Run, task: str) -> dict[str, Any]:
    """Equal texts (but for blanks at their ends), or for scored items the largest difference of a log-probability."""
    scores = list(shared_scores(local, there, task))
    if scores:
        return {"largest_logprob_difference": max(abs(x - y) for x, y in scores), "scored_tokens": len(scores)}
    a, b = records(local, task), records(there, task)
    texts = [["".join(side[i].pieces or []).strip() for side in (a, b)] for i in a if i in b]
    return {"same_texts": sum(x == y for x, y in texts)}


def shared_scores(local: Run, there: Run, task: str) -> Iterator[tuple[float, float]]:
    a, b = records(local, task), records(there, task)
    return (pair for i in a if i in b for pair in zip(flat(a[i]), flat(b[i])))


def records(found: Run, task: str) -> dict[str, Any]:
    cells = [c for c in found.cells() if c.cell.task.name == task]
    return {r.request_id: r for c in cells for r in c.records() if r.phase == "measure"}


def flat(record: Any) -> list[float]:
    """From the last token back: a server says nothing of a text's first one."""
    return [*itertools.chain(*(record.option_logprobs or [])), *(record.token_logprobs or [])][::-1]


def line(row: dict[str, Any]) -> str:
    def number(value: float | None, digits: int = 3, unit: float = 1) -> str:
        return "–" if value is None or math.isnan(value) else f"{value * unit:.{digits}f}"

    agree = f"{row['same_texts']}/{row['n']}" if "same_texts" in row else f"{row['largest_logprob_difference']:.1e}"
    spread = f"{number(row.get('difference'))} [{number(row.get('lo'))}, {number(row.get('hi'))}]"
    times = "".join(
        f"  {label} {number(row[what][0], 2, 1000)} → {number(row[what][1], 2, 1000)}"
        for label, what in (("TTFT", "ttft_s.p50"), ("TPOT", "tpot_s.p50"))
        if row[what][0] is not None
    )
    what = f"{row['server']:<22}{row['kind']:<10}×{row['concurrency']:<3}{row['task']:<17}"
    return (
        f"{what}n {row['n']:<4} failed {row['failed']:<3}"
        f"{number(row['in_process'])} → {number(row['server_quality'])}  difference {spread}  same {agree}{times}"
    )


# ---------------------------------------------------------------- servers


@contextlib.contextmanager
def serving(scratch: Path, name: str, python: str, start: list[str], model: Path) -> Iterator[tuple[str, str]]:
    """(base URL, the model's name there) of a server that has answered once."""
    server = SERVERS[name]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    arguments = [*server.arguments, "--host", "127.0.0.1", "--port", str(port)]
    if server.takes == "gguf":
        file = scratch / f"{model.name}.gguf"
        command(python, HOME / "training" / "export_gguf.py", model, file)
        arguments += ["--model", str(file)]
    elif server.takes == "folder":
        arguments += ["--model", str(model)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    log = scratch / f"{name}.log"
    with log.open("w") as out, subprocess.Popen(
        [*start, *arguments], stdout=out, stderr=out, env=environment
    ) as process:  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}/v1"
            first_token(process, url, str(model), log)
            yield url, str(model)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def first_token(process: subprocess.Popen[bytes], url: str, served: str, log: Path) -> None:
    """Wait until the server has generated one token: it may listen long before the model is loaded."""
    body = json.dumps({"model": served, "prompt": "1", "max_tokens": 1, "temperature": 0}).encode()
    request = urllib.request.Request(f"{url}/completions", body, {"content-type": "application/json"})
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=START_S):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def missing_modules(python: str, names: tuple[str, ...]) -> list[str]:
    if shutil.which(python) is None:
        return list(names)
    code = f"import importlib.util as u; print(*[n for n in {names!r} if u.find_spec(n) is None])"
    return command(python, "-c", code).split()


def command(*parts: Any) -> str:
    done = subprocess.run(
        list(map(str, parts)), check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, parts[1:4]))}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
