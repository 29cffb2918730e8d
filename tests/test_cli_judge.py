"""`poise judge` as a user meets it: one command over a finished run, one table, one sentence per mistake."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from test_cli import poise

from poise.measure.mock_answers import MockConfig
from poise.measure.mock_server import running
from poise.store.run import open_run

SAYS = "It is short and right. Rating: [[8]]"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scripted models that answered eight small conversations."""
    folder = tmp_path_factory.mktemp("judge")
    study = folder / "study.yaml"
    study.write_text(
        "models: [{name: a, source: {api: a}}, {name: b, source: {api: b}}]\n"
        "deployments: [{backend: scripted, options: {answers: {'*': Bob}}}]\n"
        "tasks: [{task: mini-chat, limit: 8}]\n"
    )
    done = poise("run", study, "-o", folder / "run", "-q")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_judge_marks_a_run(run_folder: Path, tmp_path: Path) -> None:
    command = ("judge", run_folder, "--judge", "j,k", "-b", "scripted", "-O", f'answers={{"*": "{SAYS}"}}')
    done = poise(*command, "-o", tmp_path / "judged", "-q")
    assert done.returncode == 0, done.stderr
    assert "j judged 32 answers to mini-chat" in " ".join(done.stdout.split()) and ".78" in done.stdout
    assert poise(*command, "-o", tmp_path / "judged", "-q").stdout == done.stdout  # resumes: nothing is left to ask
    summary = json.loads(poise("summary", run_folder, tmp_path / "judged", "--json").stdout)
    assert [c["estimates"]["judge.rating"]["value"] for c in summary["cells"][:2]] == [8, 8]
    assert {m["model"] for m in summary["models"]} == {"a", "b"}
    for suffix in (".html", ".md", ".csv"):
        assert poise("report", run_folder, tmp_path / "judged", "-o", tmp_path / f"r{suffix}").returncode == 0
    assert "judge.rating" in (tmp_path / "r.md").read_text()


def test_judge_compares_with_a_reference(run_folder: Path, tmp_path: Path) -> None:
    says = 'answers={"*": "Verdict: [[B]]"}'
    done = poise(
        "judge",
        run_folder,
        "--judge",
        "j",
        "-b",
        "scripted",
        "-O",
        says,
        "--reference",
        "a",
        "-o",
        tmp_path / "p",
        "-q",
    )
    assert done.returncode == 0, done.stderr
    assert "against a" in " ".join(done.stdout.split()) and "position_bias" in done.stdout
    assert "16 of 16 pairs got another verdict" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--judge", "j", "-b", "scripted", "--base-url", "http://127.0.0.1:9/v1"], "add -b openai"),
        (["--judge", "j", "-b", "scripted", "--mode", "marks"], "rubric or pairwise"),
        (["--judge", "j", "-b", "scripted", "--mode", "pairwise"], "needs a reference"),
        (["--judge", "j", "-b", "scripted", "--mode", "rubric", "--reference", "a"], "compares with nothing"),
        (["--judge", "j", "-b", "scripted", "--reference", "nobody"], "no model 'nobody'"),
        (["--judge", "j", "-b", "scripted", "-t", "mini-char"], "did you mean 'mini-chat'"),
        (["--judge", "j", "-b", "scripted", "--human", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_mistakes_are_said_in_a_sentence(run_folder: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    done = poise("judge", run_folder, *flags, "-o", tmp_path / "out")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    done = poise("judge", tmp_path, "--judge", "j", "-b", "scripted")
    assert done.returncode == 2 and "not a run folder" in done.stderr


def test_show_and_the_page_put_the_judges_words_beside_the_answers(run_folder: Path, tmp_path: Path) -> None:
    for name, says, more in (("rubric", SAYS, ()), ("pair", "So it is. Verdict: [[B]]", ("--reference", "a"))):
        command = ("judge", run_folder, "--judge", "j", "-b", "scripted", "-O", f'answers={{"*": "{says}"}}')
        assert poise(*command, *more, "-o", tmp_path / name, "-q").returncode == 0
    sample = poise("show", run_folder).stdout.split()[-1]
    alone = poise("show", run_folder, sample).stdout
    both = poise("show", run_folder, tmp_path / "rubric", tmp_path / "pair", sample).stdout
    assert "judge" not in alone
    assert both.count(SAYS) == both.count("j: 8 of 10") == 4  # two models, two turns
    assert both.count("j, shown first: loss") == both.count("j, shown second: win") == 2  # b's turns against a's
    assert "judge-mini-chat" not in poise("show", run_folder, tmp_path / "rubric").stdout
    assert poise("report", run_folder, tmp_path / "rubric", "-o", tmp_path / "r.html").returncode == 0
    assert "j: 8 of 10" in (tmp_path / "r.html").read_text() and SAYS in (tmp_path / "r.html").read_text()


def test_an_open_loop_with_retries(run_folder: Path, tmp_path: Path) -> None:
    async def judged() -> subprocess.CompletedProcess[str]:
        async with running(MockConfig(text=SAYS)) as (_, port):
            server = ("--base-url", f"http://127.0.0.1:{port}/v1", "--rate", "200", "--retries", "2")
            command = ("judge", run_folder, "--judge", "j", *server, "--limit", "3", "-o", tmp_path / "out", "-q")
            return await asyncio.to_thread(poise, *command)

    done = asyncio.run(judged())
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "out")
    [cell] = run.cells()
    assert (cell.cell.load.kind, cell.cell.load.value) == ("open", 200)
    asked = [r for r in cell.records() if r.phase == "measure"]
    assert len(asked) == 3 * 2 * 2 and all(r.due_ns is not None and r.status == "ok" for r in asked)
    assert run.manifest.study.retries == 2


def test_a_limit_counts_whole_conversations_and_can_be_raised(run_folder: Path, tmp_path: Path) -> None:
    command = ("judge", run_folder, "--judge", "j", "-b", "scripted", "--reference", "a", "-o", tmp_path / "p", "-q")
    asked = []
    for limit in (2, 3):
        assert poise(*command, "--limit", limit).returncode == 0
        [cell] = open_run(tmp_path / "p").cells()
        asked.append([record.request_id for record in cell.records() if record.phase == "measure"])
    assert len(asked[0]) == 2 * 2 * 2 and len(asked[1]) == 3 * 2 * 2  # b's answers: turns, orders
    assert asked[1][: len(asked[0])] == asked[0]
