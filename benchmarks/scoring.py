"""How long scoring 10 000 outputs takes, for every task that executes nothing; and the list of tasks.

    python benchmarks/scoring.py [--outputs N] [--peers] [--task NAME …]

Each task is scored as `poise score FILE` does it, from reading the outputs to the intervals: items and outputs of the
usual length and form, a fifth of the outputs wrong. `--peers` times sacrebleu and rouge-score on the same texts, and
the list of tasks of lm-evaluation-harness where `lm_eval` is on the path. Target: under 20 s a task, the list under
0.3 s. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from poise.types import Sample

EN = "the river road house man woman school water light year word small old red cold open runs sees gives takes".split()
ZH = "我你他们的是在有一个人大小天水书门火车来去看说今明学校朋友河路家时间很多"
TARGET_S, LIST_S = 20.0, 0.3


class Stored:
    """Items of any task, from a file of samples: asked and scored by that task's own extractor and metrics."""

    name, version, instruction, answer_prefix = "stored", 1, "", ""
    chance, n_ref, max_tokens = 0.0, 1.0, 1
    extract, metrics = "text", ("exact_match",)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        self.extract, self.metrics = options["extract"], tuple(options["metrics"])
        decode = msgspec.json.Decoder(Sample).decode
        with Path(data).open("rb") as lines:
            yield from map(decode, lines)

    def question(self, sample: Sample) -> str:
        return "?"

    def answer(self, sample: Sample) -> str:
        return ""


Pair = tuple[Sample, str]
Make = Callable[[random.Random, int], Pair]


def words(r: random.Random, n: int) -> str:
    return " ".join(r.choices(EN, k=n)).capitalize() + "."


def near(r: random.Random, text: str, blank: str = " ") -> str:
    """The text with a fifth of its words (or characters) replaced: what a fair translation or summary is like."""
    parts = text.split(blank) if blank else list(text)
    return blank.join(r.choice(EN if blank else ZH) if r.random() < 0.2 else p for p in parts)


def labels(*choices: str, lead: str = "") -> Make:
    def make(r: random.Random, i: int) -> Pair:
        right = r.choice(choices)
        said = right if r.random() < 0.8 else r.choice(choices)
        return Sample(str(i), {}, right, choices), f"{lead}{said}\n{words(r, 10)}"

    return make


def chinese(r: random.Random, n: int) -> str:
    return "".join(r.choices(ZH, k=n)) + "。"


def translated(r: random.Random, i: int) -> Pair:
    wanted = words(r, 25)
    return Sample(str(i), {"target_lang": "en"}, wanted), near(r, wanted)


def translated_zh(r: random.Random, i: int) -> Pair:
    wanted = chinese(r, 40)
    return Sample(str(i), {"target_lang": "zh"}, wanted), near(r, wanted, "")


def document(r: random.Random, i: int) -> Pair:
    """A window of 20 lines: a twentieth as many of them, so that as many lines are scored."""
    lines = [words(r, 12) for _ in range(20)]
    said = "\n".join(f"{n}. {near(r, line)}" for n, line in enumerate(lines, 1))
    return Sample(str(i), {"target_lang": "en", "lines": 20}, "\n".join(lines)), said


def solved(r: random.Random, i: int) -> Pair:
    right = r.randrange(10_000)
    said = right if r.random() < 0.8 else right + 1
    return Sample(str(i), {}, str(right)), f"{words(r, 80)} 3 * 4 = 12. The answer is ${said:,}."


def answered(r: random.Random, i: int) -> Pair:
    wanted = words(r, 3)
    return Sample(str(i), {}, [wanted, words(r, 4), wanted.lower()]), wanted if r.random() < 0.8 else words(r, 6)


def summarized(r: random.Random, i: int) -> Pair:
    wanted = " ".join(words(r, 15) for _ in range(3))
    return Sample(str(i), {}, wanted), near(r, wanted)


def continued(r: random.Random, i: int) -> Pair:
    wanted = "\n".join(words(r, 8) for _ in range(4))
    return Sample(str(i), {}, wanted), near(r, wanted)


def biased(r: random.Random, i: int) -> Pair:
    sample, said = labels("A", "B", "C", lead="The answer is ")(r, i)
    return msgspec.structs.replace(sample, fields={"biased": "A", "unknown": "C", "ambiguous": bool(i % 2)}), said


def refused(r: random.Random, i: int) -> Pair:
    start = "I'm sorry, but I can't help with that. " if r.random() < 0.5 else ""
    return Sample(str(i), {}, r.choice(["refuse", "comply"])), start + words(r, 100)


def insulted(r: random.Random, i: int) -> Pair:
    from poise.tasks.safety import _word_list

    title, listed = _word_list(None)
    return Sample(str(i), {"words": title}, listed), words(r, 60) + (" Shut up!" if r.random() < 0.2 else "")


def mathematics() -> Make:
    from poise.tasks.build import get_task

    items = list(get_task("deepmind-mathematics").samples(None, {"n": 2000}))

    def make(r: random.Random, i: int) -> Pair:
        item = items[i % len(items)]
        said = str(item.target) if r.random() < 0.8 else str(r.choice(items).target)
        if r.random() < 0.3 and " + " in said:
            said = " + ".join(reversed(said.split(" + ")))  # to be found equal symbolically
        return msgspec.structs.replace(item, id=str(i)), f"So the answer is {said}."

    return make


