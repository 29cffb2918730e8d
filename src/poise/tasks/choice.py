"""Multiple choice: questions with options in the usual layouts, the three-task protocol, and TruthfulQA.

Answered with a letter (`answer_with: letter`: generated, or the likeliest letter) or by the option's text
(`answer_with: text`: the likeliest text, raw and per byte; options are then not listed in the question).
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from poise.tasks.choice_rows import LETTERS, questions
from poise.tasks.data import Row, need, read_rows
from poise.types import Sample, UsageError

LETTER_ONLY = "Answer with the letter of the right option only."


def option_sample(sample_id: str, question: str, texts: list[str], right: int, answer_with: str, **rest: Any) -> Sample:
    """An item whose answer is a letter or a text, as `answer_with` says."""
    if answer_with not in ("letter", "text"):
        raise UsageError(f"answer_with must be letter or text, not {answer_with!r}")
    fields = {"question": question, "options": texts, "answer_with": answer_with}
    choices = tuple(LETTERS[: len(texts)]) if answer_with == "letter" else tuple(texts)
    return Sample(sample_id, fields, choices[right], choices, **rest)


def ask(sample: Sample) -> str:
    question = f"Question: {sample.fields['question']}"
    if sample.fields["answer_with"] == "text":
        return question
    return "\n".join([question, *(f"{a}. {text}" for a, text in zip(LETTERS, sample.fields["options"]))])


class MultipleChoice:
    """Multiple choice: MMLU, C-Eval, CMMLU, AGIEval, ARC, OpenBookQA, HellaSwag, WinoGrande, PIQA, BoolQ.

    Rows have `question` (and `passage`), `choices` (a list, or columns A, B … or option1, option2 …) and `answer`
    (index, letter, text, or true and false: yes and no). `data: [questions, labels]` where answers have their own file.
    """

    name, version = "multiple-choice", 3
    instruction = ""
    answer_prefix = "Answer:"
    extract = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 0.25, 1.0, 16
    options = ("answer_with",)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        answer_with = str(options.get("answer_with", "letter"))
        self.instruction = LETTER_ONLY if answer_with == "letter" else ""
        sizes = []
        for name, question, texts, right, subject in questions(data, self.name):
            sizes.append(len(texts))
            category = f"subject={subject}" if subject else None
            yield option_sample(name, question, texts, right, answer_with, category=category)
        self.chance = sum(1 / size for size in sizes) / len(sizes)

    def question(self, sample: Sample) -> str:
        return ask(sample)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


ASKS = {
    "answer": LETTER_ONLY,
    "paraphrase": "Say this question in other words. Do not answer it.",
    "explain": "Give the right option and explain why it is right.",
}


class ThreeTasks:
    """Answer, paraphrase or explain the same multiple-choice questions (the speed protocol of Conde et al.).

    `do: answer` wants the letter only and is scored; `paraphrase` and `explain` measure how long and how much is
    written. One cell each; with `generation: {min_tokens: 256, max_tokens: 256}` all write equally much.
    """

    name, version = "three-tasks", 2
    instruction = ""
    answer_prefix = "Answer:"
    extract = "letter"
    metrics: tuple[str, ...] = ("accuracy",)
    chance, n_ref, max_tokens = 0.25, 1.0, 16
    options = ("do",)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        do = str(options.get("do", "answer"))
        if do not in ASKS:
            raise UsageError(f"three-tasks: do must be one of {', '.join(ASKS)}, not {do!r}")
        self.instruction = ASKS[do]
        if do != "answer":
            self.answer_prefix, self.metrics, self.chance = f"{do.capitalize()}:", (), 0.0
            self.n_ref, self.max_tokens, self.extract = 100.0, 512, "text"
        asked = MultipleChoice()
        yield from asked.samples(data, {})
        if do == "answer":
            self.chance = asked.chance

    def question(self, sample: Sample) -> str:
        return ask(sample)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


class TruthfulQa:
    """TruthfulQA: one true answer among common misconceptions (MC1; Lin et al. 2022).

    The best answer among all incorrect ones, in seeded order; `choices: binary` takes the best incorrect one only.
    From `TruthfulQA.csv`, or from `mc_task.json` and the hub's rows, which have no best incorrect answer.
    """

    name, version = "truthfulqa", 3
    instruction = "Answer truthfully."
    answer_prefix = "Answer:"
    extract = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    modes = ("generate", "choice")
    chance, n_ref, max_tokens = 0.2, 1.0, 16
    options = ("answer_with", "choices", "seed")

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        source = need(data, self.name, "TruthfulQA.csv")
        binary = options.get("choices") == "binary"
        if options.get("choices") not in (None, "binary", "all"):
            raise UsageError(f"truthfulqa: choices must be binary or all, not {options['choices']!r}")
        answer_with = str(options.get("answer_with", "letter"))
        self.instruction = " ".join(["Answer truthfully.", *([LETTER_ONLY] if answer_with == "letter" else [])])
        sizes = []
        for number, row in enumerate(_truthful(source, binary)):
            best = str(row["Best Answer"]).strip()
            wrong = [row["Best Incorrect Answer"]] if binary else row["Incorrect Answers"]
            texts = list(dict.fromkeys([best, *(str(w).strip() for w in wrong if str(w).strip())]))[: len(LETTERS)]
            Random(f"{options.get('seed', 0)}/{number}").shuffle(texts)
            sizes.append(len(texts))
            category = f"category={row['Category']}" if row.get("Category") else None
            yield option_sample(
                str(number), str(row["Question"]).strip(), texts, texts.index(best), answer_with, category=category
            )  # fmt: skip
        self.chance = sum(1 / size for size in sizes) / len(sizes)

    def question(self, sample: Sample) -> str:
        return ask(sample)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)


def _truthful(source: str, binary: bool) -> Iterator[Row]:
    """Rows with the columns of `TruthfulQA.csv`, the incorrect answers as a list."""
    columns = ("Question", "Best Answer", "Incorrect Answers", *(("Best Incorrect Answer",) if binary else ()))
    if "mc1_targets" not in next(read_rows(source)):
        for row in read_rows(source, columns):
            yield {**row, "Incorrect Answers": str(row["Incorrect Answers"]).split(";")}
        return
    if binary:
        raise UsageError(f"{source} does not say which incorrect answer is the best; for binary give TruthfulQA.csv")
    for number, row in enumerate(read_rows(source, ("question", "mc1_targets"))):
        targets = row["mc1_targets"]
        if isinstance(targets, dict) and isinstance(targets.get("choices"), list):  # the hub's rows
            targets = dict(zip(targets["choices"], targets.get("labels", ())))
        if not isinstance(targets, dict) or list(targets.values()).count(1) != 1:
            raise UsageError(f"{source}, row {number + 1}: mc1_targets has not one answer that is right")
        [best] = [text for text, right in targets.items() if right == 1]
        wrong = [text for text in targets if text != best]
        yield {"Question": row["question"], "Best Answer": best, "Incorrect Answers": wrong}
