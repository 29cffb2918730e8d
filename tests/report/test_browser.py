"""The page in a real browser: nothing is reported on its console, nothing breaks its policy, nothing overflows."""

import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.slow,
]


def browse(path, profile, *flags) -> subprocess.CompletedProcess[str]:
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--hide-scrollbars", f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *flags, path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if "CONSOLE" in line or "Content Security Policy" in line]


def test_no_complaint_and_the_style_applies(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page)
    result = browse(path, tmp_path / "profile", "--dump-dom", "--window-size=1200,900")
    assert complaints(result.stderr) == []
    assert '<h2 id="results">' in result.stdout


def test_a_broken_policy_would_be_noticed(page, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(re.sub(r"sha256-\S+?'", "sha256-AAAA'", page, count=1))
    assert complaints(browse(path, tmp_path / "profile", "--dump-dom").stderr)
