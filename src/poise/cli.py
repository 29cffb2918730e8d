"""The command line: each command reads its input, calls one function, prints, and ends with the right exit code."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from poise import cli_options as option
from poise.cli_idealize import idealize
from poise.cli_roofline import roofline
from poise.cli_run import demo, judge, plan, run
from poise.types import PoiseError, UsageError


class InOrder(click.Group):
    """Commands in the order in which one comes to need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings=option.SETTINGS)
def app() -> None:
    """Measure how good, how fast and how costly an LLM deployment is, on the same requests."""


app.add_command(run)
app.add_command(plan)


@app.command()
@option.options(option.runs, option.unsafe_code, option.json)
def summary(runs: tuple[Path, ...], unsafe_code: bool, as_json: bool) -> None:
    """Quality, speed and their balance. Several run folders are read as one table."""
    from poise.api import summarize
    from poise.report.terminal import print_summary
    from poise.understand.summarize import to_json

    result = summarize(runs, unsafe_code=unsafe_code)
    if as_json:
        sys.stdout.buffer.write(to_json(result))
    else:
        print_summary(result, option.console())


@app.command()
@option.runs
@click.option(
    "-o",
    "--out",
    type=option.PATH,
    default=Path("report.html"),
    help="x.html, .md, .csv, .json, .parquet; .svg or .png: the plot alone.",
)
def report(runs: tuple[Path, ...], out: Path) -> None:
    """Write a report. Several run folders are read as one table."""
    from poise.api import render

    print(render(runs, out))


@app.command()
@click.argument("what", nargs=-1, required=True, metavar="RUN... [SAMPLE]")
def show(what: tuple[str, ...]) -> None:
    """Show samples across all systems, with scores and times.

    Prompt, answers, target, scores, and below each answer what was said of it by the judges whose run is named too.
    Without SAMPLE (its id, or task/id), the samples are listed, those that the systems disagree on first, then
    those that failed.
    """
    from poise.report.show import show as show_sample
    from poise.store.run import open_runs

    sample = what[-1] if len(what) > 1 and not Path(what[-1]).is_dir() else None
    runs = open_runs(what[: -1 if sample else None])
    show_sample(runs, sample, option.console())


@app.command()
@click.argument("what", nargs=-1, required=True, type=option.PATH)
@click.option("-t", "--task", help="The task that the outputs answer.")
@click.option("--data", metavar="PATH[,PATH]", help="The task's data.")
@option.options(option.task_option, option.limit, option.balance, option.seed)
@click.option("-o", "--out", type=option.PATH, help="Keep the outputs as a run folder.")
@option.options(option.allow_code, option.unsafe_code, option.json)
def score(
    what: tuple[Path, ...],
    task: str | None,
    data: str | None,
    task_options: tuple[str, ...],
    limit: int | None,
    balance: str | None,
    seed: int | None,
    out: Path | None,
    allow_code: bool,
    unsafe_code: bool,
    as_json: bool,
) -> None:
    """Score a run again, or outputs made elsewhere. No model is asked.

    WHAT are run folders; or, with -t, a file of outputs made elsewhere.
    """
    from poise.api import score as again
    from poise.api import score_outputs
    from poise.cli_study import option_pairs, words
    from poise.report.scored import print_scores
    from poise.report.terminal import print_summary
    from poise.understand.summarize import to_json

    if task is None:
        if files := [path for path in what if path.is_file()]:
            raise UsageError(f"{files[0]} is a file: say with --task NAME (and --data) what its outputs answer")
        result, face = again(what, allow_code=allow_code, unsafe_code=unsafe_code), print_summary
    elif len(what) > 1 or what[0].is_dir():
        raise UsageError("--task scores one file of outputs; a run folder knows its tasks")
    else:
        given = words(data)
        result = score_outputs(
            what[0],
            task,
            given if len(given) > 1 else next(iter(given), None),
            options=option_pairs(task_options, "-T"),
            limit=limit,
            balance=balance,
            seed=seed or 0,
            out=out,
            allow_code=allow_code,
            unsafe_code=unsafe_code,
        )
        face = print_scores
    if as_json:
        sys.stdout.buffer.write(to_json(result))
    else:
        face(result, option.console())


app.add_command(judge)
app.add_command(demo)


@app.command()
@click.argument("name", required=False)
@click.option("--data", metavar="PATH[,PATH]", help="The task's data: shows how their first item is asked.")
@option.options(option.task_option, option.shots, option.allow_code, option.json)
def tasks(
    name: str | None,
    data: str | None,
    task_options: tuple[str, ...],
    shots: int | None,
    allow_code: bool,
    as_json: bool,
) -> None:
    """List the tasks and groups; of one, all there is to know.

    With NAME: prompt, extraction, metrics, chance level, reference time, options, and an item as a model sees it.
    """
    from poise.report.listing import print_task, print_tasks

    if name is None:
        print_tasks(as_json)
        return
    from poise.api import describe_task
    from poise.cli_study import option_pairs, words

    given = words(data)
    about = describe_task(
        name,
        given if len(given) > 1 else next(iter(given), None),
        options=option_pairs(task_options, "-T"),
        shots=shots,
        allow_code=allow_code,
    )
    print_task(about, as_json)


@app.command()
@option.json
def backends(as_json: bool) -> None:
    """List the engines, what each can do, and if it runs here."""
    from poise.report.listing import print_backends

    print_backends(option.console(), as_json=as_json)


@app.command("mock-server", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def mock_server(args: tuple[str, ...]) -> None:
    """Serve known truth, for calibration and faults. See `poise mock-server --help`."""
    from poise.measure.mock_server import main as serve

    serve(list(args))


@app.command()
@click.option("--load", type=click.IntRange(1, 4096), help="Calibrate the client at so many requests in flight.")
@option.json
def doctor(load: int | None, as_json: bool) -> int:
    """Say if this host is fit to measure on.

    Exit code 5 where it is not. With --load also what the client itself adds at so many requests in flight.
    """
    from poise.api import diagnose
    from poise.report import doctor as face

    checks, floor = diagnose(load)
    if as_json:
        face.print_json(checks, floor)
    else:
        face.print_doctor(checks, floor, option.console())
    return 0 if face.fit(checks, floor) else 5


app.add_command(idealize)
app.add_command(roofline)


def main() -> None:
    """Entry point: expected failures are one sentence on stderr, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(ValueError):  # closed
            sys.stdout.reconfigure(errors="replace")
    code = _guarded(lambda: app(prog_name="poise", standalone_mode=False))
    sys.exit(code)


def _guarded(entry: Callable[[], Any]) -> int:
    try:
        result = entry()
        return result if isinstance(result, int) else 0
    except PoiseError as error:
        print(f"poise: {error}", file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        said = error.format_message()
        help_text = said.startswith("Usage:")  # of a command that was given nothing
        command = getattr(getattr(error, "ctx", None), "command_path", "poise")
        print(said if help_text else f"poise: {said} (see `{command} --help`)", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("poise: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"poise: {error.filename}: {error.strerror}; see that it is there and may be used", file=sys.stderr)
        return 2


if __name__ == "__main__":
    main()
