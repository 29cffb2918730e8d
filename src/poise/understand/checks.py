"""Doubts about a cell as data: a code, the evidence in numbers, and one thing to do."""

from __future__ import annotations

from itertools import pairwise
from textwrap import shorten
from typing import Any

import numpy as np
from msgspec import Struct

from poise.counted import counted
from poise.tasks.metrics.judge import Judged
from poise.types import Batch, Check, Level
from poise.understand.client import client_checks
from poise.understand.gather import CellData, failures
from poise.understand.judged import NOT_JUDGED, REMEDIES
from poise.understand.judges import judge_checks
from poise.understand.lengths import length_checks
from poise.understand.prefix_cache import prefix_cache
from poise.understand.resources import is_gpu
from poise.understand.stalls import stalls, threshold_s

SAID_CHARS = 160
FEW_ITEMS = 30
FOREIGN_CORES = 0.5
UNFOUND_SHARE = 0.05
CUT_SHARE = 0.2
STALLED_SHARE = 0.01


def checks(data: CellData) -> list[Check]:
    """Everything doubtful about one cell alone."""
    if not len(data.columns):
        return []
    found = [
        _missing(data), _failed(data), _few(data), _unfound(data), _unscorable(data), _not_judged(data), _cut(data),
        _shortened(data), *length_checks(data), _retried(data), _stalled(data), *client_checks(data), _resumed(data),
        _throttled(data), _host(data), prefix_cache(data),
    ]  # fmt: skip
    return [c for c in found if c is not None] + judge_checks(data)


def _missing(data: CellData) -> Check | None:
    if len(data.columns) >= data.planned:
        return None
    evidence = f"{len(data.columns)} of {data.planned} requests have a record"
    return Check("missing_requests", "warn", evidence, "give the same command again: it runs only what is missing")


def _failed(data: CellData) -> Check | None:
    kinds = failures(data)
    if not kinds:
        return None
    failed = sum(kinds.values())
    if set(kinds) == {"missing"}:
        evidence = f"{failed} of {len(data.columns)} items have no output; they count as wrong"
        return Check("missing_outputs", "warn", evidence, "add their outputs to the file")
    listed = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    if said := shorten(data.columns.why(data.columns.failure.index(next(iter(kinds)))), SAID_CHARS, placeholder=" …"):
        listed += f"; first: {said.rstrip('.')}"
    evidence = f"{failed} of {len(data.columns)} requests failed ({listed}); "
    evidence += "what they were to judge has no verdict of theirs" if data.judges else "they count as wrong"
    level: Level = "error" if failed == len(data.columns) else "warn"
    action = "look at one with `poise show`, or run again with --retry-failed"
    if "context" in kinds:
        less = "a judge with a longer one" if data.judges else "fewer shots, shorter items"
        action = f"prompt and answer do not fit the model's context: {less}, or fewer max_tokens"
    return Check("failed_requests", level, evidence, action)


def _few(data: CellData) -> Check | None:
    n = len(set(data.unit_names())) if data.judges else len(data.items[0])
    if n >= FEW_ITEMS:
        return None
    if data.judges:
        evidence = f"answers to only {counted(n, 'item')} were judged: intervals are wide"
        return Check("few_items", "warn", evidence, f"judge the answers to at least {FEW_ITEMS} (--limit)")
    cut_short = data.cell.load.duration_s is not None and len(data.columns) < FEW_ITEMS
    action = "measure for longer (duration_s)" if cut_short else f"ask at least {FEW_ITEMS} (limit)"
    return Check("few_items", "warn", f"only {counted(n, 'item')}: intervals are wide", action)


def _unfound(data: CellData) -> Check | None:
    if data.scores.first is None:
        return None
    answered = int(data.columns.ok.sum())
    none = int((data.scores.unfound & data.columns.ok).sum())
    if not answered or none / answered <= UNFOUND_SHARE or data.cell.task.mode == "choice":
        return None
    evidence = (
        f"no answer found in {none} of {answered} texts by extractor {data.cell.task.extract!r}; they count as wrong"
    )
    return Check(
        "none_found", "warn", evidence, "read some with `poise show`; the instruction or `extract` may not fit"
    )


def _unscorable(data: CellData) -> Check | None:
    reasons = [r for r in _reasons(data) if r != NOT_JUDGED]
    if not reasons:
        return None
    reason = next((r for r in reasons if r), "no reason given")
    evidence = f"{len(reasons)} of {len(data.columns)} answers could not be scored (first: {reason}); "
    action = REMEDIES.get(reason, "read one with `poise show`; it may lack a target")
    return Check("unscorable", "warn", evidence + "they are left out of the mean", action)


