"""The command line: each command reads its input, calls one function, prints, and ends with the right exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from poise.cli_idealize import idealize_app, roofline
from poise.types import PoiseError, UsageError

app = typer.Typer(
    help="Measure how good, how fast and how costly an LLM deployment is, on the same requests.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Study = Annotated[str | None, typer.Argument(help="Study file (.yaml, .toml); or use the flags below.")]
Models = Annotated[
    str | None,
    typer.Option("-m", "--model", help="Models, comma list: bundled:s, a folder, a hub name, a served name."),
]
Backends = Annotated[
    str | None,
    typer.Option(
        "-b",
        "--backend",
        help="Engines, comma list. Default: openai with --base-url, onnx for bundled models, else transformers.",
    ),
]
Deployments = Annotated[
    str | None, typer.Option("-d", "--deployment", help="With a study file: only these deployments.")
]
Tasks = Annotated[str | None, typer.Option("-t", "--task", help="Tasks or groups, comma list; see `poise tasks`.")]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="Run folder (default runs/<name>); the same folder resumes.")
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="Server of the openai engine, e.g. http://127.0.0.1:8000/v1.")
]
KeyEnv = Annotated[str | None, typer.Option("--key-env", help="Environment variable that holds the server's key.")]
AllowKey = Annotated[list[str] | None, typer.Option("--allow-key", help="VAR@HOST: the key in VAR may go to HOST.")]
Data = Annotated[list[str] | None, typer.Option("--data", help="[TASK=]PATH[,PATH] of a task's data.")]
Concurrency = Annotated[str | None, typer.Option("--concurrency", help="Requests in flight, comma list sweeps: 1,8.")]
Batch = Annotated[str | None, typer.Option("--batch", help="Static batch sizes, comma list sweeps.")]
Rate = Annotated[
    str | None, typer.Option("--rate", help="Open loop: requests per second (Poisson), comma list sweeps.")
]
Ramp = Annotated[str | None, typer.Option("--ramp", help="Open loop whose rate rises: LO,HI requests per second.")]
Trace = Annotated[
    str | None, typer.Option("--trace", help="Replay recorded arrivals (Azure CSV, Mooncake JSONL); comma list sweeps.")
]
Search = Annotated[str | None, typer.Option("--search", help="Find the highest rate between LO,HI that meets --slo.")]
Mlperf = Annotated[str | None, typer.Option("--mlperf", help="singlestream, offline, or server,RATE.")]
Duration = Annotated[float | None, typer.Option("--duration", min=0.001, help="Seconds that a load goes on.")]
Slo = Annotated[str | None, typer.Option("--slo", help="Limits, e.g. ttft_s=1,tpot_s=0.05,percentile=99.")]
Requests = Annotated[
    int | None, typer.Option("--requests", min=1, help="Requests a cell (default: every item once); items repeat.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer in tokens.")]
PromptTokens = Annotated[int | None, typer.Option("--prompt-tokens", min=1, help="Prompt length of task synthetic.")]
OutputTokens = Annotated[int | None, typer.Option("--output-tokens", min=1, help="Answer length of task synthetic.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Items a task, drawn by seed; raising it asks only new ones.")
]
Mode = Annotated[str | None, typer.Option("--mode", help="generate, choice or perplexity.")]
Shots = Annotated[int | None, typer.Option("--shots", min=0, help="Worked examples in the prompt.")]
Repeats = Annotated[int | None, typer.Option("--repeats", min=1, help="Fresh processes, interleaved.")]
ClientProcesses = Annotated[
    str | None, typer.Option("--client-processes", help="Processes that share the load on a server: N or auto.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every draw.")]
TaskOption = Annotated[list[str] | None, typer.Option("-T", help="Task option key=value.")]
BackendOption = Annotated[
    list[str] | None, typer.Option("-O", help="Backend option key=value (also device, dtype, quantization).")
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Run the code a study names (file.py:Name, python:).")]
UnsafeCode = Annotated[
    bool, typer.Option("--unsafe-code", help="Without a sandbox, test generated code with limits only.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask failed requests again.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress display.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
ReportFile = Annotated[
    Path, typer.Option("-o", "--out", help="x.html, .md, .csv, .json, .parquet; .svg or .png: the plot alone.")
]
Runs = Annotated[list[Path], typer.Argument(help="Run folders; several are read as one table.")]


def _console() -> Any:
    """Results go to stdout; a pipe gets the width of its reader (COLUMNS), or 100 columns."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=100)


