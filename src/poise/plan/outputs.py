"""Answers made elsewhere as a plan of one cell with its records, so that they are scored like a run's own.

JSONL with `output` (text, or null where there is none) and `id` (or, in none of the rows, then in the order of the
items), or HumanEval's `completion` and `task_id`; a JSON object of id to text, as SQuAD's predictions are; any other
file is a text of one output a line. An id that comes several times has several draws. An item without an output fails:
it counts as wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from poise.counted import counted
from poise.plan.build import Plan
from poise.plan.cell import make_cell
from poise.plan.draw import Drawn
from poise.plan.kept import Kept
from poise.plan.read import load_study
from poise.plan.spec import Deployment
from poise.tasks.data import kind_of, read_json, read_lines, read_rows
from poise.types import Failure, Record, Request, UsageError

KIND = "outputs"
HUMANEVAL = ("task_id", "completion")
"""Columns of the samples that HumanEval's own evaluation reads (github.com/openai/human-eval)."""


class Elsewhere:
    """Stands where a backend would: what gave the answers is not here to be asked."""

    name, reads, capabilities = "elsewhere", (KIND,), frozenset({"chat"})


def plan_outputs(
    path: Path,
    task: str,
    data: str | list[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    limit: int | None = None,
    balance: str | None = None,
    seed: int = 0,
    allow_code: bool = False,
) -> tuple[Plan, Iterator[Record]]:
    """The outputs in `path` to the items of `task`: a plan of one cell, and its records."""
    given: Given = Kept(_read(path))
    study = load_study(
        {
            # outputs are whole answers, cut where they should be: as a chat's, no stop string is looked for in them
            "models": [{"name": path.stem, "source": {"any": str(path)}, "format": "chat"}],
            "deployments": ["scripted"],
            "tasks": [{"task": task, "data": data, "options": options or {}, "limit": limit, "balance": balance}],
            "seed": seed,
        },
        name=path.stem,
    )
    deployment = Deployment(Elsewhere.name, Elsewhere.name)
    if len(study.tasks) != 1:
        raise UsageError(f"{task} is a group; outputs belong to one task: {', '.join(t.task for t in study.tasks)}")
    drawn = Drawn(study, study.tasks[0], allow_code)
    if drawn.mode != "generate":
        raise UsageError(f"task {task} reads log-probabilities, not outputs; only `poise run` can score it")
    given, answers = _by_item(given, drawn, path)
    study = structs.replace(study, deployments=[deployment], generation={"draws": _draws(answers, path)})
    cell, items = make_cell(study, study.models[0], deployment, Elsewhere, (KIND, str(path)), drawn, study.loads[0])
    if items.facts.turns:
        raise UsageError(f"task {task} asks in several turns; one output an item cannot answer them")
    plan = Plan(study, [cell], {cell.task.items_sha: items})
    return plan, (_record(r, [given[place][1] for place in answers.get(r.sample_id, ())]) for r in items.requests)


def _record(request: Request, outputs: Sequence[str | None]) -> Record:
    text = outputs[request.draw] if request.draw < len(outputs) else None
    if text is not None:
        return Record(request.id, request.sample_id, "ok", draw=request.draw, pieces=[text])
    nothing = Failure("missing", "no output was given for this item")
    return Record(request.id, request.sample_id, "error", draw=request.draw, error=nothing)


Given = Kept[tuple[str | None, str | None]]


def _read(path: Path) -> Iterator[tuple[str | None, str | None]]:
    """(id or None, output or None) of each row."""
    if path.suffix == ".json":
        documents = read_json(path)
        if len(documents) == 1 and isinstance(documents[0], dict):
            rows = documents[0].items()
            yield from ((str(k), _output(v, path, f"id {k!r}")) for k, v in rows)
            return
    if path.suffix not in (".json", ".jsonl", ".ndjson"):
        yield from ((None, line) for line in read_lines(path))
        return
    named = number = 0
    first = next(read_rows(path))
    id, output = HUMANEVAL if all(column in first for column in HUMANEVAL) else ("id", "output")
    for number, row in enumerate(read_rows(path, (output,), null=True), 1):
        name = row.get(id)
        named += name is not None
        yield None if name is None else str(name), _output(row[output], path, f"row {number}")
    if named not in (0, number):
        raise UsageError(f"{path}: {named} of {number} rows have an id; give one to all of them or to none")


def _output(value: Any, path: Path, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{path}, {where}: the output is {kind_of(value)}; it must be a text, or null")
    return value


def _by_item(given: Given, drawn: Drawn, path: Path) -> tuple[Given, dict[str, list[int]]]:
    """The outputs, and where among them those of each drawn item are, by its id."""
    ids = {sample.id for sample in drawn.samples}
    places: dict[str, list[int]] = {}
    if not given or given[0][0] is None:
        given = _in_order(given, drawn, path)
    elif others := dict.fromkeys(name for name, _ in given if name not in ids):
        undrawn = {sample.id for sample in drawn.all} - ids  # left out by a limit
        if unknown := [name for name in others if name not in undrawn]:
            raise UsageError(
                f"{path} has ids that are none of the task's {len(drawn.all)} items ({len(unknown)}, first "
                f"{unknown[0]!r}); theirs look like {drawn.samples[0].id!r}"
            )
    for place, (name, _) in enumerate(given):
        if name in ids:
            places.setdefault(str(name), []).append(place)
    if not places:
        raise UsageError(f"{path} has no output for any of the {len(ids)} items that the limit leaves")
    return given, places


def _in_order(given: Given, drawn: Drawn, path: Path) -> Given:
    """Outputs without ids with those of the items in whose order they come."""
    by_line = getattr(drawn.task, "outputs", None)
    if by_line and len(given) != len(drawn.all):  # aligned text: an item may be several lines, or leave some out
        return Kept(by_line((output or "" for _, output in given), drawn.data, dict(drawn.use.options)))
    if len(given) != len(drawn.all):
        raise UsageError(
            f"{path} has {counted(len(given), 'output')} without ids, the task {counted(len(drawn.all), 'item')}; "
            "give one for each in their order, or an `id` with each"
        )
    return Kept((sample.id, output) for sample, (_, output) in zip(drawn.all, given))


def _draws(answers: dict[str, list[int]], path: Path) -> int:
    """How many outputs each item has, where it has any."""
    counts = {name: len(outputs) for name, outputs in answers.items()}
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] != counts[fewest]:
        raise UsageError(
            f"{path}: {counted(counts[most], 'output')} for item {most!r}, {counts[fewest]} for {fewest!r}; "
            "several draws of an item must be equally many for all (null where one is missing)"
        )
    return counts[most]
