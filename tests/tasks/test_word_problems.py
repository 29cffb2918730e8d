"""Word problems and competition mathematics from the files as they are published; rows made up in their formats."""

import json

import pytest

from poise.registry import lookup
from poise.tasks.build import get_task
from poise.tasks.extract import extract
from poise.types import UsageError


def asked(path, rows, task):
    path.write_text(json.dumps(rows))
    made = get_task(task)
    return made, list(made.samples(str(path), {}))


def right(task, text, sample):
    return lookup("metric", "math_equal")().score(extract(task.extract, text, sample), sample).value


SVAMP = {"ID": "chal-1", "Body": "A pack costs 76 dollars. If 25 are taken off", "Question": "What does it cost?",
         "Equation": "( 76.0 - 25.0 )", "Answer": 51.0, "Type": "Subtraction"}  # fmt: skip
MAWPS = {"iIndex": 4, "lEquations": ["X=(6.0*7.0)"], "lSolutions": [42.0], "sQuestion": " How much are 7 bars of $6? "}


@pytest.mark.parametrize(
    ("row", "question", "target"),
    [
        (SVAMP, "A pack costs 76 dollars. If 25 are taken off What does it cost?", "51"),
        (MAWPS, "How much are 7 bars of $6?", "42"),
        ({"question": "How many?", "answer": "1,250.5"}, "How many?", "1250.5"),
    ],
)
def test_answers_that_are_numbers_alone(tmp_path, row, question, target):
    task, [sample] = asked(tmp_path / "x.json", [row], "gsm8k")
    assert task.question(sample) == f"Question: {question}" and sample.target == target
    assert right(task, task.answer(sample), sample) == 1 and right(task, "The answer is 3.", sample) == 0


def test_word_problems_that_cannot_be_asked(tmp_path):
    for row, why in (
        (SVAMP | {"Body": "A pack costs number0 dollars."}, "row 1: words such as number0 stand for the numbers"),
        ({"question": "Who?", "answer": "Ann"}, "row 1: the answer is no number, nor has it"),
        ({"problem": "How many?"}, "row 1: needs question and answer; it has 'problem'"),
    ):
        with pytest.raises(UsageError, match=why):
            asked(tmp_path / "x.json", [row], "gsm8k")


ANSWERS = [  # the target's TeX, one that is equal, one that is not
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)", r"(\pi/2, 3)"),
    (r"\frac{14}{3}", r"\dfrac{28}{6}", r"\frac{3}{14}"),
    (r"11\text{ cm}", "11", "12"),
    ("1,-2", "-2, 1", "-2, 2"),
    ("4210_5", r"4210_{5}", "4211_5"),
    (r"\text{Ann}", "Ann", "Bo"),
    ("x^2 + 2x + 1", "(x+1)^2", "(x-1)^2"),
    (r"(-\infty, 3]", r"(-\infty,3]", r"(-\infty,3)"),
]


@pytest.mark.parametrize(("target", "same", "other"), ANSWERS)
def test_math_compares_what_is_in_the_box(tmp_path, target, same, other):
    row = {"problem": "What?", "level": "Level 3", "type": "Algebra", "solution": f"Thus it is $\\boxed{{{target}}}$."}
    for more in ({}, {"answer": target}):
        task, [sample] = asked(tmp_path / "1.json", row | more, "math")
        assert sample.category == "type=Algebra"
        assert right(task, task.answer(sample), sample) == 1
        assert right(task, f"First so.\n\nThen $\\boxed{{{same}}}$.", sample) == 1
        assert right(task, f"First so.\n\nThen $\\boxed{{{other}}}$.", sample) == 0


def test_math_is_a_folder_of_files(tmp_path):
    for k, name in enumerate(("algebra", "geometry"), 1):
        (tmp_path / name).mkdir()
        row = {"problem": "What?", "type": name, "solution": f"$\\boxed{{{k}}}$"}
        (tmp_path / name / "1.json").write_text(json.dumps(row))
    samples = list(get_task("math").samples(str(tmp_path), {}))
    assert [(s.id, s.target, s.category) for s in samples] == [("0", "1", "type=algebra"), ("1", "2", "type=geometry")]
    with pytest.raises(UsageError, match=r"neither an answer nor a solution with \\boxed"):
        asked(tmp_path / "x.json", {"problem": "What?", "solution": "Nothing."}, "math")


def test_a_pointer_of_git_lfs_is_no_data(tmp_path):
    (tmp_path / "test.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 439\n")
    with pytest.raises(UsageError, match=r"test.jsonl is not the data but Git LFS's pointer to them"):
        list(get_task("math").samples(str(tmp_path / "test.jsonl"), {}))
