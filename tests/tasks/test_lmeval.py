"""Tasks of lm-evaluation-harness: found by name, asked as it asks, and scored to its own run's figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import poise
from poise.tasks import lmeval_find as find
from poise.tasks.build import expand_group, get_task
from poise.types import UsageError

BUNDLED = Path(poise.__file__).parent / "bundled"

MOOD = """
task: review_mood
dataset_path: json
dataset_kwargs: {data_files: {test: reviews.jsonl, train: shots.jsonl}}
test_split: test
fewshot_split: train
num_fewshot: 2
output_type: multiple_choice
description: "Is the review good or bad?\\n\\n"
doc_to_text: "Review: {{text}}\\nSentiment:"
doc_to_choice: [good, bad, "not to be told"]
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: f1, aggregation: f1, higher_is_better: true}
"""
SUMS = """
task: small_sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", "Question:"], max_gen_toks: 12, do_sample: false}
filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "^ *(-?[0-9]+)$"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, regex_pattern: "(-?[0-9])"}, {function: take_first}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
TEXTS = """
task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
CLOZE = """
task: cloze
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{answer}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
BLANKS = """
task: blanks
dataset_path: json
dataset_kwargs: {data_files: {test: blanks.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: label
doc_to_choice: "{{[a, b]}}"
doc_to_target: "{{rest}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
FILES = {"review_mood": MOOD, "small_sums": SUMS, "texts": TEXTS, "cloze": CLOZE, "blanks": BLANKS}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Task files over local data: what a user of the harness has."""
    home = tmp_path_factory.mktemp("lmeval")
    for name, text in FILES.items():
        (home / f"{name}.yaml").write_text(text)
    reviews = list(get_task("mini-sentiment").samples(None, {}))[:60]
    rows = [{"text": s.fields["question"].removeprefix("Review: "), "label": int(s.target == "bad")} for s in reviews]
    write(home / "reviews.jsonl", rows[:40])
    write(home / "shots.jsonl", rows[40:])
    task = get_task("mini-arithmetic")
    sums = list(task.samples(None, {}))[:40]
    prompts = [f"{task.instruction}\n\n{task.question(s)}\n{task.answer_prefix}" for s in sums]
    write(home / "sums.jsonl", [{"question": p, "answer": str(s.target)} for p, s in zip(prompts, sums)])
    whole = [" ".join(row["text"] for row in rows[i * 3 : i * 3 + n]) for i, n in enumerate((1, 3, 50, 20))]
    write(home / "texts.jsonl", [{"text": text} for text in whole])
    words = [("good", "bad"), ("tasty", "awful"), ("warm", "cold"), ("great", "stale"), ("lovely", "dull")]
    ends = ["I liked it.", "I was glad.", "Ann was angry."]
    blanks = [
        {"a": f"The soup was {g}, so", "b": f"The soup was {w}, so", "rest": end, "label": i % 2}
        for i, (g, w) in enumerate(words)
        for end in ends
    ]
    write(home / "blanks.jsonl", blanks)
    return home


# ---------------------------------------------------------------- found without the package


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Stands for the package's folder of tasks."""
    monkeypatch.setattr(find, "home", lambda: tmp_path)
    find._index.cache_clear()
    yield tmp_path
    find._index.cache_clear()


def test_a_task_is_found_by_its_name(installed):
    (installed / "deep").mkdir()
    (installed / "deep/arc_easy.yaml").write_text("tag: [science, grade_school]\ntask: arc_easy\n")
    (installed / "other.yaml").write_text('"tag":\n- "science"\n"task": "arc-hard"  # not the file\'s name\n')
    (installed / "group.yaml").write_text("group: arc\ntask:\n  - arc_easy\n  - group: inner\n    task: [arc-hard]\n")
    assert find.file_of("arc_easy").name == "arc_easy.yaml"
    assert find.file_of("arc-hard").name == "other.yaml"
    assert expand_group("lm-eval:arc_easy") == ["lm-eval:arc_easy"]
    assert expand_group("lm-eval:arc") == ["lm-eval:arc_easy", "lm-eval:arc-hard"]
    assert expand_group("lm-eval:science") == ["lm-eval:arc-hard", "lm-eval:arc_easy"]
    with pytest.raises(UsageError, match="did you mean 'arc_easy'"):
        find.file_of("arc_esay")
    study = {"models": ["bundled:s"], "deployments": ["onnx"], "tasks": ["lm-eval:arc"]}
    assert [t.name for t in poise.load_study(study).tasks] == ["arc_easy", "arc-hard"]


def test_a_group_that_changes_its_tasks_is_refused(installed):
    (installed / "a.yaml").write_text("task: a\n")
    (installed / "g.yaml").write_text("group: g\ntask: [{task: a, num_fewshot: 5}]\n")
    with pytest.raises(UsageError, match="changes settings of its tasks"):
        find.members("g")


