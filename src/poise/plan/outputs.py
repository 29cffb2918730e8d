"""Answers made elsewhere as a plan of one cell with its records, so that they are scored like a run's own.

JSONL with `output` (text, or null where there is none) and `id` (or, in none of the rows, then in the order of the
items); a JSON object of id to text, as SQuAD's predictions are; any other file is a text of one output a line. An id
that comes several times has several draws. An item without an output fails: it counts as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from poise.plan.build import Drawn, Plan, make_cell
from poise.plan.read import load_study
from poise.plan.spec import Deployment
from poise.tasks.data import read_json, read_lines, read_rows
from poise.types import Failure, Record, Request, UsageError

KIND = "outputs"


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
    seed: int = 0,
    allow_code: bool = False,
) -> tuple[Plan, list[Record]]:
    """The outputs in `path` to the items of `task`: a plan of one cell, and its records."""
    given = _read(path)
    study = load_study(
        {
            # outputs are whole answers, cut where they should be: as a chat's, no stop string is looked for in them
            "models": [{"name": path.stem, "source": {"any": str(path)}, "format": "chat"}],
            "deployments": ["scripted"],
            "tasks": [{"task": task, "data": data, "options": options or {}, "limit": limit}],
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
    answers = _by_item(given, drawn, path)
    study = structs.replace(study, deployments=[deployment], generation={"draws": _draws(answers, path)})
    cell, items = make_cell(study, study.models[0], deployment, Elsewhere, (KIND, str(path)), drawn, study.loads[0])
    if items.facts.turns:
        raise UsageError(f"task {task} asks in several turns; one output an item cannot answer them")
    plan = Plan(study, [cell], {cell.task.items_sha: items})
    return plan, [_record(r, answers.get(r.sample_id, [])) for r in items.requests]


def _record(request: Request, outputs: Sequence[str | None]) -> Record:
    text = outputs[request.draw] if request.draw < len(outputs) else None
    if text is not None:
        return Record(request.id, request.sample_id, "ok", draw=request.draw, pieces=[text])
    nothing = Failure("missing", "no output was given for this item")
    return Record(request.id, request.sample_id, "error", draw=request.draw, error=nothing)


Given = list[tuple[str | None, str | None]]


def _read(path: Path) -> Given:
    """(id or None, output or None) of each row."""
    if path.suffix == ".json":
        documents = read_json(path)
        if len(documents) == 1 and isinstance(documents[0], dict):
            rows = documents[0].items()
            return [(str(k), _output(v, path, f"id {k!r}")) for k, v in rows]
    if path.suffix not in (".json", ".jsonl", ".ndjson"):
        return [(None, line) for line in read_lines(path)]
    given: Given = []
    for number, row in enumerate(read_rows(path, ("output",)), 1):
        name = row.get("id")
        given.append((None if name is None else str(name), _output(row["output"], path, f"row {number}")))
    named = sum(name is not None for name, _ in given)
    if named not in (0, len(given)):
        raise UsageError(f"{path}: {named} of {len(given)} rows have an id; give one to all of them or to none")
    return given


def _output(value: Any, path: Path, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{path}, {where}: the output is a {type(value).__name__}; it must be a text, or null")
    return value


def _by_item(given: Given, drawn: Drawn, path: Path) -> dict[str, list[str | None]]:
    """The outputs of each item, by its id."""
    ids = {sample.id for sample in drawn.samples}
    answers: dict[str, list[str | None]] = {}
    if given and given[0][0] is not None:
        unknown = [name for name, _ in given if name not in ids]
        if unknown:
            raise UsageError(
                f"{path}: {len(unknown)} of {len(given)} ids are none of the task's {len(ids)} items, first "
                f"{unknown[0]!r}; theirs look like {drawn.samples[0].id!r}"
            )
        for name, output in given:
            answers.setdefault(str(name), []).append(output)
        return answers
    outputs, order = [output for _, output in given], [sample.id for sample in drawn.all]
    by_line = getattr(drawn.task, "outputs", None)
    if by_line and len(outputs) != len(order):  # aligned text: an item may be several lines, or leave some out
        said = by_line((output or "" for output in outputs), drawn.data, dict(drawn.use.options))
        return {name: [output] for name, output in said if name in ids}
    if len(outputs) != len(order):
        raise UsageError(
            f"{path} has {len(given)} outputs without ids, the task {len(order)} items; "
            "give one for each in their order, or an `id` with each"
        )
    return {name: [output] for name, output in zip(order, outputs) if name in ids}


def _draws(answers: dict[str, list[str | None]], path: Path) -> int:
    """How many outputs each item has, where it has any."""
    counts = {name: len(outputs) for name, outputs in answers.items()}
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] != counts[fewest]:
        raise UsageError(
            f"{path}: {counts[most]} outputs for item {most!r}, {counts[fewest]} for {fewest!r}; "
            "several draws of an item must be equally many for all (null where one is missing)"
        )
    return counts[most]
