import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")

import poise
from poise.measure.backends.onnx import Onnx
from poise.plan.spec import Deployment, Model
from poise.types import Message, Request, UsageError

PROMPTS = [f"the quick brown fox {i} jumps over " + "the lazy dog " * (i % 5) for i in range(16)]


def ask(prompt="the quick brown fox", kind="generate", max_tokens=24, **more):
    return Request(id="1", sample_id="1", kind=kind, asked_sha="", prompt=prompt, max_tokens=max_tokens, **more)


def opened(folder, **deployment):
    backend = Onnx()
    backend.open(Model("tiny", {"onnx": str(folder)}), Deployment("o", "onnx", **deployment))
    return backend


def answers(backend, *requests):
    prepared = [backend.prepare(r) for r in requests]
    raws = backend.send(prepared)
    return raws, [backend.finish(p, r) for p, r in zip(prepared, raws)]


def tokens(raw):
    return [token for _, token in raw.stamps]


@pytest.fixture(scope="module")
def backend(onnx_folder):
    return opened(onnx_folder)


@pytest.fixture(scope="module")
def reference(hf_folder):
    """The same fp32 weights on the other engine."""
    from poise.measure.backends.transformers import Transformers

    other = Transformers()
    other.open(
        Model("tiny", {"hf": str(hf_folder)}), Deployment("t", "transformers", device="cpu", options={"threads": 1})
    )
    return other


@pytest.mark.parametrize("size", [1, 16])
def test_greedy_tokens_agree_with_transformers(backend, reference, size):
    for start in range(0, 16, size):
        group = [ask(p) for p in PROMPTS[start : start + size]]
        raws, found = answers(backend, *group)
        expected, texts = answers(reference, *group)
        assert [tokens(r) for r in raws] == [tokens(r) for r in expected]
        assert found == texts


@pytest.mark.parametrize("name", ["xs", "s", "m"])
def test_bundled_models_give_the_same_tokens_on_both_engines(name):
    pytest.importorskip("transformers", reason="transformers is not installed")
    from poise.measure.backends.transformers import Transformers

    home = Path(poise.__file__).parent / "bundled" / name
    if not (home / "onnx" / "model.onnx").is_file():
        pytest.skip("the bundled models are not there")
    other = Transformers()
    cpu = Deployment("t", "transformers", device="cpu", options={"threads": 1})
    other.open(Model(name, {"hf": str(home)}), cpu)
    asked = [ask(p, max_tokens=32) for p in ("12 + 7 =", "Review: a dull film.\nSentiment:", "3x + 4 = 19, x =")]
    for group in (asked, asked[:1]):
        raws, _ = answers(opened(home / "onnx"), *group)
        expected, _ = answers(other, *group)
        assert [tokens(r) for r in raws] == [tokens(r) for r in expected]


