import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
hf = pytest.importorskip("transformers", reason="transformers is not installed")

from poise.measure.backends.transformers import Transformers  # noqa: E402
from poise.plan.spec import Deployment, Model  # noqa: E402
from poise.types import Message, Request, UsageError  # noqa: E402

CPU = {"device": "cpu", "options": {"threads": 1}}
PROMPTS = [f"the quick brown fox {i} jumps over " + "the lazy dog " * (i % 5) for i in range(16)]


def ask(prompt="the quick brown fox", kind="generate", max_tokens=24, **more):
    return Request(id="1", sample_id="1", kind=kind, asked_sha="", prompt=prompt, max_tokens=max_tokens, **more)


def opened(folder, model=None, **deployment):
    backend = Transformers()
    model = model or Model("tiny", {"hf": str(folder)})
    backend.open(model, Deployment("t", "transformers", **{**CPU, **deployment}))
    return backend


def answers(backend, *requests):
    prepared = [backend.prepare(r) for r in requests]
    raws = backend.send(prepared)
    return raws, [backend.finish(p, r) for p, r in zip(prepared, raws)]


def tokens(raw):
    return [token for _, token in raw.stamps]


@pytest.fixture(scope="module")
def backend(hf_folder):
    return opened(hf_folder)


@pytest.fixture(scope="module")
def reference(hf_folder):
    """The library's own model and tokenizer: what the tokens and probabilities must be."""
    model = hf.AutoModelForCausalLM.from_pretrained(hf_folder, dtype=torch.float32)
    return model.eval(), hf.AutoTokenizer.from_pretrained(hf_folder)


def with_eos(folder, out, ids):
    """A copy of the model that ends at any of `ids`."""
    shutil.copytree(folder, out)
    path = out / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": ids}))
    return out


def generated(model, tokenizer, prompts, **more):
    """model.generate over a left-padded batch; rows cut after their first end-of-text."""
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        out = model.generate(**batch, do_sample=False, max_new_tokens=24, **more)
    ends = model.generation_config.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends)
    rows = out[:, batch["input_ids"].shape[1] :].tolist()
    return [row[: next((i + 1 for i, t in enumerate(row) if t in ends), len(row))] for row in rows]


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("size", [1, 16])
def test_greedy_tokens_are_those_of_generate(backend, reference, size):
    for start in range(0, 16, size):
        prompts = PROMPTS[start : start + size]
        raws, _ = answers(backend, *map(ask, prompts))
        assert [tokens(r) for r in raws] == generated(*reference, prompts)


def test_rows_end_at_end_of_text_each_on_its_own(hf_folder, backend, tmp_path):
    raws, _ = answers(backend, *map(ask, PROMPTS))
    ends = [0, *(tokens(raws[i])[4 + i] for i in (0, 3, 7))]
    folder = with_eos(hf_folder, tmp_path / "eos", ends)
    model, tokenizer = hf.AutoModelForCausalLM.from_pretrained(folder), hf.AutoTokenizer.from_pretrained(folder)
    ending = opened(folder)
    raws, found = answers(ending, *map(ask, PROMPTS))
    assert [tokens(r) for r in raws] == generated(model, tokenizer, PROMPTS)
    lengths = {len(r.stamps) for r in raws}
    assert len(lengths) > 2, "rows should end at different steps for this test to mean something"
    for raw, answer in zip(raws, found):
        ended = tokens(raw)[-1] in ends
        assert answer.finish_reason == ("stop" if ended else "length")
        assert raw.done_ns == raw.stamps[-1][0]
        assert answer.usage["completion_tokens"] == len(raw.stamps)
    raws, _ = answers(ending, *(ask(p, min_tokens=10) for p in PROMPTS))
    assert [tokens(r) for r in raws] == generated(model, tokenizer, PROMPTS, min_new_tokens=10)


def test_stamps_rise_and_share_the_batch_start(backend):
    raws, _ = answers(backend, *map(ask, PROMPTS))
    assert len({r.sent_ns for r in raws}) == 1
    for raw in raws:
        times = [raw.sent_ns, *(t for t, _ in raw.stamps)]
        assert times == sorted(set(times))
        assert raw.clock == "engine"


