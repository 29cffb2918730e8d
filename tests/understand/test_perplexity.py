"""Perplexity end to end: a text file, an engine's log-probabilities, the published formula."""

import math

import pytest

import poise

LOGPROBS = [math.log(p) for p in (0.1, 0.7, 0.2)]


def test_perplexity_of_a_run(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("one two three\n")
    (tmp_path / "text/b.txt").write_text("four five\n")
    study = poise.load_study(
        {
            "name": "p",
            "models": [{"name": "m", "source": {"api": "m"}, "format": "raw"}],
            "deployments": [{"backend": "scripted", "options": {"logprobs": {"*": [LOGPROBS]}}}],
            "tasks": [{"task": "perplexity", "data": str(tmp_path / "text"), "mode": "perplexity"}],
        }
    )
    run = poise.run(study, str(tmp_path / "run"))
    [cell] = poise.summarize(run).cells
    found = cell.estimates["perplexity.token"]
    assert found.value == pytest.approx(4.1491, abs=5e-5) and found.n == 2
    # 4 + 3 words with the ends of lines, 14 + 10 bytes; 6 tokens in all.
    assert cell.estimates["perplexity.word"].value == pytest.approx(0.014 ** (-2 / 7))
    assert cell.estimates["bits_per_byte"].value == pytest.approx(-2 * math.log2(0.014) / 24)
    assert cell.estimates["quality"].value is None
