"""A hand-made study of three models on two engines and three tasks, with everything that can go wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import asked, cell, write_run

from poise.report.html import Html
from poise.store.run import Run, open_run
from poise.types import CellSummary, Check, Estimate, ModelSummary, Summary, Verdict

ENDLESS = "and on " * 2_000
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eevil\u2028[bold]x[/bold]"


def est(value, spread=None, n=120, unit="", better="higher", method="wilson 95%"):
    lo, hi = (None, None) if spread is None else (value - spread, value + spread)
    return Estimate(value, lo, hi, n, unit, better, method)


def seconds(value):
    return est(value, value * 0.03, unit="s", better="lower", method="clt 95%")


def _cell(model, deployment, task, quality, time_s, **more):
    fields = {
        "id": f"{model}-{deployment}-{task}", "run": "demo", "load": "closed 1", "repeats": 1, "state": "ok",
        "reason": None, "planned": 120, "n": 120, "failed": 0, "failures": {}, "primary": "accuracy",
        "signature": f"poise:0.1.0|format:1|task:{task}.v1|q:wilson", "items_sha": f"sha-{task}",
        "estimates": {
            "quality": est(quality, 0.045), "accuracy": est(quality, 0.045), "e2e_s.mean": seconds(time_s),
            "e2e_s.p50": seconds(time_s * 0.97), "e2e_s.p99": est(None, unit="s"), "ttft_s.p50": seconds(time_s / 5),
            "tpot_s.p50": seconds(time_s / 20), "system_tok_s": est(14 / time_s, unit="tok/s"),
            "mem_bytes.peak": est(213e6, unit="bytes"), "cpu_util.mean": est(0.98, unit="cores"),
        },
    }  # fmt: skip
    return CellSummary(model=model, deployment=deployment, task=task, **{**fields, **more})


def _model(model, deployment, balanced, quality, speed, p):
    b = est(balanced, 2.6, unit="", method="paired bootstrap 95%")
    q, s = est(quality, 0.03), est(speed, 0.02)
    tasks = {t: {"balanced": b, "quality_mark": q, "speed_mark": s} for t in TASKS}
    low, high = balanced * 0.8, min(99.0, balanced * 1.2)
    return ModelSummary(
        model, deployment, "closed 1", b, q, s, p, tasks, {"tau/4": low, "tau": balanced, "tau*4": high}
    )


@pytest.fixture
def make_cell():
    """A CellSummary with the usual estimates."""
    return _cell


TASKS = ("mini-sentiment", "mini-arithmetic", "mini-linear", "mini-translation", "mini-qa")


@pytest.fixture
def summary() -> Summary:
    """Six systems x five tasks: two failures in one cell, one cell failed, one not measurable, one check."""
    cells = []
    for m, (model, base) in enumerate((("bundled:xs", 0.45), ("bundled:s", 0.62), ("bundled:m", 0.81))):
        for d, deployment in enumerate(("onnx", "transformers")):
            for t, task in enumerate(TASKS):
                time_s = 0.004 * (1 + m) ** 1.5 * (1 + d * 0.8) * (1 + t * 0.3)
                cells.append(_cell(model, deployment, task, base - 0.05 * t + 0.04, time_s))
    cells[1] = _cell(
        "bundled:xs", "onnx", TASKS[1], 0.4, 0.005, failed=2, failures={"timeout": 1, "engine": 1}, state="partial"
    )
    cells[13] = _cell(
        "bundled:s",
        "onnx",
        TASKS[3],
        0.4,
        0.005,
        state="failed",
        n=0,
        reason=f"the engine died {HOSTILE}",
        estimates={},
    )
    lag = Check("client_lag", "warn", "event loop lag p99 14 ms", "use fewer streams a client (--clients 2)")
    cells[6] = _cell("bundled:xs", "transformers", TASKS[1], 0.41, 0.009, checks=[lag])
    cells[7] = _cell("bundled:xs", "transformers", TASKS[2], 0.40, 0.009, checks=[lag])
    models = [
        _model("bundled:xs", "onnx", 52.4, 0.42, 0.68, 0.98),
        _model("bundled:xs", "transformers", 47.1, 0.42, 0.55, 0.02),
        _model("bundled:s", "onnx", 58.8, 0.60, 0.57, 0.91), _model("bundled:s", "transformers", 50.3, 0.60, 0.42, 0.0),
        _model("bundled:m", "onnx", 61.9, 0.80, 0.48, 1.0), _model("bundled:m", "transformers", 53.0, 0.80, 0.35, 0.0),
    ]  # fmt: skip
    text = (
        "bundled:m on onnx is best balanced, B 61.9 [59.3, 64.5]; on the frontier: bundled:xs, bundled:s and bundled:m "
        "on onnx; the fastest, bundled:xs on onnx, gives up 38 points of quality [33, 43] for 3.1x [2.9, 3.3] the speed"
    )
    return Summary(1, ["demo"], cells, models, Verdict(text, {}))


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    """Two models on two engines, two tasks of twelve items: one answer hostile, one endless, one request failed."""
    cells = []
    for m, model in enumerate(("bundled:s", "bundled:m")):
        for d, deployment in enumerate(("onnx", "transformers")):
            time_s = 0.01 * (1 + m) * (1 + d)
            words = [_word(i, time_s, right=i % 3 > 0 or m > 0) for i in range(12)]
            labels = [_label(i, time_s, right=i % 4 > 0) for i in range(12)]
            if (m, d) == (1, 1):
                words[7] = asked("w07", "word 7", status="error", kind="engine", sent_s=1.0, done_s=0.5)
            cells.append(cell(model, "words", words, deployment=deployment))
            cells.append(
                cell(model, "labels", labels, deployment=deployment, extract="label", metrics=("accuracy",), chance=0.5)
            )
    return open_run(write_run(Path(tmp_path_factory.mktemp("runs")) / "demo", cells, name="demo"))


def _word(i, time_s, right):
    text = f"word {i}" if right else HOSTILE if i == 0 else ENDLESS if i == 3 else "wrong"
    pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
    return asked(f"w{i:02d}", f"word {i}", pieces, at_s=[time_s, 2 * time_s], sent_s=float(i), output_tokens=3)


def _label(i, time_s, right):
    choices = ("yes", "no")
    target = choices[i % 2]
    text = target if right else choices[(i + 1) % 2]
    return asked(
        f"l{i:02d}", target, text, e2e_s=time_s, sent_s=float(i), choices=choices, category="even" if i % 2 else "odd"
    )


@pytest.fixture(scope="session")
def derived(run) -> Summary:
    from poise.understand.summarize import summarize

    return summarize([run])


@pytest.fixture(scope="session")
def page(derived, run) -> str:
    return Html().render(derived, [run]).decode()