def test_pieces_are_the_decoded_text(backend, reference):
    raws, found = answers(backend, *map(ask, PROMPTS))
    for raw, answer in zip(raws, found):
        assert len(answer.pieces) == len(raw.stamps)
        assert "".join(answer.pieces) == reference[1].decode(tokens(raw), skip_special_tokens=True)
        assert answer.usage == {"prompt_tokens": answer.usage["prompt_tokens"], "completion_tokens": 24}


def test_prompt_tokens_do_not_count_padding(backend, reference):
    _, found = answers(backend, *map(ask, PROMPTS))
    assert [a.usage["prompt_tokens"] for a in found] == [len(reference[1](p)["input_ids"]) for p in PROMPTS]


def test_a_stop_string_ends_a_row_and_is_not_shown(backend):
    _, (free,) = answers(backend, ask())
    text = "".join(free.pieces)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    (raw,), (answer,) = answers(backend, ask(stop=(stop,)))
    assert "".join(answer.pieces) == text[: text.index(stop)]
    assert answer.finish_reason == "stop"
    # ended with the very token that completed the stop
    complete = next(i for i in range(25) if stop in "".join(free.pieces[:i]))
    assert len(raw.stamps) <= complete
    assert answer.output_tokens == max(i for i, p in enumerate(answer.pieces, 1) if p)
    (raw,), (answer,) = answers(backend, ask(stop=(stop,), min_tokens=24))
    assert len(raw.stamps) == 24 and "".join(answer.pieces) == text, "a fixed length ignores stops"


def test_a_fixed_length_is_held_for_prompt_and_answer(backend):
    (raw,), (answer,) = answers(backend, ask(prompt_tokens=100, min_tokens=31, max_tokens=31))
    assert answer.usage == {"prompt_tokens": 100, "completion_tokens": 31}
    assert len(raw.stamps) == 31
    _, (answer,) = answers(backend, ask(prompt_tokens=2))
    assert answer.usage["prompt_tokens"] == 2


def test_seeded_sampling_repeats_itself(backend):
    def sample(seed, top_p=1.0):
        (raw,), _ = answers(backend, ask(temperature=1.5, seed=seed, top_p=top_p))
        return tokens(raw)

    greedy = tokens(answers(backend, ask())[0][0])
    assert sample(1) == sample(1) != sample(2)
    assert sample(1, top_p=1e-9) == greedy


# ---------------------------------------------------------------- what goes wrong stays with its request


def test_a_request_that_does_not_fit_fails_alone(backend):
    raws, found = answers(backend, ask(), ask("fox " * 300), ask("dog"))
    assert [r.status for r in raws] == ["ok", "error", "ok"]
    assert found[1].error.kind == "context" and "256" in found[1].error.message
    alone, _ = answers(backend, ask())
    assert tokens(raws[0]) == tokens(alone[0])


def test_a_passed_deadline_is_a_timeout_that_keeps_what_came(backend):
    (raw,), (answer,) = answers(backend, ask(deadline_s=0.0))
    assert raw.status == answer.status == "timeout"
    assert len(answer.pieces) == 1 and answer.error.kind == "timeout"


