"""Judging as a task: its items are the answers of another run, its data that run's folder.

`judge-rubric` has every answer rated from 1 to 10; `judge-pairwise` has it compared with a reference's answer to the
same question, in both orders (`id/ab`, `id/ba`). Files beside the run folder hold human labels, or the answers of a
reference that is not in the run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise.registry import did_you_mean
from poise.tasks.data import read_rows
from poise.tasks.judging import PAIRWISE, RUBRIC, pairwise_question, rubric_question
from poise.tasks.mt_bench import turns_of
from poise.types import Request, Sample, UsageError

if TYPE_CHECKING:
    from poise.store.run import CellFolder, Run

ORDERS = ("ab", "ba")
LABELS = ("rating", "preference")
OUTCOMES = {"win": 1.0, "tie": 0.5, "loss": 0.0}


class Rubric:
    """Ratings from 1 to 10 of another run's answers, by the models of this run; data: the run's folder."""

    name, version = "judge-rubric", 1
    instruction, answer_prefix = RUBRIC, ""
    extract = "rating"
    metrics: tuple[str, ...] = ("rating",)
    chance, n_ref, max_tokens = 0.0, 150.0, 1024
    stop: tuple[str, ...] = ()
    options: tuple[str, ...] = ("task",)
    drawn_by_cluster = True
    """A limit counts the judged items: all systems' answers to them, every turn, both orders."""

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        for answer in _answers(_Material(data, options)):
            yield answer.sample(None, answer.label("rating"))

    def question(self, sample: Sample) -> str:
        return rubric_question(sample.fields)

    def answer(self, sample: Sample) -> str:
        return f"Rating: [[{sample.target}]]"

    @staticmethod
    def data_sha(samples: Sequence[Sample]) -> str:
        """What was judged, whatever the folder is called; labels are only read."""
        rows = sorted([s.id, s.fields] for s in samples)
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


class Pairwise(Rubric):
    """Comparisons of another run's answers with a reference's, in both orders; data: the run's folder."""

    name = "judge-pairwise"
    instruction = PAIRWISE
    extract = "preference"
    metrics: tuple[str, ...] = ("preference",)
    options: tuple[str, ...] = ("task", "reference")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        material = _Material(data, options)
        others = material.opponents()
        for answer in _answers(material):
            sample, _, part = answer.key
            other = others.get(answer.key) or others.get((sample, 0, part))
            other = None if answer.cell.model.name == material.reference else other
            if other is not None:
                for order in ORDERS:
                    yield answer.sample(order, answer.label("preference"), other)

    def question(self, sample: Sample) -> str:
        return pairwise_question(sample.fields)

    def answer(self, sample: Sample) -> str:
        return f"Verdict: [[{sample.target}]]"


def tasks_to_judge(run: Run) -> list[str]:
    """The tasks of a run without a metric of their own; of a run that has none such, all that were answered in text."""
    cells = [f.cell for f in run.cells()]
    asked = [c.task for c in cells if c.task.mode == "generate" and not c.task.task.startswith("judge-")]
    names = list(dict.fromkeys(t.name for t in asked if not t.metrics)) or list(dict.fromkeys(t.name for t in asked))
    if not names:
        raise UsageError(f"{run.path} holds no answers in text; there is nothing to judge")
    return names


# ---------------------------------------------------------------- what there is to judge


class _Answer:
    """One turn of one answer: the conversation up to it."""

    def __init__(
        self, material: _Material, folder: CellFolder, request: str, asked: Request, part: int, said: list[str]
    ) -> None:
        self.material, self.cell, self.folder, self.request = material, folder.cell, folder.path.name, request
        self.asked, self.part, self.said = asked, part, said
        self.key = (asked.sample_id, asked.draw, part)

    def sample(self, order: str | None, label: float | str | None, others: Sequence[str] | None = None) -> Sample:
        target = self.material.targets.get(self.asked.sample_id)
        references = None
        if isinstance(target, list | tuple):  # one for each turn, or several to one question
            references = [str(t) for t in (target[: self.part + 1] if self.asked.turns else target) if t]
        elif isinstance(target, str):
            references = [target]
        fields: dict[str, Any] = {
            "cell": self.folder,
            "request": self.request,
            "task": self.cell.task.name,
            "system": f"{self.cell.model.name} on {self.cell.deployment.name}",
            "questions": [_said_first(self.asked), *self.asked.turns][: self.part + 1],
            "answers": self.said,
            "references": references,
        }
        if order is not None:
            fields |= {"order": order, "others": list(others or ()), "against": self.material.against}
        name = f"{self.folder}/{self.request}" + (f"/{order}" if order else "")
        system = f"system={fields['system']}"
        return Sample(name, fields, label, category=system, cluster=self.asked.sample_id)

    def label(self, kind: str) -> float | str | None:
        """What people said of this answer: their mean rating; what more than half of them preferred, else a tie."""
        mine = (self.cell.model.name, self.cell.deployment.name, self.part + 1)
        said = [
            row[kind]
            for row in self.material.labels.get(self.asked.sample_id, ())
            if kind in row
            and all(
                want in (None, have) for want, have in zip((row["model"], row.get("deployment"), row.get("turn")), mine)
            )
        ]
        if not said or kind == "rating":
            return sum(said) / len(said) if said else None
        most, count = Counter(said).most_common(1)[0]
        return str(most) if count > len(said) / 2 else "tie"


