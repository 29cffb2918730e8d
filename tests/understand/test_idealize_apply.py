import json

import pytest
from support import asked, cell, write_run

from poise.plan.spec import Deployment, Load, Price
from poise.store.run import open_run
from poise.types import UsageError
from poise.understand.idealize import Coefficients, fit
from poise.understand.idealize_apply import Hardware, apply, run_points

COEF = Coefficients("m", 0.01, ((1, 0.1), (100, 0.2)))
USAGE = {"prompt_tokens": 100, "completion_tokens": 11}


def answer(id, at_s, sent_s=0.0, usage=USAGE, text="yes", target="yes", **more):
    """T ideal of 100 + 11 tokens is .2 + 10·.01 = .3 s."""
    return asked(
        id, target, [text] + [""] * 9 + ["."], sent_s=sent_s, at_s=[at_s * (i + 1) / 11 for i in range(11)],
        usage=usage, output_tokens=11, **more,
    )  # fmt: skip


def written(path, *items, **more):
    return open_run(write_run(path, [cell("m", "t", list(items), metrics=("exact_match",), **more)]))


def test_overhead_is_measured_over_idealized(tmp_path):
    run = written(tmp_path / "r", answer("a", 0.6), answer("b", 1.2, sent_s=2))
    done = apply(run, {"m": COEF}).cells[0]
    assert done.idealized_s == pytest.approx(0.3)
    assert done.measured_s == pytest.approx(0.9)
    assert done.overhead == pytest.approx(3)
    assert done.requests is not None
    assert done.requests.overhead == pytest.approx([2, 4])
    assert (done.n, done.left_out, done.reason) == (2, 0, None)


def test_the_gap_adds_up(tmp_path):
    # e2e .66 s in 11 equal steps of .06: first token .06 − α .2; the rest .60 − .10.
    done = apply(written(tmp_path / "r", answer("a", 0.66)), {"m": COEF}).cells[0]
    assert done.gap is not None
    assert done.gap.first_token_s == pytest.approx(0.06 - 0.2)
    assert done.gap.decode_s == pytest.approx(0.5)
    assert done.gap.first_token_s + done.gap.decode_s == pytest.approx(done.gap.total_s) == pytest.approx(0.36)
    assert done.gap.wait_s is None


def test_waiting_in_the_client_is_part_of_an_open_loop_s_gap(tmp_path):
    run = written(tmp_path / "r", answer("a", 0.66, sent_s=5, due_s=4.5), load=Load("open", 2))
    gap = apply(run, {"m": COEF}).cells[0].gap
    assert gap is not None
    assert gap.wait_s == pytest.approx(0.5)
    assert gap.total_s == pytest.approx(0.86)


def test_denoised_is_the_least_of_a_request_s_trials(tmp_path):
    path = write_run(
        tmp_path / "r",
        [
            cell("m", "t", [answer("a", 0.6), answer("b", 0.9, sent_s=2)], repeat=0),
            cell("m", "t", [answer("a", 0.4, sent_s=4), answer("b", 0.8, sent_s=6)], repeat=1),
        ],
    )
    done = apply(open_run(path), {"m": COEF}).cells[0]
    assert done.requests is not None
    assert done.requests.denoised_s == pytest.approx([0.4, 0.8, 0.4, 0.8])
    assert done.denoised_s == pytest.approx(0.6)
    assert done.overhead_denoised == pytest.approx(2)
    assert (done.trials, done.trials_needed) == (2, done.trials_needed)
    assert done.noise_cv is not None and 0 < done.noise_cv < 0.4
    single = apply(written(tmp_path / "s", answer("a", 0.6)), {"m": COEF}).cells[0]
    assert single.denoised_s is None and single.noise_cv is None and single.trials_needed is None


def test_cost_and_energy_are_labelled(tmp_path):
    price = Price(per_hour_usd=3.6, date="2026-11-01")
    run = written(
        tmp_path / "r", answer("a", 0.6), answer("b", 0.6, sent_s=0.6, text="no"),
        deployment_spec=Deployment("onnx", "scripted", price=price),
    )  # fmt: skip
    done = apply(run, {"m": COEF}, Hardware(accelerators=8, power_w=100)).cells[0]
    assert done.cost is not None and done.cost.per_request_usd == pytest.approx(0.3 * 8 * 0.001)
    assert done.cost.basis == "idealized" and done.cost.date == "2026-11-01"
    assert done.energy is not None and done.energy.per_request_j == pytest.approx(0.3 * 8 * 100)
    assert done.energy.basis == "idealized from power"
    assert done.cost_measured is not None and done.cost_measured.basis == "hardware hours"
    assert done.cost_measured.total_usd == pytest.approx(1.2 * 0.001)


