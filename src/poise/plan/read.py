"""A study file, a dict or flags to a checked `Study`: every mistake is one sentence with its place and a suggestion."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import structs

from poise import registry
from poise.plan import spec
from poise.plan.loads import read_loads, written
from poise.plan.positions import Document, Where, read_file
from poise.plan.spec import Analysis, Deployment, Generation, Model, Override, Study, TaskUse

Named = TypeVar("Named", Model, Deployment, TaskUse)

SOURCE_KINDS = ("any", "bundled", "hf", "onnx", "gguf", "mlx", "openvino", "ctranslate2", "api")
_SCALARS = ("seed", "repeats", "warmup", "retries", "client_processes", "budget_usd", "until")
SELECTORS = ("model", "deployment", "task", "load")
MAX_CLIENT_PROCESSES = 64
LIMITS = ("ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "wait_s", "response_s", "percentile")
TAU_PROFILES = ("auto", "conversational", "interactive", "batch", "miniature")
_SECRET_KEYS = re.compile(r"^(api_?key|key|token|password|secret|authorization|bearer)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,})"
)


def load_study(source: str | os.PathLike[str] | dict[str, Any], *, name: str | None = None) -> Study:
    """Read a study from a YAML/TOML/JSON file or a dict of the same shape (CONTRACT §1).

    Raises UsageError (exit code 2) with file, line and column for anything that is wrong.
    """
    if isinstance(source, dict):
        return study_from(Document(source, "study"), base_dir=".", default_name=name or "study")
    path = Path(source)
    return study_from(read_file(path), base_dir=str(path.parent), default_name=name or path.stem)


def study_from(doc: Document, base_dir: str, default_name: str) -> Study:
    data = doc.data
    if not isinstance(data, dict):
        raise doc.error((), "a study is a mapping with models, deployments and tasks")
    doc.check_keys((), data, [n for n in Study.__struct_fields__ if n != "base_dir"])
    _refuse_secrets(doc, (), data)
    if data.get("schema", spec.SCHEMA) != spec.SCHEMA:
        raise doc.error(("schema",), f"this poise reads schema {spec.SCHEMA}, the study says {data['schema']!r}")
    for part in ("models", "deployments", "tasks"):
        if not data.get(part):
            raise doc.error((part,) if part in data else (), f"the study names no {part}")
    scalars = {k: data[k] for k in _SCALARS if k in data}
    _check_generation(doc, ("generation",), data.get("generation") or {})
    study = doc.convert(
        (),
        {
            **scalars,
            "name": str(data.get("name", default_name)),
            "models": [],
            "deployments": [],
            "tasks": [],
            "generation": data.get("generation") or {},
        },
        Study,
    )
    for key, least in {"repeats": 1, "warmup": 0, "retries": 0}.items():
        if getattr(study, key) < least:
            raise doc.error((key,), f"must be at least {least}")
    if study.client_processes != "auto" and not 1 <= study.client_processes <= MAX_CLIENT_PROCESSES:
        raise doc.error(("client_processes",), f"must be auto or from 1 to {MAX_CLIENT_PROCESSES}")
    study = structs.replace(
        study,
        models=_unique(doc, "models", [_model(doc, i, m) for i, m in _items(doc, data, "models")]),
        deployments=_unique(doc, "deployments", [_deployment(doc, i, d) for i, d in _items(doc, data, "deployments")]),
        tasks=_unique(doc, "tasks", [t for i, v in _items(doc, data, "tasks") for t in _tasks(doc, i, v, base_dir)]),
        include=_selectors(doc, data, "include"),
        exclude=_selectors(doc, data, "exclude"),
        analysis=_analysis(doc, data.get("analysis") or {}),
        base_dir=base_dir,
    )
    if data.get("loads"):
        loads = [load for i, v in _items(doc, data, "loads") for load in read_loads(doc, ("loads", i), v)]
        _no_twins(doc, "loads", [load.label for load in loads])
        study = structs.replace(study, loads=loads)
    study = structs.replace(study, overrides=[_override(doc, i, o) for i, o in _items(doc, data, "overrides")])
    for part in ("include", "exclude", "overrides"):
        for i, entry in enumerate(getattr(study, part)):
            _must_match(doc, (part, i), entry.when if part == "overrides" else entry, study)
    return study


# ---------------------------------------------------------------- sections


def _model(doc: Document, i: int, value: Any) -> Model:
    where: Where = ("models", i)
    if isinstance(value, str):
        value = {"name": short_name(value), "source": value}
    doc.check_keys(where, value, Model.__struct_fields__)
    source = value.get("source", value.get("name"))
    if isinstance(source, str):
        kind, _, rest = source.partition(":")
        source = {"bundled": rest} if kind == "bundled" else {"any": source}
    if not isinstance(source, dict) or not source:
        raise doc.error((*where, "source"), "a source is a string or a mapping of kind to path or name")
    doc.check_keys((*where, "source"), source, SOURCE_KINDS, what="kind of source")
    if "name" not in value:
        raise doc.error(where, "a model needs a name")
    return doc.convert(where, {**value, "source": source}, Model)


def short_name(source: str) -> str:
    """A label for a bare source: a local path gives its last part, everything else stays as written."""
    return Path(source).name if source.startswith((".", "/", "~")) or Path(source).exists() else source


def _deployment(doc: Document, i: int, value: Any) -> Deployment:
    where: Where = ("deployments", i)
    if isinstance(value, str):
        value = {"backend": value}
    doc.check_keys(where, value, Deployment.__struct_fields__)
    if "backend" not in value:
        raise doc.error(where, "a deployment needs a backend")
    backend = value["backend"]
    if ".py:" not in str(backend) and backend not in registry.names("backend"):
        raise doc.error(
            (*where, "backend"),
            f"unknown backend {backend!r}{registry.did_you_mean(str(backend), registry.names('backend'))}",
        )
    deployment = doc.convert(where, {"name": str(backend), **value}, Deployment)
    if deployment.server and deployment.base_url:
        raise doc.error(
            (*where, "base_url"), "server (poise starts it) and base_url (it runs already) exclude each other"
        )
    if deployment.base_url:
        try:
            parts = urlsplit(deployment.base_url)
        except ValueError as error:
            raise doc.error((*where, "base_url"), f"is not a URL ({error})") from None
        if parts.username or parts.password:
            raise doc.error(
                (*where, "base_url"),
                "credentials in a URL are refused; put the key into a variable and name it in key_env",
            )
    return deployment


def _tasks(doc: Document, i: int, value: Any, base_dir: str) -> list[TaskUse]:
    from poise.tasks.build import expand_group

    where: Where = ("tasks", i)
    if isinstance(value, str):
        value = {"task": value}
    doc.check_keys(where, value, TaskUse.__struct_fields__)
    if not isinstance(value.get("task"), str):
        raise doc.error(where, "a task entry needs `task`: a name, a group, file.yaml or file.py:Name")
    task = value["task"]
    _check_generation(doc, (*where, "generation"), value.get("generation") or {})
    members = expand_group(task, base_dir)
    if members != [task] and "name" in value:
        raise doc.error((*where, "name"), f"{task} is a group of {len(members)} tasks; a group takes no name")
    elsewhere = task.startswith(registry.LM_EVAL) or task.endswith((".yaml", ".yml")) or ".py:" in task
    if members == [task] and not elsewhere:
        known = [*registry.TASK_GROUPS, *registry.names("task")]
        if task not in known:
            raise doc.error((*where, "task"), f"unknown task {task!r}{registry.did_you_mean(task, known)}")
    shorts = [Path(m).stem if m.endswith((".yaml", ".yml")) else m.rpartition(":")[2] for m in members]
    uses = []
    for member, short in zip(members, shorts):
        default = short if shorts.count(short) == 1 else member.removeprefix(registry.LM_EVAL)
        use = doc.convert(where, {"name": value.get("name", default), **value, "task": member}, TaskUse)
        if use.limit is not None and use.limit < 1:
            raise doc.error((*where, "limit"), "must be at least 1")
        doc.check_keys((*where, "prompt"), use.prompt, ("instruction", "question", "answer_prefix"))
        uses.append(use)
    return uses


def _analysis(doc: Document, value: Any) -> Analysis:
    where: Where = ("analysis",)
    doc.check_keys(where, value, Analysis.__struct_fields__)
    analysis = doc.convert(where, value, Analysis)
    if isinstance(analysis.tau, str) and analysis.tau not in TAU_PROFILES:
        raise doc.error(
            (*where, "tau"),
            f"unknown profile {analysis.tau!r}{registry.did_you_mean(analysis.tau, TAU_PROFILES)}",
        )
    for name, limit in analysis.slo.items():
        if name not in LIMITS:
            raise doc.error((*where, "slo", name), f"unknown limit {name!r}{registry.did_you_mean(name, LIMITS)}")
        if not 0 < limit < (100 if name == "percentile" else math.inf):
            raise doc.error((*where, "slo", name), f"{limit!r} is no possible limit")
    for name, given in analysis.reference.items():
        place = (*where, "reference", name)
        if name in (*SELECTORS, "run") and name != "task":
            if not isinstance(given, str):
                raise doc.error(place, f"{given!r} is no name")
        elif isinstance(given, str) or not 0 < given < math.inf:
            raise doc.error(place, f"{given!r} is no positive number; a cell is chosen by model, deployment, load, run")
        elif name == "share" and given > 1:
            raise doc.error(place, f"{given!r} is more than 1, the reference's whole quality")
    if not 0 <= analysis.weight <= 1:
        raise doc.error((*where, "weight"), "must lie between 0 (speed alone) and 1 (quality alone)")
    return analysis


def _override(doc: Document, i: int, value: Any) -> Override:
    where: Where = ("overrides", i)
    doc.check_keys(where, value, Override.__struct_fields__)
    _check_generation(doc, (*where, "generation"), value.get("generation") or {})
    return doc.convert(where, value, Override)


def _check_generation(doc: Document, where: Where, value: Any) -> None:
    doc.check_keys(where, value, Generation.__struct_fields__)
    doc.convert(where, value, Generation)


# ---------------------------------------------------------------- checks


def _items(doc: Document, data: dict[str, Any], part: str) -> Iterable[tuple[int, Any]]:
    value = data.get(part) or []
    if isinstance(value, str | dict):
        value = [value]
    if not isinstance(value, list):
        raise doc.error((part,), f"must be a list, not {type(value).__name__}")
    return enumerate(value)


def _unique(doc: Document, part: str, entries: list[Named]) -> list[Named]:
    _no_twins(doc, part, [entry.name for entry in entries])
    return entries


def _no_twins(doc: Document, part: str, labels: list[str]) -> None:
    for i, label in enumerate(labels):
        if label in labels[:i]:
            raise doc.error((part, i), f"the name {label!r} stands twice; give one of them another name")


def _selectors(doc: Document, data: dict[str, Any], part: str) -> list[dict[str, str]]:
    found = []
    for i, value in _items(doc, data, part):
        doc.check_keys((part, i), value, SELECTORS)
        found.append(doc.convert((part, i), value, dict[str, str]))
    return found


def _must_match(doc: Document, where: Where, selector: dict[str, str], study: Study) -> None:
    from fnmatch import fnmatchcase

    doc.check_keys(where, selector, SELECTORS)
    there = {
        "model": [m.name for m in study.models],
        "deployment": [d.name for d in study.deployments],
        "task": [t.name for t in study.tasks],
        "load": [load.label for load in study.loads],
    }
    for key, pattern in selector.items():
        if not any(fnmatchcase(name, pattern) for name in there[key]):
            raise doc.error((*where, key), f"{pattern!r} matches no {key}{registry.did_you_mean(pattern, there[key])}")


def _refuse_secrets(doc: Document, where: Where, value: Any) -> None:
    """A literal key in a study would travel with it; the study names a variable instead (CONTRACT §8)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if _SECRET_KEYS.match(str(key)) and isinstance(inner, str) and inner and "deployments" in where:
                raise doc.error(
                    (*where, key),
                    "a literal secret; put it into an environment variable and name that in key_env",
                )
            _refuse_secrets(doc, (*where, key), inner)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _refuse_secrets(doc, (*where, i), inner)
    elif isinstance(value, str) and _SECRET_VALUE.search(value):
        raise doc.error(
            where,
            "this looks like a literal secret; put it into an environment variable and name that in key_env",
        )


def study_builtins(study: Study) -> dict[str, Any]:
    """The study as plain data that `load_study` reads back (what `plan --yaml` prints)."""
    data: dict[str, Any] = msgspec.to_builtins(structs.replace(study, base_dir="."))
    data["loads"] = [written(load) for load in study.loads]
    return data


def to_yaml(study: Study) -> str:
    """The study as the YAML file that makes it again."""
    import yaml

    return str(yaml.safe_dump(study_builtins(study), sort_keys=False, allow_unicode=True))