def _planned(ctx: typer.Context, allow_code: bool) -> tuple[Any, str]:
    """The plan that the flags of `run` and `plan` describe, and the study's text."""
    from poise.api import plan
    from poise.cli_study import Flags, study_from_flags

    p = ctx.params
    flags = Flags(
        study=p["study"],
        models=p["models"],
        backends=p["backends"],
        deployments=p["deployments"],
        tasks=p["tasks"],
        base_url=p["base_url"],
        key_env=p["key_env"],
        allow_keys=p["allow_key"] or [],
        data=p["data"] or [],
        concurrency=p["concurrency"],
        batch=p["batch"],
        rate=p["rate"],
        ramp=p["ramp"],
        trace=p["trace"],
        search=p["search"],
        mlperf=p["mlperf"],
        duration=p["duration"],
        slo=p["slo"],
        requests=p["requests"],
        max_tokens=p["max_tokens"],
        prompt_tokens=p["prompt_tokens"],
        output_tokens=p["output_tokens"],
        limit=p["limit"],
        mode=p["mode"],
        shots=p["shots"],
        repeats=p["repeats"],
        client_processes=p["client_processes"],
        seed=p["seed"],
        task_options=p["task_option"] or [],
        backend_options=p["backend_option"] or [],
    )
    study, source = study_from_flags(flags)
    return plan(study, allow_code=allow_code), source


@app.command()
def run(
    ctx: typer.Context,
    study: Study = None,
    models: Models = None,
    backends: Backends = None,
    deployments: Deployments = None,
    tasks: Tasks = None,
    out: Out = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    allow_key: AllowKey = None,
    data: Data = None,
    concurrency: Concurrency = None,
    batch: Batch = None,
    rate: Rate = None,
    ramp: Ramp = None,
    trace: Trace = None,
    search: Search = None,
    mlperf: Mlperf = None,
    duration: Duration = None,
    slo: Slo = None,
    requests: Requests = None,
    max_tokens: MaxTokens = None,
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    limit: Limit = None,
    mode: Mode = None,
    shots: Shots = None,
    repeats: Repeats = None,
    client_processes: ClientProcesses = None,
    seed: Seed = None,
    task_option: TaskOption = None,
    backend_option: BackendOption = None,
    retry_failed: RetryFailed = False,
    allow_code: AllowCode = False,
    unsafe_code: UnsafeCode = False,
    quiet: Quiet = False,
) -> None:
    """Measure a study: quality and speed on the same requests. The same command resumes."""
    planned, source = _planned(ctx, allow_code)
    folder = out or Path("runs") / planned.study.name
    raise typer.Exit(
        _run_and_show(
            planned, source, folder, quiet, retry_failed=retry_failed, allow_code=allow_code, unsafe_code=unsafe_code
        )
    )


def _run_and_show(
    planned: Any, source: str, folder: Path, quiet: bool, beside: Sequence[Path] = (), **options: bool
) -> int:
    """Measure into `folder` and print its summary, read together with the runs `beside` it; the exit code."""
    from poise.api import execute, summarize
    from poise.cli_study import argv
    from poise.report.terminal import print_summary

    try:
        outcome = execute(planned, folder, source=source, argv=argv(), quiet=quiet, **options)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is kept in {folder}, the same command goes on", file=sys.stderr)
        return 130
    summary = summarize([*beside, folder], unsafe_code=options.get("unsafe_code", False))
    print_summary(summary, _console())
    for reason, cells in _by_reason(outcome.failed).items():
        print(f"\nfailed: {'; '.join(cells)}: {reason}", file=sys.stderr)
    print(f"\nresults: {folder}", file=sys.stderr)
    return 3 if outcome.failed or any(c.state == "failed" for c in summary.cells) else 0