def test_token_prices_use_the_usage_with_its_cached_part(tmp_path):
    price = Price(input_per_mtok_usd=10, output_per_mtok_usd=100, cached_per_mtok_usd=1)
    usage = USAGE | {"prompt_tokens_details": {"cached_tokens": 60}}
    run = written(
        tmp_path / "r", answer("a", 0.6, usage=usage), deployment_spec=Deployment("onnx", "scripted", price=price)
    )
    paid = apply(run, {"m": COEF}).cells[0].cost_measured
    assert paid is not None and paid.total_usd == pytest.approx((40 * 10 + 60 * 1 + 11 * 100) / 1e6)


def test_what_cannot_be_idealized_says_why(tmp_path):
    path = write_run(
        tmp_path / "r",
        [
            cell("m", "t", [answer("a", 0.6), asked("b", "yes", status="error", sent_s=1)]),
            cell("n", "t", [answer("a", 0.6)]),
            cell("m", "u", [asked("a", "yes", "yes", e2e_s=1.0)]),
        ],
    )
    one, other, bare = apply(open_run(path), {"m": COEF, "x": COEF}).cells
    assert (one.n, one.left_out) == (1, 1)
    reasons = {c.model + c.task: c.reason for c in (one, other, bare)}
    assert reasons == {
        "mt": None,
        "nt": "no coefficients for model n",
        "mu": "no answered request has token counts and a time",
    }


def test_a_prompt_beyond_the_context_or_the_table_is_said(tmp_path):
    run = written(tmp_path / "r", answer("a", 0.6))
    short = Coefficients("m", 0.01, ((1, 0.1), (50, 0.2)))
    assert apply(run, {"m": short}).cells[0].notes == [
        "1 prompt longer than the longest profiled one (50): extrapolated"
    ]
    tiny = Coefficients("m", 0.01, ((1, 0.1),), context_tokens=64)
    assert "beyond the context of m, 64" in (apply(run, {"m": tiny}).cells[0].reason or "")


def test_names_are_matched_or_asked_for(tmp_path):
    run = written(tmp_path / "r", answer("a", 0.6))
    assert apply(run, {"elsewhere": COEF}).cells[0].coefficients == "m"
    with pytest.raises(UsageError, match="say which to use with --model"):
        apply(run, {"x": COEF, "y": COEF})
    assert apply(run, {"x": COEF, "y": COEF}, model="y").cells[0].idealized_s == pytest.approx(0.3)
    with pytest.raises(UsageError, match="no model 'z'"):
        apply(run, {"x": COEF}, model="z")


def test_the_file_is_the_same_bytes_every_time(tmp_path):
    run = written(tmp_path / "r", answer("a", 0.6))
    path = run.path / "derived" / "idealized.json"
    apply(run, {"m": COEF})
    first = path.read_bytes()
    apply(run, {"m": COEF})
    assert path.read_bytes() == first
    assert json.loads(first)["cells"][0]["requests"]["idealized_s"] == pytest.approx([0.3])


def test_a_run_gives_points_to_fit(tmp_path):
    items = [
        answer(f"{p}-{o}", 0.1 + 0.001 * p + 0.02 * (o - 1), sent_s=i, usage={"prompt_tokens": p}, )
        for i, (p, o) in enumerate((p, o) for p in (10, 50) for o in (11,))
    ]  # fmt: skip
    items += [asked("short", "yes", "yes", sent_s=9, at_s=[0.11], usage={"prompt_tokens": 10}, output_tokens=1)]
    points = run_points(written(tmp_path / "r", *items))
    assert [(p.prompt_tokens, p.output_tokens) for p in points] == [(10, 11), (50, 11), (10, 1)]
    assert points[0].at_s == 0.0
    made = fit(points).coefficients
    assert made.per_output_token_s == pytest.approx(0.02)
    assert dict(made.prompt_s) == pytest.approx({10: 0.11, 50: 0.15})
