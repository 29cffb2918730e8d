"""Grade-school word problems (Cobbe et al. 2021): the published JSONL, 0 to 8 worked examples, numeric equality."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise.tasks.data import need, read_rows
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
    """Grade-school word problems, up to 8 worked examples.

    The answer is the number after the last "####", in a box, after "answer is", or the last one of the text.
    """

    name, version = "gsm8k", 1
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
        for number, row in enumerate(read_rows(source, ("question", "answer"))):
            _, mark, target = str(row["answer"]).rpartition("####")
            if not mark:
                raise UsageError(f'{source}, row {number + 1}: the answer has no "#### number" at its end')
            fields = {"question": str(row["question"]), "solution": str(row["answer"])}
            yield Sample(str(number), fields, target.strip().replace(",", ""))

    def question(self, sample: Sample) -> str:
        return f"Question: {sample.fields['question']}"

    def answer(self, sample: Sample) -> str:
        return str(sample.fields["solution"])
