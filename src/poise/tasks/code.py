"""Code that tests decide on: HumanEval, MBPP (both files), and repairing buggy functions (HumanEvalPack, Python).

`fields` hold what a program is made of: `preamble` (what stands before an answer that continues or replaces it),
`entry_point`, and `tests`. The metric `pass_at.1` puts them together and runs them in the sandbox.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from poise.tasks.data import Row, need, read_rows
from poise.types import Sample, UsageError

COMPLETION_STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@")
"""Where a continued function body is over (Chen et al. 2021, appendix)."""


_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+(\w+)", re.MULTILINE)


def _tested_rows(source: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows with these columns; UsageError where their tests cannot run here, for then every answer would be wrong."""
    if "plus_input" in next(read_rows(source)):
        raise UsageError(
            f"{source} is EvalPlus's own file, which has inputs where tests belong: score answers to it with EvalPlus"
        )
    for row in read_rows(source, columns):
        tests = "\n".join([str(row.get("test") or ""), *map(str, row.get("test_imports") or ())])
        if others := set(_IMPORT.findall(tests)) - sys.stdlib_module_names:
            raise UsageError(
                f"{source}: the tests of {row['task_id']!r} import {', '.join(sorted(others))}; the sandbox has "
                "Python's own modules only"
            )
        yield row


class HumanEval:
    """Functions to write from their docstrings, run against tests (HumanEval; Chen et al. 2021)."""

    name, version = "humaneval", 2
    instruction = "Complete this Python function."
    answer_prefix = ""
    extract = "code"
    metrics = ("pass_at.1",)
    stop = COMPLETION_STOPS
    chance, n_ref, max_tokens = 0.0, 100.0, 400
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "HumanEval.jsonl.gz, or hub:openai/openai_humaneval:test")
        columns = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
        for row in _tested_rows(source, columns):
            fields = {
                "prompt": str(row["prompt"]),
                "preamble": str(row["prompt"]),
                "entry_point": str(row["entry_point"]),
                "tests": f"{row['test']}\n\ncheck({row['entry_point']})\n",
            }
            yield Sample(str(row["task_id"]), fields, str(row["canonical_solution"]))

    def question(self, sample: Sample) -> str:
        return str(sample.fields["prompt"])

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


class HumanEvalFix:
    """Buggy Python functions to correct, run against tests (HumanEvalPack; Muennighoff et al. 2023)."""

    name, version = "humanevalpack-fix", 2
    instruction = "Fix the bug in this Python function. Write the whole corrected function."
    answer_prefix = ""
    extract = "code"
    metrics = ("pass_at.1",)
    stop: tuple[str, ...] = ("\n\n\n\n",)
    chance, n_ref, max_tokens = 0.0, 150.0, 500
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "humanevalpack.python.jsonl, or hub:bigcode/humanevalpack/python:test")
        columns = ("task_id", "declaration", "prompt", "buggy_solution", "canonical_solution", "test", "entry_point")
        for row in _tested_rows(source, columns):
            if not str(row["task_id"]).startswith("Python/"):
                raise UsageError(f"{source}: {row['task_id']!r} is not Python; only Python's tests can be run here")
            fields = {
                "buggy": f"{row['prompt']}{row['buggy_solution']}",
                "buggy_solution": f"{row['declaration']}{row['buggy_solution']}",
                "preamble": str(row["declaration"]),
                "entry_point": str(row["entry_point"]),
                "tests": str(row["test"]),
                "bug_type": str(row.get("bug_type", "")),
            }
            target = f"{row['declaration']}{row['canonical_solution']}"
            category = f"bug={row['bug_type']}" if row.get("bug_type") else None
            yield Sample(str(row["task_id"]), fields, target, category=category)

    def question(self, sample: Sample) -> str:
        return str(sample.fields["buggy"]).rstrip() + "\n"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _tested(code: str, tests: list[str]) -> str:
    """The function of the reference that the tests call first."""
    defined = set(re.findall(r"^[ \t]*def (\w+)", code, re.MULTILINE))
    called = (name for test in tests for name in re.findall(r"\b(\w+)\s*\(", test))
    return next((name for name in called if name in defined), "")


class Mbpp:
    """Small programs to write from a sentence and their tests (MBPP; Austin et al. 2021)."""

    name, version = "mbpp", 2
    instruction = ""
    answer_prefix = "Code:"
    extract = "code"
    metrics = ("pass_at.1",)
    stop: tuple[str, ...] = ("\n\n\n\n", "\nassert ", "\nTask:")
    chance, n_ref, max_tokens = 0.0, 80.0, 400
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "mbpp.jsonl, or hub:google-research-datasets/mbpp:test")
        for number, row in enumerate(_tested_rows(source, ("task_id", "code", "test_list"))):
            text = row.get("text", row.get("prompt"))
            if text is None:
                raise UsageError(f"{source}, row {number + 1}: neither 'text' nor 'prompt'")
            setup = [*row.get("test_imports", ()), str(row.get("test_setup_code") or "")]
            tests = [str(t) for t in row["test_list"]]
            fields = {
                "prompt": str(text).strip(),
                "shown_tests": tests,
                "preamble": "\n".join(setup).strip() + "\n",
                "entry_point": _tested(str(row["code"]), tests),
                "tests": "\n".join([*row.get("test_imports", ()), *tests]) + "\n",
            }
            yield Sample(str(row["task_id"]), fields, str(row["code"]).replace("\r\n", "\n"))

    def question(self, sample: Sample) -> str:
        tests = "\n".join(sample.fields["shown_tests"])
        return f"Task: {sample.fields['prompt']} Your code should pass these tests:\n{tests}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)
