from collections import Counter
from pathlib import Path

import pytest

from poise.tasks.build import draw, get_task
from poise.tasks.deepmind_mathematics import MODULES
from poise.tasks.extract import extract
from poise.tasks.metrics import MathEqual
from poise.types import UsageError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "deepmind_mathematics"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
TASK = get_task("deepmind-mathematics")
WAYS = (
    "{}", "{}.", "The answer is {}.", "Answer: {}", "\\boxed{{{}}}", "**{}**", "`{}`", "${}$",
    "Let me see: 3 + 4 = 7.\nThe final answer is: {}",
)  # fmt: skip


def value(text, sample):
    return MathEqual().score(extract("math", text, sample), sample).value


def test_published_modules():
    assert len(MODULES) == 8 and sum(map(len, MODULES.values())) == 56


@needs_data
def test_every_target_of_all_modules_is_equal_to_itself_in_every_dress():
    samples = list(TASK.samples(str(DATA), {}))
    assert {(s.category, s.fields["module"]) for s in samples} == {(c, m) for c in MODULES for m in MODULES[c]}
    wrong = [(s.id, way, s.target) for s in samples for way in WAYS if value(way.format(s.target), s) != 1]
    assert wrong == []


def near_miss(target):
    """The target with something small wrong."""
    if target in ("True", "False"):
        return "False" if target == "True" else "True"
    if target[-1:] in "AP" or target.endswith("M"):
        return target.replace("AM", "XX").replace("PM", "AM").replace("XX", "PM")
    for i in reversed(range(len(target))):
        if target[i].isdigit():
            return target[:i] + str((int(target[i]) + 1) % 10) + target[i + 1 :]
    return "z" if target != "z" else "y"


@needs_data
def test_near_misses_are_wrong():
    samples = list(TASK.samples(str(DATA), {}))
    wrong = [(s.id, s.target, near_miss(s.target)) for s in samples if value(near_miss(s.target), s) != 0]
    assert wrong == []


@needs_data
def test_equivalent_forms_of_polynomials_are_right_and_copied_questions_are_not():
    for module in ("collect", "differentiate", "add", "expand"):
        for s in TASK.samples(str(DATA), {"module": module}):
            terms = s.target.replace(" - ", " + -").split(" + ")
            assert value(" + ".join(reversed(terms)).replace("**", "^"), s) == 1, s.target
    for s in TASK.samples(str(DATA), {"module": "collect"}):
        copied = s.fields["question"].removeprefix("Collect the terms in ").rstrip(".")
        assert MathEqual().score(copied, s).value == 0, copied


@needs_data
def test_one_file_one_split_and_a_category():
    folder = DATA / "interpolate"
    assert len(list(TASK.samples(str(folder / "algebra__linear_1d.txt"), {}))) == 10
    samples = list(TASK.samples(str(folder), {"category": "algebra"}))
    assert {s.category for s in samples} == {"algebra"} and len(samples) == 80
    samples = list(TASK.samples(str(folder), {}))
    assert Counter(samples[place].category for place in draw(samples, 240, "category", 0)) == dict.fromkeys(MODULES, 30)


def test_errors(tmp_path):
    (tmp_path / "algebra__x.txt").write_text("1 + 1?\n2\n2 + 2?\n")
    with pytest.raises(UsageError, match=r"algebra__x.txt, line 3: a question without an answer"):
        list(TASK.samples(str(tmp_path), {}))
    with pytest.raises(UsageError, match="did you mean 'algebra'"):
        list(TASK.samples(None, {"category": "algebras"}))


def test_generated_problems_are_seeded_distinct_and_answerable():
    samples = list(TASK.samples(None, {"n": 600}))
    assert samples == list(TASK.samples(None, {"n": 600}))
    assert samples[:100] == list(TASK.samples(None, {"n": 100}))
    assert samples != list(TASK.samples(None, {"n": 600, "seed": 1}))
    assert len({s.fields["question"] for s in samples}) == 600
    assert {s.category for s in samples} == set(MODULES)
    assert all(value(s.target, s) == 1 for s in samples)
