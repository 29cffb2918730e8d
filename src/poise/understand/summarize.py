"""The summary of one or several run folders: every number of every report, as a pure function of the folders."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from poise.registry import LM_EVAL
from poise.store.run import Run, open_runs
from poise.types import FORMAT, CellSummary, Check, Estimate, Summary, UsageError, Verdict
from poise.understand import estimates, quality
from poise.understand.balanced import Marks
from poise.understand.checks import checks
from poise.understand.client import client
from poise.understand.cost import Tokens, hardware_cost, request_cost_usd
from poise.understand.curves import at_limit, curves
from poise.understand.delivered import delivered
from poise.understand.estimates import absent
from poise.understand.gather import CellData, failures, gather, state_of
from poise.understand.judges import agreement, sentence
from poise.understand.knee import knee, knee_sentence
from poise.understand.mlperf import mlperf, scenario_sentence
from poise.understand.mlperf_rule import held, rule_check
from poise.understand.outcome import by_outcome
from poise.understand.questions import comparable
from poise.understand.resources import resources
from poise.understand.score import keep
from poise.understand.stalls import stalls
from poise.understand.systems import key_of, model_summary, systems, task_marks
from poise.understand.task_groups import task_groups
from poise.understand.under_load import UnderLoad, falls, quality_estimate, under_load
from poise.understand.verdict import verdict

Source = Run | str | os.PathLike[str]


def summarize(runs: Source | Sequence[Source], allow_code: bool = False) -> Summary:
    """Everything the folders say, merged. Repeats are pooled; folders never: on collision `deployment@run`.

    One writable folder also gets `derived/summary.json`, the same bytes every time.
    """
    given = [runs] if isinstance(runs, Run | str | os.PathLike) else list(runs)
    opened = open_runs(given)
    if not opened:
        raise UsageError("no run folder given; `poise run` makes one")
    cells = gather(opened, allow_code)
    ranked = systems([c for c in cells if not c.judges and c.cell.load.kind != "search"])
    marks = {(s.model, s.deployment, s.load, task): m for s in ranked for task, m in s.tasks.items()}
    reasons = {(s.model, s.deployment, s.load): s.reason for s in ranked}
    effects, doubts = under_load(cells), comparable(cells)
    found = [
        _cell(c, cells, marks.get((*key_of(c), c.cell.task.name)), reasons.get(key_of(c)), effects, doubts.get(id(c)))
        for c in cells
    ]
    grouped = task_groups(cells, found)
    summary = Summary(
        format=FORMAT,
        runs=list(dict.fromkeys(c.run for c in cells)) or [r.name for r in opened],
        cells=found,
        models=[model_summary(s, grouped.get((s.model, s.deployment, s.load), {})) for s in ranked],
        verdict=_with_scenarios(_with_knees(_judged(verdict(ranked, found), sentence(cells)), found), found),
    )
    if len(opened) == 1:
        keep(opened[0].path, "summary.json", to_json(summary))
    return summary


def _judged(found: Verdict, judges: str | None) -> Verdict:
    """The verdict, and who judged what it rests on; judges alone have only themselves to speak of."""
    if judges is None:
        return found
    return replace(found, text=f"{found.text}; {judges}" if found.facts else judges)


def _with_knees(found: Verdict, cells: Sequence[CellSummary]) -> Verdict:
    """The verdict, and what searches found."""
    said = {c.id: c for c in cells if "knee_rps" in c.estimates}
    if not said:
        return found
    text = "; ".join([found.text, *map(knee_sentence, said.values())])
    facts = [{"cell": id, "knee_rps": msgspec.to_builtins(c["knee_rps"])} for id, c in said.items()]
    return Verdict(text, {**found.facts, "knees": facts})


def _with_scenarios(found: Verdict, cells: Sequence[CellSummary]) -> Verdict:
    """The verdict, and what MLPerf-like scenarios came to."""
    said = [scenario_sentence(c) for c in cells if any(name.startswith("mlperf_") for name in c.estimates)]
    return Verdict("; ".join([found.text, *said]), found.facts) if said else found


def to_json(summary: Summary) -> bytes:
    """The summary as JSON: finite numbers only (an infinite one becomes null; its reason stands beside it)."""
    return msgspec.json.format(msgspec.json.encode(_finite(msgspec.to_builtins(summary))), indent=1) + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- one cell


def _cell(
    data: CellData,
    cells: Sequence[CellData],
    marks: Marks | None,
    reason: str | None,
    effects: dict[int, UnderLoad | None],
    doubt: Check | None,
) -> CellSummary:
    c = data.columns
    state, why = state_of(data)
    failed = failures(data)
    numbers = quality.quality(data) | _balanced(marks, data.scores.unscored or reason or why) | estimates.times(data)
    numbers |= stalls(data) | estimates.throughput(data) | delivered(data) | client(data) | at_limit(data)
    numbers |= by_outcome(data) | agreement(data, cells) | resources(data) | _cost(data)
    against = held(data, cells, numbers)
    numbers |= mlperf(data, numbers, against)
    tables, found = quality.tables(data), checks(data) + ([doubt] if doubt else [])
    found += [check] if (check := rule_check(data, against)) else []
    if data.cell.load.kind == "search":
        numbers, tables = knee(data, cells)
    if id(data) in effects:
        effect = effects[id(data)]
        numbers["quality_under_load"] = quality_estimate(effect)
        tables |= {"under_load": msgspec.to_builtins(effect)} if effect else {}
        found += [check] if (check := falls(effect)) else []
    return CellSummary(
        id=data.cell.id,
        run=data.run,
        model=data.cell.model.name,
        deployment=data.deployment,
        task=data.cell.task.name,
        load=data.cell.load.label,
        repeats=data.folders,
        state=state,
        reason=why,
        planned=data.planned,
        n=len(c),
        failed=sum(failed.values()),
        failures=failed,
        primary=data.scores.primary or (data.cell.task.metrics[0] if data.cell.task.metrics else None),
        signature=signature(data),
        items_sha=data.cell.task.items_sha,
        estimates=numbers,
        groups=quality.groups(data),
        curves=curves(data),
        tables=tables,
        signatures=signatures(data),
        checks=found,
    )


def _balanced(marks: Marks | None, reason: str | None) -> dict[str, Estimate]:
    """The cell's own balanced score and its two marks; ½Q + ½S beside it."""
    if marks is None:
        why = reason or "nothing was scored"
        return {
            n: absent(why, u, "higher") for n, u in (("balanced", "0–100"), ("quality_mark", ""), ("speed_mark", ""))
        }
    named = task_marks(marks)
    half = 50 * (marks.quality + marks.speed)
    drawn = 50 * (marks.replicates["quality"] + marks.replicates["speed"])
    both = Marks(marks.quality, marks.speed, half, half, half, marks.n, {"score": drawn})
    return {n: named[n] for n in ("balanced", "quality_mark", "speed_mark")} | {
        "half_and_half": both.estimate("score", "0–100")
    }


