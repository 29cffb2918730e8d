"""Writes a Llama folder of the bundled kind (safetensors, byte-level BPE with single digits) as a GGUF file.

    python training/export_gguf.py src/poise/bundled/xs xs.gguf

For llama.cpp and servers built on it. All weights become fp32, as the other engines compute. Needs gguf, safetensors.
"""

import json
import sys
from pathlib import Path
from typing import Any

LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(folder: Path, target: Path) -> None:
    from gguf import GGUFWriter, TokenType
    from safetensors.numpy import load_file

    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    tokenizer: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    eos = config["eos_token_id"]
    eos = eos if isinstance(eos, list) else [eos]

    w = GGUFWriter(str(target), "llama")
    w.add_name(folder.name)
    w.add_file_type(0)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(config["head_dim"])
    w.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_vocab_size(config["vocab_size"])

    special = {t["id"] for t in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")  # single digits, then GPT-2's pattern
    w.add_token_list(tokens)
    w.add_token_types([TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_eos_token_id(eos[0])
    if len(eos) > 1:
        w.add_eot_token_id(eos[1])
    if (template := folder / "chat_template.jinja").exists():
        w.add_chat_template(template.read_text())
    bos = config["bos_token_id"]
    w.add_add_bos_token(bos is not None)
    w.add_bos_token_id(config["pad_token_id"] if bos is None else bos)  # some id must be named: one that no text has

    for name, tensor in load_file(folder / "model.safetensors").items():
        stem, tensor = name.removesuffix(".weight"), tensor.astype("float32")
        if stem in WHOLE:
            w.add_tensor(f"{WHOLE[stem]}.weight", tensor)
            continue
        _, _, layer, rest = stem.split(".", 3)
        if rest in ("self_attn.q_proj", "self_attn.k_proj"):  # GGUF's llama rotates neighbours, not halves
            n = heads if "q_proj" in rest else kv_heads
            rows, columns = tensor.shape
            tensor = tensor.reshape(n, 2, rows // n // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()
        w.add_tensor(f"blk.{layer}.{LAYER[rest]}.weight", tensor)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
