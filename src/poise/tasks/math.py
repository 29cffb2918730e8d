"""Competition mathematics (MATH; Hendrycks et al. 2021): solved in steps, the boxed answer compared as mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from poise.tasks.data import need, read_rows, text_of
from poise.tasks.extract_math import formula
from poise.types import Sample, UsageError

_UNIT = re.compile(r"(?<=\d)\s*\\(?:text|textrm|mathrm|mbox)\{[^{}]*\}(?:\^\{?\d\}?)?$")
_BRACKET = re.compile(r"\s*(?:\\left\s*)?[(\[]")
_IN_BASE = re.compile(r"-?[\dA-Fa-f.]+_\{?\d+\}?")


class Math:
    """Competition mathematics (MATH, MATH-500): solved in steps, the final answer in a box.

    The published folder of JSON files, or JSONL: `problem`, and `solution` with its answer in the last box or `answer`.
    """

    name, version = "math", 1
    instruction = "Solve the problem step by step. Put the final answer into \\boxed{}."
    answer_prefix = "Solution:"
    extract = "math"
    metrics = ("math_equal",)
    stop = ("\nProblem:",)
    chance, n_ref, max_tokens = 0.0, 200.0, 1024
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "MATH/test (the folder), or math500.jsonl")
        for number, row in enumerate(read_rows(source, ("problem",))):
            where = f"{source}, row {number + 1}"
            solution = text_of(row, "solution", where) if "solution" in row else ""
            boxed = formula(solution) if "\\boxed" in solution else None
            target = text_of(row, "answer", where) if row.get("answer") is not None else boxed
            if not target:
                raise UsageError(
                    f"{where}: neither an answer nor a solution with \\boxed; it has {', '.join(map(repr, row))}"
                )
            fields: dict[str, Any] = {"question": text_of(row, "problem", where), "level": str(row.get("level", ""))}
            fields["solution"] = solution if boxed else f"\\boxed{{{target}}}"
            if _IN_BASE.fullmatch(target):
                fields["literal"], target = True, target.partition("_")[0]
            elif "," in target and not _BRACKET.match(target):
                fields["unordered"] = True  # "1, -2": several values, in no order
            kind = row.get("type", row.get("subject"))
            name = str(row.get("unique_id", number))
            yield Sample(name, fields, _UNIT.sub("", target), category=f"type={kind}" if kind else None)

    def question(self, sample: Sample) -> str:
        return f"Problem: {sample.fields['question']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.fields["solution"])