def _by_reason(failed: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cell, reason in failed.items():
        found.setdefault(reason, []).append(cell)
    return found


@app.command()
def plan(
    ctx: typer.Context,
    study: Study = None,
    models: Models = None,
    backends: Backends = None,
    deployments: Deployments = None,
    tasks: Tasks = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    allow_key: AllowKey = None,
    data: Data = None,
    concurrency: Concurrency = None,
    batch: Batch = None,
    rate: Rate = None,
    ramp: Ramp = None,
    trace: Trace = None,
    search: Search = None,
    mlperf: Mlperf = None,
    duration: Duration = None,
    slo: Slo = None,
    requests: Requests = None,
    max_tokens: MaxTokens = None,
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    limit: Limit = None,
    mode: Mode = None,
    shots: Shots = None,
    repeats: Repeats = None,
    client_processes: ClientProcesses = None,
    seed: Seed = None,
    task_option: TaskOption = None,
    backend_option: BackendOption = None,
    allow_code: AllowCode = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the study these flags make.")] = False,
    json: Json = False,
) -> None:
    """Show what a study would do: cells, requests, rough time, memory and disk. Starts nothing."""
    from poise.plan.read import to_yaml
    from poise.report.planned import print_plan

    planned, _ = _planned(ctx, allow_code)
    if yaml:
        print(to_yaml(planned.study), end="")
        return
    from poise.measure import host, preflight

    problems = preflight.problems(planned, allow_code=allow_code)
    print_plan(planned, problems, host.memory_available(), _console(), as_json=json)
    hard = {d.name for d in planned.study.deployments if not d.optional}
    if any(deployment in hard for _, deployment in problems):
        raise typer.Exit(2)


@app.command()
def summary(runs: Runs, unsafe_code: UnsafeCode = False, json: Json = False) -> None:
    """Quality, speed and their balance, from one or several run folders."""
    from poise.api import summarize
    from poise.report.terminal import print_summary
    from poise.understand.summarize import to_json

    result = summarize(runs, unsafe_code=unsafe_code)
    if json:
        sys.stdout.buffer.write(to_json(result))
    else:
        print_summary(result, _console())


@app.command()
def report(
    runs: Runs,
    out: ReportFile = Path("report.html"),
) -> None:
    """Write a report of one or several run folders."""
    from poise.api import render

    print(render(runs, out))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    sample: Annotated[str | None, typer.Argument(help="Sample id; without it, the samples are listed.")] = None,
) -> None:
    """Show one sample across all systems: prompt, answers, target, scores, token times."""
    from poise.api import open_run
    from poise.report.show import show as show_sample

    show_sample(open_run(run), sample, _console())


