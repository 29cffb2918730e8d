"""Every option that several commands take, defined once; and the console that all of them print on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
NOT_NEGATIVE = click.FloatRange(min=0)
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110}

Decorator = Callable[[Any], Any]


def options(*given: Decorator) -> Decorator:
    """All of `given` on one command, in this order in its help."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(given):
            command = decorator(command)
        return command

    return decorate


def pair(flag: str, name: str, help: str) -> Decorator:
    """An option of `key=value`, to be given as often as needed."""
    return click.option(flag, name, multiple=True, metavar="KEY=VALUE", help=help)


models = click.option("-m", "--model", "models", help="Models, comma list: bundled:s, a folder, a hub or served name.")
backends = click.option(
    "-b",
    "--backend",
    "backends",
    help="Engines, comma list. Default: openai with --base-url, onnx for bundled models, else transformers.",
)
tasks = click.option("-t", "--task", "tasks", help="Tasks or groups, comma list; see `poise tasks`.")
server = options(
    click.option("--base-url", help="Server of the openai engine, e.g. http://127.0.0.1:8000/v1."),
    click.option("--key-env", help="Environment variable that holds the server's key."),
    click.option("--allow-key", "allow_keys", multiple=True, metavar="VAR@HOST", help="The key in VAR may go to HOST."),
)
concurrency = click.option("--concurrency", help="Requests in flight, comma list sweeps: 1,8.")
batch = click.option("--batch", help="Static batch sizes, comma list sweeps.")
rate = click.option("--rate", help="Open loop: requests per second (Poisson), comma list sweeps.")
loads = options(
    concurrency,
    batch,
    rate,
    click.option("--ramp", metavar="LO,HI", help="Open loop whose rate rises from LO to HI requests per second."),
    click.option("--trace", help="Replay Azure CSV or Mooncake JSONL; comma list sweeps; study files can scale time."),
    click.option("--search", metavar="LO,HI", help="Find the highest rate between LO and HI that meets --slo."),
    click.option("--mlperf", help="singlestream, server,RATE, offline, or in process offline,BATCH."),
    click.option("--reference", help="Whose quality MLPerf needs: deployment=fp16, or quality=0.71,output_tokens=52."),
    click.option("--duration", type=click.FloatRange(min=0.001), metavar="S", help="Seconds that a load goes on."),
    click.option("--slo", help="Limits, e.g. ttft_s=1,tpot_s=0.05,percentile=99."),
    click.option(
        "--requests", type=COUNT, metavar="N", help="Requests a cell (default: every item once); items repeat."
    ),
)
max_tokens = click.option("--max-tokens", type=COUNT, metavar="N", help="Longest answer in tokens.")
deadline = click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest wait for an answer; default 120.",
)
sampling = options(
    click.option(
        "--temperature", type=NOT_NEGATIVE, metavar="T", help="Of sampling; 0: greedy. Default: the task's, mostly 0."
    ),
    click.option("--draws", type=COUNT, metavar="N", help="Answers to each item, e.g. for pass@k."),
)
limit = click.option(
    "--limit", type=COUNT, metavar="N", help="Items a task, drawn by seed; raising it asks only new ones."
)
balance = click.option("--balance", metavar="FIELD", help="As many items of each value of a field: label, category.")
shots = click.option("--shots", type=click.IntRange(min=0), metavar="N", help="Worked examples in the prompt.")
repeats = click.option("--repeats", type=COUNT, metavar="N", help="Fresh processes, interleaved.")
retries = click.option(
    "--retries", type=click.IntRange(min=0), metavar="N", help="Ask a busy or unreachable server again, up to N times."
)
client_processes = click.option("--client-processes", help="Processes that share the load on a server: N or auto.")
seed = click.option("--seed", type=int, help="Seed of every draw.")
task_option = pair("-T", "task_options", "Task option.")
backend_option = pair("-O", "backend_options", "Backend option (also preset, device, dtype, quantization).")
study = options(
    click.argument("study", required=False),
    models,
    backends,
    click.option("-d", "--deployment", "deployments", help="With a study file: only these deployments."),
    tasks,
    server,
    click.option("--data", multiple=True, metavar="[TASK=]PATH[,PATH]", help="A task's data."),
    loads,
    max_tokens,
    sampling,
    deadline,
    click.option("--prompt-tokens", type=COUNT, metavar="N", help="Prompt length of task synthetic."),
    click.option("--output-tokens", type=COUNT, metavar="N", help="Answer length of task synthetic."),
    limit,
    balance,
    click.option("--mode", help="generate, choice or perplexity."),
    shots,
    repeats,
    retries,
    client_processes,
    seed,
    task_option,
    backend_option,
)
"""What makes a study, from a file or from flags: the fields of `cli_study.Flags`."""

out = click.option("-o", "--out", type=PATH, help="Run folder (default runs/<name>); the same folder resumes.")
retry_failed = click.option("--retry-failed", is_flag=True, help="Ask failed requests again.")
allow_code = click.option("--allow-code", is_flag=True, help="Run the code a study names (file.py:Name, python:).")
unsafe_code = click.option(
    "--unsafe-code", is_flag=True, help="Without a sandbox, test generated code with limits only."
)
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress display.")
json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
runs = click.argument("runs", nargs=-1, required=True, type=PATH)


def console(width: int = 100) -> Any:
    """Results go to stdout; a pipe gets the width of its reader (COLUMNS), or `width` columns."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=width)
