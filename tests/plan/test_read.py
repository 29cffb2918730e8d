"""Studies: what is accepted, and one clear sentence with line and column for what is not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.plan.read import load_study, study_builtins, to_yaml
from poise.plan.spec import Load, Study
from poise.types import UsageError

GOOD = "models: [a]\ndeployments: [onnx]\ntasks: [sst2]\n"


def read(tmp_path: Path, text: str, name: str = "s.yaml") -> Study:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_study(path)


def test_strings_are_names_and_groups_expand(tmp_path: Path) -> None:
    study = read(tmp_path, "models: ['bundled:xs', org/repo]\ndeployments: [onnx]\ntasks: [{task: mini, limit: 7}]\n")
    assert study.name == "s"
    assert [m.source for m in study.models] == [{"bundled": "xs"}, {"any": "org/repo"}]
    assert len(study.tasks) == 5 and {t.limit for t in study.tasks} == {7}
    assert study.loads == [Load("closed", 1)]


def test_lists_sweep_in_loads_only(tmp_path: Path) -> None:
    study = read(
        tmp_path, GOOD + "loads: [{closed: [1, 8]}, {batch: 16, order: length}, {open: [0.5], arrivals: constant}]\n"
    )
    assert [load.label for load in study.loads] == ["closed 1", "closed 8", "batch 16", "open 0.5/s constant"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD + "repeat: 2\n", ["s.yaml:4:1", "unknown key 'repeat'", "did you mean 'repeats'"]),
        ("models: [a]\ndeployments: [onx]\ntasks: [sst2]\n", ["s.yaml:2:15", "did you mean 'onnx'"]),
        ("models: [a]\ndeployments: [onnx]\ntasks: [ssst2]\n", ["s.yaml:3:9", "did you mean 'sst2'"]),
        ("models: [a]\ndeployments: [onnx]\ntasks:\n- task: sst2\n  limit: many\n", ["s.yaml:5:3", "limit", "int"]),
        ("models: [a]\ndeployments: [onnx\ntasks: [sst2]\n", ["s.yaml:3:", "not YAML"]),
        ("models: [a]\nmodels: [b]\n" + GOOD, ["s.yaml:2:1", "stands twice"]),
        ("models: [a, a]\ndeployments: [onnx]\ntasks: [sst2]\n", ["'a' stands twice"]),
        (GOOD + "loads: [{closed: 1, batch: 2}]\n", ["two load kinds"]),
        (GOOD + "loads: [{clsed: 1}]\n", ["did you mean 'closed'"]),
        (GOOD + "loads: [{closed: 1.5}]\n", ["whole number"]),
        (GOOD + "exclude: [{model: b}]\n", ["matches no model"]),
        (GOOD + "seed: yes\n", ["seed", "expected int, got str"]),
        (GOOD + "analysis: {tau: conversatonal}\n", ["did you mean 'conversational'"]),
        (GOOD + "schema: 2\n", ["schema 1"]),
        ("deployments: [onnx]\ntasks: [sst2]\n", ["names no models"]),
        ("[1, 2]\n", ["a study is a mapping"]),
        ("", ["a study is a mapping"]),
        (
            "models: [a]\ntasks: [sst2]\ndeployments:\n- {backend: openai, base_url: 'http://u:p@h/v1'}\n",
            ["credentials in a URL"],
        ),
        (
            "models: [a]\ntasks: [sst2]\ndeployments:\n- {backend: openai, base_url: 'http://[::1'}\n",
            ["is not a URL", "base_url"],
        ),
        (
            "models: [a]\ntasks: [sst2]\ndeployments:\n- {backend: openai, options: {api_key: abcdef}}\n",
            ["literal secret", "key_env"],
        ),
        (
            "models: [a]\ntasks: [sst2]\n"
            "deployments: [{backend: openai, base_url: http://x/v1, server: {preset: vllm}}]\n",
            ["exclude each other"],
        ),
        (GOOD + "generation: {temperatur: 1}\n", ["did you mean 'temperature'"]),
        (GOOD + "generation: {temperature: -1}\n", ["s.yaml:4:14", "temperature: expected float >= 0.0"]),
        (GOOD + "generation: {deadline_s: .inf}\n", ["deadline_s: expected float <= 1000000.0"]),
        (GOOD + "generation: {top_p: 1.5}\n", ["top_p: expected float <= 1.0"]),
        (GOOD + "overrides: [{when: {task: sst2}, generation: {draws: 0}}]\n", ["draws: expected int >= 1"]),
    ],
)
def test_mistakes_are_one_sentence_with_a_place(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_secrets_are_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = "sk-" + "a1B2" * 8
    with pytest.raises(UsageError) as caught:
        read(tmp_path, GOOD + f"name: {secret}\n")
    assert secret not in str(caught.value)


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for i in range(1, 9):
        bomb += f"{chr(97 + i)}: &{chr(97 + i)} [" + ",".join([f"*{chr(96 + i)}"] * 9) + "]\n"
    with pytest.raises(UsageError, match="more than 100 000 values"):
        read(tmp_path, bomb)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = read(tmp_path, 'models = ["a"]\ndeployments = ["onnx"]\ntasks = ["sst2"]\n', "s.toml")
    json = read(tmp_path, '{"models": ["a"], "deployments": ["onnx"], "tasks": ["sst2"]}', "s.json")
    assert toml == json == read(tmp_path, GOOD)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no study file"):
        load_study(tmp_path / "absent.yaml")


RATE = st.floats(0.5, 99)
COMMON = st.fixed_dictionaries({}, optional={"requests": st.integers(1, 9), "duration_s": RATE})
ARRIVALS = st.fixed_dictionaries(
    {}, optional={"arrivals": st.sampled_from(["constant", "poisson", "gamma"]), "burstiness": RATE}
)
LOADS = st.one_of(
    st.builds(
        lambda kind, sizes, more: {kind: sizes, **more},
        st.sampled_from(["closed", "batch"]),
        st.lists(st.integers(1, 99), min_size=1, unique=True),
        COMMON,
    ),
    st.builds(lambda rate, a, more: {"open": rate, **a, **more}, RATE, ARRIVALS, COMMON),
    st.builds(lambda lo, up, a, more: {"ramp": [lo, lo + up], **a, **more}, RATE, RATE, ARRIVALS, COMMON),
    st.builds(
        lambda lo, up, a, more: {"search": "open", "between": [lo, lo + up], **a, **more}, RATE, RATE, ARRIVALS, COMMON
    ),
    st.builds(lambda scale, more: {"trace": ["a.csv", "b.jsonl"], "scale": scale, **more}, RATE, COMMON),
    st.builds(lambda rate, more: {"mlperf": "server", "rate": rate, **more}, RATE, COMMON),
    st.builds(
        lambda scenario, more: {"mlperf": scenario, **more}, st.sampled_from(["offline", "singlestream"]), COMMON
    ),
)


@pytest.mark.parametrize(
    ("load", "says"),
    [
        ("{closed: 1, open: 2}", "two load kinds in one: closed and open"),
        ("{opne: 2}", "no load kind; did you mean 'open'"),
        ("{closed: 0}", "0 is not a positive whole number"),
        ("{closed: 1.5}", "1.5 is not a positive whole number"),
        ("{open: [1, -2]}", "-2 is not a positive rate"),
        ("{ramp: [5, 5]}", "not two rising rates"),
        ("{ramp: 5}", "not two rising rates"),
        ("{closed: 2, arrivals: constant}", "unknown key of a load of kind closed: 'arrivals'"),
        ("{open: 2, order: length}", "unknown key of a load of kind open: 'order'"),
        ("{open: 2, duration_s: 0}", "duration_s: 0 is not a positive number"),
        ("{open: 2, requests: yes}", "requests: 'yes' is not a positive number"),
        ("{open: 2, requests: 1.5}", "expected int"),
        ("{open: 2, arrivals: normal}", "invalid enum value 'normal'"),
        ("{trace: 5}", "5 is not a file"),
        ("{trace: a.csv, scale: 0}", "scale: 0 is not a positive number"),
        ("{search: closed, between: [1, 2]}", "'closed' cannot be searched"),
        ("{search: open}", "None is not two rising rates"),
        ("{search: open, between: [0, 2]}", "not two rising rates"),
        ("{mlperf: serve}", "no scenario 'serve'; did you mean 'server'"),
        ("{mlperf: server}", "scenario server needs a rate"),
        ("{mlperf: offline, rate: 4}", "the others have none"),
        ("7", "a load is a mapping"),
    ],
)
def test_a_wrong_load_is_named_with_its_place(tmp_path: Path, load: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"s\.yaml:4:") as caught:
        read(tmp_path, GOOD + f"loads: [{load}]\n")
    assert says in str(caught.value)


@given(
    st.integers(0, 99),
    st.integers(1, 5),
    st.lists(LOADS, min_size=1, max_size=3, unique_by=lambda load: next(iter(load))),
)
@settings(deadline=None)
def test_a_study_survives_the_way_through_yaml(seed: int, repeats: int, loads: list[dict[str, Any]]) -> None:
    import yaml

    data = {
        "models": ["a"],
        "deployments": ["onnx"],
        "tasks": ["sst2"],
        "seed": seed,
        "repeats": repeats,
        "loads": loads,
    }
    study = load_study(data, name="n")
    again = load_study(yaml.safe_load(to_yaml(study)), name="other")
    assert study_builtins(again) == study_builtins(study)
