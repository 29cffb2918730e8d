"""The library's ten names, as a notebook uses them."""

from pathlib import Path

import pytest

import poise
from poise.types import UsageError

STUDY = {
    "models": [{"name": "a", "source": {"api": "a"}}],
    "deployments": [{"backend": "scripted", "options": {"ttft_s": 0.01, "gap_s": 0.002}}],
    "tasks": [{"task": "deepmind-mathematics", "limit": 8}],
}


def test_ten_names() -> None:
    assert poise.__all__ == sorted(poise.__all__) and len(poise.__all__) == 11
    for name in poise.__all__:
        assert getattr(poise, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sumarize'"):
        poise.sumarize


def test_the_way_from_study_to_number(tmp_path: Path) -> None:
    study = poise.load_study(STUDY)
    assert "8 requests" in str(poise.plan(study))
    run = poise.run(study, tmp_path / "nb", quiet=True)
    summary = poise.summarize(run)
    estimate = summary.cell(model="a", task="deepmind-mathematics").estimates["e2e_s.mean"]
    assert estimate.n == 8 and estimate.lo is not None and estimate.lo <= estimate.value  # type: ignore[operator]
    with pytest.raises(KeyError, match="0 cells match"):
        summary.cell(model="b")
    assert poise.render(run, tmp_path / "r.md").read_text().startswith("#")
    assert poise.score(run) == summary
    frame = summary.frame()
    assert {"model", "task", "quantity", "value"} <= set(frame.columns)


def test_unknown_report_kind(tmp_path: Path) -> None:
    run = poise.run(STUDY, tmp_path / "nb", quiet=True)
    with pytest.raises(UsageError, match=r"there are: \.csv"):
        poise.render(run, tmp_path / "r.pdf")


def test_one_of_a_kind_is_singular() -> None:
    planned = str(poise.plan({**STUDY, "tasks": [{**STUDY["tasks"][0], "limit": 1}], "loads": [{"closed": [1, 8]}]}))
    assert planned.startswith("2 cells, 1 request, ") and ": 1 request, about 1 s\n" in planned
    assert ": not measurable: scripted takes one request at a time" in planned
