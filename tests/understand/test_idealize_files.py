import json

import pytest

from poise.types import UsageError
from poise.understand.idealize import Coefficients, Point, predict
from poise.understand.idealize_files import (
    pick,
    read_coefficients,
    read_points,
    write_coefficients,
    write_points,
)

HELM = {  # the published form and numbers, shortened (stanford-crfm/helm-efficiency)
    "openai/davinci": {
        "runtime_per_output_token": 0.081,
        "runtime_for_prompt_tokens": {"1": 0.084, "1024": 0.323, "512": 0.178},
    },
    "api": {"runtime_per_output_token": 0.02, "runtime_for_prompt_tokens": {"1": 0.02}, "overhead": 0.1},
}


def test_helm_json_goes_in_and_comes_out_alike(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(HELM))
    models = read_coefficients(path)
    assert models["openai/davinci"].prompt_s == ((1, 0.084), (512, 0.178), (1024, 0.323))
    assert models["api"].overhead_s == 0.1
    write_coefficients(tmp_path / "d.json", list(models.values()))
    assert json.loads((tmp_path / "d.json").read_text()) == HELM


def test_notes_and_context_stand_aside_and_come_back(tmp_path):
    path = tmp_path / "c.json"
    c = Coefficients("m", 0.01, ((1, 0.02),), context_tokens=512)
    write_coefficients(path, [c], {"m": {"p95_relative_error": 0.03}})
    assert json.loads(path.read_text())["m"]["poise"] == {"context_tokens": 512, "p95_relative_error": 0.03}
    assert read_coefficients(path)["m"] == c


def test_the_cache_s_slope_stands_aside_too(tmp_path):
    c = Coefficients("m", 0.01, ((1, 0.02),), per_cached_token_s=1e-5, cached_tokens=400.0)
    write_coefficients(tmp_path / "c.json", [c])
    assert read_coefficients(tmp_path / "c.json")["m"] == c
    bad = Coefficients("m", 0.01, ((1, 0.02),), per_cached_token_s=1e-3, cached_tokens=400.0)
    write_coefficients(tmp_path / "c.json", [bad])
    with pytest.raises(UsageError, match="decoding would take negative time"):
        read_coefficients(tmp_path / "c.json")


def test_the_onset_stands_aside_too(tmp_path):
    c = Coefficients("m", 0.01, ((1, 0.02),), onset=0.03)
    write_coefficients(tmp_path / "c.json", [c])
    assert read_coefficients(tmp_path / "c.json")["m"] == c
    assert predict(c, 1, 1) == 0.02 and predict(c, 1, 2) == pytest.approx(0.0206 + 0.01)
    assert predict(c, 1, 2, "helm") == pytest.approx(0.03)
    write_coefficients(tmp_path / "c.json", [c], {"m": {"onset": -2}})
    with pytest.raises(UsageError, match="onset must be a share, 0 or more, not -2"):
        read_coefficients(tmp_path / "c.json")


def test_points_round_trip(tmp_path):
    points = [Point(1, 2, 0.1 + 0.2, 'a,"b"', 1.5), Point(3, 4, 1e-7, "c")]
    write_points(tmp_path / "p.csv", points)
    assert read_points(tmp_path / "p.csv") == points


@pytest.mark.parametrize(
    "text,sentence",
    [
        ("prompt_tokens,output_tokens\n1,2\n", "no column runtime_s"),
        ("prompt_tokens,output_tokens,runtime_s\n", "no points"),
        ("prompt_tokens,output_tokens,runtime_s\n1,1,.1\n1,2,-1\n", "line 3: .*a time is positive"),
        ("prompt_tokens,output_tokens,runtime_s\n1,x,.1\n", "line 2: 1,x,.1 is not"),
        ("prompt_tokens,output_tokens,runtime_s\n1,2\n", "line 2"),
    ],
)
def test_bad_points_name_the_line(tmp_path, text, sentence):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        read_points(tmp_path / "p.csv")


@pytest.mark.parametrize(
    "document,sentence",
    [
        ("nonsense", "is not JSON"),
        ("[]", "object of models"),
        ('{"m": 3}', "expected an object"),
        ('{"m": {"runtime_per_output_token": 0.1}}', "no runtime_for_prompt_tokens"),
        ('{"m": {"runtime_for_prompt_tokens": {"1": 0.1}}}', "runtime_per_output_token must be a number"),
        ('{"m": {"runtime_per_output_token": -1, "runtime_for_prompt_tokens": {"1": 0.1}}}', "never negative"),
        ('{"m": {"runtime_per_output_token": 1, "runtime_for_prompt_tokens": {"x": 0.1}}}', "whole number"),
    ],
)
def test_bad_coefficients_are_refused(tmp_path, document, sentence):
    (tmp_path / "c.json").write_text(document)
    with pytest.raises(UsageError, match=sentence):
        read_coefficients(tmp_path / "c.json")


def test_pick_wants_a_name_where_there_are_several():
    models = {n: Coefficients(n, 0.1, ((1, 0.1),)) for n in ("alpha", "beta")}
    assert pick(models, "beta").model == "beta"
    with pytest.raises(UsageError, match="did you mean 'alpha'"):
        pick(models, "alhpa")
    with pytest.raises(UsageError, match="choose one with --model"):
        pick(models, None)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="cannot read the coefficients"):
        read_coefficients(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot read the points"):
        read_points(tmp_path / "none.csv")
