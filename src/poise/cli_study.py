"""Command-line flags to a study: the same dict a file would give, so that both pass the same checks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from poise.plan.positions import Document
from poise.plan.read import MAX_CLIENT_PROCESSES, load_study, short_name, study_builtins, study_from, to_yaml
from poise.plan.spec import Generation, Study
from poise.registry import did_you_mean
from poise.types import UsageError

LOADS = ("concurrency", "batch", "rate", "ramp", "trace", "search", "mlperf")
"""Flags that each make a load."""
IN_THE_FILE = {
    "-b": "backends", "--base-url": "base_url", "--key-env": "key_env", "--data": "data", "--mode": "mode",
    "--shots": "shots", "--prompt-tokens": "prompt_tokens", "--output-tokens": "output_tokens", "-T": "task_options",
    "-O": "backend_options",
}  # fmt: skip
"""Flags that make a study, and what they say stands in the file where there is one."""


class Flags(Struct, frozen=True, kw_only=True):
    """What `run` and `plan` accept beside a study file. Comma lists are sweeps."""

    study: str | None = None
    models: str | None = None
    backends: str | None = None
    deployments: str | None = None
    tasks: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    data: tuple[str, ...] = ()
    concurrency: str | None = None
    batch: str | None = None
    rate: str | None = None
    ramp: str | None = None
    trace: str | None = None
    search: str | None = None
    mlperf: str | None = None
    duration: float | None = None
    slo: str | None = None
    reference: str | None = None
    requests: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    draws: int | None = None
    deadline_s: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    limit: int | None = None
    balance: str | None = None
    mode: str | None = None
    shots: int | None = None
    repeats: int | None = None
    retries: int | None = None
    client_processes: str | None = None
    seed: int | None = None
    task_options: tuple[str, ...] = ()
    backend_options: tuple[str, ...] = ()
    allow_keys: tuple[str, ...] = ()


def study_from_flags(flags: Flags) -> tuple[Study, str]:
    """The study and its text for the manifest. UsageError for flags that contradict each other."""
    if flags.study:
        path = Path(flags.study)
        study = load_study(path)
        _refuse(flags, IN_THE_FILE, "with a study file this stands in the file; change it there (-m, -d, -t select)")
        study = _select(study, flags)
        return _adjust(study, flags), path.read_text(encoding="utf-8")
    missing = [f for f, v in {"-m": flags.models, "-t": flags.tasks}.items() if not v]
    if missing:
        raise UsageError(f"give a study file, or models and tasks by flags ({', '.join(missing)} missing)")
    _refuse(flags, {"-d": "deployments"}, "selects deployments of a study file; name engines with -b")
    tasks = words(flags.tasks)
    if "synthetic" not in tasks:
        lengths = {flag: IN_THE_FILE[flag] for flag in ("--prompt-tokens", "--output-tokens")}
        _refuse(flags, lengths, "for the task synthetic alone, which -t does not name")
    deployments = _deployments(flags)
    data: dict[str, Any] = {
        "models": _models(flags, deployments),
        "deployments": deployments,
        "tasks": [_task(t, flags) for t in tasks],
        "loads": _loads(flags) or [{"closed": 1}],
    }
    study = study_from(Document(data, "command line"), base_dir=".", default_name="run")
    study = _adjust(study, structs.replace(flags, **dict.fromkeys(LOADS)))
    return study, to_yaml(study)


def _refuse(flags: Flags, which: dict[str, str], why: str) -> None:
    """A flag that would change nothing is a mistake."""
    if given := [flag for flag, field in which.items() if getattr(flags, field) not in (None, ())]:
        raise UsageError(f"{', '.join(given)}: {why}")


def _models(flags: Flags, deployments: list[dict[str, Any]]) -> list[Any]:
    """As given; what a server calls by the path of a folder or file is a name there, wherever it lies."""

    def path(model: str) -> bool:
        return model.startswith((".", "/", "~")) or Path(model).exists()

    served = all(d["backend"] == "openai" for d in deployments)
    return [
        {"name": short_name(model), "source": {"api": model}} if served and path(model) else model
        for model in words(flags.models)
    ]


def _deployments(flags: Flags) -> list[dict[str, Any]]:
    backends = words(flags.backends) or [_usual_backend(flags)]
    for flag, value in {"--base-url": flags.base_url, "--key-env": flags.key_env}.items():
        if value and "openai" not in backends:
            raise UsageError(f"{flag} is for a server, and -b {','.join(backends)} runs in process: add -b openai")
    return [_deployment(backend, flags) for backend in backends]


def _usual_backend(flags: Flags) -> str:
    """Where no engine is named: the server that is, else the one engine that every install has for these models."""
    if flags.base_url:
        return "openai"
    return "onnx" if all(model.startswith("bundled:") for model in words(flags.models)) else "transformers"


def words(text: str | None) -> list[str]:
    """The parts of a comma list."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _deployment(backend: str, flags: Flags) -> dict[str, Any]:
    deployment: dict[str, Any] = {"backend": backend}
    if backend == "openai":
        deployment |= {k: v for k, v in {"base_url": flags.base_url, "key_env": flags.key_env}.items() if v}
    options = option_pairs(flags.backend_options, "-O")
    for key in ("device", "dtype", "quantization", "preset", "optional"):
        if key in options:
            deployment[key] = options.pop(key)
    if options:
        deployment["options"] = options
    return deployment