def _not_judged(data: CellData) -> Check | None:
    first, n = data.scores.first, _reasons(data).count(NOT_JUDGED)
    if first is None or not n:
        return None
    evidence = f"{n} of {len(data.columns)} answers were not judged; they are left out of the mean"
    compared = isinstance(first.metric, Judged) and first.metric.against
    action = "raise --limit of `poise judge`" + (", or give a reference that answered them" if compared else "")
    return Check("not_judged", "info", evidence, action)


def _reasons(data: CellData) -> list[str | None]:
    """Why answers have no value, one reason for each of them."""
    first = data.scores.first
    return [] if first is None else [r for r, v in zip(first.reasons, first.values) if np.isnan(v)]


def _cut(data: CellData) -> Check | None:
    if data.scores.first is None:
        return None
    ended = [f for f in data.columns.finish if f is not None]
    cut = sum(f == "length" for f in ended)
    if not ended or cut / len(ended) <= CUT_SHARE:
        return None
    evidence = f"{cut} of {len(ended)} answers were cut at the token limit"
    return Check("cut_off", "info", evidence, "raise max_tokens if answers need more, or set a stop")


class _Used(Struct):
    """What is read of a record here."""

    phase: str = "measure"
    segment: int = 0
    batch: Batch | None = None
    usage: dict[str, Any] | None = None


def _shortened(data: CellData) -> Check | None:
    """Prompts that lost their first tokens, where the task lets the context cut them."""
    if not data.cell.task.scoring:
        return None
    used = [line.usage or {} for line in data.folder.records(_Used) if line.phase == "measure"]
    lost = [cut for usage in used if isinstance(cut := usage.get("cut_tokens"), int)]
    if not lost:
        return None
    evidence = f"{len(lost)} of {len(used)} prompts were cut on the left to fit into the context, by {min(lost)} to "
    evidence += f"{max(lost)} tokens, as the task's harness does"
    return Check("prompts_cut", "info", evidence, "show fewer examples, or ask a model of a longer context")


def _stalled(data: CellData) -> Check | None:
    found = stalls(data)
    share, count = found["stall.share"], found["stall.count"]
    if not share.value or share.value < STALLED_SHARE or count.value is None:
        return None
    longest = data.columns.gaps[-1]
    evidence = (
        f"{share.value:.1%} of {share.n} answers stalled: {count.value:.0f} gaps over {threshold_s(data):.3g} s, "
        f"the longest {longest:.3g} s; the median gap is {data.usual_gap_s:.3g} s"
    )
    action = "look at the server's log and memory at these times (preemption, swapping, other users)"
    return Check("stalls", "warn", evidence, action)


def _retried(data: CellData) -> Check | None:
    again = int((data.columns.reruns > 0).sum())
    if not again:
        return None
    evidence = f"{again} of {len(data.columns)} requests were run again later; only the last sitting counts"
    return Check("rerun", "info", evidence, "mention it where the numbers are quoted: failures were given another try")


def _resumed(data: CellData) -> Check | None:
    segments = len(data.columns.windows) - len({w.repeat for w in data.columns.windows})
    if not data.open_loop or segments <= 0:
        return None
    evidence = f"the load was interrupted and resumed {counted(segments, 'time')}"
    return Check("resumed_open_loop", "warn", evidence, "measure it in one piece: queues started empty at each seam")


def _throttled(data: CellData) -> Check | None:
    readings = [s for repeat in data.resources for s in repeat if s.throttled is not None]
    slow = sum(bool(s.throttled) for s in readings)
    if not slow:
        return None
    evidence = f"{slow} of {len(readings)} readings show the clock held back"
    return Check("throttled", "warn", evidence, "cool the machine or cap its clock, then measure again")


def _host(data: CellData) -> Check | None:
    """Cores that others kept busy on the host while this cell was measured (a server may be one of them)."""
    if data.remote:
        return None
    foreign = []
    for repeat, readings in zip(data.repeats, data.resources):
        own = [w for w in data.columns.windows if w.repeat == repeat]
        inside = [s for s in readings if not is_gpu(s.device) and any(w.start_ns <= s.t_ns <= w.end_ns for w in own)]
        for a, b in pairwise(inside):
            if b.host_cpu is not None and a.cpu_s is not None and b.cpu_s is not None and b.t_ns > a.t_ns:
                foreign.append(b.host_cpu - (b.cpu_s - a.cpu_s) / (b.t_ns - a.t_ns) * 1e9)
    if len(foreign) < 2 or float(np.mean(foreign)) <= FOREIGN_CORES:
        return None
    evidence = f"other processes kept {float(np.mean(foreign)):.1f} cores busy on average"
    return Check("other_load_on_host", "warn", evidence, "measure on a quiet machine: these times are upper limits")
