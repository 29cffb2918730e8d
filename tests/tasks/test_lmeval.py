"""Tasks of lm-evaluation-harness: found by name, asked as it asks, and scored to its own run's figures."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

import poise
from poise.tasks import lmeval_find as find
from poise.tasks import lmeval_groups as groups
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
LONG = """
include: review_mood.yaml
task: long_reviews
num_fewshot: 0
dataset_kwargs: {data_files: {test: long.jsonl}}
fewshot_split: null
"""
LONG_SUMS = """
include: small_sums.yaml
task: long_sums
dataset_kwargs: {data_files: {test: long_sums.jsonl}}
"""
BOTH = """
group: both
description: "Good or bad?\\n\\n"
task:
  - {task: review_mood, num_fewshot: 0}
  - group: inner
    aggregate_metric_list: [{metric: exact_match, filter_list: strict-match}, {metric: exact_match}]
    task: [{task: small_sums, generation_kwargs: {until: ["\\n"], max_gen_toks: 3, do_sample: false}}]
  - task: own_mood
    dataset_path: json
    dataset_kwargs: {data_files: {test: shots.jsonl}}
    test_split: test
    output_type: multiple_choice
    doc_to_text: "{{text}}"
    doc_to_choice: [good, bad]
    doc_to_target: label
    metric_list: [{metric: acc}, {metric: acc_norm}]
  - cloze
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_norm, weight_by_size: false}
"""
MORE = {"long_reviews": LONG, "long_sums": LONG_SUMS, "both": BOTH}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Task files over local data: what a user of the harness has."""
    home = tmp_path_factory.mktemp("lmeval")
    for name, text in {**FILES, **MORE}.items():
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
    # some fit into the context of 1024 tokens, some not, some by a token or two
    tails = [" ".join(row["text"] for row in rows) * 3 + " " + row["text"] for row in rows[:12]]
    write(home / "long.jsonl", [{**row, "text": t[-900 * i :]} for i, (t, row) in enumerate(zip(tails, rows), 1)])
    write(
        home / "long_sums.jsonl", [{"question": "7 " * 300 * i + p, "answer": "3"} for i, p in enumerate(prompts[:5])]
    )
    return home


# ---------------------------------------------------------------- found without the package


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Stands for the package's folder of tasks."""
    monkeypatch.setattr(find, "home", lambda: tmp_path)
    find.installed.cache_clear()
    yield tmp_path
    find.installed.cache_clear()


def test_a_task_is_found_by_its_name(installed):
    (installed / "deep").mkdir()
    (installed / "deep/arc_easy.yaml").write_text("tag: [science, grade_school]\ntask: arc_easy\n")
    (installed / "other.yaml").write_text('"tag":\n- "science"\n"task": "arc-hard"  # not the file\'s name\n')
    (installed / "group.yaml").write_text("group: arc\ntask:\n  - arc_easy\n  - group: inner\n    task: [arc-hard]\n")
    (installed / "base_yaml").write_text("tag: science\ninclude: base_yaml\n")
    (installed / "third.yaml").write_text("include: base_yaml\ntask: third\n")
    assert find.file_of("arc_easy").name == "arc_easy.yaml"
    assert find.file_of("arc-hard").name == "other.yaml"
    assert expand_group("lm-eval:arc_easy") == ["lm-eval:arc_easy"]
    assert expand_group("lm-eval:arc") == ["lm-eval:arc_easy", "lm-eval:arc-hard"]
    assert expand_group("lm-eval:science") == ["lm-eval:arc-hard", "lm-eval:arc_easy", "lm-eval:third"]
    with pytest.raises(UsageError, match="did you mean 'arc_easy'"):
        find.file_of("arc_esay")
    study = {"models": ["bundled:s"], "deployments": ["onnx"], "tasks": ["lm-eval:arc"]}
    assert [t.name for t in poise.load_study(study).tasks] == ["arc_easy", "arc-hard"]


