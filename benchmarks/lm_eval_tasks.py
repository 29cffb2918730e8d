"""Twelve of lm-evaluation-harness's own tasks, of every kind, by `lm_eval` and by poise on the same items.

    python benchmarks/lm_eval_tasks.py [--model bundled:s] [--engine transformers] [--items 24]

The tasks are the installed package's files. A group over them points each to a small local file with the columns of its
data set; the texts are made here, for a hub is not needed to compare two programs. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]
GOOD = ("lovely", "warm", "tasty", "bright", "quiet", "kind")
BAD = ("dull", "cold", "stale", "dirty", "noisy", "rude")
THINGS = ("soup", "room", "film", "garden", "waiter", "train", "story", "song")


def _texts(i: int) -> tuple[str, str, str]:
    """(a sentence, a good word, a bad word)."""
    good, bad, thing = GOOD[i % 6], BAD[(i * 5 + 1) % 6], THINGS[(i * 3) % 8]
    return f"Ann said that the {thing} was {good} and that she would come again", good, bad


def _four(i: int) -> list[str]:
    _, good, bad = _texts(i)
    return [f"It was {good}.", f"It was {bad} and {good}", f"The {THINGS[i % 8]}", f"Nobody knows why it was {bad}."]


def arc(i: int) -> Row:
    choices = {"text": _four(i), "label": ["A", "B", "C", "D"]}
    return {
        "id": str(i),
        "question": f"{_texts(i)[0]}. What was it like?",
        "choices": choices,
        "answerKey": "ABCD"[i % 4],
    }


def openbookqa(i: int) -> Row:
    row = arc(i)
    return {"id": row["id"], "question_stem": row["question"], **{k: row[k] for k in ("choices", "answerKey")}}


def hellaswag(i: int) -> Row:
    said = {"activity_label": "Eating out [title]", "ctx_a": f"{_texts(i)[0]}.", "ctx_b": "then the man"}
    return {**said, "endings": [f"{e} [step] ok" for e in _four(i)], "label": str(i % 4)}


def piqa(i: int) -> Row:
    return {"goal": _texts(i)[0], "sol1": _four(i)[0], "sol2": _four(i)[3], "label": i % 2}


def boolq(i: int) -> Row:
    return {"passage": f"{_texts(i)[0]}.", "question": f"was it {_texts(i)[1 + i % 2]}", "label": (i + 1) % 2}


def lambada(i: int) -> Row:
    return {"text": f"{_texts(i)[0]}, for it was {_texts(i)[1]}"}


def gsm8k(i: int) -> Row:
    return {"question": f"{i + 2} + {i * 3 + 1} = ?", "answer": f"It is small.\n#### {i % 4}"}


def wikitext(i: int) -> Row:
    return {
        "page": f" = {THINGS[i % 8]} = \n " + " ".join(f"{_texts(i + k)[0]} , 1 @,@ {k}00 ." for k in range(1 + 9 * i))
    }


def truthfulqa(i: int) -> Row:
    answers = {"choices": _four(i), "labels": [1, 0, i % 2, 0]}
    return {"question": f"{_texts(i)[0]}?", "mc1_targets": answers, "mc2_targets": answers}


def mmlu(i: int) -> Row:
    return {"question": f"{_texts(i)[0]}. Which is right?", "subject": "anatomy", "choices": _four(i), "answer": i % 4}


def triviaqa(i: int) -> Row:
    names = [_texts(i)[1], _texts(i)[1].upper(), f"the {THINGS[i % 8]}"]
    return {"question": f"What was the {THINGS[i % 8]} like", "question_id": str(i), "answer": {"aliases": names}}


def winogrande(i: int) -> Row:
    return {
        "sentence": "Ann met Tom because _ was so kind .",
        "option1": "Ann",
        "option2": "Tom",
        "answer": "12"[i % 2],
    }


TASKS: dict[str, tuple[Callable[[int], Row], dict[str, Any]]] = {
    "arc_easy": (arc, {}),
    "hellaswag": (hellaswag, {}),
    "piqa": (piqa, {"num_fewshot": 2}),
    "boolq": (boolq, {}),
    "lambada_openai": (lambada, {}),
    "gsm8k": (gsm8k, {"generation_kwargs": {"until": ["Question:"], "do_sample": False, "max_gen_toks": 24}}),
    "wikitext": (wikitext, {}),
    "truthfulqa_mc2": (truthfulqa, {}),
    "mmlu_anatomy": (mmlu, {"num_fewshot": 3}),
    "triviaqa": (triviaqa, {"generation_kwargs": {"until": ["\n", "."], "do_sample": False, "max_gen_toks": 12}}),
    "winogrande": (winogrande, {}),
    "openbookqa": (openbookqa, {"num_fewshot": 1}),
}
SPLITS = ("train", "validation", "test", "dev")
THEIRS = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager
folders, model = json.loads(sys.argv[1]), sys.argv[2]
found = lm_eval.simple_evaluate(
    model="hf", model_args={"pretrained": model, "dtype": "float32"}, tasks=["twelve"], batch_size=4, device="cpu",
    task_manager=TaskManager(include_path=folders, include_defaults=False), bootstrap_iters=0,
)
print("RESULTS" + json.dumps({**found["results"], **found["groups"]}, default=str))
"""


