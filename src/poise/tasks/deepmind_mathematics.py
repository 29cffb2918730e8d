"""School mathematics of Saxton et al. (2019, arXiv 1904.01557): question/answer line files, 56 modules, 8 categories.

`data` is a file `<category>__<module>.txt`, a folder of them (`interpolate`), or a folder of such folders. Without data
the problems are generated (`mathgenerate`), seeded by `options: {seed, n}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poise.registry import did_you_mean
from poise.tasks.data import files_of, need, read_lines
from poise.tasks.mathgenerate import problems
from poise.types import Sample, UsageError

MODULES: dict[str, tuple[str, ...]] = {
    "algebra": (
        "linear_1d", "linear_1d_composed", "linear_2d", "linear_2d_composed", "polynomial_roots",
        "polynomial_roots_composed", "sequence_next_term", "sequence_nth_term",
    ),
    "arithmetic": (
        "add_or_sub", "add_or_sub_in_base", "add_sub_multiple", "div", "mixed", "mul", "mul_div_multiple",
        "nearest_integer_root", "simplify_surd",
    ),
    "calculus": ("differentiate", "differentiate_composed"),
    "comparison": (
        "closest", "closest_composed", "kth_biggest", "kth_biggest_composed", "pair", "pair_composed", "sort",
        "sort_composed",
    ),
    "measurement": ("conversion", "time"),
    "numbers": (
        "base_conversion", "div_remainder", "div_remainder_composed", "gcd", "gcd_composed", "is_factor",
        "is_factor_composed", "is_prime", "is_prime_composed", "lcm", "lcm_composed", "list_prime_factors",
        "list_prime_factors_composed", "place_value", "place_value_composed", "round_number",
        "round_number_composed",
    ),
    "polynomials": (
        "add", "coefficient_named", "collect", "compose", "evaluate", "evaluate_composed", "expand",
        "simplify_power",
    ),
    "probability": ("swr_p_level_set", "swr_p_sequence"),
}  # fmt: skip
UNORDERED = ("polynomial_roots", "polynomial_roots_composed", "list_prime_factors", "list_prime_factors_composed")
"""Modules whose answer is a set of numbers."""
LITERAL = ("base_conversion", "add_or_sub_in_base")
"""Modules whose answer is digits of some base."""


class DeepmindMathematics:
    """School mathematics, 56 modules in 8 categories; options `category` and `module` choose some of them."""

    name, version = "deepmind-mathematics", 2
    instruction = "Answer the question. Write only the final answer, exactly and fully worked out."
    answer_prefix = "Answer:"
    extract = "math"
    metrics = ("math_equal", "exact_match")
    chance, n_ref, max_tokens = 0.0, 6.0, 64
    options = ("category", "module", "seed", "n")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        category, module = options.get("category"), options.get("module")
        if category is not None and category not in MODULES:
            raise UsageError(f"{self.name}: no category {category!r}{did_you_mean(str(category), MODULES)}")
        rows = self._generated(options) if data is None else _read(need(data, self.name, "mathematics/interpolate"))
        found = False
        for sample in rows:
            if (category is None or sample.category == category) and (module in (None, sample.fields["module"])):
                found = True
                yield sample
        if not found:
            chosen = [f"{k} {v!r}" for k, v in (("category", category), ("module", module)) if v is not None]
            raise UsageError(f"{data} has no items" + (f" of {' and '.join(chosen)}" if chosen else ""))

    def _generated(self, options: dict[str, Any]) -> Iterator[Sample]:
        seed, n = int(options.get("seed", 0)), int(options.get("n", 400))
        for number, (category, module, question, answer) in enumerate(problems(seed, n)):
            yield _sample(f"generated/{category}__{module}/{number}", category, module, question, answer)

    def question(self, sample: Sample) -> str:
        return f"Question: {sample.fields['question']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _read(source: str) -> Iterator[Sample]:
    """Alternate lines: question, answer."""
    root = Path(source).expanduser()
    files = [p for p in files_of(root, (".txt",)) if "__" in p.name or p == root]
    if not files:
        raise UsageError(f"{source} has no files named <category>__<module>.txt")
    for path in files:
        category, _, module = path.name.removesuffix(".gz").removesuffix(".txt").partition("__")
        if not module:
            raise UsageError(f"{path}: the name must be <category>__<module>.txt, it says what the questions are about")
        place = f"{path.parent.name}/{category}__{module}"
        lines = read_lines(path)
        for number, question in enumerate(lines):
            answer = next(lines, None)
            if answer is None:
                if question.strip():
                    raise UsageError(f"{path}, line {2 * number + 1}: a question without an answer line after it")
                break
            if not question.strip() and not answer.strip():
                continue
            if not question.strip() or not answer.strip():
                raise UsageError(f"{path}, line {2 * number + 1}: an empty line where a question and its answer belong")
            yield _sample(f"{place}/{number}", category, module, question.strip(), answer.strip())


def _sample(sample_id: str, category: str, module: str, question: str, answer: str) -> Sample:
    fields: dict[str, Any] = {"question": question, "module": module}
    if module in UNORDERED:
        fields["unordered"] = True
    if module in LITERAL:
        fields["literal"] = True
    return Sample(id=sample_id, fields=fields, target=answer, category=category)
