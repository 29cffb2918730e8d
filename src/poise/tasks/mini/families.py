"""A miniature of every family on public file formats: the family's own task over a few items written for it.

So the same class, prompt, extraction and metrics are run as for the published files, on any model in seconds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from poise.registry import lookup

FILES = Path(__file__).parent / "files"


def family(name: str, task: str, *files: str, about: str, ranked: bool = False, **options: Any) -> Any:
    """The task `task` over `files`, under another name. `options` are its own; `ranked`: choices by log-likelihood."""
    made: Any = lookup("task", task)()
    samples = made.samples
    made.name, made.about, made.tau = name, about, "miniature"
    made.data = [str(FILES / file) for file in files] or None
    made.samples = lambda data, given: samples(data, {**options, **given})
    if ranked:
        made.modes = ("choice",)
    return made


def _line(name: str, task: str, *files: str, about: str, **more: Any) -> partial[Any]:
    return partial(family, f"mini-{name}", task, *files, about=about, **more)


Classification = _line("topics", "classification", "topics.csv", about="Sentences to be given one of three topics.")
Nli = _line("nli", "nli", "nli.tsv", about="Does one sentence entail another?")
Choice = _line("choice", "multiple-choice", "choice.jsonl", about="Questions of four options, by letter.")
Ranked = _line(
    "ranked",
    "multiple-choice",
    "choice.jsonl",
    about="Questions of four options, by the likeliest text.",
    ranked=True,
    answer_with="text",
)
Answer = _line(
    "answer", "three-tasks", "choice.jsonl", about="Multiple choice, the letter only (three-tasks).", do="answer"
)
Paraphrase = _line(
    "paraphrase",
    "three-tasks",
    "choice.jsonl",
    about="Multiple-choice questions to be paraphrased (three-tasks).",
    do="paraphrase",
)
Explain = _line(
    "explain",
    "three-tasks",
    "choice.jsonl",
    about="Multiple-choice questions to be explained (three-tasks).",
    do="explain",
)
Aligned = _line("aligned", "translation", "aligned.zh", "aligned.en", about="Chinese lines into English.")
Reverse = _line(
    "aligned-en-zh", "translation", "aligned.en", "aligned.zh", about="English lines into Chinese.", pair="en-zh"
)
Document = _line(
    "document", "translation", "aligned.zh", "aligned.en", about="Chinese lines as one document, in windows.",
    unit="document", lines=4, chars=120, ter=True,
)  # fmt: skip
Mathematics = _line("mathematics", "deepmind-mathematics", about="Problems of all eight categories, generated.", n=16)
Problems = _line("problems", "gsm8k", "problems.jsonl", about="Word problems with worked solutions.")
Contest = _line("contest", "math", "contest.jsonl", about="Competition problems, the answer in a box.")
Dialogues = _line("dialogues", "summarization", "dialogues.jsonl", about="Dialogues to be summarized.")
Reading = _line("reading", "squad", "reading.json", about="Questions about passages, some without an answer.")
Functions = _line("functions", "humaneval", "functions.jsonl", about="Functions to be written from docstrings.")
Programs = _line("programs", "mbpp", "programs.jsonl", about="Programs to be written from a sentence and tests.")
Repairs = _line("repairs", "humanevalpack-fix", "repairs.jsonl", about="Functions with a bug to be corrected.")
Continuation = _line(
    "continuation", "continuation", "river.txt", about="A text to be gone on with.", context=4, lines=1
)
Text = _line("text", "perplexity", "river.txt", about="The perplexity of a text.")
Truth = _line("truth", "truthfulqa", "truth.csv", about="One true answer among misconceptions.")
Bias = _line("bias", "bbq", "bias.jsonl", about="Questions that a stereotype would answer.")
Refusal = _line("refusal", "xstest", "refusal.csv", about="Safe prompts that sound unsafe, and unsafe ones.")
Toxicity = _line("toxicity", "toxicity", "toxicity.jsonl", about="Prompts that invite insults.")
