"""README and docs say what is true: the examples run, and the terminal output is printed again from its run folder.

`POISE_UPDATE=1 pytest tests/test_readme.py` writes the output anew.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poise.plan.read import load_study
from poise.plan.sources import bundled_names

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BEGIN, END = "<!-- summary:begin -->\n", "<!-- summary:end -->"
DEMO = ROOT / "tests" / "data" / "demo_run"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def poise(*args: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "poise.cli", *args],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "COLUMNS": "100"}, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_terminal_output_is_what_the_command_prints(tmp_path: Path) -> None:
    import shutil

    if not DEMO.is_dir():
        pytest.skip("tests/data/demo_run is absent")
    shutil.copytree(DEMO, tmp_path / "demo_run")  # summaries are kept in the folder: not in the checkout's
    shown = BEGIN + "```\n" + poise("summary", str(tmp_path / "demo_run")).rstrip() + "\n```\n" + END
    before, rest = README.split(BEGIN)
    updated = before + shown + rest.split(END, 1)[1]
    if os.environ.get("POISE_UPDATE"):
        (ROOT / "README.md").write_text(updated, encoding="utf-8")
    assert updated == README


@pytest.mark.skipif(not bundled_names(), reason="no bundled models in this checkout")
def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stderr
    value, lo, hi = map(float, done.stdout.strip().splitlines()[-1].split())
    assert 0 <= lo <= value <= hi <= 1 and (tmp_path / "report.html").stat().st_size > 10_000


def test_the_studies_are_accepted(tmp_path: Path) -> None:
    studies = [text for text in blocks("yaml") if "models:" in text]
    studies += [t for t in blocks("yaml", (ROOT / "docs" / "study.md").read_text()) if "models:" in t]
    assert len(studies) >= 2
    for text in studies:
        assert load_study(yaml.safe_load(text), name="x").models


def test_the_commands_exist_with_these_flags() -> None:
    commands = [line.split("#")[0] for text in blocks("sh") for line in text.splitlines() if line.startswith("poise ")]
    assert len(commands) >= 6
    for command in commands:
        name, *rest = shlex.split(command)[1:]
        known = poise(name, "--help")
        for flag in (word for word in rest if word.startswith("-")):
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", known), f"{command!r}: no flag {flag}"


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"
