import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.tasks.build import get_task
from poise.tasks.extract import extract
from poise.types import Sample, UsageError
from poise.understand import sandbox
from poise.understand.codetest import PassAt1, pass_at_k, program

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
needs_sandbox = pytest.mark.skipif(
    sandbox.why_unavailable() is not None, reason=f"no sandbox: {sandbox.why_unavailable()}"
)


def judged(name, file, answer, every=1):
    """Ids of the items that pass, and all ids."""
    task = get_task(name)
    samples = list(task.samples(str(DATA / file), {}))[::every]
    metric = PassAt1()

    def one(sample):
        return metric.score(extract(task.extract, answer(task, sample), sample), sample).value

    with ThreadPoolExecutor(2) as pool:
        values = list(pool.map(one, samples))
    assert None not in values
    return [s.id for s, v in zip(samples, values) if v == 1], [s.id for s in samples]


def reference(task, sample):
    return task.answer(sample)


def in_prose(task, sample):
    return f"Sure!\n```python\n{sample.fields['prompt']}{sample.target}\n```\nIt works because…"


@needs_data
@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "every", "n"),
    [  # with every=1 all of them pass: 164, 164, 300 and 427; it takes minutes
        ("humaneval", "humaneval/HumanEval.jsonl.gz", 1, 164),
        ("humanevalpack-fix", "humanevalpack_fix/humanevalpack.python.jsonl", 4, 41),
        ("mbpp", "mbpp/mbpp.jsonl", 8, 38),
        ("mbpp", "mbpp/sanitized-mbpp.json", 8, 54),
    ],
)
def test_references_pass(name, file, every, n):
    passed, ids = judged(name, file, reference, every)
    assert passed == ids and len(ids) == n


@needs_data
@needs_sandbox
@pytest.mark.slow
def test_buggy_functions_fail():
    file = "humanevalpack_fix/humanevalpack.python.jsonl"
    passed, ids = judged("humanevalpack-fix", file, lambda t, s: s.fields["buggy_solution"], every=4)
    assert passed == [] and len(ids) == 41  # with every=1: none of 164


@needs_data
@needs_sandbox
def test_answers_in_prose_pass_and_empty_bodies_fail():
    passed, every = judged("humaneval", "humaneval/HumanEval.jsonl.gz", in_prose, every=12)
    assert passed == every
    passed, _ = judged("humaneval", "humaneval/HumanEval.jsonl.gz", lambda t, s: "    return None", every=12)
    assert passed == []


@needs_sandbox
@pytest.mark.parametrize("name", ["mini-functions", "mini-programs", "mini-repairs"])
def test_miniature_references_pass(name):
    task = get_task(name)
    for sample in task.samples(task.data, {}):
        assert PassAt1().score(extract("code", task.answer(sample), sample), sample).value == 1
        if name == "mini-repairs":
            assert PassAt1().score(sample.fields["buggy_solution"], sample).value == 0


def test_mbpp_function_may_be_called_like_one_of_pythons(tmp_path):
    code, tests = "def sum(a, b):\r\n  return a + b", ["assert set([sum(1, 2)]) == {3}"]
    row = {"task_id": 1, "text": "Add.", "code": code, "test_list": tests}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row) + "\n")
    [sample] = get_task("mbpp").samples(str(tmp_path / "mbpp.jsonl"), {})
    assert sample.fields["entry_point"] == "sum"
    said = "Tests:\n```python\nassert sum(1, 2) == 3\n```\n```python\ndef sum(a, b):\n    return a + b\n```"
    answer = extract("code", said, sample)
    assert answer == "def sum(a, b):\n    return a + b"
    names = {}
    exec(program(answer, sample), names)
    assert names["sum"](1, 2) == 3


HEAD = Sample("1", {"preamble": "import math\n\ndef f(x):\n    '''Doc.'''\n", "entry_point": "f", "tests": ""})


@pytest.mark.parametrize(
    "answer",
    [
        "    return math.floor(x)",
        "return math.floor(x)",
        "y = math.floor(x)\n    return y",
        "def f(x):\n    return math.floor(x)",
        "    def f(x):\n        return math.floor(x)",
        "def g(x):\n    return math.floor(x)\n\ndef f(x):\n    return g(x)",
    ],
)
def test_programs_from_continuations_and_whole_functions(answer):
    names = {}
    exec(program(answer, HEAD), names)
    assert names["f"](2.5) == 2


def test_pass_at_k_published_value_and_limits():
    # 1 - C(n-c, k)/C(n, k) by hand: n 5, c 2, k 2: 1 - 3/10.
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)
    assert pass_at_k(3, 0, 3) == 0 and pass_at_k(3, 1, 3) == 1
    with pytest.raises(ValueError, match="pass@4"):
        pass_at_k(3, 1, 4)


@given(st.integers(1, 40), st.data())
def test_pass_at_k_grows_with_k_and_is_the_mean_at_one(n, data):
    c = data.draw(st.integers(0, n))
    values = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert values[0] == pytest.approx(c / n) and values == sorted(values)


def test_unscorable_without_a_sandbox_and_without_tests(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "_why_uncontained", lambda name: "install bubblewrap (bwrap)")
        metric = PassAt1()
        score = metric.score("    return 1", HEAD)
        assert score.value is None and "bubblewrap" in score.reason and not metric.keep
    assert PassAt1().score("x", Sample("1", {})).reason == "the item has no tests"


def test_other_languages_are_refused(tmp_path):
    row = dict.fromkeys(
        ("declaration", "prompt", "buggy_solution", "canonical_solution", "test", "entry_point"), "x"
    ) | {"task_id": "JavaScript/0"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match="is not Python"):
        list(get_task("humanevalpack-fix").samples(str(tmp_path / "x.jsonl"), {}))
