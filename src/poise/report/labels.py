"""Places for point labels in a plot, so that none covers a point, an error bar or another label."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

CHAR_PX, LINE_PX, GAP_PX = 6.4, 14.0, 9.0

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""


class Slot(Struct, frozen=True):
    """Where a label stands relative to its point."""

    dx: float
    dy: float
    align: str


SLOTS = (
    Slot(GAP_PX, -GAP_PX, "left"), Slot(-GAP_PX, -GAP_PX, "right"), Slot(GAP_PX, GAP_PX, "left"),
    Slot(-GAP_PX, GAP_PX, "right"), Slot(0, -2 * GAP_PX, "center"), Slot(0, 2 * GAP_PX, "center"),
    Slot(2 * GAP_PX, -2.6 * GAP_PX, "left"), Slot(-2 * GAP_PX, -2.6 * GAP_PX, "right"),
    Slot(2 * GAP_PX, 2.6 * GAP_PX, "left"), Slot(-2 * GAP_PX, 2.6 * GAP_PX, "right"),
)  # fmt: skip


def place(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    bars: Sequence[Box],
    size: tuple[float, float],
    order: Sequence[int],
    hidden: float = 1 / 3,
    slots: Sequence[Slot] = SLOTS,
) -> list[Slot | None]:
    """A slot for each text, greedily in `order`: the one that overlaps least with points, bars and earlier labels.

    None where even that would hide this share of the label: better no label than an unreadable one.
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points] + list(bars)
    found: list[Slot | None] = [None] * len(points)
    for i in order:
        (x, y), text = points[i], texts[i]
        costs = {s: _cost(_box(x, y, text, s), taken, *size) for s in slots}
        best = min(costs, key=lambda s: costs[s])
        if costs[best] <= LINE_PX * CHAR_PX * len(text) * hidden:
            taken.append(_box(x, y, text, best))
            found[i] = best
    return found


def _box(x: float, y: float, text: str, slot: Slot) -> Box:
    size = CHAR_PX * len(text) + GAP_PX / 2
    left = x + slot.dx - {"left": 0.0, "right": size, "center": size / 2}[slot.align]
    return (left, y + slot.dy - LINE_PX / 2, left + size, y + slot.dy + LINE_PX / 2)


def _cost(box: Box, taken: Sequence[Box], width: float, height: float) -> float:
    outside = max(0.0, -box[0]) + max(0.0, box[2] - width) + max(0.0, -box[1]) + max(0.0, box[3] - height)
    return 50 * outside + sum(_overlap(box, other) for other in taken)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
