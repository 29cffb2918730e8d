"""What cannot run here is known before anything does, in one sentence that says what to do."""

import pytest

from poise.measure import host, preflight
from poise.plan.build import plan
from poise.plan.read import load_study


def reasons(*deployments, model="bundled:xs"):
    study = load_study({"models": [model], "deployments": list(deployments), "tasks": ["mini"]}, name="t")
    return list(preflight.problems(plan(study)).values())


@pytest.mark.parametrize(("free", "refused"), [(100, True), (10**12, False)])
def test_a_model_that_memory_does_not_hold_is_refused(monkeypatch, free, refused):
    monkeypatch.setattr(host, "memory_available", lambda device: {"auto": free}[device])
    found = reasons("onnx")
    assert len(found) == refused
    assert all("needs about" in reason and "take a smaller model" in reason for reason in found)


def test_an_absent_package_and_how_to_get_it(monkeypatch):
    from poise.measure.backends.onnx import Onnx

    monkeypatch.setattr(Onnx, "requires", ("no_such_package",))
    assert reasons("onnx") == ["no_such_package not installed: pip install no_such_package"]
    monkeypatch.setattr(Onnx, "extra", "some", raising=False)
    assert reasons("onnx") == ["no_such_package not installed: pip install 'poise[some]'"]


def test_an_unset_key_is_named(monkeypatch):
    monkeypatch.delenv("POISE_ABSENT", raising=False)
    deployment = {"backend": "openai", "base_url": "http://127.0.0.1:1/v1", "key_env": "POISE_ABSENT"}
    assert reasons(deployment, model="served") == [
        "the environment variable POISE_ABSENT (key_env) is not set; export it first"
    ]
