"""Summaries of whole folders: the golden one, states, merging, determinism, what JSON and frames show."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import asked, cell, ns, write_run

from poise.plan.spec import Analysis, Deployment, Load, Price
from poise.store.run import Segment, open_run
from poise.types import Summary, UsageError
from poise.understand.glance import glance
from poise.understand.summarize import summarize, to_json

DATA = Path(__file__).parents[1] / "data"


def close(got: Any, wanted: Any, where: str = "") -> None:
    """Equal structure and words; numbers to nine digits, since machines sum in different orders."""
    if isinstance(wanted, dict):
        assert list(got) == list(wanted), where
        for key in wanted:
            close(got[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), where
        for i, (a, b) in enumerate(zip(got, wanted)):
            close(a, b, f"{where}[{i}]")
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-9, abs=1e-12), where
    else:
        assert got == wanted, where


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "golden_run", tmp_path / "golden_run"))


def test_the_golden_folder(golden: Path) -> None:
    close(json.loads(to_json(summarize(golden))), json.loads((DATA / "golden_summary.json").read_bytes()))


def test_golden_numbers_by_other_means(golden: Path) -> None:
    """The golden summary is no mere snapshot: its main numbers recomputed from the raw lines."""
    summary = summarize(golden)
    raw = [
        json.loads(line) for line in (golden / "cells/big-onnx-sums-closed1-r0/records.jsonl").read_text().splitlines()
    ]
    ends = np.array([sum(r["timeline"]["chunk_deltas_ns"]) for r in raw]) / 1e9
    firsts = np.array([r["timeline"]["chunk_deltas_ns"][0] for r in raw]) / 1e9
    cell = summary.cell(model="big", task="sums").estimates
    assert cell["e2e_s.p50"].value == pytest.approx(np.median(ends))
    assert cell["e2e_s.mean"].value == pytest.approx(ends.mean())
    assert cell["ttft_s.p90"].value == pytest.approx(np.quantile(firsts, 0.9))
    assert cell["tpot_s.mean"].value == pytest.approx(np.mean((ends - firsts) / 4))
    assert cell["exact_match"].value == pytest.approx(11 / 12)
    start = raw[0]["timeline"]["sent_ns"]
    wall = raw[-1]["timeline"]["sent_ns"] + raw[-1]["timeline"]["done_ns"] - start
    assert cell["system_tok_s"].value == pytest.approx(sum(r["output_tokens"] for r in raw) / (wall / 1e9))
    # B by METRICS §4: c = 0, τ = .5 + .03·3 (interactive, three tokens)
    speed = np.mean(0.59 / (0.59 + ends))
    assert cell["balanced"].value == pytest.approx(100 * np.sqrt(11 / 12 * speed))

    labels = summary.cell(model="big", task="sentiment")
    accuracy = labels.estimates["accuracy"]
    ci = stats.binomtest(10, 12).proportion_ci(method="wilson")  # the failed and the late one count as wrong
    assert (accuracy.value, accuracy.lo, accuracy.hi) == pytest.approx((10 / 12, ci.low, ci.high))
    assert labels.failures == {"reset": 1, "timeout": 1} and labels.failed == 2
    assert labels.estimates["e2e_s.p99"].value == np.inf and labels.estimates["e2e_s.mean"].n == 10
    assert labels.estimates["f1.macro"].value == pytest.approx((10 / 11 + 10 / 11) / 2)
    assert labels.tables["confusion"]["counts"] == [[5, 0, 1], [0, 5, 1]]
    assert labels.groups["length=short"]["accuracy"].value == 1.0
    assert labels.groups["length=long"]["accuracy"].value == pytest.approx(4 / 6)


def test_derived_is_rebuilt_byte_for_byte(golden: Path) -> None:
    first = to_json(summarize(golden))
    kept = {p: p.read_bytes() for p in sorted((golden / "derived").rglob("*")) if p.is_file()}
    assert (golden / "derived" / "summary.json").read_bytes() == first and len(kept) == 5
    assert to_json(summarize(golden)) == first, "through the cache"
    shutil.rmtree(golden / "derived")
    assert to_json(summarize(golden)) == first
    assert {p: p.read_bytes() for p in kept} == kept


def test_no_clock_no_path_and_only_finite_numbers(golden: Path, tmp_path: Path) -> None:
    text = to_json(summarize(golden))
    assert str(tmp_path).encode() not in text
    assert b"Infinity" not in text and b"NaN" not in text
    elsewhere = Path(shutil.copytree(golden, tmp_path / "other" / "golden_run"))
    assert to_json(summarize(elsewhere)) == text
    data = json.loads(text)
    late = data["cells"][2]["estimates"]["e2e_s.p99"]
    assert late["value"] is None and late["reason"] == "infinite: 1 of 11 timed out"


def test_a_folder_that_cannot_be_written_to_can_be_read(golden: Path) -> None:
    (golden / "derived").write_text("a file where the folder should be")
    assert summarize(golden).cells[0].n == 12


def test_nothing_is_written_outside_the_folder(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (golden / "derived").symlink_to(tmp_path / "elsewhere")
    assert summarize(golden).cells[0].n == 12
    assert list((tmp_path / "elsewhere").iterdir()) == []


def one(path: Path, model: str = "m", deployment: str = "d", answers: str = "xxxy", **more: Any) -> Path:
    items = [asked(f"i{i}", "x", a, sent_s=10.0 * i, e2e_s=1.0 + i) for i, a in enumerate(answers)]
    return write_run(path, [cell(model, "t", items, deployment=deployment, **more)])


def test_runs_merge_and_collisions_are_told_apart(tmp_path: Path) -> None:
    a, b = one(tmp_path / "laptop"), one(tmp_path / "server", answers="xxxx")
    c = one(tmp_path / "cloud", deployment="api")
    summary = summarize([a, open_run(b), str(c)])
    assert summary.runs == ["laptop", "server", "cloud"]
    assert [x.deployment for x in summary.cells] == ["d@laptop", "d@server", "api"]
    assert [x.deployment for x in summary.models] == ["d@laptop", "d@server", "api"]
    assert summary.cell(deployment="d@server")["quality"].value == 1.0
    with pytest.raises(KeyError, match="there are: exact_match"):
        summary.cells[0]["exact"]
    assert not (a / "derived" / "summary.json").exists()


def test_merged_runs_are_read_by_the_first_ones_rule(tmp_path: Path) -> None:
    def run(name: str, tau: float) -> Path:
        items = [asked("i", "x", "x", e2e_s=1.0)]
        return write_run(tmp_path / name, [cell("m", "t", items, deployment=name)], analysis=Analysis(tau=tau))

    a, b = run("a", 1.0), run("b", 99.0)
    assert [m.speed.value for m in summarize([a, b]).models] == pytest.approx([0.5, 0.5])
    assert [m.speed.value for m in summarize([b, a]).models] == pytest.approx([0.99, 0.99])


def test_two_folders_of_one_name(tmp_path: Path) -> None:
    summary = summarize([one(tmp_path / "x" / "run"), one(tmp_path / "y" / "run")])
    assert summary.runs == ["run", "run#2"]
    assert [x.deployment for x in summary.cells] == ["d@run", "d@run#2"]


def test_repeats_are_pooled(tmp_path: Path) -> None:
    def repeat(number: int, seconds: float) -> Any:
        items = [asked(f"i{i}", "x", "x", sent_s=5.0 * i, e2e_s=seconds, output_tokens=10) for i in range(4)]
        return cell("m", "t", items, repeat=number)

    found = summarize(write_run(tmp_path / "run", [repeat(0, 1.0), repeat(1, 3.0)])).cells
    assert len(found) == 1
    got = found[0]
    assert (got.repeats, got.planned, got.n) == (2, 8, 8)
    mean = got.estimates["e2e_s.mean"]
    half = 1.959964 * np.sqrt(np.var([1, 3], ddof=1) / 2)  # items averaged first; the two runs differ
    assert mean.value == 2.0 and mean.n == 4 and (mean.lo, mean.hi) == pytest.approx((2 - half, 2 + half))
    rates = [40 / 16, 40 / 18]
    speed = got.estimates["system_tok_s"]
    assert speed.value == pytest.approx(np.mean(rates)) and speed.n == 2
    assert (speed.lo, speed.hi) == pytest.approx(stats.t.interval(0.95, 1, loc=np.mean(rates), scale=stats.sem(rates)))


def state(path: Path, *specs: Any) -> Any:
    found = summarize(write_run(path / "run", list(specs))).cells[0]
    return found.state, found.reason


def test_states(tmp_path: Path) -> None:
    items = [asked("a", "x", "x", e2e_s=1.0)]
    crash = [Segment("start", 0, ns(0), 0), Segment("end", 0, ns(2), 0, error="the engine died: signal 9")]
    assert state(tmp_path / "1", cell("m", "t", items)) == ("ok", None)
    assert state(tmp_path / "2", cell("m", "t", items, planned=3)) == ("partial", "1 of 3 requests done")
    died = ("failed", "the engine died: signal 9 (1 of 3 requests done)")
    assert state(tmp_path / "3", cell("m", "t", items, planned=3, segments=crash)) == died
    lost = [asked("a", "x", status="error", kind="connect")]
    assert state(tmp_path / "4", cell("m", "t", lost)) == ("failed", "every request failed, most often: connect")
    no = cell("m", "t", [], planned=3, state="not_measurable", reason="tgi gives no prompt log-probabilities")
    assert state(tmp_path / "5", no) == ("not_measurable", "tgi gives no prompt log-probabilities")


def test_what_is_not_measurable_says_why(tmp_path: Path) -> None:
    found = summarize(one(tmp_path / "run")).cells[0].estimates
    for name in ("ttft_s.p50", "wait_s.p99", "system_tok_s", "mem_bytes.peak", "energy_j", "load_s", "batch_s"):
        assert found[name].value is None and found[name].reason, name
    nothing = cell("m", "t", [], planned=3, state="not_measurable", reason="no such engine here")
    found = summarize(write_run(tmp_path / "n", [nothing])).cells[0].estimates
    assert {e.reason for e in found.values() if e.value is None} >= {"no such engine here"}
    assert all(e.value is None for e in found.values())
    ranked = [asked(i, "b", done_s=1, option_logprobs=[[-1.0], [-2.0]], choices=("a", "b")) for i in "pq"]
    choice = cell("m", "t", ranked, mode="choice", metrics=("accuracy",), chance=0.5)
    found = summarize(write_run(tmp_path / "c", [choice])).cells[0].estimates
    assert found["ttft_s.p50"].reason == "choice items have no first token"
    assert found["e2e_s.mean"].value == 1.0


def test_a_system_that_lacks_a_task_has_no_score(tmp_path: Path) -> None:
    def items() -> list[Any]:
        return [asked(f"i{i}", "x", "x", sent_s=2.0 * i, e2e_s=1.0) for i in range(4)]

    crash = [Segment("end", 0, ns(2), 0, error="out of memory")]
    summary = summarize(
        write_run(
            tmp_path / "run",
            [
                cell("a", "t", items()),
                cell("a", "u", items()),
                cell("b", "t", items()),
                cell("b", "u", [], planned=4, segments=crash),
            ],
        )
    )
    a, b = summary.models
    assert a.balanced.value is not None and b.balanced.value is None
    assert "no score on u: out of memory" in (b.balanced.reason or "")
    assert list(b.tasks) == ["t"] and b.tasks["t"]["balanced"].value is not None
    assert "not compared: b" in summary.verdict.text


def test_slo_and_price(tmp_path: Path) -> None:
    items = [
        asked("a", "x", ["x", " "], sent_s=0, at_s=[0.5, 1.0], output_tokens=2, usage={"prompt_tokens": 1000}),
        asked("b", "x", list("y."), sent_s=0, at_s=[0.5, 1.0], output_tokens=2, usage={"prompt_tokens": 1000}),
        asked("c", "x", ["x", " "], sent_s=0, at_s=[3.0, 4.0], output_tokens=2, usage={"prompt_tokens": 1000}),
    ]
    priced = Deployment("d", "scripted", price=Price(input_per_mtok_usd=1.0, output_per_mtok_usd=500.0))
    spec = cell("m", "t", items, deployment="d", deployment_spec=priced, extract="text")
    slo = Analysis(slo={"ttft_s": 1.0, "percentile": 99})
    found = summarize(write_run(tmp_path / "run", [spec], analysis=slo)).cells[0].estimates
    assert found["goodput_rps"].value == pytest.approx(2 / 4)
    assert found["cost_usd.mean"].value == pytest.approx((1000 + 2 * 500) / 1e6)
    assert found["cost_usd.per_right"].value == pytest.approx(3 * (1000 + 2 * 500) / 1e6 / 2), "two of three are right"


def test_cells_of_every_load_have_their_own_row(tmp_path: Path) -> None:
    def at(value: float) -> Any:
        items = [asked(f"i{i}", "x", "x", e2e_s=value) for i in range(3)]
        return cell("m", "t", items, load=Load("closed", value))

    summary = summarize(write_run(tmp_path / "run", [at(1), at(8)]))
    assert [m.load for m in summary.models] == ["closed 1", "closed 8"]
    assert summary.verdict.text.startswith("under closed 1")


def test_sensitivity_follows_tau(tmp_path: Path) -> None:
    found = summarize(one(tmp_path / "run", answers="xxxx")).models[0]
    times = np.array([1.0, 2.0, 3.0, 4.0])
    for name, tau in (("tau/4", 0.75), ("tau", 3.0), ("tau*4", 12.0)):
        assert found.sensitivity[name] == pytest.approx(100 * np.sqrt(np.mean(tau / (tau + times))))


def test_glance(tmp_path: Path) -> None:
    folder = open_run(one(tmp_path / "run")).cells()[0]
    assert glance(folder) == (2.5, 0.75)
    empty = open_run(write_run(tmp_path / "e", [cell("m", "t", [])])).cells()[0]
    assert glance(empty) == (None, None)


def test_frames(golden: Path) -> None:
    pytest.importorskip("polars")
    frame = summarize(golden).frame()
    row = frame.filter((frame["model"] == "big") & (frame["task"] == "sums") & (frame["quantity"] == "exact_match"))
    assert row["value"].to_list() == [pytest.approx(11 / 12)]


def test_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        summarize([])
    with pytest.raises(UsageError):
        summarize(tmp_path / "nothing")


def test_an_empty_run(tmp_path: Path) -> None:
    summary = summarize(write_run(tmp_path / "run", []))
    assert isinstance(summary, Summary) and summary.cells == [] and summary.verdict.text == "nothing was measured"


def test_the_docs_name_every_estimate_and_every_doubt(golden: Path) -> None:
    page = (DATA.parents[1] / "docs" / "metrics.md").read_text()
    for found in summarize(golden).cells:
        for name in found.estimates:
            assert name in page or f"`{name.split('.')[0]}`" in page, name
    source = (DATA.parents[1] / "src/poise/understand/checks.py").read_text()
    codes = re.findall(r'Check\(\s*"(\w+)"', source)
    assert len(codes) > 10 and all(f"`{code}`" in page for code in codes)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.333, 0.5, 0.77, 0.999])
def test_a_file_cut_at_any_byte_is_read(golden: Path, share: float) -> None:
    for path in golden.glob("cells/*/*.jsonl"):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
    for found in summarize(golden).cells:
        assert found.n < 12 and found.state == "partial"


def test_numbers_out_of_range_are_one_clear_sentence(golden: Path) -> None:
    path = next(golden.glob("cells/*/records.jsonl"))
    lines = path.read_bytes().splitlines()
    path.write_bytes(lines[0].replace(b'"sent_ns":', b'"sent_ns":9999999999999') + b"\n")
    with pytest.raises(UsageError, match=r"out of range|damaged"):
        summarize(golden)