def test_rows_end_at_end_of_text_each_on_its_own(onnx_folder, backend, tmp_path):
    free, _ = answers(backend, *map(ask, PROMPTS))
    ends = [0, *(tokens(free[i])[4 + i] for i in (0, 3, 7))]
    folder = tmp_path / "eos"
    shutil.copytree(onnx_folder, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = ends
    (folder / "genai_config.json").write_text(json.dumps(config))
    ending = opened(folder)
    raws, found = answers(ending, *map(ask, PROMPTS))
    for raw, whole, answer in zip(raws, free, found):
        ids = tokens(whole)
        cut = next((i + 1 for i, t in enumerate(ids) if t in ends), len(ids))
        assert tokens(raw) == ids[:cut]
        assert answer.finish_reason == ("stop" if ids[cut - 1] in ends else "length")
        assert raw.done_ns == raw.stamps[-1][0]
    assert len({len(r.stamps) for r in raws}) > 2
    raws, _ = answers(ending, *(ask(p, min_tokens=10) for p in PROMPTS))
    assert all(not set(ends) & set(tokens(r)[:10]) and len(r.stamps) > 10 for r in raws)
    raws, _ = answers(ending, *(ask(p, min_tokens=20, max_tokens=20) for p in PROMPTS))
    assert {len(r.stamps) for r in raws} == {20}


def test_a_stop_string_ends_a_row_and_is_not_shown(backend):
    _, (free,) = answers(backend, ask())
    text = "".join(free.pieces)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    (raw,), (answer,) = answers(backend, ask(stop=(stop,)))
    assert "".join(answer.pieces) == text[: text.index(stop)]
    assert answer.finish_reason == "stop" and len(raw.stamps) < 24


def test_a_prompt_that_ends_in_the_padding_token_is_not_taken_for_padding(backend, reference):
    group = [ask("the quick fox<eos>"), ask(PROMPTS[4])]
    raws, _ = answers(backend, *group)
    expected, _ = answers(reference, *group)
    assert [tokens(r) for r in raws] == [tokens(r) for r in expected]


def test_a_fixed_length_is_held_for_prompt_and_answer(backend):
    (raw,), (answer,) = answers(backend, ask(prompt_tokens=100, min_tokens=31, max_tokens=31))
    assert answer.usage == {"prompt_tokens": 100, "completion_tokens": 31}
    assert len(raw.stamps) == 31


def test_the_context_can_be_filled_to_its_end_and_not_further(backend):
    (raw,), _ = answers(backend, ask(prompt_tokens=200, min_tokens=56, max_tokens=56))
    assert len(raw.stamps) == 56
    (raw,), (answer,) = answers(backend, ask(prompt_tokens=200, min_tokens=57, max_tokens=57))
    assert answer.error.kind == "context"


def test_seeded_sampling_repeats_itself(backend):
    def sample(seed, top_p=1.0):
        (raw,), _ = answers(backend, ask(temperature=1.5, seed=seed, top_p=top_p))
        return tokens(raw)

    assert sample(1) == sample(1) != sample(2)
    assert len(sample(3, top_p=0.5)) == 24


def test_a_passed_deadline_is_a_timeout_that_keeps_what_came(backend):
    (raw,), (answer,) = answers(backend, ask(deadline_s=0.0))
    assert raw.status == answer.status == "timeout" and len(answer.pieces) == 1


CONTINUATIONS = (" dog", " lazy dog 12", " fox" * 5, "!")


@pytest.mark.parametrize("folder", ["onnx_folder", "pruned_onnx_folder"])
def test_choice_agrees_with_transformers(folder, request, reference):
    backend = opened(request.getfixturevalue(folder))
    asked = ask(kind="choice", continuations=CONTINUATIONS)
    _, (found,) = answers(backend, asked)
    _, (expected,) = answers(reference, asked)
    for got, want in zip(found.option_logprobs, expected.option_logprobs, strict=True):
        assert got == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("folder", ["onnx_folder", "pruned_onnx_folder"])
def test_windows_agree_with_transformers(folder, request, reference):
    backend = opened(request.getfixturevalue(folder))
    asked = ask("the quick brown fox 17 jumps over the lazy dog. " * 30, kind="windows", max_tokens=0)
    _, (found,) = answers(backend, asked)
    _, (expected,) = answers(reference, asked)
    assert found.usage == expected.usage
    assert found.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-4)


def test_both_engines_name_the_same_tokenizer(backend, reference, onnx_folder, hf_folder):
    one = Onnx().open(Model("m", {"onnx": str(onnx_folder)}), Deployment("o", "onnx"))
    other = type(reference)().open(
        Model("m", {"hf": str(hf_folder)}), Deployment("t", "transformers", device="cpu", options={"threads": 1})
    )
    assert one.tokenizer_sha == other.tokenizer_sha is not None
    assert one.settings == {"device": "cpu", "threads": 1}


def test_the_tokenizer_may_lie_in_the_folder_above(onnx_folder, tmp_path):
    inner = tmp_path / "model" / "onnx"
    shutil.copytree(onnx_folder, inner)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(inner / name, inner.parent / name)
    (inner.parent / "chat_template.jinja").write_text("{{ messages[0].content }}:")
    backend = opened(inner)
    chat = Request(
        id="1", sample_id="1", kind="generate", asked_sha="", messages=(Message("user", "hi"),), max_tokens=4
    )
    _, (answer,) = answers(backend, chat)
    assert answer.rendered == "hi:" and answer.status == "ok"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"dtype": "float16"}, "precision of the folder"),
        ({"quantization": "int8"}, "does not quantise"),
    ],
)
def test_a_wrong_deployment_is_one_sentence(onnx_folder, change, said):
    with pytest.raises(UsageError, match=said):
        opened(onnx_folder, **change)


def test_what_is_no_onnx_folder_is_one_sentence(tmp_path, onnx_folder):
    with pytest.raises(UsageError, match=r"no genai_config\.json"):
        opened(tmp_path)
    random = Model("m", {"onnx": str(onnx_folder)}, weights="random")
    with pytest.raises(UsageError, match="cannot take random weights"):
        Onnx().open(random, Deployment("o", "onnx"))
