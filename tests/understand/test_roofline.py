"""Golden values: published checkpoints' parameter totals (Hugging Face hub), KV bytes of the models' papers."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from poise.types import UsageError
from poise.understand.hardware import CATALOGUE, GIB, hardware
from poise.understand.roofline import (
    Efficiency,
    Setting,
    decode_flops,
    kv_bytes,
    kv_bytes_per_token,
    prefill_flops,
    refit,
    roofline,
    smallest_count,
    step_weight_bytes,
    total_s,
    ttft_s,
    use,
    weight_bytes,
)
from poise.understand.shapes import BUILT_IN, read_shape, shape_of

A100 = hardware("A100-80GB")

# Totals of the safetensors files of the checkpoints that shapes.BUILT_IN names (tied tables counted once).
PARAMS = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "falcon-7b": 6_921_720_704,
    "gemma-7b": 8_537_680_896,
    "gpt2": 124_439_808,
    "gpt-j-6b": 6_050_882_784,
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_parameters_equal_the_published_totals(name):
    assert read_shape(name).params == PARAMS[name]


def test_active_parameters_of_a_mixture():
    # 12.9 B of 46.7 B, Jiang et al., "Mixtral of Experts", arXiv 2401.04088.
    assert read_shape("mixtral-8x7b").active_params == pytest.approx(12.9e9, rel=0.002)
    assert read_shape("llama-2-7b").active_params == PARAMS["llama-2-7b"]


@pytest.mark.parametrize(
    "name,expected", [("llama-2-7b", 524_288), ("llama-3-8b", 131_072), ("llama-2-70b", 327_680), ("falcon-7b", 8_192)]
)
def test_kv_bytes_per_token(name, expected):
    assert kv_bytes_per_token(read_shape(name)) == expected


def test_flops_by_hand():
    # Llama-2-7B, p = 1024: 2·6 738 415 616·1024 + 4·32·32·128·1024²; the second term halved when causal.
    shape = read_shape("llama-2-7b")
    attention = 4 * 32 * 32 * 128 * 1024**2
    assert prefill_flops(shape, 1024) == 2 * 6_738_415_616 * 1024 + attention
    assert prefill_flops(shape, 1024, batch=3, causal=True) == 3 * (2 * 6_738_415_616 * 1024 + attention / 2)
    assert decode_flops(shape, 2000, batch=2) == 2 * (2 * 6_738_415_616 + 4 * 32 * 32 * 128 * 2000)


def test_decode_reads_head_but_not_input_table():
    llama, gpt2 = read_shape("llama-2-7b"), read_shape("gpt2")
    assert step_weight_bytes(llama) == 2 * (6_738_415_616 - 32000 * 4096)
    assert step_weight_bytes(gpt2) == 2 * (124_439_808 - 1024 * 768)  # tied: the table is the head
    assert weight_bytes(llama) == 2 * 6_738_415_616


def test_a_batch_meets_more_experts():
    mixtral = read_shape("mixtral-8x7b")
    one, many = step_weight_bytes(mixtral, 1), step_weight_bytes(mixtral, 64)
    assert one == 2 * (mixtral.active_params - mixtral.embedding_params)
    assert many == pytest.approx(2 * (mixtral.params - mixtral.embedding_params), rel=1e-6)


@pytest.mark.parametrize(
    "name,where,batch,expected",
    [
        ("llama-2-7b", "T4", 1, 1),  # 13.5 GB of 15.5 usable
        ("llama-2-13b", "T4", 1, 2),  # 26 GB
        ("llama-2-13b", "RTX-A6000", 1, 1),
        ("llama-2-70b", "A100-80GB", 1, 2),  # 138 GB of 2 x 77
        ("llama-2-70b", "A100-40GB", 1, 4),
        ("llama-3-8b", "L4", 1, 1),
        ("llama-3-70b", "A100-80GB", 1, 2),
        ("llama-3-70b", "H200", 1, 2),  # 141 GB of 136 usable
        ("mistral-7b", "RTX-4090", 1, 1),
        ("mixtral-8x7b", "A100-80GB", 1, 2),  # 93 GB
        ("falcon-7b", "T4", 1, 1),
        ("gemma-7b", "T4", 1, 2),  # 17 GB
        ("gpt2", "T4", 1, 1),
        ("gpt-j-6b", "V100", 1, 1),
        ("llama-2-7b", "A100-40GB", 64, 2),  # 13.5 GB and 34.4 GB of cache (64·1024·524 288 B)
    ],
)
def test_smallest_accelerator_counts(name, where, batch, expected):
    context = 1024 if batch > 1 else 512
    need = weight_bytes(read_shape(name)) + kv_bytes(read_shape(name), context, batch)
    count = smallest_count(read_shape(name), hardware(where), context, batch)
    assert count == expected
    assert (count - 1) * 0.9 * hardware(where).mem_bytes < need <= count * 0.9 * hardware(where).mem_bytes


def test_memory_bound_decode_by_hand():
    # Llama-2-7B on one A100-80GB at full bandwidth: 13.2 GB + 513 tokens of KV over 2 039 GB/s.
    made = roofline(read_shape("llama-2-7b"), A100, 512, 2, efficiency=Efficiency(1, 1))
    assert made.decode_bound == "memory"
    assert made.tpot_s == pytest.approx((2 * (6_738_415_616 - 32000 * 4096) + 513 * 524_288) / 2039e9)
    assert made.ttft_s == pytest.approx(prefill_flops(read_shape("llama-2-7b"), 512) / 312e12)
    assert made.total_s == pytest.approx(made.ttft_s + made.tpot_s)
    assert made.energy_j == pytest.approx(400 * made.total_s)


def test_windows_bound_the_cache():
    mistral = read_shape("mistral-7b")
    assert kv_bytes(mistral, 4096) == kv_bytes(mistral, 30000) == 4096 * 131_072
    assert decode_flops(mistral, 30000) == decode_flops(mistral, 4096)
    gemma2 = shape_of(tiny("gemma2", sliding_window=16), "g")
    assert (gemma2.windowed_layers, gemma2.window) == (2, 16)


def tiny(kind, **more):
    base = {
        "model_type": kind, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 128,
        "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256, "tie_word_embeddings": False,
    }  # fmt: skip
    return base | more


MLA = {
    "kv_lora_rank": 16, "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "config,expected",
    [  # sum(p.numel()) of transformers 5.23's AutoModelForCausalLM.from_config on the meta device
        (tiny("llama"), 139_840),
        (tiny("llama", attention_bias=True, mlp_bias=True), 141_632),
        (tiny("qwen2"), 140_352),
        (tiny("phi"), 116_864),
        (tiny("phi3"), 139_840),
        (tiny("stablelm"), 140_416),
        (tiny("olmo2"), 140_224),
        (tiny("mixtral", num_local_experts=4, num_experts_per_tok=2), 362_048),
        (tiny("deepseek_v2", num_key_value_heads=4, **MLA), 183_680),
        ({"model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
          "num_kv_heads": 2, "vocab_size": 128, "new_decoder_architecture": True}, 144_256),
        ({"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 96,
          "vocab_size": 128, "max_position_embeddings": 64}, 100_576),
    ],
)  # fmt: skip
def test_families_are_laid_out_as_transformers_does(config, expected):
    assert shape_of(config, "m").params == expected


def test_latent_attention_keeps_the_latent():
    shape = shape_of(tiny("deepseek_v2", **MLA), "m")
    assert kv_bytes_per_token(shape) == 4 * (16 + 8) * 2
    assert shape.active_params == shape.params - 2 * 3 * (3 * 64 * 32)


def test_quantised_widths():
    int4 = read_shape("llama-2-7b", "int4")
    assert (int4.weight_bits, int4.table_bits) == (4.25, 16)
    assert weight_bytes(read_shape("llama-2-7b", "q8_0")) == 6_738_415_616 * 8.5 / 8
    gptq = shape_of(tiny("llama", quantization_config={"quant_method": "gptq", "bits": 4}), "m")
    assert gptq.weight_bits == 4.25
    assert shape_of(tiny("llama", torch_dtype="float32"), "m").weight_bits == 32
    with pytest.raises(UsageError, match="did you mean 'int4'"):
        read_shape("gpt2", "itn4")


def test_config_files_and_folders_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny("llama")))
    assert read_shape(str(tmp_path)) == read_shape(str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": tiny("llama"), "model_type": "many"}))
    assert read_shape(str(tmp_path)).params == 139_840


def test_an_unknown_family_says_that_it_is_assumed():
    assert "laid out like llama" in (shape_of(tiny("newthing"), "m").assumed or "")


@pytest.mark.parametrize(
    "config,sentence",
    [
        ({k: v for k, v in tiny("llama").items() if k != "num_hidden_layers"}, "lacks num_hidden_layers"),
        ({k: v for k, v in tiny("llama").items() if k != "intermediate_size"}, "lacks intermediate_size"),
        (tiny("llama", hidden_size="big"), "hidden_size must be a positive whole number"),
        (tiny("llama", head_dim=-4), "head_dim must be a positive whole number"),
        (tiny("mixtral", num_local_experts=4), "num_experts_per_tok"),
        (tiny("deepseek_v2", kv_lora_rank=16), "qk_nope_head_dim"),
    ],
)
def test_a_config_that_lacks_a_field_is_one_sentence(config, sentence):
    with pytest.raises(UsageError, match=sentence):
        shape_of(config, "m")


def test_unknown_names_get_a_suggestion(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'llama-2-7b'"):
        read_shape("lama-2-7b")
    with pytest.raises(UsageError, match="did you mean 'A100-80GB'"):
        hardware("A100-90GB")
    with pytest.raises(UsageError, match="there are: V100"):
        hardware("abacus")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UsageError, match="holds no object"):
        read_shape(str(tmp_path))
    with pytest.raises(UsageError, match="no model config"):
        read_shape("org/model")


@pytest.mark.parametrize("word", ["a100 80gb", "NVIDIA A100-SXM4-80GB", "A100_80GB", "a100"])
def test_hardware_is_found_however_it_is_spelt(word):
    assert hardware(word) is CATALOGUE["A100-80GB"]


def test_catalogue_units():
    # A100 data sheet: 312 TFLOP/s dense half precision, 2 039 GB/s, 80 GB, 400 W.
    assert (A100.flops, A100.bandwidth, A100.mem_bytes, A100.power_w) == (312e12, 2039e9, 80 * GIB, 400)


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        ({"prompt_tokens": 0, "output_tokens": 1}, "prompt tokens must be 1"),
        ({"prompt_tokens": 1, "output_tokens": 1, "batch": 0}, "batch must be 1"),
        ({"prompt_tokens": 1, "output_tokens": 1, "accelerators": 0}, "accelerators must be 1"),
        ({"prompt_tokens": 4000, "output_tokens": 97}, "beyond the context of llama-2-7b, 4096"),
    ],
)
def test_impossible_requests_are_refused(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        roofline(read_shape("llama-2-7b"), A100, **arguments)


def test_too_few_accelerators_is_a_note_and_unknown_power_no_zero():
    made = roofline(read_shape("llama-2-70b"), hardware("M2"), 10, 10, accelerators=1)
    assert made.smallest_accelerators == 6
    assert made.notes == ("1 x M2 cannot hold it; 6 can",)
    assert made.energy_j is None


shapes = st.sampled_from(sorted(BUILT_IN)).map(read_shape)
chips = st.sampled_from(sorted(CATALOGUE)).map(hardware)
lengths = st.integers(1, 300)
CHANGES = (
    "prompt",
    "output",
    "batch",
    "accelerators",
    "flops",
    "bandwidth",
    "compute",
    "memory",
    "overhead_s",
    "kv_bits",
)


@given(shapes, chips, lengths, st.integers(1, 40), st.integers(1, 70), st.integers(1, 8), st.sampled_from(CHANGES))
def test_time_is_monotone_in_every_argument(shape, chip, p, o, batch, count, change):
    setting = Setting(chip, count, batch)
    before = total_s(shape, setting, p, o)
    more = structs.replace
    after = {
        "prompt": lambda: total_s(shape, setting, p + 7, o),
        "output": lambda: total_s(shape, setting, p, o + 3),
        "batch": lambda: total_s(shape, more(setting, batch=batch + 3), p, o),
        "kv_bits": lambda: total_s(shape, more(setting, kv_bits=32), p, o),
        "overhead_s": lambda: total_s(shape, more(setting, efficiency=Efficiency(overhead_s=1e-3)), p, o),
        "accelerators": lambda: -total_s(shape, more(setting, accelerators=count + 1), p, o),
        "flops": lambda: -total_s(shape, more(setting, hardware=more(chip, flops=2 * chip.flops)), p, o),
        "bandwidth": lambda: -total_s(shape, more(setting, hardware=more(chip, bandwidth=2 * chip.bandwidth)), p, o),
        "compute": lambda: -total_s(shape, more(setting, efficiency=Efficiency(compute=0.9)), p, o),
        "memory": lambda: -total_s(shape, more(setting, efficiency=Efficiency(memory=0.9)), p, o),
    }[change]()
    assert (after >= before * (1 - 1e-12)) if after > 0 else (-after <= before * (1 + 1e-12))


@given(shapes, st.integers(1, 500), st.integers(1, 8))
def test_counts_are_monotone(shape, s, batch):
    for count in (prefill_flops, decode_flops, kv_bytes):
        assert count(shape, s, batch) <= count(shape, s + 1, batch) <= count(shape, s + 1, batch + 1)
    assert prefill_flops(shape, s, causal=True) <= prefill_flops(shape, s)
    assert smallest_count(shape, A100, s, batch) <= smallest_count(shape, A100, s + 1000, batch + 8)


def test_use_at_full_efficiency_is_one():
    shape, setting = read_shape("llama-3-8b"), Setting(A100, efficiency=Efficiency(1, 1))
    made = use(
        shape,
        setting,
        1000,
        2,
        ttft_s(shape, setting, 1000),
        total_s(shape, setting, 1000, 2) - ttft_s(shape, setting, 1000),
    )
    assert made.prefill_mfu == pytest.approx(1)
    assert made.decode_mbu == pytest.approx(1)
    assert made.decode_mfu is not None and made.decode_mfu < 0.02
    assert use(shape, setting, 1000, 2, None, None).decode_mbu is None


@pytest.mark.parametrize("truth", [Efficiency(0.31, 0.72), Efficiency(0.05, 0.9), Efficiency(0.7, 0.1)])
def test_refit_finds_the_efficiencies_again(truth):
    shape, setting = read_shape("llama-2-7b"), Setting(A100)
    there = structs.replace(setting, efficiency=truth)
    points = [(p, o, total_s(shape, there, p, o)) for p, o in ((2000, 1), (100, 64))]
    made = refit(shape, setting, points)
    assert made.compute == pytest.approx(truth.compute, rel=0.01)
    assert made.memory == pytest.approx(truth.memory, rel=0.01)


def test_refit_leaves_alone_what_the_points_do_not_show():
    shape, setting = read_shape("llama-2-7b"), Setting(A100)
    there = structs.replace(setting, efficiency=Efficiency(0.5, 0.3))
    made = refit(shape, setting, [(1, o, total_s(shape, there, 1, o)) for o in (1, 16)])
    assert made.compute == 0.5
    assert made.memory == pytest.approx(0.3, rel=1e-3)


def test_refit_refuses_too_little():
    with pytest.raises(UsageError, match="two distinct"):
        refit(read_shape("gpt2"), Setting(A100), [(1, 1, 0.1), (1, 1, 0.2)])
    with pytest.raises(UsageError, match="a time is positive"):
        refit(read_shape("gpt2"), Setting(A100), [(1, 1, 0.1), (1, 2, -math.inf)])
