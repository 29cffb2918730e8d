"""The miniature tasks: pinned items, disjoint splits, right answers, and one shape for all."""

import hashlib
import re
from itertools import islice

import pytest

from poise.registry import TASK_GROUPS
from poise.tasks.build import get_task
from poise.tasks.mini import TASKS
from poise.tasks.mini._items import held_out, is_test, training_items
from poise.tasks.mini.translation import _numeral
from poise.types import UsageError

# SHA-256 (first 16 digits) over category, question and target of the first 400 test items, joined by tabs and newlines.
# The bundled models' scores refer to these items: a generator that changes needs a new version of its task.
DIGESTS = {
    "mini-sentiment": "8df941f0b29d140c",
    "mini-arithmetic": "45a9155c11d54546",
    "mini-linear": "e506470d0ef45a8f",
    "mini-translation": "69c66592931c9507",
    "mini-qa": "c9d4fac0622223e6",
    "mini-summary": "3acc525bfc02be73",
}


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_items_are_pinned(task):
    lines = [f"{s.category}\t{task.question(s)}\t{s.target}" for s in task.samples(None, {})]
    assert len(lines) == 400
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == DIGESTS[task.name]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_splits_are_disjoint_and_test_items_differ(task):
    test = [item.question for _, item in held_out(task.name, task.grammar, 400, 0)]
    train = {item.question for _, item in islice(training_items(task.name, task.grammar, 0), 4000)}
    assert len(set(test)) == 400
    assert all(is_test(q) for q in test)
    assert not any(is_test(q) for q in train)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_options_and_balance(task):
    few = list(task.samples(None, {"n": len(task.grammar)}))
    assert [s.category for s in few] == list(task.grammar)
    assert list(task.samples(None, {"n": 3})) == few[:3]
    assert list(task.samples(None, {"n": 3, "seed": 1})) != few[:3]
    with pytest.raises(UsageError):
        list(task.samples("file", {}))


@pytest.mark.parametrize("name", [*TASK_GROUPS["mini"], *(t.name for t in TASKS)])
def test_registered_under_its_name(name):
    task = get_task(name)
    assert task.name == name
    assert task.stop == ("\n",)
    assert not any("\n" in task.answer(s) or "\n" in task.question(s) for s in task.samples(None, {"n": 50}))


def test_arithmetic_answers_are_right():
    for s in get_task("mini-arithmetic").samples(None, {}):
        assert eval(s.fields["question"].removesuffix(" = ?")) == int(s.target)


def test_linear_answers_solve_the_equation():
    for s in get_task("mini-linear").samples(None, {}):
        left, right = re.fullmatch(r"Solve (.+) = (.+) for x\.", s.fields["question"]).groups()
        x = int(s.target)
        assert eval(left, {"x": x}) == eval(right, {"x": x})


def test_sentiment_is_balanced():
    targets = [s.target for s in get_task("mini-sentiment").samples(None, {})]
    assert 0.4 < targets.count("good") / len(targets) < 0.6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10, "十"),
        (12, "十二"),
        (105, "一百零五"),
        (110, "一百一十"),
        (1003, "一千零三"),
        (20000, "二万"),
        (35020, "三万五千零二十"),
        (100005, "十万零五"),
        (350200, "三十五万零二百"),
    ],
)
def test_chinese_numerals(value, text):
    assert _numeral(value) == text
