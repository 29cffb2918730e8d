"""`poise idealize …` and `poise roofline` as typed."""

import json

import click
import pytest
from support import asked, cell, write_run

from poise.cli import app
from poise.types import UsageError


@pytest.fixture
def poise(capsys):
    """Run the words and give stdout; an expected failure comes up as the UsageError it is."""

    def run(*words):
        app([str(w) for w in words], standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def points(tmp_path):
    """T = .02 + .0001·p + .003·(o − 1), three trials of which one is late."""
    lines = ["prompt_tokens,output_tokens,runtime_s,model,at_s"]
    for i, (p, o, late) in enumerate((p, o, late) for p in (1, 100) for o in (1, 8, 64) for late in (1, 1, 1.5)):
        lines.append(f"{p},{o},{(0.02 + 0.0001 * p + 0.003 * (o - 1)) * late},m,{i * 60}")
    path = tmp_path / "points.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_fit_and_predict(poise, points, tmp_path):
    out = tmp_path / "coef.json"
    text = poise("idealize", "fit", points, "-o", out)
    assert "m: 6 points, method default" in text
    assert "R² 1.000000" in text
    assert "trials vary by" in text and "drift" in text
    assert json.loads(out.read_text())["m"]["runtime_per_output_token"] == pytest.approx(0.003)
    text = poise("idealize", "predict", out, "--prompt-tokens", 100, "--output-tokens", 11, "--per-hour-usd", 3.6)
    assert text.startswith("60.0 ms  m, 100 prompt and 11 output tokens (default)")
    assert "6.00e-05 USD per request, 0.0600 USD per 1 000, idealized, price undated" in text
    made = json.loads(poise("idealize", "predict", out, "--prompt-tokens", 50, "--output-tokens", 0, "--json"))
    assert made["runtime_s"] == pytest.approx(0.02 + 0.005, rel=0.01)
    assert made["energy"]["reason"] == "the power of the hardware is not known"


def test_fit_denoised_splits_the_overhead_off(poise, points):
    made = json.loads(poise("idealize", "fit", points, "--denoised", "--json"))[0]
    assert made["coefficients"]["overhead_s"] == pytest.approx(0.0201 - 0.003)
    assert made["denoised"] is True
    assert made["noise"][0]["trials"] == 3


def test_fit_of_a_run_folder(poise, tmp_path):
    items = [
        asked(f"{p}-{o}", "yes", "yes", sent_s=i, at_s=[0.1 + 0.01 * o], output_tokens=o, usage={"prompt_tokens": p})
        for i, (p, o) in enumerate([(10, 1), (10, 8), (20, 4)])
    ]
    run = write_run(tmp_path / "run", [cell("m", "t", items)])
    assert "each further output token 10.0 ms" in poise("idealize", "fit", run)


def test_profile_finds_the_scripted_engine(poise, tmp_path):
    out, trials = tmp_path / "coef.json", tmp_path / "trials.csv"
    words = ["idealize", "profile", "m", "-b", "scripted", "-o", out, "--save-points", trials]
    text = poise(*words, "-O", "ttft_s=0.02", "-O", "gap_s=0.004", "--per-hour-usd", 36)
    assert "each further output token 4.0" in text
    assert "of the full grid, 270 points" in text and "USD" in text
    made = json.loads(out.read_text())["m"]
    assert made["runtime_per_output_token"] == pytest.approx(0.004, rel=0.01)
    assert list(made["runtime_for_prompt_tokens"].values()) == pytest.approx(
        [0.02] * len(made["runtime_for_prompt_tokens"]), rel=0.01
    )
    assert made["poise"]["points"] <= 10
    assert made["poise"]["p95_relative_error"] < 0.03
    assert len(trials.read_text().splitlines()) == 1 + 5 * made["poise"]["points"]
    made = json.loads(poise(*words, "--points", "p=1,64,o=1,8", "--repeats", 2, "--json"))
    assert made["design_points"] == [[1, 1], [1, 8], [64, 1], [64, 8]] or len(made["design_points"]) == 4
    assert made["p95_error"] is None


def test_apply_shows_the_overhead(poise, points, tmp_path):
    coef = tmp_path / "coef.json"
    poise("idealize", "fit", points, "-o", coef)
    item = asked("a", "yes", ["y", "es"], at_s=[0.05, 0.09], output_tokens=11, usage={"prompt_tokens": 100})
    run = write_run(tmp_path / "run", [cell("m", "t", [item])])
    text = poise("idealize", "apply", run, coef)
    assert "1.50x" in text and "60.0 ms" in text and "90.0 ms" in text
    assert all(line == line.rstrip() for line in text.splitlines()) and text.startswith("cell ")
    assert "USD" not in text and "J ideal" not in text  # of what no cell has there is no column
    assert "J ideal" in poise("idealize", "apply", run, coef, "--power-w", 100)
    assert "gap +30.0 ms: +20.0 ms before the first token, +10.0 ms between tokens" in text
    made = json.loads(poise("idealize", "apply", run, coef, "--power-w", 100, "--json"))
    assert made["cells"][0]["energy"]["per_request_j"] == pytest.approx(6)
    assert (run / "derived" / "idealized.json").is_file()


def test_roofline_compares_hardware(poise, tmp_path):
    text = poise("roofline", "llama-2-70b", "--hardware", "A100-80GB,H200", "--per-hour-usd", 2)
    assert "llama-2-70b on 2 x A100-80GB: 1 x (512 + 128 tokens)" in text
    assert "68.98 G parameters; weights 138 GB; KV cache 328 kB per token" in text
    assert text.count("memory-bound") == 2
    made = json.loads(poise("roofline", "mixtral-8x7b", "--hardware", "h100", "--width", "int4", "--json"))[0]
    assert made["roofline"]["accelerators"] == 1
    assert made["roofline"]["active_params"] < made["roofline"]["params"]


def test_roofline_refits_and_compares_with_a_run(poise, tmp_path):
    points = tmp_path / "steps.csv"
    points.write_text("prompt_tokens,output_tokens,runtime_s\n1,1,.003\n1,11,.033\n1,11,.060\n1000,1,.03\n")
    item = asked("a", "yes", ["y", "es"], at_s=[0.05, 0.09], output_tokens=11, usage={"prompt_tokens": 100})
    run = write_run(tmp_path / "run", [cell("m", "t", [item])])
    made = json.loads(poise("roofline", "gpt2", "--hardware", "T4", "--refit", points, "--against", run, "--json"))[0]
    assert made["efficiency"]["memory"] == pytest.approx(0.257, abs=0.005)  # 247 MB / .003 s / 320 GB/s
    beside = made["against"][0]
    assert beside["gap"] == pytest.approx(beside["measured_s"] / beside["roofline_s"])
    assert beside["use"]["decode_mbu"] == pytest.approx((124439808 - 1024 * 768) * 2 / 0.004 / 320e9, rel=0.02)


@pytest.mark.parametrize(
    "words,sentence",
    [
        (["idealize", "fit", "nowhere.csv"], "cannot read the points nowhere.csv"),
        (["idealize", "profile", "m", "-b", "scripted", "--points", "p=1,x,o=1"], "is none of: auto, paper, p="),
        (["idealize", "profile", "m,n", "-b", "scripted"], "one model and one backend"),
        (["roofline", "gpt2", "--hardware", "A100-90GB"], "did you mean 'A100-80GB'"),
        (["roofline", "gpt2", "--hardware", "T4", "--prompt-tokens", "2000"], "beyond the context of gpt2, 1024"),
        (["roofline", "gpt2", "--hardware", "T4", "--compute-efficiency", "0"], "a share of the peak"),
        (["roofline", "gpt3", "--hardware", "T4"], "no built-in model 'gpt3'; did you mean 'gpt2'"),
    ],
)
def test_bad_input_is_one_sentence(poise, points, words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=sentence) as error:
        poise(*(w.replace("{points}", str(points)) for w in words))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ["idealize", "fit", "points.csv", "--method", "papre"],
        ["idealize", "profile", "m", "--method", "papre"],
        ["idealize", "predict", "coef.json", "--prompt-tokens", "1", "--output-tokens", "1", "--mode", "papre"],
    ],
)
def test_an_unknown_choice_names_the_known_ones(poise, words):
    with pytest.raises(click.BadParameter, match="'papre' is not one of 'default'"):
        poise(*words)
