"""A load as it is written in a study (CONTRACT §1), to the struct and back: one kind each, lists sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from poise.plan.positions import Document, Where
from poise.plan.spec import Load
from poise.registry import did_you_mean

ARRIVALS = ("arrivals", "burstiness")
OF_KIND: dict[str, tuple[str, ...]] = {
    "closed": (),
    "batch": ("order",),
    "open": ARRIVALS,
    "ramp": ARRIVALS,
    "trace": ("scale",),
    "search": ("between", *ARRIVALS),
    "mlperf": ("rate", "at_once"),
}
"""Kind -> the keys that only it may have."""
SCENARIOS = ("singlestream", "server", "offline")
OF_ALL = ("requests", "duration_s", "max_in_flight")


def read_loads(doc: Document, where: Where, value: Any) -> list[Load]:
    """One entry of `loads`; UsageError with its place for two kinds in one, a key of another kind, a wrong number."""
    if not isinstance(value, dict):
        raise doc.error(where, "a load is a mapping such as {closed: 8}")
    given = [k for k in value if k in OF_KIND]
    if len(given) != 1:
        every = sorted({*OF_ALL, *(k for keys in OF_KIND.values() for k in keys)})
        extra = [k for k in value if k not in every and k not in OF_KIND]
        hint = did_you_mean(str(extra[0]), OF_KIND) if extra and not given else f"; kinds: {', '.join(OF_KIND)}"
        raise doc.error(where, (f"two load kinds in one: {' and '.join(given)}" if given else "no load kind") + hint)
    kind = given[0]
    doc.check_keys(where, value, (kind, *OF_KIND[kind], *OF_ALL), what=f"key of a load of kind {kind}:")
    rest = {k: v for k, v in value.items() if k != kind and k in Load.__struct_fields__}
    for key in ("requests", "duration_s", "max_in_flight", "burstiness"):
        if key in rest and not (_number(rest[key]) and rest[key] > 0):
            raise doc.error((*where, key), f"{rest[key]!r} is not a positive number")
    found = _READ[kind](doc, where, value)
    return [doc.convert(where, {"kind": kind, **rest, **fields}, Load) for fields in found]


def _whole(doc: Document, where: Where, value: dict[str, Any]) -> list[dict[str, Any]]:
    return _each(doc, where, value, "whole number", lambda n: _number(n) and n > 0 and n == int(n))


def _rates(doc: Document, where: Where, value: dict[str, Any]) -> list[dict[str, Any]]:
    return _each(doc, where, value, "rate", lambda n: _number(n) and n > 0)


def _each(
    doc: Document, where: Where, value: dict[str, Any], what: str, good: Callable[[Any], bool]
) -> list[dict[str, Any]]:
    kind = next(k for k in value if k in OF_KIND)
    swept = value[kind] if isinstance(value[kind], list) else [value[kind]]
    for number in swept:
        if not good(number):
            raise doc.error((*where, kind), f"{number!r} is not a positive {what}")
    return [{"value": number} for number in swept]


def _ramp(doc: Document, where: Where, value: dict[str, Any]) -> list[dict[str, Any]]:
    low, high = _pair(doc, (*where, "ramp"), value["ramp"], least=0.0)
    return [{"low": low, "value": high}]


def _trace(doc: Document, where: Where, value: dict[str, Any]) -> list[dict[str, Any]]:
    files, scale = value["trace"], value.get("scale", 1)
    if not (_number(scale) and scale > 0):
        raise doc.error((*where, "scale"), f"{scale!r} is not a positive number (0.5 = twice as fast)")
    files = files if isinstance(files, list) else [files]
    for file in files:
        if not isinstance(file, str):
            raise doc.error((*where, "trace"), f"{file!r} is not a file")
    return [{"trace": file, "value": scale} for file in files]


def _search(doc: Document, where: Where, value: dict[str, Any]) -> list[dict[str, Any]]:
    if value["search"] != "open":
        raise doc.error((*where, "search"), f"{value['search']!r} cannot be searched; say {{search: open}}")
    low, high = _pair(doc, (*where, "between"), value.get("between"), least=1e-6)
    return [{"low": low, "value": high}]


def _mlperf(doc: Document, where: Where, value: dict[str, Any]) -> list[dict[str, Any]]:
    scenario, rate = value["mlperf"], value.get("rate")
    if scenario not in SCENARIOS:
        raise doc.error((*where, "mlperf"), f"no scenario {scenario!r}{did_you_mean(str(scenario), SCENARIOS)}")
    if (scenario == "server") != (rate is not None):
        raise doc.error(where, "scenario server needs a rate, in requests per second; the others have none")
    if rate is not None and not (_number(rate) and rate > 0):
        raise doc.error((*where, "rate"), f"{rate!r} is not a positive rate")
    at_once = value.get("at_once")
    whole = at_once is None or (_number(at_once) and at_once > 0 and at_once == int(at_once))
    if not whole or (at_once is not None and scenario != "offline"):
        raise doc.error((*where, "at_once"), f"{at_once!r}: scenario offline may say how many at once, a whole number")
    return [{"scenario": scenario, "value": rate or 1, "at_once": None if at_once is None else int(at_once)}]


def _pair(doc: Document, where: Where, value: Any, least: float) -> tuple[float, float]:
    """[low, high], two rates of which the second is the higher one."""
    if not (isinstance(value, list) and len(value) == 2 and all(map(_number, value)) and least <= value[0] < value[1]):
        raise doc.error(where, f"{value!r} is not two rising rates such as [1, 20]")
    return value[0], value[1]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


_READ: dict[str, Callable[[Document, Where, dict[str, Any]], list[dict[str, Any]]]] = {
    "closed": _whole,
    "batch": _whole,
    "open": _rates,
    "ramp": _ramp,
    "trace": _trace,
    "search": _search,
    "mlperf": _mlperf,
}


def written(load: Load) -> dict[str, Any]:
    """The entry of a study that reads back as this load."""
    data = msgspec.to_builtins(load)
    kind, value = data.pop("kind"), _plain(data.pop("value"))
    if kind == "ramp":
        return {kind: [_plain(data.pop("low")), value], **data}
    if kind == "trace":
        return {kind: data.pop("trace"), **({} if value == 1 else {"scale": value}), **data}
    if kind == "search":
        return {kind: "open", "between": [_plain(data.pop("low")), value], **data}
    if kind == "mlperf":
        return {kind: data.pop("scenario"), **({"rate": value} if load.form == "open" else {}), **data}
    return {kind: value, **data}


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else number
