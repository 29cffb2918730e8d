"""How `golden_run` (run-folder format 1) was made, once. It is never made again: a newer format gets its own folder."""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import Asked, asked, cell, ns, write_run

from poise.store.run import Segment
from poise.types import ResourceSample

LABELS = ("negative", "positive")


def sentiment(model: str, right: int, token_s: float, rng: random.Random) -> list[Asked]:
    """Twelve streamed labels with usage from the server; one request fails, one times out."""
    items, now = [], 10.0
    for i in range(12):
        target = LABELS[i % 2]
        said = target if i < right else LABELS[1 - i % 2] if i % 3 else "hard to say"
        words = ["", *said.split(" "), ""]
        stamps = [round(token_s * (2 + k) + rng.uniform(0, token_s), 6) for k in range(len(words))]
        more = {"choices": LABELS, "category": f"length={'short' if i < 6 else 'long'}", "sent_s": now}
        if model == "big" and i == 10:
            items.append(asked(f"s{i}", target, status="error", kind="reset", done_s=0.4, **more))
        elif model == "big" and i == 11:
            items.append(asked(f"s{i}", target, words, at_s=sorted(stamps), status="timeout", done_s=30.0, **more))
        else:
            usage = {"prompt_tokens": 20 + i, "completion_tokens": len(said.split(" ")) + 1}
            answer = asked(f"s{i}", target, words, at_s=sorted(stamps), usage=usage, finish_reason="stop", **more)
            items.append(answer)
        now += 31.0 if model == "big" and i == 11 else sorted(stamps)[-1] + 0.01
    return items


def sums(model: str, right: int, token_s: float, rng: random.Random) -> list[Asked]:
    """Twelve numbers, token by token, counted by the engine, in clusters of three; the big model reasons first."""
    items, now = [], 200.0
    for i in range(12):
        a, b = 10 + i, 7 * i
        said = str(a + b if i < right else a + b + 1)
        thought = ["so ", f"{a}+", f"{b}…"] if model == "big" else []
        pieces = [*thought, *said]
        stamps, at = [], 3 * token_s
        for _ in pieces:
            at += token_s + rng.uniform(0, token_s / 5)
            stamps.append(round(at, 6))
        kinds = "r" * len(thought) + "v" * len(said) if thought else None
        more = {"cluster": f"row{i // 3}", "sent_s": now, "output_tokens": len(pieces), "piece_kinds": kinds}
        items.append(asked(f"a{i}", str(a + b), pieces, at_s=stamps, **more))
        now += stamps[-1] + 0.002
    return items


def main() -> None:
    rng = random.Random(7)
    cells = []
    for model, token_s, right in (("small", 0.02, (8, 5)), ("big", 0.3, (10, 11))):
        segments = [
            Segment("start", 0, ns(9), 1, load_s=0.5 if model == "small" else 4.0, cpu_s=1.0),
            Segment("end", 0, ns(300), 2, cpu_s=2.0),
        ]
        memory = 300_000_000 if model == "small" else 4_000_000_000
        step_s, count = (0.25, 8) if model == "small" else (1.0, 60)
        readings = [
            ResourceSample(ns(10 + step_s * k), "cpu", 1 + 0.8 * step_s * k, mem_bytes=memory + k, host_cpu=1.0)
            for k in range(count)
        ]
        cells.append(
            cell(model, "sentiment", sentiment(model, right[0], token_s, rng), metrics=("accuracy", "f1.macro"),
                 extract="label", chance=0.5, n_ref=1, segments=segments, resources=readings)
        )  # fmt: skip
        cells.append(
            cell(model, "sums", sums(model, right[1], token_s, rng), metrics=("exact_match",), n_ref=3,
                 tau="interactive", segments=segments)
        )  # fmt: skip
    write_run(Path(__file__).parent / "golden_run", cells, name="golden")


if __name__ == "__main__":
    main()
