"""A Llama in plain torch, laid out for fast training on few cores: stacked layers and packed rows.

Its weights go one to one into `transformers.LlamaForCausalLM` (see `to_llama`); bf16 is used for matrix products
only, weights and the residual stream stay fp32.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
THETA = 10_000.0


@dataclass(frozen=True)
class Shape:
    """The sizes that make a model."""

    hidden: int
    layers: int
    ff: int
    heads: int
    vocabulary: int = 512
    context: int = 1024

    @property
    def head(self) -> int:
        return self.hidden // self.heads


class Llama(nn.Module):
    """Parameters of one kind are one tensor over all layers, so the optimiser handles them in one batch."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        h, n, f = shape.hidden, shape.layers, shape.ff

        def matrix(*sizes: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(n, *sizes) * std)

        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, h) * 0.05)
        self.q, self.k, self.v = (matrix(h, h, std=h**-0.5) for _ in range(3))
        self.gate, self.up = (matrix(f, h, std=h**-0.5) for _ in range(2))
        self.o, self.down = matrix(h, h, std=0.0), matrix(h, f, std=0.0)
        self.norm_attention = nn.Parameter(torch.ones(n, h))
        self.norm_ff = nn.Parameter(torch.ones(n, h))
        self.norm = nn.Parameter(torch.ones(h))

    def matrices(self) -> list[nn.Parameter]:
        return [self.q, self.k, self.v, self.o, self.gate, self.up, self.down]

    def forward(
        self, tokens: Tensor, targets: Tensor, weights: Tensor, cos: Tensor, sin: Tensor, mask: Tensor
    ) -> Tensor:
        """Weighted mean cross-entropy; `mask` is added to the attention scores."""
        shape = self.shape
        rows, length = tokens.shape
        x = F.embedding(tokens, self.embedding)
        layers = zip(*(p.unbind(0) for p in [*self.matrices(), self.norm_attention, self.norm_ff]), strict=True)
        for q, k, v, o, gate, up, down, norm_attention, norm_ff in layers:
            y = F.rms_norm(x, (shape.hidden,), norm_attention, EPSILON)
            y = F.linear(y, torch.cat((q, k, v)))
            qs, ks, vs = y.view(rows, length, 3, shape.heads, shape.head).unbind(2)
            qs, ks = rotate(qs, cos, sin).transpose(1, 2), rotate(ks, cos, sin).transpose(1, 2)
            scores = qs @ ks.transpose(2, 3)
            shares = torch.softmax(scores.float() * shape.head**-0.5 + mask, -1).to(vs.dtype)
            y = (shares @ vs.transpose(1, 2)).transpose(1, 2).reshape(rows, length, shape.hidden)
            x = x + F.linear(y, o)
            y = F.rms_norm(x, (shape.hidden,), norm_ff, EPSILON)
            a, b = F.linear(y, torch.cat((gate, up))).chunk(2, -1)
            x = x + F.linear(F.silu(a) * b, down)
        x = F.rms_norm(x, (shape.hidden,), self.norm, EPSILON)
        logits = F.linear(x, self.embedding).float()
        losses = F.cross_entropy(logits.view(-1, shape.vocabulary), targets.view(-1), reduction="none")
        return (losses * weights.view(-1)).sum() / weights.sum()

    @torch.no_grad()
    def grow_from(self, small: "Llama") -> None:
        """Take over a shallower model of the same width: its layers spread out, the others new and without effect.

        New layers start with zero output matrices, so the grown model first answers exactly as the small one.
        """
        places = [i * self.shape.layers // small.shape.layers for i in range(small.shape.layers)]
        for mine, theirs in zip(self.parameters(), small.parameters(), strict=True):
            if mine.shape == theirs.shape:
                mine.copy_(theirs)
            else:
                mine[places] = theirs


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def rotary(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin by position, [length, head/2]."""
    frequency = THETA ** (-torch.arange(0, shape.head, 2) / shape.head)
    angle = torch.arange(length)[:, None] * frequency
    return angle.cos(), angle.sin()


def to_llama(model: Llama, eos: list[int], pad: int) -> "nn.Module":
    """The same weights as a transformers model, rounded to what fp16 can hold (both engines get these values)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = model.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        rms_norm_eps=EPSILON,
        rope_theta=THETA,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    llama = LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm}
    names = {
        "self_attn.q_proj": model.q,
        "self_attn.k_proj": model.k,
        "self_attn.v_proj": model.v,
        "self_attn.o_proj": model.o,
        "mlp.gate_proj": model.gate,
        "mlp.up_proj": model.up,
        "mlp.down_proj": model.down,
        "input_layernorm": model.norm_attention,
        "post_attention_layernorm": model.norm_ff,
    }
    for name, stack in names.items():
        for i, weight in enumerate(stack):
            state[f"model.layers.{i}.{name}.weight"] = weight
    state["lm_head.weight"] = model.embedding
    llama.load_state_dict({name: w.detach().half().float() for name, w in state.items()})
    return llama


def describe(shape: Shape) -> dict[str, int]:
    return asdict(shape)
