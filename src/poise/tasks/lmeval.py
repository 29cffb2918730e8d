"""Any task of the installed lm-evaluation-harness (`lm-eval:NAME`), or a task file in its format (`lm-eval:file.yaml`).

Prompts, options and generation settings are the harness's own, built by its own code with its own seeds, so that a
model is asked what `lm_eval` would ask it; `lmeval_score` has it score the answers. What the installed package brings
counts as installed code; a file of one's own that runs code needs `--allow-code`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from poise.tasks import lmeval_api
from poise.tasks.lmeval_find import FILES, PREFIX, code_in, home, read_config
from poise.tasks.lmeval_groups import IN, Found, find
from poise.types import Message, Sample, UsageError

MODES = {
    "generate_until": "generate",
    "multiple_choice": "choice",
    "loglikelihood": "choice",
    "loglikelihood_rolling": "perplexity",
}
MAX_TOKENS = 256
"""The harness's own default."""
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def load(name: str, allow_code: bool = False) -> LmEval:
    """The task that `lm-eval:…` names; UsageError where there is none, or it cannot be asked."""
    rest = name.removeprefix(PREFIX)
    return LmEval(rest, *place(rest, allow_code))


def place(rest: str, allow_code: bool) -> tuple[Found, dict[str, Any] | None, dict[str, Any]]:
    """Where a task is, its settings where they are all data (else None), and how scoring finds it again.

    What the installed package brings may run; what a file of one's own adds to it, only with permission.
    """
    root = rest.partition(IN)[0]
    if not root.endswith(FILES):
        return find(rest, lmeval_api.read), None, {}
    found, folder = find(rest), Path(root).parent
    installed = found.path is not None and found.path.is_relative_to(home())
    theirs = read_config(found.path) if found.path and not installed else {}
    changes = _beside(theirs, found.path.parent if found.path else folder) | _beside(found.changes, folder)
    if code_in(changes) and allow_code:
        data = {k: v for k, v in changes.items() if k == "dataset_kwargs"}
        resolved = find(rest, lmeval_api.read)
        return replace(resolved, changes={**resolved.changes, **data}), None, {"file": rest}
    if installed:
        lmeval_api.only_data(rest, changes)
        return replace(found, changes=changes), None, {"changes": changes}
    return found, changes, {"config": changes}


