"""The miniatures of the families: small, whole, and every family of the list has one."""

import pytest

from poise.registry import TASK_GROUPS, TASKS, lookup
from poise.tasks.build import draw, get_task
from poise.tasks.extract import extract
from poise.tasks.mini import families

MINIS = [name for name, home in TASKS.items() if "families" in home]
WRITTEN = ("mini-text", "mini-paraphrase", "mini-explain")  # nothing to be right or wrong about
CODE = ("mini-functions", "mini-programs", "mini-repairs")


def samples(name):
    task = get_task(name)
    return task, list(task.samples(getattr(task, "data", None), {}))


@pytest.mark.parametrize("name", MINIS)
def test_reference_answers_are_right(name):
    task, items = samples(name)
    assert task.name == name and task.about and task.tau == "miniature"
    assert 1 <= len(items) <= 20 and len(draw(items, None, None, 0)) == len(items)
    if name in WRITTEN + CODE:
        return
    metric = lookup("metric", task.metrics[0])()
    for item in items:
        answer = extract(task.extract, task.answer(item), item)
        assert metric.score(answer, item).value == metric.scale, (item, answer)


def test_every_family_has_a_miniature():
    """By the class that asks: what is in `poise tasks` and has no miniature is only a format of the same family."""
    classes = {type(get_task(name)) for name in TASK_GROUPS["all-mini"]}
    alone = {name for name in TASKS if name not in TASK_GROUPS["all-mini"] and type(get_task(name)) not in classes}
    # mini-sentiment, pure speed, mini-chat; judges read the answers of another run
    assert alone == {"sst2", "synthetic", "mt_bench", "judge-rubric", "judge-pairwise"}
    assert set(MINIS) < set(TASK_GROUPS["all-mini"])


def test_no_file_is_left_over_and_all_are_small():
    used = {path for name in MINIS for path in (get_task(name).data or [])}
    there = {str(path) for path in families.FILES.iterdir()}
    assert used == there
    assert sum(path.stat().st_size for path in families.FILES.iterdir()) < 30_000


def test_options_of_the_family_still_count():
    task = get_task("mini-document")
    assert len(list(task.samples(task.data, {"lines": 2}))) == 6 and "ter" in task.metrics
    assert get_task("mini-ranked").modes == ("choice",)
