"""Grade-school word problems, numeric equality, 0 to 8 worked examples: GSM8K (Cobbe et al. 2021) and its kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from poise.tasks.data import Row, need, read_rows
from poise.types import Sample, UsageError

EXAMPLES = (
    ("Lena has 14 stamps. Her uncle gives her 3 sheets of 6 stamps. How many stamps has she now?",
     "The uncle gives her 3 * 6 = 18 stamps. With her own that makes 14 + 18 = 32.", "32"),
    ("A train carries 240 people. At the first stop 75 get off and 32 get on. How many are aboard then?",
     "After 75 got off there are 240 - 75 = 165. With the 32 who got on there are 165 + 32 = 197.", "197"),
    ("Five pens cost 6 dollars and 50 cents. How many dollars do 8 pens cost?",
     "One pen costs 6.50 / 5 = 1.30 dollars. So 8 pens cost 8 * 1.30 = 10.40 dollars.", "10.4"),
    ("Omar reads 18 pages a day for a week, then 25 pages a day for 4 days and so finishes the book. "
     "How many pages has it?",
     "In the week he reads 7 * 18 = 126 pages, afterwards 4 * 25 = 100. Together that is 126 + 100 = 226.", "226"),
    ("A tank of 900 litres is two thirds full. 150 litres are taken out. How many litres are left?",
     "Two thirds of 900 is 900 * 2 / 3 = 600. Then 600 - 150 = 450 are left.", "450"),
    ("Mia is 4 years older than twice the age of Ben. Ben is 9. How old is Mia in 5 years?",
     "Twice the age of Ben is 2 * 9 = 18, so Mia is 18 + 4 = 22. In 5 years she is 22 + 5 = 27.", "27"),
    ("A shop lowers a coat of 80 dollars by 25 percent and then by another 10 dollars. What does it cost now?",
     "25 percent of 80 is 20, which leaves 80 - 20 = 60. Another 10 less is 60 - 10 = 50.", "50"),
    ("Three friends share the cost of a room at 96 dollars a night for 2 nights. What does each of them pay?",
     "The room costs 2 * 96 = 192 dollars. Each pays 192 / 3 = 64.", "64"),
)  # fmt: skip


class Gsm8k:
    """Grade-school word problems, up to 8 worked examples: GSM8K, SVAMP, MAWPS (MultiArith, AddSub, SingleEq).

    Rows have `question` (and `body`) or `sQuestion`, and `answer` (a number, alone or behind "####") or `lSolutions`.
    The answer is the number after the last "####", in a box, after "answer is", or the last one of the text.
    """

    name, version = "gsm8k", 2
    instruction = 'Solve the problem step by step. End with "The answer is" and the number.'
    answer_prefix = "Answer:"
    extract = "final_number"
    metrics = ("math_equal",)
    chance, n_ref, max_tokens = 0.0, 100.0, 400
    options: tuple[str, ...] = ()
    shot_samples = tuple(
        Sample(f"shot-{i}", {"question": question, "solution": f"{steps} The answer is {number}."}, number)
        for i, (question, steps, number) in enumerate(EXAMPLES)
    )

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "test.jsonl, or hub:openai/gsm8k/main:test")
        for number, row in enumerate(read_rows(source)):
            question, solution, target = _parts(row, f"{source}, row {number + 1}")
            yield Sample(str(number), {"question": question, "solution": solution}, target)

    def question(self, sample: Sample) -> str:
        return f"Question: {sample.fields['question']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.fields["solution"])


_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")


def _parts(row: Row, where: str) -> tuple[str, str, str]:
    """(question, worked solution, the number)."""
    named = {name.lower(): value for name, value in row.items()}
    question, answer = (
        next((named[name] for name in names if named.get(name) is not None), None)
        for names in (("question", "squestion"), ("answer", "lsolutions"))
    )
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if question is None or answer is None:
        raise UsageError(f"{where}: needs question and answer; it has {', '.join(map(repr, row))}")
    _, mark, number = str(answer).rpartition("####")
    number = re.sub(r"\.0+$", "", number.strip().replace(",", ""))
    if not mark and not _NUMBER.fullmatch(number):
        raise UsageError(f'{where}: the answer is no number, nor has it "#### number" at its end')
    text = " ".join(str(part).strip() for part in (named.get("body"), question) if part)
    if re.search(r"\bnumber\d+\b", text):
        raise UsageError(f"{where}: words such as number0 stand for the numbers; take the file that says them")
    return (text, str(answer), number) if mark else (text, f"The answer is {number}.", number)