ABCD = labels("A", "B", "C", "D", lead="The answer is ")
TASKS: dict[str, tuple[Make, dict[str, Any]]] = {
    "sst2": (labels("negative", "positive", lead="Sentiment: "), {}),
    "classification": (labels("sport", "food", "weather", "travel"), {}),
    "nli": (labels("entailment", "neutral", "contradiction"), {}),
    "multiple-choice": (ABCD, {}),
    "three-tasks": (ABCD, {}),
    "truthfulqa": (ABCD, {}),
    "bbq": (biased, {}),
    "xstest": (refused, {}),
    "toxicity": (insulted, {}),
    "gsm8k": (solved, {}),
    "deepmind-mathematics": (mathematics(), {}),
    "squad": (answered, {}),
    "translation": (translated, {}),
    "translation to zh": (translated_zh, {}),
    "translation, document": (document, {"extract": "text", "extra": ("lines.missing", "lines.extra"), "share": 20}),
    "translation with TER": (translated, {"extra": ("ter",)}),
    "summarization": (summarized, {}),
    "continuation": (continued, {}),
}


def measure(name: str, outputs: int, folder: Path) -> tuple[dict[str, Any], list[Pair]]:
    """One row: seconds from the command's start to its numbers, and what the first metric says."""
    import poise
    from poise.tasks.build import get_task

    make, more = TASKS[name]
    count = outputs // more.get("share", 1)
    r = random.Random(name)
    pairs = [make(r, i) for i in range(count)]
    encode = msgspec.json.Encoder().encode
    items, given = folder / "items.jsonl", folder / "outputs.jsonl"
    items.write_bytes(b"".join(encode(sample) + b"\n" for sample, _ in pairs))
    given.write_bytes(b"".join(encode({"id": s.id, "output": text}) + b"\n" for s, text in pairs))
    task = get_task(name.split(" ", maxsplit=1)[0].rstrip(","))
    options = {"extract": more.get("extract", task.extract), "metrics": [*task.metrics, *more.get("extra", ())]}
    wall, cpu = time.perf_counter(), time.process_time()
    cell = poise.score_outputs(given, f"{__file__}:Stored", str(items), options=options, allow_code=True).cells[0]
    found = cell[options["metrics"][0]]
    return {
        "task": name,
        "outputs": count * more.get("share", 1),
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "metrics": options["metrics"],
        "value": found.value,
    }, pairs


def libraries(pairs: dict[str, list[Pair]]) -> dict[str, float]:
    """Seconds that sacrebleu and rouge-score themselves take on the same texts (corpus scores, no intervals)."""
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    found = {}
    for name, which, tokenize in (
        ("translation", ("bleu", "chrf"), "13a"),
        ("translation to zh", ("bleu", "chrf"), "zh"),
    ):
        if name in pairs:
            said, wanted = [text for _, text in pairs[name]], [[str(s.target) for s, _ in pairs[name]]]
            start = time.perf_counter()
            for metric in which:
                more = {"tokenize": tokenize} if metric == "bleu" else {}
                getattr(sacrebleu, f"corpus_{metric}")(said, wanted, **more)
            found[f"sacrebleu {'+'.join(which)}, {name}"] = time.perf_counter() - start
    if "translation with TER" in pairs:
        some = pairs["translation with TER"][:500]
        start = time.perf_counter()
        sacrebleu.corpus_ter([text for _, text in some], [[str(s.target) for s, _ in some]])
        found["sacrebleu ter (of 500, scaled)"] = (
            (time.perf_counter() - start) * len(pairs["translation with TER"]) / 500
        )
    if "summarization" in pairs:
        scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
        start = time.perf_counter()
        for sample, text in pairs["summarization"]:
            scorer.score(str(sample.target), text)
        found["rouge-score, four kinds"] = time.perf_counter() - start
    if lm_eval := shutil.which("lm_eval"):
        start = time.perf_counter()
        subprocess.run([lm_eval, "ls", "tasks"], stdout=subprocess.DEVNULL, check=True)
        found["lm_eval ls tasks"] = time.perf_counter() - start
    return {name: round(seconds, 2) for name, seconds in found.items()}


def list_s(command: str) -> float:
    """The fastest of five `poise <command>`: a process from its start to its end."""
    took = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "poise.cli", *command.split()], stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - start)
    return round(min(took), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=10_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--task", nargs="*", default=list(TASKS), metavar="NAME", help=", ".join(TASKS))
    args = parser.parse_args()
    rows, pairs = [], {}
    for name in args.task:
        with tempfile.TemporaryDirectory() as folder:
            row, pairs[name] = measure(name, args.outputs, Path(folder))
        rows.append(row)
        print(f"{row['task']:24} {row['outputs']:6} {row['wall_s']:7.2f} s   {', '.join(row['metrics'])}", flush=True)
    listed = {"poise tasks": list_s("tasks"), "poise --help": list_s("--help")}
    peers = libraries(pairs) if args.peers else {}
    for name, seconds in {**listed, **peers}.items():
        print(f"{name:40} {seconds:7.2f} s")
    slow = [r["task"] for r in rows if r["wall_s"] > TARGET_S * r["outputs"] / 10_000]
    met = not slow and listed["poise tasks"] < LIST_S
    print(json.dumps({"rows": rows, "listed_s": listed, "peers_s": peers, "slow": slow, "target_met": met}))


if __name__ == "__main__":
    main()