def _task(name: str, flags: Flags) -> dict[str, Any]:
    task: dict[str, Any] = {"task": name}
    for entry in flags.data:
        target, equals, path = entry.partition("=")
        if equals and target not in (there := words(flags.tasks)):
            raise UsageError(f"--data {entry}: no task {target!r} is asked{did_you_mean(target, there)}")
        if equals and target != name:
            continue
        parts = words(path if equals else entry)
        task["data"] = parts if len(parts) > 1 else parts[0]
    options = option_pairs(flags.task_options, "-T")
    if name == "synthetic":
        n = None if flags.trace else flags.requests  # a trace has its own
        extra = {"prompt_tokens": flags.prompt_tokens, "output_tokens": flags.output_tokens, "n": n}
        options |= {k: v for k, v in extra.items() if v is not None}
        if flags.max_tokens is not None:
            options.setdefault("output_tokens", flags.max_tokens)
    if options:
        task["options"] = options
    return task | {k: v for k, v in {"mode": flags.mode, "shots": flags.shots}.items() if v is not None}


def _loads(flags: Flags) -> list[dict[str, Any]]:
    loads: list[dict[str, Any]] = []
    for kind, text in {"closed": flags.concurrency, "batch": flags.batch, "open": flags.rate}.items():
        loads += [{kind: _number(word)} for word in words(text)]
    if flags.ramp:
        loads.append({"ramp": [_number(word) for word in words(flags.ramp)]})
    loads += [{"trace": str(Path(path).absolute())} for path in words(flags.trace)]
    if flags.search:
        loads.append({"search": "open", "between": [_number(word) for word in words(flags.search)]})
    if flags.mlperf:
        scenario, *number = words(flags.mlperf)
        key = "at_once" if scenario == "offline" else "rate"
        loads.append({"mlperf": scenario} | ({key: _number(",".join(number))} if number else {}))
    return loads


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise UsageError(f"{word!r} is not a number (a comma list such as 1,8 makes a sweep)") from None
    return int(value) if value.is_integer() else value


def option_pairs(entries: Sequence[str], flag: str) -> dict[str, Any]:
    """`k=v` with v read as YAML would: numbers, true/false, words."""
    from poise.plan.positions import read_text

    found = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} takes key=value, not {entry!r}")
        found[key] = read_text(value, flag).data
    return found


def _select(study: Study, flags: Flags) -> Study:
    for part, text in {"models": flags.models, "deployments": flags.deployments, "tasks": flags.tasks}.items():
        if not text:
            continue
        there = {entry.name: entry for entry in getattr(study, part)}
        for name in words(text):
            if name not in there:
                raise UsageError(f"the study has no {part[:-1]} {name!r}{did_you_mean(name, there)}")
        study = structs.replace(study, **{part: [there[name] for name in words(text)]})
    return study


