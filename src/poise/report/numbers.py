"""Numbers as people read them: SI times and sizes, marks, intervals, and `–` for what was not measurable."""

from __future__ import annotations

import math

from poise.types import Estimate

ABSENT = "–"


def digits(value: float, significant: int = 3) -> str:
    """`value` with `significant` digits and no exponent below a million."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{significant - 1}e}"
    rounded = float(f"{value:.{significant - 1}e}")  # 0.9996 becomes 1.00, not 1.000
    places = max(0, significant - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{value:.{places}f}"
    return text.replace("-", "−")


def seconds(value: float | None) -> str:
    """A duration: `83 µs`, `8.31 ms`, `1.23 s`, `12.5 min`, `3.2 h`."""
    if value is None:
        return ABSENT
    size = abs(value)
    if math.isinf(value):
        return digits(value)
    if value == 0:
        return "0 s"
    for limit, factor, unit in ((9.995e-7, 1e9, "ns"), (9.995e-4, 1e6, "µs"), (0.9995, 1e3, "ms"), (999.5, 1, "s")):
        if size < limit:
            return f"{digits(value * factor)} {unit}"
    return f"{digits(value / 60)} min" if size < 36_000 else f"{digits(value / 3600)} h"


def size_bytes(value: float | None) -> str:
    """A size in decimal units: `412 MB`."""
    if value is None:
        return ABSENT
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= factor:
            return f"{digits(value / factor)} {unit}"
    return f"{digits(value)} B"


def quantity(value: float | None, unit: str) -> str:
    """`value` in its own unit: seconds and bytes scaled, marks with two or three digits."""
    if value is None:
        return ABSENT
    if unit == "s":
        return seconds(value)
    if unit in ("B", "bytes"):
        return size_bytes(value)
    if unit in ("", "1", "share", "ratio") and abs(value) <= 1:
        return mark(value, 3)
    if unit == "%":
        return f"{value:.1f} %"
    return digits(value) if math.isinf(value) else f"{digits(value)} {unit}".rstrip()


def mark(value: float | None, places: int = 2) -> str:
    """A mark between 0 and 1: `0.82`."""
    return ABSENT if value is None else f"{value:.{places}f}".replace("-", "−")


def bare(number: str) -> str:
    """`.82` for `0.82`; a zero stays."""
    return number[1:] if number.startswith("0.") else number


def half_width(estimate: Estimate, places: int = 2) -> str:
    """`±.04`: the farther end of the interval, so that the true one is never wider than shown."""
    spread = farther_end(estimate)
    if spread is None:
        return ""
    return "±" + bare(f"{math.ceil(spread * 10**places - 1e-9) / 10**places:.{places}f}")


def scored(name: str, estimate: Estimate) -> tuple[str, str]:
    """A score and its half width: `0.82` and `±.04` of a mark, three digits of any other metric."""
    if name == "quality":
        return mark(estimate.value), half_width(estimate)
    if estimate.value is None:
        return ABSENT, ""
    spread = farther_end(estimate)
    return digits(estimate.value), "" if spread is None else f"±{digits(spread, 2)}"


def farther_end(estimate: Estimate) -> float | None:
    """Distance from the value to the farther end of its interval; None where there is no (finite) interval."""
    if estimate.value is None or estimate.lo is None or estimate.hi is None or math.isinf(estimate.hi):
        return None
    return max(estimate.hi - estimate.value, estimate.value - estimate.lo, 0.0)


def interval(estimate: Estimate, unit: str | None = None) -> str:
    """`[0.78, 0.86]` in the unit of the value, `[8.1 ms, ∞]` with an open end; empty where there is none."""
    if estimate.value is None or estimate.lo is None:
        return ""
    unit = estimate.unit if unit is None else unit
    high = math.inf if estimate.hi is None else estimate.hi
    low_text, high_text = (quantity(v, unit) for v in (estimate.lo, high))
    suffix = " " + low_text.rpartition(" ")[2] if " " in low_text else ""
    if suffix and high_text.endswith(suffix):  # one unit is enough: [8.1, 8.6 ms]
        low_text = low_text.removesuffix(suffix)
    return f"[{low_text}, {high_text}]"


def with_interval(estimate: Estimate) -> str:
    """`8.31 ms [8.10, 8.62 ms]`, or `–`."""
    if estimate.value is None:
        return ABSENT
    return f"{quantity(estimate.value, estimate.unit)} {interval(estimate)}".rstrip()


def count(value: int) -> str:
    """`12 345` with thin spaces, as whole numbers are written in tables."""
    return f"{value:,}".replace(",", "\u202f")
