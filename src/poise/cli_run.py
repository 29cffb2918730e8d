"""The commands that ask models: `run`, `plan`, `judge`, `demo`; each makes a study, has it measured, prints it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from poise import cli_options as option


@click.command()
@option.options(option.study, option.out, option.retry_failed, option.allow_code, option.unsafe_code, option.quiet)
def run(out: Path | None, retry_failed: bool, allow_code: bool, unsafe_code: bool, quiet: bool, **flags: Any) -> int:
    """Measure a study: quality and speed on the same requests.

    The same command resumes.

    STUDY is a file (.yaml, .toml); without it the flags -m, -b and -t make one.
    """
    planned, source = _planned(flags, allow_code)
    return _run_and_show(
        planned,
        source,
        out or Path("runs") / planned.study.name,
        quiet,
        retry_failed=retry_failed,
        allow_code=allow_code,
        unsafe_code=unsafe_code,
    )


@click.command()
@option.options(option.study, option.allow_code)
@click.option("--yaml", is_flag=True, help="Print the study these flags make.")
@option.json
def plan(allow_code: bool, yaml: bool, as_json: bool, **flags: Any) -> int:
    """Show what a study would do: cells, time, memory. Starts nothing.

    STUDY is a file (.yaml, .toml); without it the flags -m, -b and -t make one.
    """
    from poise.plan.read import to_yaml
    from poise.report.planned import print_plan

    planned, _ = _planned(flags, allow_code)
    if yaml:
        print(to_yaml(planned.study), end="")
        return 0
    from poise.measure import host, preflight

    problems = preflight.problems(planned, allow_code=allow_code)
    print_plan(planned, problems, host.memory_available(), option.console(), as_json=as_json)
    hard = {d.name for d in planned.study.deployments if not d.optional}
    return 2 if any(deployment in hard for _, deployment in problems) else 0


@click.command()
@click.argument("run", type=option.PATH)
@click.option("--judge", "models", required=True, help="Models that judge, comma list: by majority, or their mean.")
@option.backends
@click.option("--mode", help="rubric (1 to 10), or pairwise against --reference.")
@click.option("--reference", help="A model of the run, or a JSONL file of answers made elsewhere.")
@click.option("--human", type=option.PATH, help="JSONL file of human labels, for κ.")
@click.option("-t", "--task", "tasks", help="Judge these tasks' answers.")
@option.options(
    option.out,
    option.server,
    option.concurrency,
    option.batch,
    option.rate,
    click.option("--limit", type=option.COUNT, metavar="N", help="Judge the answers to so many items, drawn by seed."),
    option.max_tokens,
    option.deadline,
    option.repeats,
    option.retries,
    option.client_processes,
    option.seed,
    option.backend_option,
    option.retry_failed,
    option.allow_code,
    option.quiet,
)
def judge(
    run: Path,
    mode: str | None,
    reference: str | None,
    human: Path | None,
    out: Path | None,
    retry_failed: bool,
    allow_code: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Have models judge the answers of a run.

    It is a run of its own, whose verdicts become the other's quality.
    """
    from poise.api import plan
    from poise.cli_study import Flags, judge_study
    from poise.plan.read import to_yaml

    study = judge_study(Flags(**flags), run, mode, reference, human)
    folder = out or Path("runs") / study.name
    planned = plan(study, allow_code=allow_code)
    allowed = {"retry_failed": retry_failed, "allow_code": allow_code}
    return _run_and_show(planned, to_yaml(study), folder, quiet, beside=[run], **allowed)


@click.command()
@click.option("-o", "--out", type=option.PATH, default=Path("runs/demo"), help="Run folder; the same folder resumes.")
@click.option("--limit", type=option.COUNT, default=100, help="Items a task.")
@option.quiet
def demo(out: Path, limit: int, quiet: bool) -> int:
    """Run a real study of the bundled models on this machine. No network, no torch, under three minutes."""
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
    return code


def _planned(flags: dict[str, Any], allow_code: bool) -> tuple[Any, str]:
    """The plan that the flags of `run` and `plan` describe, and the study's text."""
    from poise.api import plan
    from poise.cli_study import Flags, study_from_flags

    study, source = study_from_flags(Flags(**flags))
    return plan(study, allow_code=allow_code), source


def _run_and_show(
    planned: Any, source: str, folder: Path, quiet: bool, beside: Sequence[Path] = (), **allowed: bool
) -> int:
    """Measure into `folder` and print its summary, read together with the runs `beside` it; the exit code."""
    from poise.api import execute, summarize
    from poise.cli_study import argv
    from poise.report.terminal import print_summary

    try:
        outcome = execute(planned, folder, source=source, argv=argv(), quiet=quiet, **allowed)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is kept in {folder}, the same command goes on", file=sys.stderr)
        return 130
    permitted = allowed.get("allow_code", False) and not beside  # never for a folder that is only read
    summary = summarize([*beside, folder], allow_code=permitted, unsafe_code=allowed.get("unsafe_code", False))
    print_summary(summary, option.console())
    for reason, cells in _by_reason(outcome.failed).items():
        print(f"\nfailed: {'; '.join(cells)}: {reason}", file=sys.stderr)
    print(f"\nresults: {folder}", file=sys.stderr)
    return 3 if outcome.failed or any(c.state == "failed" for c in summary.cells) else 0


def _by_reason(failed: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cell, reason in failed.items():
        found.setdefault(reason, []).append(cell)
    return found
