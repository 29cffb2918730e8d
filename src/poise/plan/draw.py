"""What is asked: a task's samples drawn once for all systems, and the requests of each way of asking for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from poise import registry
from poise.counted import counted
from poise.plan.contexts import smallest_context
from poise.plan.kept import Kept
from poise.plan.lengths import Fitter
from poise.plan.prompts import Asker, sha, sha_of_each
from poise.plan.spec import Generation, Load, Mode, Model, Study, TaskUse
from poise.plan.tokenizer import Folder
from poise.plan.trace import Trace
from poise.types import Request, Sample, UsageError


@dataclass(frozen=True)
class Items:
    """What is asked of every cell that shares an `items_sha`: requests in plan order, and their samples.

    The first requests are those of the samples, one by one; further draws follow when all have had one.
    """

    requests: Kept[Request]
    samples: Kept[Sample]

    def first(self, count: int) -> Items:
        """The first `count` requests alone."""
        return Items(self.requests[:count], self.samples[:count])

    @cached_property
    def facts(self) -> Facts:
        asked, turns = [], False
        for r in self.requests:
            asked.append((r.sample_id, r.draw))
            turns = turns or bool(r.turns)

        def in_order(count: int) -> list[int]:
            return sorted(range(count), key=asked.__getitem__)

        return Facts(
            sha_of_each((r.sample_id, r.draw, r.asked_sha) for r in self.requests.picked(in_order(len(asked)))),
            sha_of_each((s.id, s.target, s.choices) for s in self.samples.picked(in_order(len(self.samples)))),
            turns,
        )


class Facts(NamedTuple):
    """What is known of items once all have been gone through."""

    items_sha: str
    """Of which samples are asked, how often and how."""
    target_sha: str
    """Of what counts as right."""
    turns: bool
    """Whether any of the requests is a conversation."""


class Drawn:
    """A task of the study with its samples drawn once: the same items for every model and deployment."""

    def __init__(
        self, study: Study, use: TaskUse, allow_code: bool, sources: Sequence[tuple[str, str, str | None]] = ()
    ) -> None:
        """`sources`: the (kind, source, revision) of all models as engines read them; the items suit them all."""
        from poise.tasks.build import get_task
        from poise.tasks.data import SUFFIXES, data_sha

        self.study, self.use = study, use
        self.task: Any = get_task(_beside(use.task, study.base_dir), allow_code=allow_code)
        self.mode: Mode = self._mode()
        self._check_options()
        if fit := getattr(self.task, "fit", None):
            self.use = use = structs.replace(use, options=fit(use.options, lambda: smallest_context(sources)))
        self.data = data = _data(use.data, study.base_dir) or getattr(self.task, "data", None)
        # A task that is itself a file is part of what was asked.
        files = [*getattr(self.task, "files", ()), *(data if isinstance(data, list) else [data] if data else [])]
        self.shots, self.shot_count = self._shots()
        samples: Kept[Sample] = Kept(self.task.samples(data, dict(use.options)))
        if not samples:
            raise UsageError(f"task {use.name!r}: {use.data or 'the generator'} gives no items; nothing can be asked")
        self.all = samples
        """In the order of the data; `samples` is the draw from them."""
        self.samples = samples.picked(self._draw(samples))
        if own := getattr(self.task, "data_sha", None):  # where the data are no files to be hashed as they are
            self.data_sha = own(samples)
        else:
            read = getattr(self.task, "suffixes", SUFFIXES)
            self.data_sha = data_sha(files, read) if files else f"generated v{self.task.version}"
        self._asked: dict[str, Items] = {}
        self.fitter = cache(lambda home, chat: Fitter(Folder(home), chat))

    def _draw(self, samples: Kept[Sample]) -> list[int]:
        from poise.tasks.build import draw, draw_clusters

        use, seed = self.use, self.study.seed
        if use.balance is None and getattr(self.task, "drawn_by_cluster", False):
            return draw_clusters(samples, use.limit, seed)
        return draw(samples, use.limit, use.balance, seed)

    def _mode(self) -> Mode:
        modes = tuple(getattr(self.task, "modes", ("generate",)))
        mode: Mode = self.use.mode or modes[0]
        if mode not in modes:
            raise UsageError(f"task {self.use.name!r} has no mode {mode!r}; it has: {', '.join(modes)}")
        return mode

    def _check_options(self) -> None:
        use = self.use
        known = getattr(self.task, "options", None)
        for key in use.options:
            if known is not None and key not in known:
                raise UsageError(f"task {use.name!r}: unknown option {key!r}{registry.did_you_mean(key, known)}")

    def _shots(self) -> tuple[list[Sample], int]:
        """The examples that are shown, and their number: some tasks show examples of their own making."""
        if take := getattr(self.task, "take_shots", None):
            return [], take(self.use.shots)
        there = list(getattr(self.task, "shot_samples", ()))
        count = self.use.shots if self.use.shots is not None else getattr(self.task, "shots", 0)
        if count > len(there):
            raise UsageError(
                f"task {self.use.name!r} has {counted(len(there), 'example')} to show, "
                f"the study asks for {counted(count, 'shot')}"
            )
        return there[:count], count

    def ask(
        self,
        model: Model,
        format: str,
        generation: Generation,
        prompt: dict[str, str],
        load: Load,
        trace: Trace,
        fitter: Fitter | None,
    ) -> Items:
        """Requests for one way of asking, made once and shared by all cells that ask so.

        A task of given lengths makes its prompts after the load's trace, row for row.
        """
        rows = trace.rows[: load.requests][: self.use.limit] if hasattr(self.task, "traced") else ()
        key = sha([format, model.system, generation, prompt, trace.sha if rows else None, len(rows)])
        key += fitter.sha if fitter else ""
        if key not in self._asked:
            samples = Kept(self.task.traced(rows, dict(self.use.options))) if rows else self.samples
            asker = Asker(
                self.task,
                format=format,
                mode=self.mode,
                system=model.system,
                shots=self.shots,
                generation=generation,
                prompt=prompt,
                seed=self.study.seed,
            )

            def made(sample: Sample, draw: int) -> Request:
                request = asker.request(sample, draw)
                return fitter.fit(request, self.task.parts(sample)) if fitter else request

            requests = (made(s, d) for d in range(generation.draws) for s in samples)
            self._asked[key] = Items(Kept(requests, Request), samples)
        return self._asked[key]


def _data(data: str | list[str] | None, base_dir: str) -> Any:
    if isinstance(data, list):
        return [_data(part, base_dir) for part in data]
    if data is None or data.startswith("hub:") or Path(data).expanduser().is_absolute():
        return data if data is None or data.startswith("hub:") else str(Path(data).expanduser())
    return str(Path(base_dir) / data)


def _beside(task: str, base_dir: str) -> str:
    """File tasks (file.yaml, lm-eval:file.yaml, file.py:Name) are relative to the study."""
    if task.startswith(registry.LM_EVAL):
        name = task.removeprefix(registry.LM_EVAL)
        file = name.partition("::")[0].endswith((".yaml", ".yml"))
        return registry.LM_EVAL + (str(Path(base_dir) / name) if file else name)
    return str(Path(base_dir) / task) if task.endswith((".yaml", ".yml")) or ".py:" in task else task
