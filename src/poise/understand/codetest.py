"""From an answer of code to a verdict: the program put together, run against its tests in the sandbox, and pass@k.

pass@k = 1 − C(n−c, k)/C(n, k), the unbiased estimator of Chen et al. (2021) from n draws of which c passed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from math import comb

from poise.types import Sample, Score
from poise.understand.sandbox import Unavailable, run_tests, why_unavailable

KS = (1, 5, 10, 50, 100)
"""The k of pass@k that are given where there are more draws."""


def program(answer: str, sample: Sample) -> str:
    """The code to define: an answer that writes the function out replaces the given head, else it continues it.

    Either way what stands before the head (imports, helpers) is there.
    """
    preamble, name = str(sample.fields.get("preamble", "")), str(sample.fields.get("entry_point", ""))
    if not _has_head(sample):
        return f"{preamble}\n{answer}\n"
    if re.search(rf"^[ \t]*(?:async )?def {re.escape(name)}\b", answer, re.MULTILINE):
        return f"{preamble}\n    pass\n\n{textwrap.dedent(answer)}\n"
    body = answer.strip("\n")
    if not body.startswith((" ", "\t")):
        # The prompt ended within the indentation, or the model left it out: a body has one.
        first, _, rest = body.partition("\n")
        body = f"    {first}\n{rest}" if re.match(r"[ \t]", rest) else textwrap.indent(body, "    ")
    return f"{preamble}{body}\n"


def _trusted(sample: Sample) -> str:
    """The given head with an empty body: the helpers that the tests use are then not the candidate's to redefine.

    Where tests pass objects of given classes to the candidate (MBPP's setup code), the classes must be its own.
    """
    return f"{sample.fields['preamble']}\n    pass\n" if _has_head(sample) else ""


def _has_head(sample: Sample) -> bool:
    """Whether the preamble ends within the wanted function, whose body is then the answer."""
    preamble, name = str(sample.fields.get("preamble", "")), str(sample.fields.get("entry_point", ""))
    return bool(name) and re.search(rf"^[ \t]*def {re.escape(name)}\b", preamble, re.MULTILINE) is not None


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of k draws passes, from n draws of which c passed; needs k ≤ n."""
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass@{k} needs at least {k} draws and 0 <= {c} <= {n}")
    return 1.0 - comb(n - c, k) / comb(n, k)


class PassAt1:
    """Whether the code passes its tests; over several draws of an item its mean is pass@1."""

    name, unit, better, scale = "pass_at.1", "", "higher", 1.0
    waits = True
    """The work is done in other processes: scored in parallel."""

    def __init__(self) -> None:
        self.keep = why_unavailable() is None
        """Verdicts that are missing for want of a sandbox are not kept: another machine may have one."""

    def score(self, answer: str | None, sample: Sample) -> Score:
        if "tests" not in sample.fields:
            return Score(None, answer=answer, reason="the item has no tests")
        if answer is None:
            return Score(0.0, reason="none found")
        try:
            outcome = run_tests(
                program(answer, sample),
                str(sample.fields["tests"]),
                trusted=_trusted(sample),
                entry_point=str(sample.fields["entry_point"]),
            )
        except Unavailable as reason:
            return Score(None, answer=answer, reason=str(reason))
        return Score(float(outcome.passed), answer=answer, reason=outcome.reason)

    def over_draws(self, passed: Sequence[float]) -> dict[str, float]:
        """pass@k of one problem from all of its draws, for the usual k there are enough of, and for all of them."""
        n, c = len(passed), round(sum(passed))
        return {f"pass_at.{k}": pass_at_k(n, c, k) for k in sorted({k for k in KS if k < n} | {n}) if k > 1}

    def signature(self, sample: Sample | None = None) -> str:
        return "pass_at.1 v2 | tests in a sandbox, 10 CPU-s"