def test_a_group_gives_its_tasks_their_settings(installed):
    """What an entry says wins, then the outer group, then the inner one; groups may be files, tags, or written here."""
    for name in "abc":
        (installed / f"{name}.yaml").write_text(f"tag: letters\ntask: {name}\nnum_fewshot: 1\n")
    (installed / "inner.yaml").write_text(
        "group: inner\ntask: [{task: a, num_fewshot: 5, description: x}, b]\nnum_fewshot: 3\n"
        "aggregate_metric_list: {metric: acc, weight_by_size: false, filter_list: none}\n"
    )
    (installed / "loop.yaml").write_text("group: loop\ntask: [loop]\nnum_fewshot: 1\n")
    outer = {
        "group": "outer",
        "task": [
            {"group": "inner", "description": "y"},
            {"group": "here", "task": ["c"], "aggregate_metric_list": [{"metric": "acc"}, {"metric": "f1"}]},
            {"task": "own", "dataset_path": "json"},
            {"task": "letters", "num_fewshot": 0},
        ],
    }
    (installed / "outer.yaml").write_text(yaml.safe_dump(outer))
    names = expand_group("lm-eval:outer")
    assert names == [f"lm-eval:outer::{n}" for n in ("inner::a", "inner::b", "here::c", "own", "a", "b", "c")]
    found = {n.removeprefix("lm-eval:"): groups.find(n.removeprefix("lm-eval:")) for n in names}
    assert found["outer::inner::a"].changes == {"num_fewshot": 5, "description": "x"}
    assert [found[f"outer::inner::{n}"].changes["num_fewshot"] for n in "ab"] == [5, 3]
    assert found["outer::own"] == groups.Found(
        "outer::own", None, {"dataset_path": "json", "task": "outer::own"}, ({"name": "outer", "aggregate": []},)
    )
    assert found["outer::a"].changes == {"num_fewshot": 0} and found["outer::a"].path == installed / "a.yaml"
    assert [g["name"] for g in found["outer::here::c"].groups] == ["outer", "outer::here"]
    means = [{"metric": "acc", "filters": ["none"], "by_size": False}]
    assert found["outer::inner::b"].groups[1] == {"name": "inner", "aggregate": means}
    study = {"models": ["bundled:s"], "deployments": ["onnx"], "tasks": ["lm-eval:outer"]}
    twice = ["outer::inner::a", "outer::inner::b", "outer::here::c", "own", "outer::a", "outer::b", "outer::c"]
    assert [t.name for t in poise.load_study(study).tasks] == twice, "a name that stands twice is given whole"
    with pytest.raises(UsageError, match="includes itself"):
        expand_group("lm-eval:loop")
    for text, said in [
        ("task: [inmer]", "no task 'inmer'; did you mean 'inner'"),
        ("task: [3]", "lists 3; a task or a group"),
        ("task: [a]\naggregate_metric_list: [{metric: acc, aggregation: !function x.y}]", "aggregates acc by code"),
        ("task: [a]\naggregate_metric_list: [acc]", "aggregates 'acc'; a `metric`"),
    ]:
        (installed / "bad.yaml").write_text(f"group: bad\n{text}\n")
        with pytest.raises(UsageError, match=said):
            expand_group("lm-eval:bad")


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
folder, calls = sys.argv[1], json.loads(sys.argv[2])
manager = TaskManager(include_path=folder, include_defaults=False)  # its own 14 000 files take a minute to read
found = []
for call in calls:
    said = lm_eval.simple_evaluate(
        model="hf", model_args={"pretrained": call.pop("model"), "dtype": "float32"}, task_manager=manager,
        batch_size=4, device="cpu", bootstrap_iters=0, **call,
    )
    found.append([{**said["results"], **said.get("groups", {})}, said["samples"]])
print("RESULTS" + json.dumps(found, default=str))
"""
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
CHAT = ["review_mood", "small_sums", "cloze", "long_reviews"]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """A bundled model to which a chat template was added; it ends in a blank, as most do."""
    copy = tmp_path_factory.mktemp("chat") / "s-chat"
    shutil.copytree(BUNDLED / "s", copy, ignore=shutil.ignore_patterns("onnx"))
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    return copy


@pytest.fixture(scope="module")
def theirs(folder, chatty):
    """[figures, samples] of the harness's own model class and evaluator, in a process of its own on the same files."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    raw = {"model": str(BUNDLED / "s")}
    chat = {"model": str(chatty), "apply_chat_template": True, "system_instruction": "Be brief."}
    calls = [
        {**raw, "tasks": [*FILES, "long_reviews", "long_sums"]},
        {**raw, "tasks": ["both"]},
        {**chat, "tasks": CHAT, "fewshot_as_multiturn": True},
    ]
    command = [sys.executable, "-c", DIRECTLY, str(folder), json.dumps(calls)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(["raw", "group", "chat"], json.loads(done.stdout.rpartition("RESULTS")[2])))


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


