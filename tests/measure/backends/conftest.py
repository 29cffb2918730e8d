"""Engines that run in process are tested on a tiny random Llama with its own byte-level tokenizer, made here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINES = [
    f"the quick brown fox {i} jumps over the lazy dog while {i * 7} bottles stand on the wall. 中文 émile zażółć 猫"
    for i in range(200)
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _byte_level_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 0.2 M-parameter Llama in fp32: safetensors, config, tokenizer. Context 256, no BOS."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = _byte_level_tokenizer()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>"
    ).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=160, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
        eos_token_id=0, bos_token_id=None, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.logging.disable_progress_bar()
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _export(folder: Path, out: Path, *extra: str) -> Path:
    pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    pytest.importorskip("onnx_ir", reason="the exporter needs onnx-ir")
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "fp32", "-e", "cpu"]
    command = [*builder, "-m", str(folder), "-o", str(out), "-c", str(out / "cache"), *extra]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=120)
    return out


@pytest.fixture(scope="session")
def onnx_folder(hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as fp32 ONNX for onnxruntime-genai."""
    return _export(hf_folder, tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def pruned_onnx_folder(hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, exported so that only the last position has logits."""
    return _export(hf_folder, tmp_path_factory.mktemp("pruned"), "--extra_options", "prune_lm_head=true")