def _adjust(study: Study, flags: Flags) -> Study:
    """Flags come last: they override what the file says."""
    if loads := _loads(flags):
        study = structs.replace(
            study,
            loads=study_from(Document(_with_loads(study, loads), "command line"), study.base_dir, study.name).loads,
        )
    lengths = {k: v for k, v in {"requests": flags.requests, "duration_s": flags.duration}.items() if v is not None}
    if lengths:
        study = structs.replace(study, loads=[structs.replace(x, **lengths) for x in study.loads])
    for part, text in {"slo": flags.slo, "reference": flags.reference}.items():
        if text:
            given = {part: option_pairs(words(text), f"--{part}")}
            read = study_from(
                Document({**study_builtins(study), "analysis": given}, f"--{part}"), study.base_dir, ""
            ).analysis
            study = structs.replace(study, analysis=structs.replace(study.analysis, **{part: getattr(read, part)}))
    if flags.limit is not None:
        if flags.limit < 1:
            raise UsageError("--limit must be at least 1")
        study = structs.replace(study, tasks=[structs.replace(t, limit=flags.limit) for t in study.tasks])
    if flags.balance is not None:
        study = structs.replace(study, tasks=[structs.replace(t, balance=flags.balance) for t in study.tasks])
    study = _sampled(study, flags)
    if flags.allow_keys:
        deployments = [
            structs.replace(d, options={**d.options, "allow_key": list(flags.allow_keys)})
            if d.backend == "openai"
            else d
            for d in study.deployments
        ]
        study = structs.replace(study, deployments=deployments)
    if flags.client_processes is not None:
        study = structs.replace(study, client_processes=_client_processes(flags.client_processes))
    for key in ("repeats", "retries", "seed"):
        if (value := getattr(flags, key)) is not None:
            study = structs.replace(study, **{key: value})
    if study.repeats < 1:
        raise UsageError("--repeats must be at least 1")
    return study


def _sampled(study: Study, flags: Flags) -> Study:
    """What flags say of generation, for all tasks and over what the file's overrides say of it."""
    said = {name: getattr(flags, name) for name in ("max_tokens", "temperature", "draws", "deadline_s")}
    said = {name: value for name, value in said.items() if value is not None}
    Document(None, "command line").convert((), said, Generation)
    return structs.replace(
        study,
        tasks=[structs.replace(t, generation={**t.generation, **said}) for t in study.tasks],
        overrides=[
            structs.replace(o, generation={k: v for k, v in o.generation.items() if k not in said})
            for o in study.overrides
        ],
    )


def _client_processes(word: str) -> int | Literal["auto"]:
    if word == "auto":
        return "auto"
    if not word.isdigit() or not 1 <= int(word) <= MAX_CLIENT_PROCESSES:
        raise UsageError(f"--client-processes takes auto or a number from 1 to {MAX_CLIENT_PROCESSES}, not {word!r}")
    return int(word)


def _with_loads(study: Study, loads: list[dict[str, Any]]) -> dict[str, Any]:
    return {**study_builtins(study), "loads": loads}


def argv() -> list[str]:
    """The command as given, for the manifest."""
    return ["poise", *sys.argv[1:]]


def judge_study(flags: Flags, run: Path, mode: str | None, reference: str | None, human: Path | None) -> Study:
    """The study in which `flags.models` judge the answers of a run, a task for each judged task of the run."""
    from poise.store.run import open_run
    from poise.understand.judge import tasks_to_judge

    opened = open_run(run)
    mode = mode or ("pairwise" if reference else "rubric")
    if mode not in ("rubric", "pairwise"):
        raise UsageError(f"--mode is rubric or pairwise, not {mode!r}")
    from_file = reference is not None and Path(reference).is_file()
    options = {"reference": reference} if reference is not None and not from_file else {}
    if mode == "rubric" and reference is not None:
        raise UsageError("--reference belongs to --mode pairwise; a rubric compares with nothing")
    data = [str(run), *([str(reference)] if from_file else []), *([str(human)] if human else [])]
    judged = words(flags.tasks) or tasks_to_judge(opened)
    deployments = _deployments(flags)
    document = {
        "models": _models(flags, deployments),
        "deployments": deployments,
        "tasks": [
            {"task": f"judge-{mode}", "name": f"judge-{name}", "data": data, "options": {**options, "task": name}}
            for name in judged
        ],
        "loads": _loads(flags) or [{"closed": 1}],
    }
    study = study_from(Document(document, "command line"), base_dir=".", default_name=f"{opened.name}-judged")
    return _adjust(study, structs.replace(flags, concurrency=None, batch=None, rate=None))
