"""Names to objects, lazily: built-in tables, entry points of installed packages, and `file.py:attr`.

Nothing is imported until its name is asked for, so that `poise --help` and `import poise` stay light.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from poise.types import UsageError

if TYPE_CHECKING:
    from poise.protocols import Backend, Metric, Reporter, Scorer, Task

BACKENDS = {
    "onnx": "poise.measure.backends.onnx:Onnx",
    "transformers": "poise.measure.backends.transformers:Transformers",
    "openai": "poise.measure.backends.openai:OpenAI",
    "scripted": "poise.measure.backends.scripted:Scripted",
}
TASKS = {
    "sst2": "poise.tasks.sst2:Sst2",
    "deepmind-mathematics": "poise.tasks.deepmind_mathematics:DeepmindMathematics",
    "gsm8k": "poise.tasks.gsm8k:Gsm8k",
    "math": "poise.tasks.math:Math",
    "squad": "poise.tasks.squad:Squad",
    "classification": "poise.tasks.classification:Classification",
    "nli": "poise.tasks.nli:Nli",
    "multiple-choice": "poise.tasks.choice:MultipleChoice",
    "three-tasks": "poise.tasks.choice:ThreeTasks",
    "truthfulqa": "poise.tasks.choice:TruthfulQa",
    "bbq": "poise.tasks.safety:Bbq",
    "xstest": "poise.tasks.safety:XsTest",
    "toxicity": "poise.tasks.safety:Toxicity",
    "humaneval": "poise.tasks.code:HumanEval",
    "humanevalpack-fix": "poise.tasks.code:HumanEvalFix",
    "mbpp": "poise.tasks.code:Mbpp",
    "continuation": "poise.tasks.continuation:Continuation",
    "translation": "poise.tasks.translation:Translation",
    "summarization": "poise.tasks.summarization:Summarization",
    "mt_bench": "poise.tasks.mt_bench:MtBench",
    "judge-rubric": "poise.understand.judge:Rubric",
    "judge-pairwise": "poise.understand.judge:Pairwise",
    "perplexity": "poise.tasks.perplexity:Perplexity",
    "synthetic": "poise.tasks.synthetic:Synthetic",
    "mini-sentiment": "poise.tasks.mini:Sentiment",
    "mini-arithmetic": "poise.tasks.mini:Arithmetic",
    "mini-linear": "poise.tasks.mini:Linear",
    "mini-translation": "poise.tasks.mini:Translation",
    "mini-qa": "poise.tasks.mini:QuestionAnswering",
    "mini-summary": "poise.tasks.mini:Summarization",
    "mini-chat": "poise.tasks.mini:Chat",
    "mini-topics": "poise.tasks.mini.families:Classification",
    "mini-nli": "poise.tasks.mini.families:Nli",
    "mini-choice": "poise.tasks.mini.families:Choice",
    "mini-ranked": "poise.tasks.mini.families:Ranked",
    "mini-answer": "poise.tasks.mini.families:Answer",
    "mini-paraphrase": "poise.tasks.mini.families:Paraphrase",
    "mini-explain": "poise.tasks.mini.families:Explain",
    "mini-aligned": "poise.tasks.mini.families:Aligned",
    "mini-aligned-en-zh": "poise.tasks.mini.families:Reverse",
    "mini-document": "poise.tasks.mini.families:Document",
    "mini-mathematics": "poise.tasks.mini.families:Mathematics",
    "mini-problems": "poise.tasks.mini.families:Problems",
    "mini-contest": "poise.tasks.mini.families:Contest",
    "mini-dialogues": "poise.tasks.mini.families:Dialogues",
    "mini-reading": "poise.tasks.mini.families:Reading",
    "mini-functions": "poise.tasks.mini.families:Functions",
    "mini-programs": "poise.tasks.mini.families:Programs",
    "mini-repairs": "poise.tasks.mini.families:Repairs",
    "mini-continuation": "poise.tasks.mini.families:Continuation",
    "mini-text": "poise.tasks.mini.families:Text",
    "mini-truth": "poise.tasks.mini.families:Truth",
    "mini-bias": "poise.tasks.mini.families:Bias",
    "mini-refusal": "poise.tasks.mini.families:Refusal",
    "mini-toxicity": "poise.tasks.mini.families:Toxicity",
}
TASK_GROUPS = {
    "mini": ("mini-sentiment", "mini-arithmetic", "mini-linear", "mini-translation", "mini-qa"),
    "all-mini": tuple(name for name in TASKS if name.startswith("mini-")),
}
METRICS = {
    "accuracy": "poise.tasks.metrics:Accuracy",
    "precision.macro": "poise.tasks.metrics:PrecisionMacro",
    "recall.macro": "poise.tasks.metrics:RecallMacro",
    "f1.macro": "poise.tasks.metrics:F1Macro",
    "matthews": "poise.tasks.metrics:Matthews",
    "exact_match": "poise.tasks.metrics:ExactMatch",
    "f1": "poise.tasks.metrics:TokenF1",
    "math_equal": "poise.tasks.metrics:MathEqual",
    "chrf": "poise.tasks.metrics:Chrf",
    "bleu": "poise.tasks.metrics:Bleu",
    "rouge_l": "poise.tasks.metrics:RougeL",
    "rouge_1": "poise.tasks.metrics:Rouge1",
    "rouge_2": "poise.tasks.metrics:Rouge2",
    "rouge_lsum": "poise.tasks.metrics:RougeLsum",
    "length_ratio": "poise.tasks.metrics:LengthRatio",
    "perplexity.token": "poise.tasks.metrics:PerplexityToken",
    "perplexity.word": "poise.tasks.metrics:PerplexityWord",
    "perplexity.byte": "poise.tasks.metrics:PerplexityByte",
    "bits_per_byte": "poise.tasks.metrics:BitsPerByte",
    "pass_at.1": "poise.understand.codetest:PassAt1",
    "ter": "poise.tasks.metrics:Ter",
    "chrf_50": "poise.tasks.metrics:ChrfShare",
    "lines.missing": "poise.tasks.metrics:LinesMissing",
    "lines.extra": "poise.tasks.metrics:LinesExtra",
    "edit_similarity": "poise.tasks.metrics:EditSimilarity",
    "exact_match.squad": "poise.tasks.metrics:SquadExactMatch",
    "refusal": "poise.tasks.metrics:Refusal",
    "nontoxic": "poise.tasks.metrics:NonToxic",
    "toxicity": "poise.tasks.metrics:Toxicity",
    "proper_refusal": "poise.tasks.metrics:ProperRefusal",
    "bias.ambiguous": "poise.tasks.metrics:BiasAmbiguous",
    "bias.disambiguated": "poise.tasks.metrics:BiasDisambiguated",
    "rating": "poise.tasks.metrics.judge:Rating",
    "preference": "poise.tasks.metrics.judge:Preference",
}
REPORTERS = {
    ".html": "poise.report.html:Html",
    ".md": "poise.report.markdown:Markdown",
    ".csv": "poise.report.tables:Csv",
    ".json": "poise.report.tables:Json",
    ".parquet": "poise.report.tables:Parquet",
    ".svg": "poise.report.image:Svg",
    ".png": "poise.report.image:Png",
}
SCORERS = {"lm-eval": "poise.tasks.lmeval_score:LmEvalScorer"}
LM_EVAL = "lm-eval:"
"""What stands before the name of a task of lm-evaluation-harness; see `tasks.lmeval`."""
Kind = Literal["backend", "task", "metric", "reporter", "scorer"]
_TABLES: dict[Kind, dict[str, str]] = {
    "backend": BACKENDS,
    "task": TASKS,
    "metric": METRICS,
    "reporter": REPORTERS,
    "scorer": SCORERS,
}


def names(kind: Kind) -> list[str]:
    """All names of a kind, built in and from entry points (group `poise.<kind>s`), sorted."""
    return sorted({*_TABLES[kind], *(e.name for e in entry_points(group=f"poise.{kind}s"))})


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` or, with nothing near, the list of what there is."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"


@overload
def lookup(kind: Literal["backend"], name: str, allow_code: bool = False) -> type[Backend]: ...
@overload
def lookup(kind: Literal["task"], name: str, allow_code: bool = False) -> Callable[[], Task]: ...
@overload
def lookup(kind: Literal["metric"], name: str, allow_code: bool = False) -> Callable[[], Metric]: ...
@overload
def lookup(kind: Literal["scorer"], name: str, allow_code: bool = False) -> Callable[..., Scorer]: ...
@overload
def lookup(kind: Literal["reporter"], name: str, allow_code: bool = False) -> Callable[[], Reporter]: ...
def lookup(kind: Kind, name: str, allow_code: bool = False) -> Any:
    """The object registered under `name`; UsageError with a suggestion where there is none.

    `file.py:Attr` executes that file and therefore needs `allow_code` (CONTRACT §8).
    """
    if ".py:" in name:
        if not allow_code:
            raise UsageError(f"{kind} {name!r} would run code from that file; add --allow-code if you trust it")
        return _from_file(kind, name)
    target = _TABLES[kind].get(name)
    if target is None:
        for entry in entry_points(group=f"poise.{kind}s"):
            if entry.name == name:
                return entry.load()
        raise UsageError(f"unknown {kind} {name!r}{did_you_mean(name, names(kind))}")
    module, _, attr = target.partition(":")
    return getattr(importlib.import_module(module), attr)


def absent(backend: type[Backend]) -> list[str]:
    """What an engine `requires` and is not installed here."""
    return [module for module in getattr(backend, "requires", ()) if importlib.util.find_spec(module) is None]


def install(backend: type[Backend]) -> str:
    """The command that installs what is absent: the engine's extra of poise, where it has one."""
    extra = getattr(backend, "extra", None)
    return f"pip install 'poise[{extra}]'" if extra else f"pip install {' '.join(absent(backend))}"


def _from_file(kind: str, name: str) -> Any:
    path, _, attr = name.rpartition(":")
    if not Path(path).is_file():
        raise UsageError(f"{kind} {name!r}: no file {path}")
    spec = importlib.util.spec_from_file_location(f"poise_user_{Path(path).stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return getattr(module, attr)
    except AttributeError:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UsageError(f"{path} has no {attr!r}{did_you_mean(attr, public)}") from None