def test_without_the_package_the_install_command_is_said(monkeypatch):
    monkeypatch.setattr(find, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'poise\[lm-eval\]'"):
        poise.load_study({"models": ["bundled:s"], "deployments": ["onnx"], "tasks": ["lm-eval:arc_easy"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("process_results: !function utils.score", "!function utils.score"),
        ("metric_list: [{metric: acc, aggregation: !function utils.mean}]", "!function utils.mean"),
        ("class: x.Task", "class: x.Task"),
        ("metric_list: [{metric: code_eval, hf_evaluate: true}]", "'code_eval' from the hub"),
        ("dataset_path: ./load.py", "dataset_path: ./load.py"),
        ("dataset_path: pandas", "dataset_path: pandas"),
        ("unsafe_code: true", "unsafe_code"),
        ("dataset_path: org/name\nmetric_list: [{metric: acc}]", None),
        ("dataset_path: json", None),
    ],
)
def test_what_would_run_code_is_seen_without_running_it(tmp_path, text, said):
    (tmp_path / "base.yaml").write_text(text)
    (tmp_path / "task.yaml").write_text("include: base.yaml\ntask: mine\n")
    found = find.code_in(find.read_config(tmp_path / "task.yaml"))
    assert (found is None) if said is None else (said in found)


def test_a_broken_file_is_one_sentence(tmp_path):
    (tmp_path / "a.yaml").write_text("task: [")
    with pytest.raises(UsageError, match=r"a\.yaml, line"):
        find.read_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("include: a.yaml")
    with pytest.raises(UsageError, match="includes itself"):
        find.read_config(tmp_path / "a.yaml")


# ---------------------------------------------------------------- with it, against its own run

needs_package = pytest.mark.skipif(find.find_spec("lm_eval") is None, reason="lm-eval is not installed")
needs_torch = pytest.mark.skipif(find.find_spec("torch") is None, reason="torch is not installed")


DIRECTLY = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager
model, folder, *tasks = sys.argv[1:]
manager = TaskManager(include_path=folder, include_defaults=False)  # its own 14 000 files take a minute to read
found = lm_eval.simple_evaluate(
    model="hf", model_args={"pretrained": model, "dtype": "float32"}, tasks=tasks, task_manager=manager,
    batch_size=4, device="cpu", bootstrap_iters=0,
)
print("RESULTS" + json.dumps([found["results"], found["samples"]], default=str))
"""


@pytest.fixture(scope="module")
def theirs(folder):
    """(figures, samples) of the harness's own model class and evaluator, in a process of its own on the same files."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DIRECTLY, str(BUNDLED / "s"), str(folder), *FILES]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("RESULTS")[2])


@pytest.fixture(scope="module")
def ours(folder):
    """engine -> the run folder of all tasks on the same model."""
    made = {}

    def run(engine, load):
        if (engine, str(load)) not in made:
            study = {
                "models": ["bundled:s"],
                "deployments": [{"backend": engine, "device": "cpu"}],
                "tasks": [f"lm-eval:{folder / name}.yaml" for name in FILES],
                "loads": [load],
            }
            made[engine, str(load)] = poise.run(study, folder / f"run{len(made)}", quiet=True)
        return made[engine, str(load)]

    return run


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("engine", "load"), [("transformers", {"closed": 1}), ("transformers", {"batch": 8}), ("onnx", {"closed": 1})]
)
def test_the_figures_are_those_of_its_own_run(engine, load, theirs, ours, folder):
    figures, logged = theirs
    run = ours(engine, load)
    summary = poise.summarize(run)
    for name in FILES:
        cell = summary.cell(task=name)
        assert cell.state == "ok" and cell["e2e_s.p50"].value > 0, "every request has its time"
        for key, value in figures[name].items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr"):
                continue
            found = cell[metric if kind == "none" else f"{metric}.{kind}"].value
            assert found == pytest.approx(value, rel=1e-4), (name, key)
            if metric in ("acc", "acc_norm", "exact_match", "f1"):
                assert found == pytest.approx(value, abs=1e-12), "right or wrong has no tolerance"
    strict, flexible = (figures["small_sums"][f"exact_match,{name}"] for name in ("strict-match", "flexible-extract"))
    assert 0.1 < strict < 1 and strict != flexible, "else this test would mean little"
    # the very prompts, and the very answers
    asked = {cell.cell.task.name: cell for cell in run.cells()}
    for name in FILES:
        requests = {r.sample_id: r for r in asked[name].requests()}
        for sample in logged[name]:
            request = requests[str(sample["doc_id"])]
            arguments = sample["arguments"]
            if name == "texts":
                assert request.prompt == arguments[0][0]
            else:
                contexts = request.contexts or (request.prompt,) * len(arguments)
                assert list(contexts) == [a[0] for a in arguments]
            if request.continuations:
                assert list(request.continuations) == [a[1] for a in arguments]
    said = {str(s["doc_id"]): s["resps"][0][0] for s in logged["small_sums"]}
    assert {r.sample_id: "".join(r.pieces) for r in asked["small_sums"].records() if r.phase == "measure"} == said


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_a_run_folder_is_scored_again_without_its_data(ours, folder, monkeypatch):
    run = ours("transformers", {"closed": 1})
    before = poise.summarize(run)
    assert poise.score(run) == before
    hidden = {path: path.read_bytes() for path in folder.glob("*.*l") if path.suffix in (".yaml", ".jsonl")}
    for path in hidden:
        path.unlink()
    try:
        assert poise.score(run) == before, "task files and data are in the folder"
        monkeypatch.setattr(find, "find_spec", lambda name: None)
        kept = poise.summarize(run).cell(task="review_mood")
        assert kept["acc"] == before.cell(task="review_mood")["acc"], "scores that were kept need no package"
        again = poise.score(run).cell(task="review_mood")
        assert again["acc"].value is None and "pip install 'poise[lm-eval]'" in again["acc"].reason
    finally:
        for path, data in hidden.items():
            path.write_bytes(data)
    monkeypatch.undo()
    assert poise.score(run) == before


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_a_task_that_runs_code_needs_permission(folder, tmp_path):
    (tmp_path / "utils.py").write_text("def score(doc, results):\n    return {'acc': 1.0}\n")
    text = FILES["review_mood"].replace("reviews.jsonl", str(folder / "reviews.jsonl"))
    text = text.replace("shots.jsonl", str(folder / "shots.jsonl"))
    (tmp_path / "mine.yaml").write_text(text + "process_results: !function utils.score\n")
    study = {"models": ["bundled:s"], "deployments": ["onnx"], "tasks": [f"lm-eval:{tmp_path / 'mine.yaml'}"]}
    with pytest.raises(UsageError, match=r"would run code \(!function utils.score\); add --allow-code"):
        poise.plan(study)
    run = poise.run(study, tmp_path / "run", allow_code=True, quiet=True)
    assert poise.summarize(run).cells[0]["acc"].value == 1.0, "scored while it was allowed, and kept"
    assert "--allow-code" in poise.score(run).cells[0]["acc"].reason, "never by the folder alone"


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_a_template_reaches_no_further_than_its_document(folder, tmp_path):
    config = yaml.safe_load(FILES["review_mood"])
    config["dataset_kwargs"]["data_files"] = {
        k: str(folder / v) for k, v in (("test", "reviews.jsonl"), ("train", "shots.jsonl"))
    }
    config["doc_to_text"] = "{{ text.__class__.__mro__[1].__subclasses__() }}"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match="SecurityError"):
        poise.plan({"models": ["bundled:s"], "deployments": ["onnx"], "tasks": [f"lm-eval:{tmp_path / 'mine.yaml'}"]})


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_a_strangers_run_folder_runs_no_code(folder, tmp_path):
    """The configuration in a run folder is checked again before anything is made of it."""
    from poise.tasks.lmeval_score import LmEvalScorer

    config = {**yaml.safe_load(FILES["review_mood"]), "dataset_path": "./evil.py"}
    scoring = {"by": "lm-eval", "task": "x", "config": config, "metrics": {"acc": {"mean": True, "higher": True}}}
    task = get_task(f"lm-eval:{folder / 'review_mood.yaml'}")
    samples = {s.id: s for s in task.samples(None, {})}
    with pytest.raises(UsageError, match="would run code"):
        LmEvalScorer(scoring, samples)._task


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_chat_gives_its_messages(folder):
    task = get_task(f"lm-eval:{folder / 'review_mood.yaml'}")
    sample = next(iter(task.samples(None, {})))
    asked = task.asks(sample, "chat", None)
    roles = [m.role for m in asked["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert asked["messages"][0].content == "Is the review good or bad?\n\n"
    assert asked["messages"][-1].content == f"Review: {sample.fields['text']}\nSentiment:"
    assert asked["continuations"] == ("good", "bad", "not to be told") and asked["prompt"] is None


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_shots_and_settings_can_be_changed(folder):
    study = {"models": ["bundled:s"], "deployments": ["onnx"]}
    file = f"lm-eval:{folder / 'review_mood.yaml'}"
    [two], [none] = (poise.plan({**study, "tasks": [{"task": file, **more}]}).cells for more in ({}, {"shots": 0}))
    assert (two.task.shots, none.task.shots) == (2, 0) and two.id != none.id
    [sums] = poise.plan({**study, "tasks": [f"lm-eval:{folder / 'small_sums.yaml'}"]}).cells
    assert sums.generation.stop == ["\n", "Question:"] and sums.generation.max_tokens == 12
    more = {"task": f"lm-eval:{folder / 'small_sums.yaml'}", "generation": {"max_tokens": 5, "stop": []}}
    [other] = poise.plan({**study, "tasks": [more]}).cells
    assert other.generation.stop == [] and other.generation.max_tokens == 5
    with pytest.raises(UsageError, match="leave out --data"):
        poise.plan({**study, "tasks": [{"task": file, "data": "x"}]})
    with pytest.raises(UsageError, match="writes its prompts itself"):
        poise.plan({**study, "tasks": [{"task": file, "prompt": {"instruction": "x"}}]})
