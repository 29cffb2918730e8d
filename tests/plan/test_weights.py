"""What weights take in memory, from headers, files and configurations alone."""

import json
import struct

import pytest

from poise.plan.weights import model_bytes


def safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, size, shape) in tensors.items():
        count = size
        for side in shape:
            count *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + count]}
        offset += count
    body = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(body)) + body + bytes(offset))


def test_weights_are_sized_from_the_headers(tmp_path):
    safetensors(tmp_path / "a.safetensors", {"w": ("F16", 2, [10, 20]), "b": ("F16", 2, [])})
    safetensors(tmp_path / "b.safetensors", {"v": ("F32", 4, [100])})
    assert model_bytes(tmp_path) == 201 * 2 + 400
    assert model_bytes(tmp_path, "float32") == 301 * 4
    assert model_bytes(tmp_path, "float16", "int8") == 301
    assert model_bytes(tmp_path, "auto", "int4") == 150


def test_without_weights_the_config_tells(tmp_path):
    # Llama-2-7B: 6 738 415 616 parameters (its model card); norms (266 240 of them) are left out of the estimate
    config = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
              "intermediate_size": 11008, "vocab_size": 32000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_bytes(tmp_path, "float16") == 2 * (6_738_415_616 - 266_240)


def test_files_of_other_formats_count_as_they_are(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x" * 10)
    (tmp_path / "model.onnx.data").write_bytes(b"x" * 1000)
    assert model_bytes(tmp_path) == 1010


def test_what_is_unknown_is_none(tmp_path):
    assert model_bytes("meta-llama/Llama-2-7b-hf") is None
    assert model_bytes(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    assert model_bytes(tmp_path) == 4


@pytest.mark.parametrize("header", [b"[]", b'{"w": {}}', b'{"w": {"shape": "wide"}}', b"[" * 100_000, b"\xff"])
def test_a_header_that_is_none_counts_as_the_file(tmp_path, header):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert model_bytes(tmp_path, "float32") == 8 + len(header)
