import getpass
import json
import platform
import struct

import psutil
import pytest

from poise.measure import host


def test_the_environment_names_the_machine_and_not_its_owner():
    found = host.environment()
    assert found["cores"]["logical"] >= found["cores"]["usable"] >= 1
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert 0 < found["memory_available_bytes"] <= found["memory_bytes"]
    assert found["python"] == platform.python_version()
    assert "poise" in found["packages"] and "msgspec" in found["packages"]
    text = json.dumps(found)
    assert platform.node() not in text or len(platform.node()) < 4
    assert f"/{getpass.getuser()}" not in text and "/home" not in text


@pytest.mark.parametrize(("system", "said"), [("Linux", "A64FX at 2 GHz"), ("Darwin", "Apple M2 Max")])
def test_the_processor_is_named_on_linux_and_macos(monkeypatch, system, said):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(host, "_read", lambda path: f"x : y\nmodel name\t: {said}\n")
    monkeypatch.setattr(host, "_command", lambda *argv: "Apple M2 Max" if argv[0] == "sysctl" else "")
    assert host._cpu() == said


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
    assert host.model_bytes(tmp_path) == 201 * 2 + 400
    assert host.model_bytes(tmp_path, "float32") == 301 * 4
    assert host.model_bytes(tmp_path, "float16", "int8") == 301
    assert host.model_bytes(tmp_path, "auto", "int4") == 150


def test_without_weights_the_config_tells(tmp_path):
    # Llama-2-7B: 6 738 415 616 parameters (its model card); norms (266 240 of them) are left out of the estimate
    config = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
              "intermediate_size": 11008, "vocab_size": 32000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert host.model_bytes(tmp_path, "float16") == 2 * (6_738_415_616 - 266_240)


def test_files_of_other_formats_count_as_they_are(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x" * 10)
    (tmp_path / "model.onnx.data").write_bytes(b"x" * 1000)
    assert host.model_bytes(tmp_path) == 1010


def test_what_is_unknown_is_none(tmp_path):
    assert host.model_bytes("meta-llama/Llama-2-7b-hf") is None
    assert host.model_bytes(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    assert host.model_bytes(tmp_path) == 4


def test_threads_follow_the_size_of_the_model():
    assert host.default_threads(5_000_000) == 1
    assert host.default_threads(14_000_000_000) == psutil.cpu_count(logical=False)


def test_a_container_limit_is_respected(monkeypatch):
    files = {"/sys/fs/cgroup/memory.max": "1000000", "/sys/fs/cgroup/memory.current": "400000"}
    monkeypatch.setattr(host, "_read", lambda path: files.get(path, ""))
    assert host.memory_available() == 600_000