def write(folder: Path, items: int) -> Path:
    """The data, and the group that points the tasks to it."""
    tasks = []
    for name, (make, more) in TASKS.items():
        path = folder / f"{name}.jsonl"
        count = min(items, 6) if name == "wikitext" else items
        path.write_text("".join(json.dumps(make(i)) + "\n" for i in range(count)))
        files = dict.fromkeys(SPLITS, str(path))
        local = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
        tasks.append({"task": name, **local, **more})
    means = [{"metric": "acc", "weight_by_size": True}, {"metric": "acc_norm", "weight_by_size": False}]
    group = folder / "twelve.yaml"
    group.write_text(yaml.safe_dump({"group": "twelve", "task": tasks, "aggregate_metric_list": means}))
    return group


def theirs(folder: Path, model: Path) -> dict[str, dict[str, float]]:
    """Figures of the harness's own run, by task and for the group."""
    from poise.tasks.lmeval_find import file_of

    folders = [*dict.fromkeys(str(file_of(name).parent) for name in TASKS), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", THEIRS, json.dumps(folders), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=3600)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, dict[str, float]] = json.loads(done.stdout.rpartition("RESULTS")[2])
    return found


def ours(group: Path, model: str, engine: str, out: Path) -> dict[str, dict[str, float]]:
    """The same of poise's."""
    import poise

    kind, colon, name = model.partition(":")
    source = {kind: name} if colon else {"any": model}
    study = {
        "models": [{"name": "m", "source": source, "format": "raw"}],  # as the harness asks, unless told
        "deployments": [{"backend": engine, "device": "cpu"}],
        "tasks": [f"lm-eval:{group}"],
    }
    summary = poise.summarize(poise.run(study, out, quiet=True))
    found = {c.task: {n: e.value for n, e in c.estimates.items() if e.value is not None} for c in summary.cells}
    return found | {g: {n: e.value for n, e in s.items()} for g, s in summary.models[0].groups.items()}


def compared(
    given: dict[str, dict[str, float]], found: dict[str, dict[str, float]]
) -> list[tuple[str, str, float, float]]:
    """(task, metric, theirs, ours), by poise's names."""
    rows = []
    for task, figures in given.items():
        for key, value in figures.items():
            metric, _, kind = key.partition(",")
            if kind and not metric.endswith("_stderr"):
                name = metric if kind == "none" else f"{metric}.{kind}"
                rows.append((task, name, float(value), found[task][name]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:s", help="bundled:NAME or a folder")
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--items", type=int, default=24)
    args = parser.parse_args()
    from poise.plan.sources import bundled_folder

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        group = write(folder, args.items)
        began = time.perf_counter()
        name = args.model.removeprefix("bundled:")
        given = theirs(folder, bundled_folder(name) if name != args.model else Path(name).resolve())
        middle = time.perf_counter()
        found = ours(group, args.model, args.engine, folder / "run")
        ended = time.perf_counter()
    rows = compared(given, found)
    for task, metric, a, b in rows:
        print(f"{task:16} {metric:32} {a:14.8g} {b:14.8g}  {'same' if a == b else f'{abs(a - b) / abs(a or 1):.1e}'}")
    worst = max(abs(a - b) / max(abs(a), 1e-9) for *_, a, b in rows)
    seconds = {"lm_eval_s": round(middle - began, 1), "poise_s": round(ended - middle, 1)}
    print(json.dumps({"tasks": len(TASKS), "figures": len(rows), "largest_relative_difference": worst, **seconds}))


if __name__ == "__main__":
    main()
