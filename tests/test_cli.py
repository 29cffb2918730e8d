"""The command line as a user meets it: real processes, real files, exit codes, one sentence per mistake."""

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from poise.cli_study import Flags, study_from_flags
from poise.store.run import open_run
from poise.types import UsageError

POISE = [sys.executable, "-m", "poise"]


def poise(
    *args: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*POISE, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
        timeout=120,
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two scripted systems over generated mathematics problems."""
    folder = tmp_path_factory.mktemp("cli")
    study = folder / "study.yaml"
    study.write_text(
        "models: [{name: a, source: {api: a}}, {name: b, source: {api: b}}]\n"
        "deployments: [{backend: scripted, options: {ttft_s: 0.01, gap_s: 0.002}}]\n"
        "tasks: [{task: deepmind-mathematics, limit: 12}]\n"
    )
    done = poise("run", study, "-o", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "balanced" in done.stdout and str(folder / "run") in done.stderr
    return folder / "run"


def test_summary_json_has_the_promised_shape(run_folder: Path) -> None:
    data = json.loads(poise("summary", run_folder, "--json").stdout)
    assert {c["model"] for c in data["cells"]} == {"a", "b"}
    for cell in data["cells"]:
        assert {"model", "deployment", "task", "load", "n", "failed", "estimates"} <= cell.keys()
        for name in ("math_equal", "ttft_s.p50", "ttft_s.p99", "tpot_s.p50", "e2e_s.mean", "e2e_s.p50", "system_tok_s",
                     "balanced", "mem_bytes.peak", "cpu_util.mean"):  # fmt: skip
            estimate = cell["estimates"][name]
            assert estimate.keys() == {"value", "lo", "hi", "n", "unit", "better", "method", "reason"}
            assert estimate["value"] is not None or estimate["reason"]
    assert {m["model"] for m in data["models"]} == {"a", "b"} and data["verdict"]["text"]


def test_generated_code_is_tested_without_a_sandbox_only_where_this_command_allows_it(tmp_path: Path) -> None:
    problem = {"task_id": "T/0", "prompt": "def one():\n", "canonical_solution": "    return 1\n", "entry_point": "one",
               "test": "def check(f):\n    assert f() == 1\n"}  # fmt: skip
    (tmp_path / "data.jsonl").write_text(json.dumps(problem) + "\n")
    (tmp_path / "answers.json").write_text(json.dumps({"*": "def one():\n    return 1\n"}))
    study = tmp_path / "study.yaml"
    study.write_text(
        "models: [{name: a, source: {api: a}}]\n"
        f"deployments: [{{backend: scripted, options: {{answers: {tmp_path}/answers.json}}}}]\n"
        f"tasks: [{{task: humaneval, data: {tmp_path}/data.jsonl}}]\n"
    )

    nothing = {"POISE_SANDBOX": "podman", "PATH": "/nonexistent"}

    def passed(*command: object) -> dict[str, Any]:
        done = poise(*command, folder, "--json", env=nothing)
        assert done.returncode == 0, done.stderr
        estimate: dict[str, Any] = json.loads(done.stdout)["cells"][0]["estimates"]["pass_at.1"]
        return estimate

    folder = tmp_path / "run"
    assert poise("run", "-q", study, "-o", folder, env=nothing).returncode == 0
    unscored = passed("summary")
    assert unscored["value"] is None and passed("score")["value"] is None
    assert passed("summary", "--unsafe-code")["value"] == 1
    assert passed("summary")["value"] == 1  # the verdict is kept; the permission is not
    assert passed("score")["value"] is None
    assert passed("score", "--unsafe-code")["value"] == 1


def test_derived_is_rebuilt_byte_for_byte(run_folder: Path) -> None:
    import shutil

    first = poise("summary", run_folder, "--json").stdout
    kept = {p.relative_to(run_folder): p.read_bytes() for p in (run_folder / "derived").rglob("*") if p.is_file()}
    shutil.rmtree(run_folder / "derived")
    assert poise("summary", run_folder, "--json").stdout == first
    again = {p.relative_to(run_folder): p.read_bytes() for p in (run_folder / "derived").rglob("*") if p.is_file()}
    assert kept and again == kept


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv", ".json"])
def test_reports(run_folder: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"x{suffix}"
    done = poise("report", run_folder, "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out) and out.stat().st_size > 500


def test_show_lists_samples_and_shows_one(run_folder: Path) -> None:
    listing = poise("show", run_folder)
    assert listing.returncode == 0, listing.stderr
    sample = next(iter((run_folder / "inputs").glob("*.targets.jsonl"))).read_text().splitlines()[0]
    name = json.loads(sample)["id"]
    assert name in listing.stdout
    one = poise("show", run_folder, name)
    assert one.returncode == 0 and json.loads(sample)["fields"]["question"][:20] in one.stdout


def test_several_folders_read_as_one(run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = poise("run", "-q", "-m", "x", "-b", "scripted", "-t", "deepmind-mathematics", "--limit", "12", "-o", other)
    assert done.returncode == 0, done.stderr
    data = json.loads(poise("summary", run_folder, other, "--json").stdout)
    assert {c["model"] for c in data["cells"]} == {"a", "b", "x"} and data["runs"] == ["run", "other"]


@pytest.mark.parametrize("command", ["summary", "report", "show", "score"])
def test_a_folder_given_twice_is_a_mistake(command: str, run_folder: Path) -> None:
    done = poise(command, run_folder, f"{run_folder}/../{run_folder.name}")
    assert done.returncode == 2 and "given twice" in done.stderr and len(done.stderr.splitlines()) == 1


def test_flags_make_the_study_that_plan_prints(tmp_path: Path) -> None:
    printed = poise("plan", "--yaml", "-m", "x,y", "-b", "scripted", "-t", "synthetic", "--batch", "2,4",
                    "--prompt-tokens", 9, "--max-tokens", 5, "--requests", 3)  # fmt: skip
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "s.yaml").write_text(printed.stdout)
    planned = json.loads(poise("plan", tmp_path / "s.yaml", "--json").stdout)
    assert planned["requests"] == 2 * 2 * 3
    assert {c["load"] for c in planned["cells"]} == {"batch 2", "batch 4"}


def test_sampling_by_flags_comes_last(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "{models: [{name: x, source: {api: x}}], deployments: [scripted], generation: {temperature: 0.2, draws: 5},"
        " overrides: [{when: {task: mini-qa}, generation: {temperature: 0.3, stop: [x]}}],"
        " tasks: [{task: mini-qa, limit: 3, generation: {draws: 4, top_p: 0.9}}]}"
    )
    done = poise("run", "-q", file, "--temperature", "0.7", "--draws", "2", "--deadline", "9", "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "r")
    asked = list(run.cells()[0].requests())
    assert {(r.temperature, r.top_p, r.stop, r.deadline_s) for r in asked} == {(0.7, 0.9, ("x",), 9.0)}
    assert sorted(r.draw for r in asked) == [0, 0, 0, 1, 1, 1]
    assert len({r.seed for r in asked}) == 6, "each draw has a seed of its own"
    wrong = poise("plan", file, "--temperature", "nan")
    assert wrong.returncode == 2 and wrong.stderr == "poise: command line: temperature: expected float >= 0.0\n"


@pytest.mark.parametrize(
    ("flags", "backend"),
    [
        (["-m", "bundled:s"], "onnx"),
        (["-m", "bundled:m,BUNDLED"], "transformers"),
        (["-m", "served", "--base-url", "http://127.0.0.1:9/v1"], "openai"),
    ],
)
def test_an_engine_that_nobody_names_is_the_usual_one(flags: list[str], backend: str) -> None:
    folder = str(files("poise") / "bundled" / "s")
    printed = poise("plan", "--yaml", *(flag.replace("BUNDLED", folder) for flag in flags), "-t", "mini")
    assert printed.returncode == 0, printed.stderr
    assert f"backend: {backend}\n" in printed.stdout


def test_what_a_server_calls_by_a_path_is_a_name_there(tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    for path in ("/models/llama", "./llama"):
        printed = poise("plan", "--yaml", "-m", path, "--base-url", "http://127.0.0.1:9/v1", "-t", "mini", cwd=tmp_path)
        assert printed.returncode == 0, printed.stderr
        assert f"- name: llama\n  source:\n    api: {path}\n" in printed.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "nothere.yaml"], "no study file nothere.yaml"),
        (["run", "-m", "a", "-b", "onx", "-t", "mini"], "did you mean 'onnx'"),
        (["run", "-m", "a"], "-t missing"),
        (["run", "-m", "a", "-b", "scripted", "-t", "mini", "--base-url", "http://127.0.0.1:9/v1"], "add -b openai"),
        (["run", "-m", "a", "-b", "scripted", "-t", "sst"], "did you mean 'sst2'"),
        (["run", "-m", "a", "-b", "scripted", "-t", "synthetic", "--batch", "two"], "'two' is not a number"),
        (["run", "-m", "a", "-b", "scripted", "-t", "synthetic", "-O", "gap=1"], "did you mean 'gap_s'"),
        (["run", "-m", "bundled:zzz", "-b", "onnx", "-t", "mini"], "no bundled model 'zzz'"),
        (["run", "-m", "m", "-b", "openai", "-t", "mini", "--base-url", "http://127.0.0.1:9/v1"], "127.0.0.1:9"),
        (["run", "-m", "m", "-b", "openai", "-t", "mini", "--base-url", "http://127.0.0.1:9/v1",
          "--key-env", "NO_SUCH"], "NO_SUCH"),
        (["summary", "nothere"], "no run folder nothere"),
        (["summary", "a" * 5000], "File name too long"),
        (["report", "nothere", "-o", "x.pdf"], ".pdf"),
        (["show", "nothere"], "no run folder"),
        (["run", "--limit", "0", "x.yaml"], "--limit"),
        (["frobnicate"], "frobnicate"),
    ],
)  # fmt: skip
def test_mistakes_end_with_2_and_one_sentence(args: list[str], words: str, tmp_path: Path) -> None:
    done = poise(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"backends": "onnx"}, "-b: with a study file"),
        ({"mode": "choice", "shots": 0}, "--mode, --shots: with a study file"),
        ({"task_options": ("a=b",), "data": ("x.tsv",)}, "--data, -T: with a study file"),
        ({"study": None, "deployments": "fast"}, "-d: selects deployments of a study file"),
        ({"study": None, "prompt_tokens": 9}, "--prompt-tokens: for the task synthetic alone"),
        ({"study": None, "data": ("mini-q=x.jsonl",)}, "no task 'mini-q' is asked; did you mean 'mini-qa'?"),
    ],
)
def test_a_flag_that_would_change_nothing_is_a_mistake(flags: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("{models: ['bundled:xs'], deployments: [onnx], tasks: [mini-qa]}")
    given = {"study": str(file)} | flags
    if given["study"] is None:
        given |= {"models": "bundled:xs", "tasks": "mini-qa"}
    with pytest.raises(UsageError, match=re.escape(words)):
        study_from_flags(Flags(**given))


def test_another_format_version_is_refused(run_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["format"] = 99
    (copy / "manifest.json").write_text(json.dumps(manifest))
    for command in (["summary", copy], ["run", run_folder.parent / "study.yaml", "-o", copy]):
        done = poise(*command)
        assert done.returncode == 2 and "format 99" in done.stderr


def test_a_failed_cell_is_exit_code_3(tmp_path: Path) -> None:
    done = poise(
        "run", "-q", "-m", "x", "-b", "scripted", "-t", "synthetic", "-O", "crash_after=3", "-o", tmp_path / "r"
    )
    assert done.returncode == 3, done.stderr
    cell: dict[str, Any] = json.loads(poise("summary", tmp_path / "r", "--json").stdout)["cells"][0]
    assert cell["state"] in ("failed", "partial") and "exit code 9" in cell["reason"]


def test_nothing_measurable_is_exit_code_2(tmp_path: Path) -> None:
    done = poise("run", "-m", "x", "-b", "scripted", "-t", "synthetic", "--concurrency", "8", "-o", tmp_path / "r")
    assert done.returncode == 2
    assert (
        done.stderr
        == "poise: nothing can be measured: scripted takes one request at a time; use closed: 1 or a batch\n"
    )


def test_what_cannot_be_measured_is_said_once_beside_what_can(tmp_path: Path) -> None:
    flags = ("-m", "x", "-b", "scripted", "-t", "mini-sentiment", "--limit", "1", "--concurrency", "1,8")
    planned = poise("plan", *flags, env={"COLUMNS": "300"}).stdout
    assert planned.startswith("2 cells, 1 request, ") and planned.count("not measurable: scripted takes one") == 1
    assert poise("run", "-q", *flags, "-o", tmp_path / "r").returncode == 0
    summary = poise("summary", tmp_path / "r", env={"COLUMNS": "300"}).stdout
    assert summary.count("not measurable: scripted takes one") == 1 and summary.count("not measurable") == 1


def test_imports_stay_light() -> None:
    code = (
        "import sys, poise, poise.cli\n"
        "heavy = {'torch', 'transformers', 'scipy', 'altair', 'numpy', 'sacrebleu', 'sympy', 'onnxruntime_genai',\n"
        "         'rich', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_is_described_with_an_item(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "2 and 3?", "answer": "2 + 3 = 5\\n#### 5"}\n')
    told = json.loads(poise("tasks", "gsm8k", "--data", str(tmp_path / "q.jsonl"), "--shots", "1", "--json").stdout)
    assert told["item"]["target"] == "5" and told["item"]["prompt"].endswith("Question: 2 and 3?\nAnswer:")
    assert told["item"]["prompt"].startswith(told["instruction"] + "\n\nQuestion: Lena")
    assert told["tau"].startswith("conversational: 12 s") and told["extract"] == "final_number"
    assert poise("tasks", "gsm8k").stdout.endswith("--data PATH shows how an item is asked\n")
    assert "target:" in poise("tasks", "mini-qa").stdout
    wrong = poise("tasks", "gsm8k", "--data", tmp_path / "none")
    assert wrong.returncode == 2 and "no file or folder" in wrong.stderr
    group = poise("tasks", "mini")
    assert group.returncode == 2 and "is a group: mini-sentiment" in group.stderr


def test_a_balanced_draw_by_flag(tmp_path: Path) -> None:
    rows = [f"text {i}\t{int(i % 5 == 0)}" for i in range(30)]
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\n" + "\n".join(rows) + "\n")
    drawn = ["-t", "sst2", "--data", tmp_path / "dev.tsv", "--limit", 8, "--balance", "label"]
    done = poise("run", "-q", "-m", "x", "-b", "scripted", *drawn, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    [kept] = (tmp_path / "run" / "inputs").glob("*.targets.jsonl")
    items = [json.loads(line) for line in kept.read_text().splitlines()]
    assert sorted(item["target"] for item in items) == ["negative"] * 4 + ["positive"] * 4
    outputs = [json.dumps({"id": item["id"], "output": item["target"]}) for item in items]
    (tmp_path / "out.jsonl").write_text("\n".join(outputs))
    scored = json.loads(poise("score", tmp_path / "out.jsonl", *drawn, "--json").stdout)
    assert scored["cells"][0]["estimates"]["accuracy"]["value"] == 1 and scored["cells"][0]["n"] == 8


def test_tasks_are_listed_at_the_width_there_is() -> None:
    listed = poise("tasks", env={"COLUMNS": "70"}).stdout.splitlines()
    names = {task["name"] for task in json.loads(poise("tasks", "--json").stdout)["tasks"]}
    assert names <= {line.split()[0] for line in listed if line.strip()} and {"sst2", "mini-qa"} <= names
    assert max(map(len, listed)) <= 70