def signature(data: CellData) -> str:
    """What a number of this cell depends on, in one short line."""
    task = data.cell.task
    scored = signatures(data).get(data.scores.primary or "") or (task.metrics[0] if task.metrics else "unscored")
    parts = [
        scored,
        f"extract {task.extract}" if task.mode == "generate" and task.metrics else task.mode,
        f"{_own_name(task.task)} v{task.version}",
        f"{task.shots}-shot",
        data.cell.model.format,
        f"n={len(data.items[0])}",
        f"seed {data.cell.seed}",
        f"poise {data.poise}",
    ]
    return " | ".join(parts)


def _own_name(task: str) -> str:
    """A task's name without the folder that its file lay in."""
    prefix = LM_EVAL if task.startswith(LM_EVAL) else ""
    return prefix + Path(task.removeprefix(prefix)).name


def signatures(data: CellData) -> dict[str, str]:
    """Each metric's own signature: versions, tokenisation, word lists."""
    named = {name: getattr(v.metric, "signature", None) for name, v in data.scores.by_metric.items()}
    if not any(named.values()):
        return {}
    sample = next(iter(data.samples.values()), None)
    return {name: sign(sample) for name, sign in named.items() if sign}


def _cost(data: CellData) -> dict[str, Estimate]:
    """USD of a request and of a right answer, where the deployment states a price."""
    price, c = data.cell.deployment.price, data.columns
    if price is None or not len(c):
        return {}
    if price.per_hour_usd is not None:
        found = hardware_cost(price, sum(w.wall_s for w in c.windows), len(c))
        method = "price per hour x measured window / requests; no interval"
        mean = Estimate(found.per_request_usd, n=len(c), unit="USD", better="lower", method=method, reason=found.reason)
    else:
        cached = np.minimum(np.nan_to_num(c.n_cached), c.n_prompt)
        counted = [
            Tokens(int(i), int(o), int(k)) if np.isfinite(i) and np.isfinite(o) else None
            for i, o, k in zip(c.n_prompt, c.n_out, cached)
        ]
        each = [request_cost_usd(price, t) if t else None for t in counted]
        spent = np.where(c.ok, np.array([np.nan if usd is None else usd for usd in each]), np.nan)
        why = "tokens are unknown, or the price lacks a rate that was needed"
        mean = estimates.mean(data, spent, "USD", "lower", why)
    first = data.scores.first
    right = float(np.nansum(np.where(c.ok, first.q, 0.0))) if first is not None else 0.0
    if mean.value is None or not right:
        per_right = absent(mean.reason or "nothing was right", "USD", "lower")
    else:
        method = "mean cost of a request x requests / sum of the marks; no interval"
        per_right = Estimate(mean.value * len(c) / right, n=len(c), unit="USD", better="lower", method=method)
    return {"cost_usd.mean": mean, "cost_usd.per_right": per_right}
