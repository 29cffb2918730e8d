"""Writes a trained model as a transformers folder and as an onnxruntime-genai folder, both with the same values.

    python training/export.py build/training/s src/poise/bundled/s

Weights are rounded to fp16 once and stored as fp16 in both; both engines compute in fp32. In the ONNX graph a cast
stands behind each stored matrix, and onnxruntime folds it away when it loads the model.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from data import EOS, PAD
from model import Llama, Shape, to_llama
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

LARGE = 1024
"""Tensors with more values than this are stored as fp16."""

PADDING = 8

TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": EOS,
    "pad_token": PAD,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 1024,
}


def write_huggingface(trained: Path, out: Path) -> None:
    saved = torch.load(trained / "state.pt", map_location="cpu")
    model = Llama(Shape(**saved["shape"]))
    model.load_state_dict(saved["model"])
    tokenizer = Tokenizer.from_file(str(trained / "tokenizer.json"))
    # A newline ends every answer, so engines may stop there by themselves.
    eos = [tokenizer.token_to_id(EOS), tokenizer.encode("\n").ids[0]]
    llama = to_llama(model, eos, tokenizer.token_to_id(PAD)).half()
    llama.generation_config.eos_token_id = eos
    llama.generation_config.pad_token_id = tokenizer.token_to_id(PAD)
    llama.save_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "float32"  # how to compute; the file holds fp16
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copy(trained / "tokenizer.json", out / "tokenizer.json")
    (out / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")


def write_onnx(huggingface: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, built = Path(scratch, "source"), Path(scratch, "onnx")
        ff = write_padded(huggingface, source)
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "fp32", "-e", "cpu"]
        places = ["-i", str(source), "-o", str(built), "-c", str(Path(scratch, "cache"))]
        subprocess.run(builder + places, check=True, capture_output=True)
        model = onnx.load(built / "model.onnx")
        cut_padding(model.graph, ff)
        store_as_fp16(model.graph)
        out.mkdir(parents=True, exist_ok=True)
        onnx.save(model, out / "model.onnx")
        config = json.loads((built / "genai_config.json").read_text())
    config["search"]["max_length"] = config["model"]["context_length"]
    # One thread: more are slower at this size.
    config["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    (out / "genai_config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(huggingface / name, out / name)


def write_padded(huggingface: Path, out: Path) -> int:
    """A copy with wider feed-forward layers (zeros, taken out again later); returns the true width.

    The model builder takes every matrix with as many outputs as the vocabulary has tokens for the output head, so the
    two numbers must differ while it works.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM.from_pretrained(huggingface, dtype=torch.float32)
    config = LlamaConfig.from_pretrained(huggingface)
    ff = config.intermediate_size
    config.intermediate_size = ff + PADDING
    wide = LlamaForCausalLM(config)
    state = wide.state_dict()
    for name, weight in llama.state_dict().items():
        state[name].zero_()
        state[name][tuple(slice(n) for n in weight.shape)] = weight
    wide.load_state_dict(state)
    wide.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(huggingface / name, out / name)
    return ff


def cut_padding(graph: onnx.GraphProto, ff: int) -> None:
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if ff + PADDING in values.shape:
            cut = values[tuple(slice(ff if n == ff + PADDING else n) for n in values.shape)]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(cut), tensor.name))
    del graph.value_info[:]  # shapes of what lies between; the runtime infers them


def store_as_fp16(graph: onnx.GraphProto) -> None:
    """Large matrices become fp16 with a cast behind them; no value changes."""
    tensors, casts = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        halves = values.astype(np.float16) if values.dtype == np.float32 and values.size > LARGE else None
        if halves is None or not np.array_equal(halves.astype(np.float32), values):
            tensors.append(tensor)  # small, or a table (rotary) that fp16 cannot hold
            continue
        tensors.append(numpy_helper.from_array(halves, f"{tensor.name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}.fp16"], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trained", type=Path, help="folder with state.pt and tokenizer.json")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_huggingface(args.trained, args.out)
    write_onnx(args.out, args.out / "onnx")


if __name__ == "__main__":
    main()
