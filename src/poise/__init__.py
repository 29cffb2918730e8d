"""poise measures how good, how fast and how costly an LLM deployment is, on the same requests.

    study = poise.load_study("study.yaml")     # or a dict of the same shape
    print(poise.plan(study))                   # cells, requests, time, disk
    run = poise.run(study, "runs/mine")        # the same call resumes
    poise.summarize(run)                       # every number with n and interval
    poise.render(run, "report.html")

Names are loaded when first used, so that `import poise` costs milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poise.api import compare, load_study, open_run, plan, render, run, score, score_outputs, summarize
    from poise.plan.spec import Study
    from poise.store.run import Run

__version__ = "0.1.0"
__all__ = [
    "Run",
    "Study",
    "compare",
    "load_study",
    "open_run",
    "plan",
    "render",
    "run",
    "score",
    "score_outputs",
    "summarize",
]

_HOMES = {"Study": "poise.plan.spec", "Run": "poise.store.run"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'poise' has no attribute {name!r}")
    import importlib

    if name == "plan":  # the room of that name is itself callable
        return importlib.import_module("poise.plan")
    value = globals()[name] = getattr(importlib.import_module(_HOMES.get(name, "poise.api")), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
