"""lm-evaluation-harness as a library: its task objects, quiet, templates in a sandbox, with or without data."""

from __future__ import annotations

import copy
import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poise.tasks.lmeval_find import code_in, home
from poise.tasks.lmeval_groups import Found
from poise.types import PoiseError, UsageError

SEEDS = {"random": 0, "numpy": 1234, "fewshot": 1234}
"""The harness's own defaults."""


def version() -> str:
    from importlib.metadata import version

    return version("lm-eval")


def read(path: Path) -> dict[str, Any]:
    """A task or group file as the harness reads it: what it names as code is that code. Only for what may run."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(path, resolve_func=True))


def build(name: str, found: Found, config: dict[str, Any] | None, docs: Sequence[Any] | None = None) -> Any:
    """The harness's task object, from `config` or else from the file and its groups' changes; `docs` are its data.

    Raises UsageError where the harness cannot make it; `config` must be data only.
    """
    home()
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    import numpy as np

    try:
        import lm_eval.api.task as api
        from lm_eval import utils
    except ImportError as error:
        raise UsageError(f"lm-eval cannot be used here: {error}; poise needs its 0.4.13 or later") from None
    _quiet(utils)
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])
    try:
        with _given(api, docs):
            if config is not None:
                only_data(name, config)
            elif found.path is not None:
                return _from_file(found.path, found.changes)
            drop = ("tag", "group", "task_list")
            given = {k: v for k, v in (config or found.changes).items() if k not in drop}
            return api.ConfigurableTask(config=copy.deepcopy(given))
    except PoiseError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        raise UsageError(f"lm-eval cannot load {name}: {type(error).__name__}: {lines[0][:300]}") from None


def _from_file(path: Path, changes: dict[str, Any]) -> Any:
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Entry, Kind

    return TaskFactory().build(Entry(path.stem, Kind.TASK, path), overrides=changes, registry={})


def only_data(name: str, config: dict[str, Any]) -> None:
    """UsageError for settings that would run code; also of a run folder, which may come from a stranger."""
    from lm_eval.api.registry import METRIC_REGISTRY

    metrics = [m.get("metric") for m in config.get("metric_list") or [] if isinstance(m, dict)]
    foreign = next((m for m in metrics if m not in METRIC_REGISTRY), None)
    code = code_in(config) or (f"the metric {foreign!r} from the hub" if foreign else None)
    if code:
        raise UsageError(f"the lm-eval task {name} would run code ({code}); add --allow-code if you trust it")


def _quiet(utils: Any) -> None:
    """No progress bars and advice on the way; and templates that reach no further than their document."""
    import datasets
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if not isinstance(utils.env, SandboxedEnvironment):
        sandbox = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        sandbox.filters |= utils.env.filters
        utils.env = sandbox


class _Docs(list[Any]):
    """Documents where a data set is expected."""

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0] if self else ())


class _Splits(dict[str, _Docs]):
    """The same documents as every split."""

    def __init__(self, docs: _Docs) -> None:
        super().__init__()
        self._docs = docs

    def __missing__(self, split: str) -> _Docs:
        return self._docs


@contextmanager
def _given(api: Any, docs: Sequence[Any] | None) -> Iterator[None]:
    """Within, tasks take `docs` as their data, as they are."""
    if docs is None:
        yield
        return

    def instead(self: Any, *args: Any, **more: Any) -> None:
        self.dataset = _Splits(_Docs(docs))
        self.config.process_docs = None
        self.fewshot_cfg.process_docs = None

    loads = api.ConfigurableTask.download
    api.ConfigurableTask.download = instead
    try:
        yield
    finally:
        api.ConfigurableTask.download = loads