class _Material:
    """The judged run, and what the files beside it say."""

    def __init__(self, data: Any, options: dict[str, Any]) -> None:
        from poise.store.run import open_run

        given = [data] if isinstance(data, str) else list(data or ())
        if not given:
            raise UsageError("a judge needs the folder of the run whose answers it is to judge: give --data RUN")
        self.run = open_run(given[0])
        names = tasks_to_judge(self.run)
        wanted = options.get("task") or (names[0] if len(names) == 1 else None)
        if wanted is None:
            raise UsageError(f"{given[0]} holds answers of several tasks; say which: task: {', '.join(names)}")
        self.folders = [f for f in self.run.cells() if f.cell.task.name == wanted and f.cell.task.mode == "generate"]
        if not self.folders:
            raise UsageError(f"{given[0]} holds no answers of task {wanted!r}{did_you_mean(str(wanted), names)}")
        self.targets = {s.id: s.target for s in self.folders[0].targets().values()}
        self.labels: dict[str, list[dict[str, Any]]] = {}
        self.file_answers: dict[str, list[str]] = {}
        self.reference: str | None = options.get("reference")
        self.against = self.reference
        for path in given[1:]:
            self._read(str(path))

    def _read(self, path: str) -> None:
        for number, row in enumerate(read_rows(path)):
            where = f"{path}, row {number + 1}"
            sample = next((str(row[k]) for k in ("sample", "question_id", "id") if k in row), None)
            if sample is None:
                raise UsageError(f"{where}: says neither sample, question_id nor id")
            if "winner" in row:
                row = _published(row, self.against, where)
            if any(kind in row for kind in LABELS):
                self.labels.setdefault(sample, []).append(_label(row, where))
            else:
                self.against = self.against or Path(path).stem
                self.file_answers[sample] = _turns(row, where)

    def opponents(self) -> dict[tuple[str, int, int], list[str]]:
        """The reference's answers by (sample, draw, turn), each with those before it."""
        if self.file_answers:
            answers = self.file_answers.items()
            return {(sample, 0, k): turns[: k + 1] for sample, turns in answers for k in range(len(turns))}
        models = list(dict.fromkeys(f.cell.model.name for f in self.folders))
        if self.reference not in models:
            raise UsageError(
                f"no model {self.reference!r} to compare with in {self.run.path}"
                f"{did_you_mean(str(self.reference), models)}; or give a JSONL file of answers"
                if self.reference
                else f"pairwise needs a reference: one of {', '.join(models)}, or a JSONL file of answers"
            )
        folder = next(f for f in self.folders if f.cell.model.name == self.reference)
        return {a.key: a.said for a in _of_cell(self, folder)}


def _published(row: dict[str, Any], against: str | None, where: str) -> dict[str, Any]:
    """A row of MT-Bench's published human judgments, for the model that met the reference (of others: for nobody)."""
    try:
        names = (row["model_a"], row["model_b"])
        outcome = {"model_a": ("win", "loss"), "model_b": ("loss", "win")}.get(row["winner"], ("tie", "tie"))
    except (KeyError, TypeError):
        raise UsageError(f"{where}: a winner needs model_a and model_b") from None
    mine = [(name, said) for name, other, said in zip(names, names[::-1], outcome) if other == against]
    model, preference = mine[0] if mine else ("", "tie")
    return {"model": model, "preference": preference, "turn": row.get("turn")}


def _label(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A human label, checked: a rating from 1 to 10, or win, tie, loss of the model against the reference."""
    if not isinstance(row.get("model"), str):
        raise UsageError(f"{where}: a label needs the model it is about")
    if "rating" in row and not (isinstance(row["rating"], int | float) and 1 <= row["rating"] <= 10):
        raise UsageError(f"{where}: rating {row['rating']!r} is no number from 1 to 10")
    if "preference" in row and row["preference"] not in OUTCOMES:
        raise UsageError(f"{where}: preference {row['preference']!r} is none of {', '.join(OUTCOMES)}")
    return row


def _turns(row: dict[str, Any], where: str) -> list[str]:
    """A reference's answers: FastChat's `choices[0].turns`, a list `turns`, or one text `output` or `answer`."""
    if "choices" in row:
        return turns_of(row, where)
    for name in ("turns", "output", "answer"):
        if isinstance(row.get(name), list):
            return [str(t) for t in row[name]]
        if name in row:
            return [str(row[name])]
    raise UsageError(f"{where}: no answer in choices, turns, output or answer, and no label")


def _answers(material: _Material) -> Iterator[_Answer]:
    for folder in material.folders:
        yield from _of_cell(material, folder)


def _of_cell(material: _Material, folder: CellFolder) -> Iterator[_Answer]:
    """The answered turns of a cell; what failed is worth nothing and needs no judge."""
    from poise.understand.derive import columns

    rows = columns(folder)
    asked = {name: (r, k) for r in folder.requests() for k, name in enumerate(r.parts)}
    text = {name: t for name, t, f in zip(rows.request, rows.text, rows.failure) if f is None}
    for name in text:
        if name in asked:
            request, part = asked[name]
            said = [text[p] for p in request.parts[: part + 1] if p in text]
            if len(said) == part + 1:
                yield _Answer(material, folder, name, request, part, said)


def _said_first(request: Request) -> str:
    """The first question as it was asked: the last message, or the prompt."""
    return request.messages[-1].content if request.messages else (request.prompt or "")
