import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.tasks.extract import NAMES, extract
from poise.types import Sample, UsageError

SENTIMENT = Sample("1", {}, "positive", ("negative", "positive"))
LETTERS = Sample("1", {}, "B", ("A", "B", "C", "D"))
OPEN = Sample("1", {}, "x")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("positive", "positive"),
        (" **Positive**.", "positive"),
        ("POSITIVE", "positive"),
        ("```\npositive\n```", "positive"),
        ("The sentiment is negative.", "negative"),
        ("Positive. There is nothing negative here.", "positive"),
        ("Sentiment: Negative\n\nThe text is not positive", "negative"),
        ("The film is funny and the sentiment positive", "positive"),
        ("positive or negative", None),
        ("negative/positive", None),
        ("Both positive and negative", None),
        ("could be negative, could be positive", None),
        ("not positive", None),
        ("This isn't negative", None),
        ("positively", None),
        ("neither", None),
        ("", None),
    ],
)
def test_label(text, want):
    assert extract("label", text, SENTIMENT) == want


def test_label_in_other_scripts_and_longest_first():
    assert extract("label", "这是正面的。", Sample("1", {}, "正面", ("正面", "负面"))) == "正面"
    nested = Sample("1", {}, "entailment", ("entailment", "not entailment"))
    assert extract("label", "not entailment", nested) == "not entailment"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("B", "B"), ("(B)", "B"), ("b)", "B"), ("B. Paris", "B"), ("**D**", "D"), ("B\n\nBecause", "B"),
        ("The answer is **C**.", "C"), ("I think option C.", "C"), ("The correct answer is (C), A is wrong", "C"),
        ("A good film", None), ("It could be A or B", None), ("Answer: none", None), ("", None),
    ],
)  # fmt: skip
def test_letter(text, want):
    assert extract("letter", text, LETTERS) == want
    assert extract("label", text, LETTERS) == want  # labels that are letters are found as letters


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("#### 18", "18"), ("so 1,234.50 dollars", "1234.50"), ("The answer is $5.", "5"), ("it costs -3", "-3"),
        ("3 apples and 4 pears, 7 in all.", "7"), ("The answer is 72. That's 6 dozen.", "72"), ("10%", "10"),
        ("\\boxed{1,000}", "1000"), ("3/4", "3/4"), ("between 3-4", "4"), (".5", ".5"), ("x1 y", None), ("none", None),
    ],
)  # fmt: skip
def test_final_number(text, want):
    assert extract("final_number", text, OPEN) == want


def test_number_is_the_first():
    assert extract("number", "3 apples and 4 pears", OPEN) == "3"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("The answer is $x^2$.", "x^2"),
        ("**-2*v**3 + 1**", "-2*v**3 + 1"),
        ("Thus, x = 4.", "4"),
        ("3*4 = 12", "12"),
        ("True, because 3 divides 9", "True"),
        ("It takes 93 minutes", "93"),
        ("The time is 10:45 AM.", "10:45 AM"),
        ("Answer: 7\nExplanation: 3+4", "7"),
        ("x = -1 or x = 2", "-1, 2"),
        ("First 3 + 4 = 7.\nTherefore, the remainder is 11.", "11"),
        ("-1, 2", "-1, 2"),
        ("b", "b"),
        ("", None),
    ],
)
def test_math(text, want):
    assert extract("math", text, OPEN) == want


def test_stops_cut_and_lines():
    assert extract("text", "yes \n\nQuestion: no", OPEN, ("\n\n",)) == "yes"
    assert extract("first_line", "\n one \ntwo", OPEN) == "one"
    assert extract("code", "Sure:\n```python\nx = 1\n```\nDone", OPEN) == "x = 1"


def test_unknown_extractor():
    with pytest.raises(UsageError, match="did you mean 'label'"):
        extract("labels", "x", OPEN)


@given(st.text(max_size=300), st.sampled_from(NAMES))
def test_any_text_gives_text_or_none(text, name):
    for sample in (SENTIMENT, LETTERS, OPEN):
        answer = extract(name, text, sample)
        assert answer is None or (isinstance(answer, str) and (answer or name == "span"))
        if name == "label" and answer is not None and sample.choices:
            assert answer in sample.choices


@pytest.mark.parametrize(
    "hostile",
    ["(" * 50_000, "**" * 50_000, "answer is " * 10_000, "1," * 50_000, "\\boxed{" * 10_000, "answer" + "\n" * 50_000],
)
def test_hostile_text_is_read_quickly(hostile):
    for name in NAMES:
        extract(name, hostile, LETTERS)
