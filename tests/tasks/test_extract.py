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
        ("It is neutral. The author is not expressing a positive or", None),  # cut at the token limit
        ("Some praise, so not negative at first. But it ends badly.\nAnswer: negative", "negative"),
        ("The words are positive, the tone is negative. The final answer is \\boxed{negative}.", "negative"),
        ("It could be positive. The sentiment is positive or negative", None),
        ("neither", None),
        ("", None),
    ],
)
def test_label(text, want):
    assert extract("label", text, SENTIMENT) == want


def test_labels_that_are_numbers():
    stars = Sample("1", {}, "2", ("1", "2", "3"))
    assert extract("label", "2", stars) == extract("label", "I give it 2 of 5 stars.", stars) == "2"
    assert extract("label", "2.5", stars) is None and extract("label", "1,2", stars) is None
    assert extract("label", "12", stars) is None and extract("label", "Label: 3.", stars) == "3"


CITIES = Sample("1", {"options": ["Oslo", "Paris", "Not known", "New York"]}, "B", ("A", "B", "C", "D"))


@pytest.mark.parametrize("extractor", ["label", "letter"])
@pytest.mark.parametrize(
    ("text", "want"),
    [
        # the words of an option, and nothing else, are its letter
        ("Paris", "B"), ("**New York.**", "D"), ("The answer is: not known", "C"), ("Answer: Paris.", "B"),
        ("Paris, not Oslo", None), ("It is in Paris", None), ("The answer is not Oslo", None), ("Paris\nOslo", None),
        # "A:" before the words of another option may stand for "Answer:"
        ("A: Paris", None), ("The correct option is D. Oslo", None), ("a) Not known\n\nBecause it is open", None),
        ("B: Paris", "B"), ("A: Rome", "A"), ("The answer is B. Paris\nA: Oslo", "B"), ("B", "B"),
        ("A: Paris\n\nThe correct answer is B: Paris", "B"),
    ],
)  # fmt: skip
def test_a_letter_and_the_words_of_the_options(extractor, text, want):
    assert extract(extractor, text, CITIES) == want


def test_options_of_the_same_words_say_nothing():
    twice = Sample("1", {"options": ["Oslo", "Oslo", "Rome"]}, "B", ("A", "B", "C"))
    assert extract("letter", "Oslo", twice) is None and extract("letter", "B. Oslo", twice) == "B"


def test_label_in_other_scripts_and_longest_first():
    assert extract("label", "这是正面的。", Sample("1", {}, "正面", ("正面", "负面"))) == "正面"
    assert extract("label", "这不正面", Sample("1", {}, "正面", ("正面", "负面"))) is None
    assert extract("label", "情感：负面，而不是正面。", Sample("1", {}, "正面", ("正面", "负面"))) == "负面"
    nested = Sample("1", {}, "entailment", ("entailment", "not entailment"))
    assert extract("label", "not entailment", nested) == "not entailment"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("B", "B"), ("(B)", "B"), ("b)", "B"), ("B. Paris", "B"), ("**D**", "D"), ("B\n\nBecause", "B"),
        ("The answer is **C**.", "C"), ("I think option C.", "C"), ("The correct answer is (C), A is wrong", "C"),
        ("\\boxed{B}", "B"), ("so $\\boxed{\\text{B}}$.", "B"), ("The answer is $B$.", "B"), ("<b>B</b>", "B"),
        ("Ｂ", "B"),
        ("答案：B", "B"), ("正确答案是B。", "B"), ("故选：C", "C"), ("选A或B", None), ("The answer is A because", "A"),
        ("the correct answer to the question is C", "C"), ("The answer is most likely (D).", "D"), ("B - Paris", "B"),
        ("A. Rome\nB. Paris\nAnswer: B", "B"), ("A. Rome\nB. Paris\nC. Bonn", None), ("A\nB\nC\nD", None),
        ("(A) is wrong, (B) is right", "B"), ("Option A is incorrect.", None), ("The answer is not B", None),
        ("The answer is a dog", None), ("Answer: A dog", None), ("A, B", None), ("Answer: A/B", None),
        ("A, as it is", "A"), ("B\n\nQuestion: next?\nAnswer: C", None),
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
        ("The answer is 1/2.", "1/2"), ("\\boxed{\\frac{3}{4}}", "3/4"), ("The answer is $-\\frac12$.", "-1/2"),
        ("The answer is 3 1/2.", "7/2"), ("The answer is 16 - 3 - 4 = 9 eggs.", "9"), ("Answer: 9 a * $2 = $18.", "18"),
        ("Answer: 5 (since 2 + 3 = 5, not 6)", "5"), ("$\\boxed{1{,}000}$", "1000"), ("is \\(1\\,000\\).", "1000"),
        ("1\u202f000", "1000"), ("\\$18", "18"), ("答案是 １，２３４。", "1234"),
        ("# Final Answer\n42\n(step 7)", "42"), ("The answer is not 5 but 6.", "6"),
        # cut at the token limit: the last answer that is whole
        ("The answer is 2 * 8 = 16.\n\nThe answer is 16 * 12 = ", "16"),
        ("The answer is 40.\nWith 25 more it is 65.\nThe answer is ", "40"),
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
        ("3 + 4 makes it.\nThe answer is 7.\n\nThe answer is ", "7"),  # cut at the token limit
        ("x = -1 or x = 2", "-1, 2"),
        ("First 3 + 4 = 7.\nTherefore, the remainder is 11.", "11"),
        ("-1, 2", "-1, 2"),
        ("答案是 $x+1$。", "x+1"),
        ("x \\approx 3.14", "3.14"),
        ("It costs \\$5", "5"),
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