def test_a_raising_engine_is_recorded(backend, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(backend, "_forward", broken)
    raws, found = answers(backend, ask(), ask())
    assert [r.status for r in raws] == ["error", "error"]
    assert found[0].error.kind == "memory" and "RuntimeError" in found[0].error.message


def test_messages_need_a_template(backend):
    request = Request(
        id="1", sample_id="1", kind="generate", asked_sha="", messages=(Message("user", "hi"),), max_tokens=4
    )
    _, (answer,) = answers(backend, request)
    assert answer.status == "error" and "format to raw" in answer.error.message


def test_a_template_renders_what_the_model_sees(hf_folder, tmp_path):
    folder = tmp_path / "chat"
    shutil.copytree(hf_folder, folder)
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    (folder / "chat_template.jinja").write_text(template)
    backend = opened(folder)
    request = Request(
        id="1", sample_id="1", kind="generate", asked_sha="", messages=(Message("user", "hi"),), max_tokens=4
    )
    raws, (answer,) = answers(backend, request)
    assert answer.rendered == "<user>hi<assistant>"
    raws_raw, _ = answers(backend, ask("<user>hi<assistant>", max_tokens=4))
    assert tokens(raws[0]) == tokens(raws_raw[0])


# ---------------------------------------------------------------- log-probabilities


def full_logprobs(reference, ids):
    """log p(ids[i] | ids[:i]) for i >= 1 by one plain forward pass."""
    with torch.inference_mode():
        table = reference[0](torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(table[i - 1, ids[i]]) for i in range(1, len(ids))]


@pytest.mark.parametrize("count", [3, 20])
def test_choice_equals_a_full_forward_pass(backend, reference, count):
    continuations = (" dog", *(f" {'fox ' * (i % 4)}{i} dog" for i in range(count - 1)))
    _, (answer,) = answers(backend, ask(kind="choice", continuations=continuations))
    prompt = reference[1].encode("the quick brown fox")
    for text, scored in zip(continuations, answer.option_logprobs, strict=True):
        ids = reference[1].encode("the quick brown fox" + text)
        assert scored == pytest.approx(full_logprobs(reference, ids)[len(prompt) - 1 :], abs=1e-4)


def test_choice_moves_trailing_blanks_to_the_continuation(backend):
    _, (apart,) = answers(backend, ask("the quick ", kind="choice", continuations=("brown",)))
    _, (joined,) = answers(backend, ask("the quick", kind="choice", continuations=(" brown",)))
    assert apart.option_logprobs == joined.option_logprobs


def test_an_empty_continuation_is_an_error(backend):
    _, (answer,) = answers(backend, ask(kind="choice", continuations=(" dog", "")))
    assert answer.status == "error" and answer.error.kind == "empty"


def test_windows_score_every_token_once(backend, reference):
    text = "the quick brown fox 17 jumps over the lazy dog. " * 40
    ids = reference[1].encode(text)
    assert len(ids) > 2 * 256
    _, (answer,) = answers(backend, ask(text, kind="windows", max_tokens=0))
    assert len(answer.token_logprobs) == len(ids) - 1, "no BOS: the first token has no context"
    assert answer.usage["unscored_tokens"] == 1
    whole = full_logprobs(reference, ids[:256])
    assert answer.token_logprobs[:255] == pytest.approx(whole, abs=1e-4)
    # the next window moves on by half a context: its second half is new
    second = full_logprobs(reference, ids[128:384])
    assert answer.token_logprobs[255:383] == pytest.approx(second[-128:], abs=1e-4)


# ---------------------------------------------------------------- loading


def test_random_weights_need_only_the_config(hf_folder, tmp_path):
    for path in hf_folder.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, tmp_path)
    backend = opened(tmp_path, Model("tiny", {"hf": str(tmp_path)}, weights="random"))
    raws, _ = answers(backend, ask(min_tokens=8, max_tokens=8))
    assert len(raws[0].stamps) == 8


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft about transformers
def test_an_adapter_is_applied(hf_folder, reference, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = hf.AutoModelForCausalLM.from_pretrained(hf_folder, dtype=torch.float32)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    adapted = peft.get_peft_model(base, config).eval()
    adapted.save_pretrained(tmp_path)
    expected = generated(adapted, reference[1], PROMPTS[:3])
    for merge in (False, True):
        backend = opened(
            hf_folder,
            Model("tiny", {"hf": str(hf_folder)}, adapter=str(tmp_path)),
            options={"threads": 1, "merge_adapter": merge},
        )
        raws, _ = answers(backend, *map(ask, PROMPTS[:3]))
        assert [tokens(r) for r in raws] == expected
    assert expected != generated(*reference, PROMPTS[:3])


def test_what_was_opened_is_said(hf_folder):
    found = Transformers().open(Model("tiny", {"hf": str(hf_folder)}), Deployment("t", "transformers", **CPU))
    assert found.settings["dtype"] == "float32" and found.settings["device"] == "cpu"
    assert found.settings["threads"] == 1
    assert len(found.tokenizer_sha) == 64 and found.template_sha is None
    half = Transformers().open(
        Model("tiny", {"hf": str(hf_folder)}), Deployment("t", "transformers", dtype="bf16", **CPU)
    )
    assert half.settings["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"dtype": "float12"}, "no dtype 'float12'"),
        ({"quantization": "int3"}, "no quantization 'int3'"),
    ],
)
def test_a_wrong_deployment_is_one_sentence(hf_folder, change, said):
    with pytest.raises(UsageError, match=said):
        opened(hf_folder, **change)