@app.command()
def score(
    what: Annotated[list[Path], typer.Argument(help="Run folders; or a file of outputs made elsewhere, with -t.")],
    task: Annotated[str | None, typer.Option("-t", "--task", help="The task that the outputs answer.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="PATH[,PATH] of the task's data.")] = None,
    task_option: TaskOption = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Keep the outputs as a run folder.")] = None,
    allow_code: AllowCode = False,
    unsafe_code: UnsafeCode = False,
    json: Json = False,
) -> None:
    """Score a run's recorded answers again, or outputs made elsewhere; no model is asked."""
    from poise.api import score as again
    from poise.api import score_outputs
    from poise.cli_study import option_pairs, words
    from poise.report.scored import print_scores
    from poise.report.terminal import print_summary
    from poise.understand.summarize import to_json

    if task is None:
        if files := [path for path in what if path.is_file()]:
            raise UsageError(f"{files[0]} is a file: say with --task NAME (and --data) what its outputs answer")
        result, show = again(what, allow_code=allow_code, unsafe_code=unsafe_code), print_summary
    elif len(what) > 1 or what[0].is_dir():
        raise UsageError("--task scores one file of outputs; a run folder knows its tasks")
    else:
        given = words(data)
        result = score_outputs(
            what[0],
            task,
            given if len(given) > 1 else next(iter(given), None),
            options=option_pairs(task_option or [], "-T"),
            limit=limit,
            seed=seed or 0,
            out=out,
            allow_code=allow_code,
            unsafe_code=unsafe_code,
        )
        show = print_scores
    if json:
        sys.stdout.buffer.write(to_json(result))
    else:
        show(result, _console())


@app.command()
def judge(
    run: Annotated[Path, typer.Argument(help="Folder of the run whose answers are judged.")],
    judges: Annotated[str, typer.Option("--judge", help="Models that judge, comma list: by majority, or their mean.")],
    backends: Backends = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="rubric (1 to 10), or pairwise against --reference.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="A model of the run, or a JSONL file of answers made elsewhere.")
    ] = None,
    human: Annotated[Path | None, typer.Option("--human", help="JSONL file of human labels, for κ.")] = None,
    tasks: Annotated[str | None, typer.Option("-t", "--task", help="Judge these tasks' answers.")] = None,
    out: Out = None,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    allow_key: AllowKey = None,
    concurrency: Concurrency = None,
    batch: Batch = None,
    max_tokens: MaxTokens = None,
    repeats: Repeats = None,
    seed: Seed = None,
    backend_option: BackendOption = None,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
) -> None:
    """Have models judge the answers of a run: a run of its own, whose verdicts become the other's quality."""
    from poise.api import plan
    from poise.cli_study import Flags, judge_study
    from poise.plan.read import to_yaml

    flags = Flags(
        models=judges,
        backends=backends,
        tasks=tasks,
        base_url=base_url,
        key_env=key_env,
        allow_keys=allow_key or [],
        concurrency=concurrency,
        batch=batch,
        max_tokens=max_tokens,
        repeats=repeats,
        seed=seed,
        backend_options=backend_option or [],
    )
    study = judge_study(flags, run, mode, reference, human)
    folder = out or Path("runs") / study.name
    raise typer.Exit(_run_and_show(plan(study), to_yaml(study), folder, quiet, beside=[run], retry_failed=retry_failed))


@app.command()
def tasks(json: Json = False) -> None:
    """List the tasks and groups."""
    from poise.report.listing import print_tasks

    print_tasks(_console(), as_json=json)


@app.command()
def backends(json: Json = False) -> None:
    """List the engines, what they can do, and whether they can run here."""
    from poise.report.listing import print_backends

    print_backends(_console(), as_json=json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder; the same folder resumes.")] = Path("runs/demo"),
    limit: Annotated[int, typer.Option("--limit", min=1, help="Items a task.")] = 100,
    quiet: Quiet = False,
) -> None:
    """Run a real study on this machine with the bundled models: no network, no torch, under three minutes."""
    from importlib.util import find_spec

    from poise.api import plan, render
    from poise.plan.read import load_study
    from poise.plan.sources import bundled_names

    study = load_study(
        {
            "models": [f"bundled:{name}" for name in bundled_names()],
            "deployments": ["onnx", *([{"backend": "transformers", "optional": True}] if find_spec("torch") else [])],
            "tasks": [{"task": "mini", "limit": limit}],
        },
        name="demo",
    )
    code = _run_and_show(plan(study), "", out, quiet)
    if code != 130:
        print(f"report:  {render(out, out / 'report.html')}", file=sys.stderr)
    raise typer.Exit(code)


@app.command(
    "mock-server", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def mock_server(ctx: typer.Context) -> None:
    """An OpenAI-compatible server of known truth, for calibration and faults; see `poise mock-server --help`."""
    from poise.measure.mock_server import main as serve

    serve(ctx.args)


@app.command()
def doctor(
    load: Annotated[
        int | None, typer.Option("--load", min=1, max=4096, help="Calibrate the client at so many requests in flight.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether this host is fit to measure on, and what the client can see from it; exit code 5 where it is not."""
    from poise.api import diagnose
    from poise.report import doctor as face

    checks, floor = diagnose(load)
    if as_json:
        face.print_json(checks, floor)
    else:
        face.print_doctor(checks, floor, _console())
    raise typer.Exit(0 if face.fit(checks, floor) else 5)


app.add_typer(idealize_app, name="idealize")
app.command()(roofline)


def main() -> None:
    """Entry point: expected failures are one sentence on stderr, never a traceback."""
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    code = _guarded(lambda: app(standalone_mode=False))
    sys.exit(code)


def _guarded(command: Callable[[], Any]) -> int:
    # typer carries its own copy of click in newer versions: take the exceptions from typer
    wrong_usage: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        result = command()
        return result if isinstance(result, int) else 0
    except PoiseError as error:
        print(f"poise: {error}", file=sys.stderr)
        return error.exit_code
    except wrong_usage as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("poise: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 0


if __name__ == "__main__":
    main()