FUNCTION = Sample("1", {"entry_point": "f"}, "x")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        # the code began with the answer; the fence only closes it
        ("def f(x):\n    return x\n```\n\nThis function returns x.", "def f(x):\n    return x"),
        ("    return x\n```\n\nThis returns x.", "    return x"),
        ("\n    return x\n```\nor\n```python\nx\n```", "\n    return x"),
        # a stray fence before the answer's own
        ("```\n\nHere is the function:\n\n```python\ndef f(x):\n    return x\n```\nDone", "def f(x):\n    return x"),
        ("```python\nimport re\n```\nThen:\n```\ndef f(x):\n    return x\n```", "def f(x):\n    return x"),
        ("Here is f:\n\n  ```python\ndef f(x): return x\n  ```", "def f(x): return x"),
        ("```python\ndef f(x):\n    return x", "def f(x):\n    return x"),
        ("Like this:\n```\ng(1)\n```", "g(1)"),
    ],
)
def test_code_among_fences(text, want):
    assert extract("code", text, FUNCTION) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Sure! Here's the translation from Chinese to English:\n\nThe train is late.", "The train is late."),
        ("Here is the sentence in Chinese:\n火车晚点了。", "火车晚点了。"),
        ("**Translation:**\nThe train is late.\n\n(Note: literal)", "The train is late."),
        ("以下是译文：\n火车晚点了。", "火车晚点了。"),
        # a line of the text itself may end in a colon, and nothing may follow
        ("He said:\n\nNote that this is a literal version.", "He said:"),
        ("Here is what he said:\n(Note: literal)", "Here is what he said:"),
        ("Here is the text:", "Here is the text:"),
        ("The translation was lost.\nOr found.", "The translation was lost."),
    ],
)
def test_a_line_that_only_announces_is_not_the_first(text, want):
    assert extract("first_line", text, OPEN) == want


@pytest.mark.parametrize("mark", ["think", "thinking"])
def test_reasoning_is_no_answer(mark):
    thought = f"<{mark}>\nThe answer is A? No: positive, or 3.\n\n</{mark}>\n\n"
    assert extract("letter", f"{thought}The answer is B.", LETTERS) == "B"
    assert extract("label", f"{thought}negative", SENTIMENT) == "negative"
    assert extract("final_number", f"{thought}7", OPEN) == "7"
    assert extract("text", thought.removeprefix(f"<{mark}>") + "yes", OPEN) == "yes"  # begun in the prompt
    assert extract("text", f"{thought}yes\n\nno", OPEN, ("\n\n",)) == "yes"
    assert extract("letter", f"<{mark}>The answer is A", LETTERS) is None  # never ended
    named = f"Write <{mark}> and </{mark}> around it."
    assert extract("text", named, OPEN) == named


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("The answer to this question is:", "The answer to this question is:"),  # and nothing behind it
        ("答案是：北京。", "北京。"),
        ("**Answer:** Paris", "Paris"), ("**Answer:** £30m", "£30m"),
        ("The answer to the question is Paris.", "Paris"), ("答案：北京", "北京"),
        ("The answer is: **Denver Broncos**.", "Denver Broncos"), ("Answers differ", "Answers differ"),
        ("The question is unanswerable.", ""), ("Unanswerable", ""), ("", ""), ("Answer: no answer", ""),
        # as chat models say it, cut at the token limit or not
        ("The passage does not state who led the army.", ""), ("The text doesn’t mention it", ""),
        ("The passage does not explicitly state which year the bridge was", ""), ("It is not specified.", ""),
        ("文中没有提到这座桥的年份。", ""),
        ("The manager is:\n\nJane Roe, since 2010", "Jane Roe, since 2010"), ("Answer:\nParis", "Paris"),
        ("He said:", "He said:"),
        ("The passage does not name him, but says the mayor.", "The passage does not name him, but says the mayor"),
        ("The passage does not only mention Rome.", "The passage does not only mention Rome"),
        ("The text of the treaty", "The text of the treaty"),
        ("The passage does not state it. It was 1932.", "The passage does not state it. It was 1932"),
        ("文章没有提到年份，但提到了桥", "文章没有提到年份，但提到了桥"),
    ],
)  # fmt: skip
def test_span(text, want):
    assert extract("span", text, OPEN) == want


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
    [
        "(" * 50_000,
        "**" * 50_000,
        "answer is " * 10_000,
        "1," * 50_000,
        "\\boxed{" * 10_000,
        "answer" + "\n" * 50_000,
        "</think>" * 10_000,
        "<think>" * 10_000,
        "answer to " * 10_000,
        "A\n" * 50_000,
        "\\frac1" * 10_000,
        "1 1/" * 20_000,
    ],
)
def test_hostile_text_is_read_quickly(hostile):
    for name in NAMES:
        extract(name, hostile, LETTERS)