def test_a_missing_model_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        opened(tmp_path / "none")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be loaded"):
        opened(tmp_path)
    with pytest.raises(UsageError, match="no hf source"):
        opened(tmp_path, Model("tiny", {"onnx": "x"}))


def test_learned_positions_and_sliding_windows_are_right_too(hf_folder, reference, tmp_path):
    size = len(reference[1])
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}
    configs = [
        hf.GPT2Config(vocab_size=size, n_embd=64, n_layer=2, n_head=4, n_positions=256, **ends),
        hf.MistralConfig(vocab_size=size, intermediate_size=128, sliding_window=16, pad_token_id=0, **heads, **ends),
    ]
    for config in configs:
        folder = tmp_path / config.model_type
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval()
        model.save_pretrained(folder)
        reference[1].save_pretrained(folder)
        backend = opened(folder)
        raws, _ = answers(backend, *map(ask, PROMPTS[:4]))
        assert [tokens(r) for r in raws] == generated(model, reference[1], PROMPTS[:4])
        prompt, options = "the quick brown " * 6 + "fox", (" fox", " lazy dog 12", " on the wall 123 on the wall")
        _, (answer,) = answers(backend, ask(prompt, kind="choice", continuations=options))
        skip = len(reference[1].encode(prompt)) - 1
        for text, scored in zip(options, answer.option_logprobs, strict=True):
            expected = full_logprobs((model, None), reference[1].encode(prompt + text))[skip:]
            assert scored == pytest.approx(expected, abs=1e-4)


def test_a_model_without_a_cache_is_refused_at_once(reference, tmp_path):
    config = hf.MambaConfig(vocab_size=len(reference[1]), hidden_size=32, num_hidden_layers=1)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    reference[1].save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="keeps no key-value cache; serve it"):
        opened(tmp_path)


def test_a_model_whose_forward_names_nothing_is_refused_for_that(hf_folder, reference, monkeypatch):
    named = type(reference[0]).forward

    def forward(self, *args, **kwargs):
        return named(self, *args, **kwargs)

    monkeypatch.setattr(type(reference[0]), "forward", forward)
    with pytest.raises(UsageError, match="forward that names none of its inputs, so that past_key_values cannot be"):
        opened(hf_folder)


def test_a_model_with_code_of_its_own_runs_only_if_asked_to(reference, tmp_path):
    reference[0].save_pretrained(tmp_path)
    reference[1].save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": classes}))
    (tmp_path / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class Own(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(UsageError, match="code of its own; if you trust it: -O trust_remote_code=true --allow-code"):
        opened(tmp_path)
    backend = opened(tmp_path, options={**CPU["options"], "trust_remote_code": True})
    assert backend._model.config.model_type == "own"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_an_absent_device_is_said(hf_folder):
    with pytest.raises(UsageError, match="'cuda' is not on this machine"):
        opened(hf_folder, device="cuda")


def test_what_can_be_known_before_loading_is_said_then(hf_folder, tmp_path, monkeypatch):
    def check(model=None, allow_code=False, **deployment):
        Transformers.check(
            model or Model("tiny", {"hf": str(hf_folder)}), Deployment("t", "t", **deployment), allow_code
        )

    check()
    with pytest.raises(UsageError, match="add --allow-code"):
        check(options={"trust_remote_code": True})
    check(options={"trust_remote_code": True}, allow_code=True)
    with pytest.raises(UsageError, match="random weights cannot be quantised"):
        check(Model("tiny", {"hf": str(hf_folder)}, weights="random"), quantization="int8")
    with pytest.raises(UsageError, match="has no safetensors"):
        check(Model("tiny", {"hf": str(tmp_path)}))
    monkeypatch.setattr("poise.measure.backends._transformers_load.installed", lambda p: p in ("torch", "transformers"))
    with pytest.raises(UsageError, match="pip install bitsandbytes"):
        check(quantization="int4")
    with pytest.raises(UsageError, match=r"needs peft: pip install 'poise\[transformers\]'"):
        check(Model("tiny", {"hf": str(hf_folder)}, adapter="x"))