class LmEval:
    """A task of the harness, asked and scored as it does."""

    version = 1
    instruction, answer_prefix, extract = "", "", "lm-eval"
    tau = "conversational"
    options: tuple[str, ...] = ()

    def __init__(self, name: str, found: Found, config: dict[str, Any] | None, again: dict[str, Any]) -> None:
        self._task: Any = lmeval_api.build(name, found, config)
        if getattr(self._task, "UNSAFE_CODE", False):
            raise UsageError(f"lm-eval:{name} would run what the model writes, without a sandbox; see `poise tasks`")
        if getattr(self._task, "MULTIMODAL", False):
            raise UsageError(f"lm-eval:{name} shows images or plays sounds; poise asks in text only")
        kind = self._task.OUTPUT_TYPE
        if kind not in MODES:
            raise UsageError(f"lm-eval:{name} asks in a way of its own ({kind}); it cannot be asked here")
        root, inside, member = name.partition(IN)
        self.name = f"{PREFIX}{Path(root).stem if root.endswith(FILES) else root}{inside}{member}"
        self.modes = (MODES[kind],)
        self.metrics = tuple(self._metrics())
        self._found, self._again = found, again
        self._asked: dict[tuple[bool, str | None], dict[str, list[Any]]] = {}
        self._settle()

    def _settle(self) -> None:
        """How answers are generated, by the task's own settings."""
        said = dict(self._task.config.generation_kwargs or {})
        until = said.get("until") or []
        limit = next((said[key] for key in LIMITS if said.get(key) is not None), MAX_TOKENS)
        greedy = said.get("do_sample") is False
        self.max_tokens = int(limit)
        self.generation = {
            "stop": [until] if isinstance(until, str) else [str(u) for u in until if u],
            "temperature": 0.0 if greedy else float(said.get("temperature") or 0.0),
            "top_p": float(said.get("top_p") or 1.0),
            "draws": int(self._task.config.repeats or 1),
        }

    def _metrics(self) -> Iterator[str]:
        """Estimates by the harness's names, with the filter's where it is not the default."""
        for ensemble in self._task._filters:
            for metric in self._task.aggregation():
                yield metric if ensemble.name == "none" else f"{metric}.{ensemble.name}"

    def take_shots(self, count: int | None) -> int:
        """Set the number of examples, as `--num_fewshot` does; how many there are then."""
        if count is not None and self._task.config.num_fewshot != 0:
            self._task.set_config(key="num_fewshot", value=count)
        if self._task.config.num_fewshot is None:
            self._task.set_config(key="num_fewshot", value=0)
        return int(self._task.config.num_fewshot)

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        """One for each document, with the document as its fields."""
        if data:
            raise UsageError(f"{self.name} names its data itself (dataset_path, dataset_kwargs); leave out --data")
        made = [self._sample(doc_id, instances) for doc_id, instances in self._instances(False, None).items()]
        options_each = [len(s.choices) for s in made if s.choices]
        self.chance = sum(1 / n for n in options_each) / len(made)
        lengths = [len(str(s.target)) / 4 for s in made]
        self.n_ref = 1.0 if self.modes[0] != "generate" else max(1.0, sum(lengths) / len(lengths))
        self.scoring = self._scoring()
        yield from made

    def data_sha(self, samples: Sequence[Sample]) -> str:
        """Of the documents, and of the task's file and the harness's version."""
        said = [self.scoring, *([s.id, s.fields] for s in samples)]
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()

    def _sample(self, doc_id: str, instances: Sequence[Any]) -> Sample:
        doc = instances[0].doc
        fields = plain(doc) if isinstance(doc, dict) else {"doc": plain(doc)}
        choices = None
        target = plain(self._task.doc_to_target(doc))
        if self._task.OUTPUT_TYPE == "multiple_choice":
            choices = tuple(str(c) for c in self._task.doc_to_choice(doc))
            right = self._task.doc_to_text(doc) if self._task.multiple_input else target
            target = choices[right] if isinstance(right, int) and 0 <= right < len(choices) else plain(right)
        return Sample(doc_id, fields, target, choices)

    def _scoring(self) -> dict[str, Any]:
        """All that scoring again needs besides the documents."""
        from lm_eval.api.metrics import mean

        better = self._task.higher_is_better()
        metrics = {
            name: {"mean": rule is mean, "higher": better.get(name)} for name, rule in self._task.aggregation().items()
        }
        found: dict[str, Any] = {
            "by": "lm-eval", "task": self.name.removeprefix(PREFIX), "version": lmeval_api.version(),
            "metrics": metrics, **plain(self._again),
        }  # fmt: skip
        if self._found.groups:
            found["groups"] = list(self._found.groups)
        if "changes" in found:
            found["of"] = self._found.name
        return found

    # -- asking

    def question(self, sample: Sample) -> str:
        return str(self.asks(sample, "raw", None)["prompt"])

    def answer(self, sample: Sample) -> str:
        return str(sample.target)

    def asks(self, sample: Sample, format: str, system: str | None) -> dict[str, Any]:
        """The parts of the request that the harness writes, exactly as it would send them."""
        chat = format == "chat" and self.modes[0] != "perplexity"
        asked = [instance.args for instance in self._instances(chat, system if chat else None)[sample.id]]
        if self.modes[0] == "perplexity":
            return {"prompt": asked[0][0], "messages": None, "continuations": (), "windows": "disjoint"}
        contexts = tuple(str(args[0]) for args in asked)
        choices = tuple(str(args[1]) for args in asked) if self.modes[0] == "choice" else ()
        if not chat:
            apart = contexts if len({*contexts}) > 1 else ()
            found = {"prompt": contexts[0], "messages": None, "continuations": choices, "encoded_as": "lm-eval"}
            return found | ({"contexts": apart} if apart else {})
        if len({*contexts}) > 1:
            raise UsageError(f"{self.name} asks each option with a prompt of its own; set the model's format to raw")
        messages = tuple(Message(m["role"], m["content"]) for m in json.loads(contexts[0]))
        return {"prompt": None, "messages": messages, "continuations": choices, "encoded_as": "lm-eval"}

    def _instances(self, chat: bool, system: str | None) -> dict[str, list[Any]]:
        """Requests by document, built for all documents in their order, as the harness draws its examples."""
        if (chat, system) not in self._asked:
            self.take_shots(None)
            self._task.set_fewshot_seed(seed=lmeval_api.SEEDS["fewshot"])
            given = {"apply_chat_template": True, "fewshot_as_multiturn": True, "chat_template": self._as_messages}
            self._task.build_all_requests(system_instruction=system, **(given if chat else {}))
            found: dict[str, list[Any]] = {}
            for instance in self._task.instances:
                found.setdefault(str(instance.doc_id), []).append(instance)
            if len({i.request_type for i in self._task.instances}) > 1:
                raise UsageError(f"{self.name} asks every item in several ways; it cannot be asked here")
            self._asked[chat, system] = {k: sorted(v, key=lambda i: i.idx) for k, v in found.items()}
        return self._asked[chat, system]

    def _as_messages(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Stands for a chat template: the engine renders the model's own."""
        if not add_generation_prompt:
            raise UsageError(f"{self.name} begins the answer itself (gen_prefix); set the model's format to raw")
        return json.dumps(messages)


def _beside(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Local data files are looked for beside the task file first."""

    def moved(value: Any) -> Any:
        if isinstance(value, str):
            return str((folder / value).resolve()) if (folder / value).exists() else value
        if isinstance(value, list):
            return [moved(v) for v in value]
        return {k: moved(v) for k, v in value.items()} if isinstance(value, dict) else value

    given = config.get("dataset_kwargs")
    if not isinstance(given, dict):
        return config
    kept = {k: moved(v) if k in ("data_files", "data_dir") else v for k, v in given.items()}
    return {**config, "dataset_kwargs": kept}


def plain(value: Any) -> Any:
    """A document's value as JSON has it: numpy's numbers and arrays as Python's, anything unknown as text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    listed = getattr(value, "tolist", None)
    return plain(listed()) if callable(listed) else str(value)
