"""The library: the same nouns as the command line, for notebooks and scripts (CONTRACT §5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.plan.build import Plan
from poise.plan.build import plan as build_plan
from poise.plan.read import load_study, to_yaml
from poise.plan.spec import Cell, Study
from poise.store.run import CellFolder, Run, open_run, open_runs
from poise.types import Check, Summary, UsageError

if TYPE_CHECKING:
    from poise.measure.calibrate import Floor
    from poise.measure.group import Watcher
    from poise.measure.run import Ended

PathLike = str | os.PathLike[str]
Runs = Run | PathLike | Sequence[Run | PathLike]

__all__ = ["compare", "load_study", "open_run", "plan", "render", "run", "score", "score_outputs", "summarize"]


def plan(study: Study | PathLike | dict[str, Any], *, allow_code: bool = False) -> Plan:
    """Expand a study without running anything; `print()` shows cells, requests, rough time, memory and disk."""
    return build_plan(_study(study), allow_code=allow_code)


def run(
    study: Study | PathLike | dict[str, Any],
    out: PathLike | None = None,
    *,
    retry_failed: bool = False,
    allow_code: bool = False,
    unsafe_code: bool = False,
    quiet: bool = False,
) -> Run:
    """Measure a study into the folder `out` (default `runs/<name>`) and open it. The same call resumes.

    `unsafe_code` tests generated code with limits only where no sandbox is.

    Raises UsageError before anything runs for what can be known beforehand; later failures are recorded as data.
    """
    checked = _study(study)
    folder = Path(out) if out is not None else Path("runs") / checked.name
    execute(
        build_plan(checked, allow_code=allow_code),
        folder,
        retry_failed=retry_failed,
        allow_code=allow_code,
        unsafe_code=unsafe_code,
        quiet=quiet,
    )
    return open_run(folder)


def execute(
    planned: Plan,
    out: Path,
    *,
    source: str = "",
    argv: list[str] | None = None,
    retry_failed: bool = False,
    allow_code: bool = False,
    unsafe_code: bool = False,
    quiet: bool = False,
) -> Ended:
    """Run a plan with the progress display, scoring each finished cell between two cells."""
    from rich.console import Console

    from poise.measure.run import execute as measure
    from poise.report.progress import Progress
    from poise.understand.sandbox import unsafe_code as allowing

    watcher: Watcher = Progress(Console(stderr=True, quiet=quiet))
    with allowing(unsafe_code):
        return measure(
            planned,
            out,
            source=source or to_yaml(planned.study),
            argv=argv,
            watcher=watcher,
            between=partial(_glance, allow_code=allow_code),
            next_rate=lambda cell, probes: _next_rate(planned, cell, probes),
            retry_failed=retry_failed,
            allow_code=allow_code,
        )


def _glance(folder: CellFolder, allow_code: bool) -> tuple[float | None, float | None]:
    from poise.understand.glance import glance

    return glance(folder, allow_code)


def _next_rate(planned: Plan, cell: Cell, probes: list[CellFolder]) -> float | None:
    from poise.understand.knee import choose

    return choose(cell, probes, planned.study.analysis)


def summarize(runs: Runs, *, allow_code: bool = False, unsafe_code: bool = False) -> Summary:
    """Everything derived from one or several run folders, merged into one table.

    `allow_code` runs metrics that are files of the user's; what they say is kept, and later read without running them.
    `unsafe_code` tests generated code with limits only where no sandbox is.
    """
    from poise.understand.sandbox import unsafe_code as allowing
    from poise.understand.summarize import summarize as derive

    with allowing(unsafe_code):
        return derive(_opened(runs), allow_code)


def score(runs: Runs, *, allow_code: bool = False, unsafe_code: bool = False) -> Summary:
    """Score again from the recorded answers, whatever was scored before; no model is asked.

    `allow_code` runs metrics that are files of the user's; what they say is kept, and later read without running them.
    """
    import shutil

    opened = _opened(runs)
    for one in opened:
        shutil.rmtree(one.path / "derived" / "scores", ignore_errors=True)
    return summarize(opened, allow_code=allow_code, unsafe_code=unsafe_code)


def describe_task(
    name: str,
    data: str | list[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    shots: int | None = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """What a task is, how it asks and scores; with data also an item as a model of raw text sees it."""
    import inspect

    from poise.plan.draw import Drawn
    from poise.plan.prompts import Asker
    from poise.plan.spec import Generation
    from poise.tasks.build import expand_group, get_task
    from poise.understand.balanced import tau_s

    if (members := expand_group(name)) != [name]:
        raise UsageError(f"{name} is a group: {', '.join(members)}")
    task: Any = get_task(name, allow_code)
    item = None
    try:
        use = {"task": name, "data": data, "options": options or {}, "limit": 1, "shots": shots}
        model = {"name": "model", "source": {"any": "model"}, "format": "raw"}
        study = load_study({"models": [model], "deployments": ["scripted"], "tasks": [use]}, name="task")
        drawn = Drawn(study, study.tasks[0], allow_code)
        task = drawn.task  # some learn from their data how many choices there are
        asker = Asker(
            task,
            format="raw",
            mode=drawn.mode,
            system=None,
            shots=drawn.shots,
            generation=Generation(),
            prompt={},
            seed=0,
        )
        [sample] = drawn.samples
        request = asker.request(sample, 0)
        choices = list(request.continuations or sample.choices or ())
        item = {"id": sample.id, "prompt": request.prompt, "choices": choices, "target": sample.target}
    except UsageError:
        if data is not None or options or shots:
            raise
    tau = getattr(task, "tau", "conversational")
    return {
        "name": task.name,
        "about": " ".join((inspect.getdoc(task) or "").split()),
        "version": task.version,
        "modes": list(getattr(task, "modes", ("generate",))),
        "instruction": task.instruction,
        "answer_prefix": task.answer_prefix,
        "shots": f"{getattr(task, 'shots', 0)}, at most {len(getattr(task, 'shot_samples', ()))}",
        "stop": [repr(s) for s in getattr(task, "stop", ("\n\n",))],
        "max_tokens": task.max_tokens,
        "extract": task.extract,
        "metrics": list(task.metrics),
        "chance": task.chance,
        "tau": f"{tau}: {tau_s(tau, task.n_ref):g} s for an answer of {task.n_ref:g} tokens",
        "options": list(getattr(task, "options", ())),
        "item": item,
    }


def score_outputs(
    path: PathLike,
    task: str,
    data: str | list[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    limit: int | None = None,
    balance: str | None = None,
    seed: int = 0,
    out: PathLike | None = None,
    allow_code: bool = False,
    unsafe_code: bool = False,
) -> Summary:
    """Score outputs made elsewhere to the items of a task: a file of `{"id", "output"}` lines, or of plain lines.

    `out` keeps them as a run folder, which `compare`, `show` and `report` read like any other.
    """
    import shutil
    import tempfile

    from poise import __version__
    from poise.plan.outputs import plan_outputs
    from poise.store.files import Appender
    from poise.store.write import prepare

    if not Path(path).is_file():
        raise UsageError(f"no file {path}")
    planned, records = plan_outputs(
        Path(path), task, data, options=options, limit=limit, balance=balance, seed=seed, allow_code=allow_code
    )
    scratch = tempfile.mkdtemp(prefix="poise-") if out is None else None
    folder = Path(scratch, planned.study.name) if scratch else Path(str(out))
    try:
        source = to_yaml(planned.study)
        opened = prepare(planned, folder, source=source, argv=[], versions={"poise": __version__}, git=None)
        [cell] = opened.cells()
        appender = Appender(cell.path / "records.jsonl")
        rest = islice(records, sum(1 for _ in cell.records()), None)  # what was kept the last time stays
        while part := list(islice(rest, 256)):
            appender.write(part)
        appender.close()
        return summarize(opened, allow_code=allow_code, unsafe_code=unsafe_code)
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def diagnose(load: int | None = None) -> tuple[list[Check], Floor | None]:
    """Facts about this host; with `load`, also the client's own errors at that many requests in flight."""
    from rich.console import Console

    from poise.measure.calibrate import calibrate
    from poise.measure.doctor import checks
    from poise.report.progress import Progress
    from poise.understand.sandbox import why_unavailable

    found = checks(load)
    found.append(Check("sandbox", "info", why_unavailable() or "generated code can be contained and run", ""))
    if load is None or any(c.level == "error" for c in found):
        return found, None
    return found, calibrate(load, Progress(Console(quiet=True)))


def compare(a: Runs, b: Runs | None = None, **where: str) -> Any:
    """Paired differences between two systems on the same items, with intervals; see `understand.compare`."""
    from poise.understand.compare import compare as paired

    return paired(_opened(a), None if b is None else _opened(b), **where)


def render(runs: Runs, path: PathLike) -> Path:
    """Write a report; the suffix says which: .html, .md, .csv, .json, .parquet, or .svg, .png for the plot."""
    from poise import registry

    target = Path(path)
    if target.suffix not in registry.names("reporter"):
        known = ", ".join(registry.names("reporter"))
        raise UsageError(f"no report of kind {target.suffix or str(target)!r}; there are: {known}")
    reporter = registry.lookup("reporter", target.suffix)()
    opened = _opened(runs)
    data: bytes = reporter.render(summarize(opened), opened)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
    return target


def _study(study: Study | PathLike | dict[str, Any]) -> Study:
    return study if isinstance(study, Study) else load_study(study)


def _opened(runs: Runs) -> list[Run]:
    if isinstance(runs, Run | str | os.PathLike):
        runs = [runs]
    return open_runs(runs)
