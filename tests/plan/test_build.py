"""Expansion: cells, ids that change exactly with what can change an answer or a time, shared requests."""

from pathlib import Path
from typing import Any

import pytest

from poise.plan.build import plan, workers
from poise.plan.read import load_study
from poise.types import UsageError

BASE: dict[str, Any] = {
    "models": [{"name": "a", "source": {"api": "served-a"}}],
    "deployments": ["scripted"],
    "tasks": [{"task": "synthetic", "options": {"n": 6}}],
}


def cells(**changes: Any) -> list[str]:
    return [c.id for c in plan(load_study({**BASE, **changes})).cells]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"loads": [{"closed": 2}]},
        {"generation": {"max_tokens": 9}},
        {"models": [{"name": "a", "source": {"api": "served-b"}}]},
        {"models": [{"name": "a", "source": {"api": "served-a"}, "system": "Be brief."}]},
        {"deployments": [{"backend": "scripted", "options": {"gap_s": 0.5}}]},
        {"deployments": [{"backend": "scripted", "dtype": "float16"}]},
        {"tasks": [{"task": "synthetic", "options": {"n": 6, "prompt_tokens": 9}}]},
    ],
)
def test_what_can_change_an_answer_or_a_time_changes_the_id(change: dict[str, Any]) -> None:
    if "loads" in change:
        change = {**change, "deployments": [{"backend": "openai", "base_url": "http://127.0.0.1:1/v1"}]}
        base = cells(deployments=change["deployments"])
    else:
        base = cells()
    assert cells(**change) != base


@pytest.mark.parametrize(
    "change",
    [
        {"analysis": {"tau": "batch"}},
        {"name": "other"},
        {"repeats": 1},
        {"warmup": 5},
        {"models": [{"name": "renamed", "source": {"api": "served-a"}}]},
        {"tasks": [{"task": "synthetic", "options": {"n": 6}, "limit": 3}]},
        {"deployments": [{"backend": "scripted", "price": {"per_hour_usd": 2.0}}]},
    ],
)
def test_what_only_changes_the_reading_keeps_the_id(change: dict[str, Any]) -> None:
    assert cells(**change) == cells()


def test_only_what_is_asked_is_to_be_checked() -> None:
    study = {
        **BASE,
        "models": [{"name": name, "source": {"api": name}} for name in "ab"],
        "deployments": [{"name": f"for-{name}", "backend": "scripted"} for name in "ab"],
        "include": [{"model": name, "deployment": f"for-{name}"} for name in "ab"],
    }
    assert set(plan(load_study(study)).sources) == {("a", "for-a"), ("b", "for-b")}


def test_raising_the_limit_keeps_the_items_drawn_before() -> None:
    def ids(limit: int) -> list[str]:
        task = {"task": "synthetic", "options": {"n": 50}, "limit": limit}
        made = plan(load_study({**BASE, "tasks": [task]}))
        return [r.id for r in made.items[made.cells[0].task.items_sha].requests]

    assert ids(20)[:8] == ids(8)


def test_models_of_one_format_share_their_requests() -> None:
    models = [{"name": n, "source": {"api": n}} for n in "ab"]
    made = plan(load_study({**BASE, "models": models}))
    assert len(made.cells) == 2 and len(made.items) == 1


def test_selectors_and_sources_decide_which_pairs_run() -> None:
    study = {
        **BASE,
        "models": [{"name": n, "source": {"api": n}} for n in ("a", "b")],
        "deployments": ["scripted", {"name": "second", "backend": "scripted", "options": {"gap_s": 0.1}}, "onnx"],
        "exclude": [{"model": "b", "deployment": "sec*"}],
    }
    made = plan(load_study(study))
    assert [(c.model.name, c.deployment.name) for c in made.cells] == [
        ("a", "scripted"),
        ("a", "second"),
        ("b", "scripted"),
    ]


def test_no_readable_source_says_who_has_and_who_reads_what() -> None:
    with pytest.raises(UsageError, match=r"a has api.*onnx reads onnx"):
        plan(load_study({**BASE, "deployments": ["onnx"]}))


def test_the_same_thing_under_two_names_is_refused() -> None:
    models = [{"name": n, "source": {"onnx": "same"}} for n in "ab"]
    with pytest.raises(UsageError, match="under two names"):
        plan(load_study({**BASE, "models": models}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"deployments": [{"backend": "scripted", "options": {"gap": 1}}]}, "did you mean 'gap_s'"),
        ({"deployments": [{"backend": "scripted", "options": {"gap_s": "slow"}}]}, "options"),
        ({"deployments": [{"backend": "openai", "options": {"base_url": "x"}}]}, "write it beside `options`"),
        ({"tasks": [{"task": "synthetic", "mode": "choice"}]}, "has no mode 'choice'"),
        ({"tasks": [{"task": "synthetic", "shots": 3}]}, "0 examples"),
        ({"tasks": [{"task": "synthetic", "options": {"prompt_token": 3}}]}, "did you mean 'prompt_tokens'"),
        ({"tasks": ["nothere.yaml"]}, "nothere.yaml"),
        ({"tasks": [{"task": "sst2", "data": "nothere.tsv"}]}, "nothere.tsv"),
        ({"models": ["./nothere"]}, "no folder ./nothere"),
        ({"models": ["bundled:xxl"]}, "no bundled model 'xxl'"),
    ],
)
def test_mistakes_are_one_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(load_study({**BASE, **change}))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_code_of_a_study_needs_permission(tmp_path: Path) -> None:
    task = tmp_path / "mine.py"
    task.write_text("raise SystemExit('ran')")
    with pytest.raises(UsageError, match="--allow-code"):
        plan(load_study({**BASE, "tasks": [f"{task}:Mine"]}))


def test_missing_capabilities_make_cells_not_measurable() -> None:
    study = load_study({**BASE, "loads": [{"closed": 1}, {"closed": 8}]})
    states = {c.load.label: (c.state, c.reason) for c in plan(study).cells}
    assert states["closed 1"] == ("planned", None)
    assert states["closed 8"][0] == "not_measurable" and "one request at a time" in str(states["closed 8"][1])


def test_repeats_are_fresh_workers_and_interleaved() -> None:
    models = [{"name": n, "source": {"api": n}} for n in "abc"]
    made = plan(load_study({**BASE, "models": models, "repeats": 2}))
    groups = [(g[0].model.name, g[0].repeat) for g in workers(made)]
    assert sorted(groups[:3]) == [("a", 0), ("b", 0), ("c", 0)]
    assert sorted(groups[3:]) == [("a", 1), ("b", 1), ("c", 1)]


@pytest.mark.parametrize(("task", "suffix"), [("continuation", ".py"), ("summarization", ".story")])
def test_a_folder_is_hashed_over_the_files_that_the_task_reads(tmp_path: Path, task: str, suffix: str) -> None:
    text = "".join(f"x{i} = {i}\n" for i in range(80)) + "\n@highlight\n\nNumbers\n"
    (tmp_path / f"a{suffix}").write_text(text)
    before = cells(tasks=[{"task": task, "data": str(tmp_path)}])
    (tmp_path / f"b{suffix}").write_text(text.replace("x", "y"))
    assert cells(tasks=[{"task": task, "data": str(tmp_path)}]) != before
