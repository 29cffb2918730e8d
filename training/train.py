"""Trains one of the bundled models (`xs`, `s`, `m`) on CPU or GPU; stops and goes on at any round.

    python training/train.py s --rounds 20 --out build/training/s

A round draws fresh examples from the generators; the state is saved after each. The learning rate is constant for
30 % of the rounds and then falls linearly to zero. Matrices: Muon (Jordan et al. 2024, momentum orthogonalised by
Newton–Schulz); the rest: AdamW.
"""

import argparse
import json
import os
import time
from pathlib import Path

# Row-sized buffers are taken and given back all the time: without this most of a step on CPU is page faults.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "build/inductor")

import torch
from data import ROW, make_rows, train_tokenizer
from model import Llama, Shape, describe, rotary
from tokenizers import Tokenizer
from torch import Tensor

SHAPES = {
    "xs": Shape(hidden=64, layers=1, ff=160, heads=2),
    "s": Shape(hidden=192, layers=3, ff=512, heads=6),
    "m": Shape(hidden=192, layers=8, ff=512, heads=6),
}


def orthogonalised(g: Tensor) -> Tensor:
    """Newton–Schulz iteration towards the nearest (semi-)orthogonal matrix, batched over the first axis."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT.contiguous()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)  # a·x + (b·s + c·s²)·x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised per matrix, so that every direction of a weight matrix learns equally fast."""

    def __init__(self, params: list[torch.nn.Parameter], lr: float, decay: float):
        super().__init__(params, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                update = orthogonalised(p.grad.lerp(momentum, 0.95))
                scale = max(1.0, p.size(-2) / p.size(-1)) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-group["lr"] * scale)


def learning_rate(done: float, steady: float) -> float:
    return min(1.0, (1 - done) / (1 - steady))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("--rounds", type=int, required=True, help="total; the learning rate reaches 0 there")
    parser.add_argument("--examples", type=int, default=30_000, help="per round")
    parser.add_argument("--rows", type=int, default=32, help=f"rows of {ROW} tokens in a step")
    parser.add_argument("--lr-matrices", type=float, default=0.02)
    parser.add_argument("--lr-rest", type=float, default=0.015)
    parser.add_argument("--steady", type=float, default=0.3, help="share of the rounds before the learning rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=Path, help="state of the same or of a shallower model to begin with")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer_path = args.out / "tokenizer.json"
    if not tokenizer_path.exists():
        train_tokenizer().save(str(tokenizer_path))
    tokenizer = Tokenizer.from_file(str(tokenizer_path))

    shape, device = SHAPES[args.size], args.device
    model = Llama(shape).to(device)
    if args.start:
        first = torch.load(args.start, map_location=device)
        small = Llama(Shape(**first["shape"])).to(device)
        small.load_state_dict(first["model"])
        model.grow_from(small)
    matrices = model.matrices()
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers = [
        (Muon(matrices, args.lr_matrices, 0.01), args.lr_matrices),
        (torch.optim.AdamW(rest, args.lr_rest, betas=(0.9, 0.98), weight_decay=0.0), args.lr_rest),
    ]
    state = {"round": 0, "steps": 0, "tokens": 0, "answer_tokens": 0, "seconds": 0.0}
    checkpoint = args.out / "state.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        for (optimizer, _), old in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(old)
        state = saved["state"]

    compiled = torch.compile(model)
    cos, sin = (t.to(device) for t in rotary(shape, ROW))
    causal = torch.ones(ROW, ROW, dtype=torch.bool, device=device).tril()
    while state["round"] < args.rounds:
        started = time.perf_counter()
        rows = make_rows(tokenizer, args.examples, seed=1_000_003 * (args.seed + 1) + state["round"])
        steps = len(rows) // args.rows
        summed = torch.zeros((), device=device)
        for step in range(steps):
            part = slice(step * args.rows, (step + 1) * args.rows)
            arrays = (rows.tokens, rows.targets, rows.weights, rows.positions, rows.segments)
            tokens, targets, weights, positions, segments = (torch.from_numpy(a[part]).to(device) for a in arrays)
            visible = causal & (segments[:, :, None] == segments[:, None, :])
            mask = torch.where(visible, 0.0, -1e9)[:, None]
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                angles = cos[positions][:, :, None], sin[positions][:, :, None]
                loss = compiled(tokens, targets, weights, *angles, mask)
            loss.backward()
            factor = learning_rate((state["round"] + step / steps) / args.rounds, args.steady)
            for optimizer, lr in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr * factor
                optimizer.step()
                optimizer.zero_grad()
            summed += loss.detach()
        state["round"] += 1
        state["steps"] += steps
        state["tokens"] += int((rows.segments >= 0).sum())
        state["answer_tokens"] += rows.answer_tokens
        state["seconds"] += time.perf_counter() - started
        saved = {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in optimizers],
            "state": state,
            "shape": describe(shape),
            "arguments": {k: str(v) for k, v in vars(args).items() if k != "out"},
        }
        torch.save(saved, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        print(json.dumps({**state, "loss": round(float(summed) / steps, 4)}), flush=True)


if __name__ == "__main__":
    main()
