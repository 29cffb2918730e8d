"""A task written as a YAML file: data columns as fields, sandboxed templates, any registered metric (CONTRACT §7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from poise.protocols import Task
from poise.registry import did_you_mean, lookup
from poise.tasks.data import need, read_rows
from poise.tasks.extract import NAMES
from poise.types import Sample, UsageError

TEXTS = (
    "name",
    "data",
    "instruction",
    "question",
    "answer_prefix",
    "answer",
    "extract",
    "category",
    "cluster",
    "tau",
    "id",
)
KEYS = (
    *TEXTS, "version", "choices", "metrics", "max_tokens", "n_ref", "chance", "shots", "shot_samples", "stop",
    "modes",
)  # fmt: skip
NEEDED = ("name", "question", "answer")


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans: `choices: [yes, no]` are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def load(path: Path) -> Task:
    """The task that the file describes; UsageError names the file and what is wrong in it."""
    try:
        spec = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"no task file {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{where}: {getattr(error, 'problem', None) or 'not YAML'}") from None
    if not isinstance(spec, dict):
        raise UsageError(f"{path}: a task is a mapping of {', '.join(NEEDED)} …")
    _check(path, spec)
    return YamlTask(path, spec)


def _check(path: Path, spec: dict[str, Any]) -> None:
    for key in spec:
        if key not in KEYS:
            raise UsageError(f"{path}: unknown key {key!r}{did_you_mean(str(key), KEYS)}")
    for key in NEEDED:
        if key not in spec:
            raise UsageError(f"{path}: {key!r} is missing")
    for key in TEXTS:
        if key in spec and not isinstance(spec[key], str):
            raise UsageError(f"{path}: {key} must be text, not {spec[key]!r}; put it in quotes")
    for key in ("choices", "metrics", "modes", "stop", "shot_samples"):
        if key in spec and not isinstance(spec[key], list):
            raise UsageError(f"{path}: {key} must be a list, not {spec[key]!r}")
    for key in ("version", "max_tokens", "n_ref", "chance", "shots"):
        if key in spec and (isinstance(spec[key], bool) or not isinstance(spec[key], int | float)):
            raise UsageError(f"{path}: {key} must be a number, not {spec[key]!r}")
    if spec.get("extract", "text") not in NAMES:
        raise UsageError(f"{path}: unknown extractor {spec['extract']!r}{did_you_mean(spec['extract'], NAMES)}")
    for metric in _metrics(spec):
        lookup("metric", metric)


def _metrics(spec: dict[str, Any]) -> tuple[str, ...]:
    """Names as written; of labels (`choices`), "f1" means the macro mean, as it means the tokens' F1 of texts."""
    named = [str(m) for m in spec.get("metrics", ["accuracy" if "choices" in spec else "exact_match"])]
    if "choices" in spec:
        named = [f"{m}.macro" if m in ("f1", "precision", "recall") else m for m in named]
    return tuple(named)


class YamlTask:
    """A task whose parts come from a file; templates see the columns of the row."""

    options: tuple[str, ...] = ()

    def __init__(self, path: Path, spec: dict[str, Any]) -> None:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._path, self._spec = path, spec
        self._environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        choices = tuple(str(c) for c in spec.get("choices", ()))
        self._choices = choices or None
        self.files, self.data = (str(path),), self._beside(spec.get("data"))
        self.name, self.version = str(spec["name"]), int(spec.get("version", 1))
        self.instruction = str(spec.get("instruction", ""))
        self.answer_prefix = str(spec.get("answer_prefix", ""))
        self.extract = str(spec.get("extract", "label" if choices else "first_line"))
        self.metrics = _metrics(spec)
        self.chance = float(spec.get("chance", 1 / len(choices) if choices else 0.0))
        self.n_ref, self.max_tokens = float(spec.get("n_ref", 16)), int(spec.get("max_tokens", 64))
        self.modes = tuple(spec.get("modes", ("generate", "choice") if choices else ("generate",)))
        self.tau = str(spec.get("tau", "conversational"))
        self.shots = int(spec.get("shots", 0))
        if "stop" in spec:
            self.stop = tuple(str(s) for s in spec["stop"])
        self._question = self._template("question")
        self._answer = self._template("answer")
        self._extra = {key: self._template(key) for key in ("category", "cluster", "id") if key in spec}
        self.shot_samples = tuple(
            self._sample(f"shot-{i}", row)
            for i, row in enumerate(spec.get("shot_samples", ()))
            if isinstance(row, dict)
        )

    def _beside(self, data: str | None) -> str | None:
        """Data named in the file lie beside it."""
        return data if data is None or data.startswith("hub:") else str(self._path.parent / data)

    def _template(self, key: str) -> Any:
        from jinja2 import TemplateSyntaxError

        try:
            return self._environment.from_string(self._spec[key])
        except TemplateSyntaxError as error:
            raise UsageError(f"{self._path}: {key}: {error.message}") from None

    def _render(self, key: str, template: Any, fields: dict[str, Any]) -> str:
        from jinja2 import TemplateError

        try:
            return str(template.render(**fields))
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            there = ", ".join(map(repr, fields))
            raise UsageError(f"{self._path}: {key}: {error}; the columns are {there}") from None

    def _sample(self, sample_id: str, row: dict[str, Any]) -> Sample:
        fields = {str(k): v for k, v in row.items()}
        extra = {key: self._render(key, template, fields) for key, template in self._extra.items()}
        target = self._render("answer", self._answer, fields)
        if self._choices and target not in self._choices:
            raise UsageError(f"{self._path}: item {sample_id}: answer {target!r} is none of {', '.join(self._choices)}")
        return Sample(
            id=extra.get("id", sample_id),
            fields=fields,
            target=target,
            choices=self._choices,
            category=extra.get("category"),
            cluster=extra.get("cluster"),
        )

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        for number, row in enumerate(read_rows(need(data or self.data, self.name, "items.csv"))):
            yield self._sample(str(number), row)

    def question(self, sample: Sample) -> str:
        return self._render("question", self._question, sample.fields)

    def answer(self, sample: Sample) -> str:
        return str(sample.target)