def same(estimates, figures):
    """Every figure of the harness's, under its name here."""
    for key, value in figures.items():
        metric, _, kind = key.partition(",")
        if not kind or metric.endswith("_stderr"):
            continue
        found = estimates[metric if kind == "none" else f"{metric}.{kind}"].value
        assert found == pytest.approx(value, rel=1e-4), key
        if metric in ("acc", "acc_norm", "exact_match", "f1"):
            assert found == pytest.approx(value, abs=1e-12), "right or wrong has no tolerance"


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("engine", "load"), [("transformers", {"batch": 4}), ("onnx", {"closed": 1})])
def test_prompts_too_long_for_the_context_are_cut_as_there(engine, load, theirs, folder, tmp_path):
    figures, logged = theirs["raw"]
    study = {
        "models": ["bundled:s"],
        "deployments": [{"backend": engine, "device": "cpu"}],
        "tasks": [f"lm-eval:{folder / name}.yaml" for name in ("long_reviews", "long_sums")],
        "loads": [load],
    }
    run = poise.run(study, tmp_path / "run", quiet=True)
    summary = poise.summarize(run)
    for folder_of in run.cells():
        name = folder_of.cell.task.name
        cell = summary.cell(task=name)
        assert cell.failed == 0
        same(cell.estimates, figures[name])
        records = {r.sample_id: r for r in folder_of.records() if r.phase == "measure"}
        cut = [r.usage["cut_tokens"] for r in records.values() if "cut_tokens" in r.usage]
        assert 0 < len(cut) < len(records), "else this test would mean little"
        [check] = [c for c in cell.checks if c.code == "prompts_cut"]
        assert check.evidence.startswith(f"{len(cut)} of {len(records)} prompts were cut on the left")
        for sample in logged[name]:
            record = records[str(sample["doc_id"])]
            if record.option_logprobs:
                sums = [float(r[0][0]) for r in sample["resps"]]
                assert [sum(o) for o in record.option_logprobs] == pytest.approx(sums, abs=2e-3)
            else:
                assert "".join(record.pieces) == sample["resps"][0][0]


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_tasks_of_the_package_have_its_figures(tmp_path):
    """`benchmarks/lm_eval_tasks.py`: arc, hellaswag, piqa, boolq, lambada, gsm8k, wikitext, mmlu … over local rows."""
    path = Path(__file__).parents[2] / "benchmarks/lm_eval_tasks.py"
    spec = spec_from_file_location("lm_eval_tasks", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    group = module.write(tmp_path, 8)
    given = module.theirs(tmp_path, BUNDLED / "s")
    rows = module.compared(given, module.ours(group, "bundled:s", "onnx", tmp_path / "run"))
    assert {task for task, *_ in rows} == {*module.TASKS, "twelve"}
    for task, metric, a, b in rows:
        assert b == pytest.approx(a, rel=1e-4), (task, metric)


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_a_group_is_asked_and_averaged_as_there(theirs, folder, tmp_path):
    figures, _ = theirs["group"]
    study = {"models": ["bundled:s"], "deployments": ["onnx"], "tasks": [f"lm-eval:{folder / 'both.yaml'}"]}
    run = poise.run(study, tmp_path / "run", quiet=True)
    summary = poise.summarize(run)
    names = {"review_mood": "review_mood", "small_sums": "small_sums", "both::own_mood": "own_mood", "cloze": "cloze"}
    assert {c.task for c in summary.cells} == set(names.values())
    for theirs_is, ours_is in names.items():
        same(summary.cell(task=ours_is).estimates, figures[theirs_is])
    [system] = summary.models
    assert set(system.groups) == {"both", "both::inner"}
    same(system.groups["both"], {k: v for k, v in figures["both"].items() if k != "sample_len"})
    same(system.groups["both::inner"], {k: v for k, v in figures["both::inner"].items() if k != "sample_len"})
    acc = system.groups["both"]["acc"]
    assert acc.lo < acc.value < acc.hi and acc.n == sum(c.n for c in summary.cells if "acc" in c.estimates)
    by_hand = sum(c.n * c["acc"].value for c in summary.cells if "acc" in c.estimates) / acc.n
    assert acc.value == pytest.approx(by_hand) and acc.value != pytest.approx(system.groups["both"]["acc_norm"].value)
    poise.render(run, tmp_path / "page.md")
    assert f"| both acc | {acc.value:.3f}"[:18] in (tmp_path / "page.md").read_text()


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_a_chat_template_is_applied_as_there(theirs, folder, chatty, tmp_path):
    """`--apply_chat_template --fewshot_as_multiturn --system_instruction`: the same text, the same scores."""
    figures, logged = theirs["chat"]
    study = {
        "models": [{"name": "chatty", "source": {"hf": str(chatty)}, "system": "Be brief."}],
        "deployments": [{"backend": "transformers", "device": "cpu"}],
        "tasks": [f"lm-eval:{folder / name}.yaml" for name in CHAT],
    }
    run = poise.run(study, tmp_path / "run", quiet=True)
    summary = poise.summarize(run)
    for folder_of in run.cells():
        name = folder_of.cell.task.name
        same(summary.cell(task=name).estimates, figures[name])
        records = {r.sample_id: r for r in folder_of.records() if r.phase == "measure"}
        for sample in logged[name]:
            record = records[str(sample["doc_id"])]
            assert record.rendered == sample["arguments"][0][0]
            if record.option_logprobs:
                sums = [float(r[0][0]) for r in sample["resps"]]
                assert [sum(o) for o in record.option_logprobs] == pytest.approx(sums, abs=2e-3)


@needs_package
@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("engine", "load"), [("transformers", {"closed": 1}), ("transformers", {"batch": 8}), ("onnx", {"closed": 1})]
)
def test_the_figures_are_those_of_its_own_run(engine, load, theirs, ours, folder):
    figures, logged = theirs["raw"]
    run = ours(engine, load)
    summary = poise.summarize(run)
    for name in FILES:
        cell = summary.cell(task=name)
        assert cell.state == "ok" and cell["e2e_s.p50"].value > 0, "every request has its time"
        same(cell.estimates, figures[name])
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
    code = (
        "def score(doc, results):\n    return {'acc': 1.0, 'pair': 3}\n\n\ndef total(items):\n    return sum(items)\n"
    )
    (tmp_path / "utils.py").write_text(code)
    text = FILES["review_mood"].replace("reviews.jsonl", str(folder / "reviews.jsonl"))
    text = text.replace("shots.jsonl", str(folder / "shots.jsonl"))
    text += "  - {metric: pair, aggregation: !function utils.total}\nprocess_results: !function utils.score\n"
    (tmp_path / "mine.yaml").write_text(text)
    study = {"models": ["bundled:s"], "deployments": ["onnx"], "tasks": [f"lm-eval:{tmp_path / 'mine.yaml'}"]}
    with pytest.raises(UsageError, match=r"would run code \(!function utils.*; add --allow-code"):
        poise.plan(study)
    run = poise.run(study, tmp_path / "run", allow_code=True, quiet=True)
    first = poise.summarize(run).cells[0]
    assert first["acc"].value == 1.0, "scored while it was allowed, and kept"
    assert first["pair"].value is None and "poise score RUN --allow-code" in first["pair"].reason
    assert "--allow-code" in poise.score(run).cells[0]["acc"].reason, "never by the folder alone"
    allowed = poise.score(run, allow_code=True).cells[0]
    assert allowed["acc"].value == 1.0 and allowed["pair"].value == 120.0
    (tmp_path / "utils.py").unlink()
    assert poise.summarize(run).cells[0].estimates == allowed.estimates, "what the code said is kept"


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
