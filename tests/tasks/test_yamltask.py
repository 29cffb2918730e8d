import pytest

from poise.tasks.build import get_task
from poise.types import UsageError

TICKETS = """
name: tickets
version: 1
data: tickets.csv
instruction: Which queue? billing, tech or other.
question: "Ticket: {{ text }}"
answer_prefix: "Queue:"
answer: "{{ queue }}"
choices: [billing, tech, other]
extract: label
metrics: [accuracy, f1]
category: "lang={{ lang }}"
max_tokens: 4
n_ref: 2
"""


def write(folder, text=TICKETS):
    (folder / "tickets.yaml").write_text(text)
    (folder / "tickets.csv").write_text("text,queue,lang\nno refund,billing,en\n屏幕坏了,tech,zh\n")
    return str(folder / "tickets.yaml")


def test_the_documented_example(tmp_path):
    task = get_task(write(tmp_path))
    first, second = task.samples(None, {})
    assert task.question(second) == "Ticket: 屏幕坏了" and task.answer(second) == "tech"
    assert first.choices == ("billing", "tech", "other") and second.category == "lang=zh"
    assert task.metrics == ("accuracy", "f1.macro") and task.chance == pytest.approx(1 / 3)
    assert (task.max_tokens, task.n_ref, task.extract, task.modes) == (4, 2, "label", ("generate", "choice"))


def test_in_a_study_the_file_and_its_data_are_part_of_what_is_asked(tmp_path):
    import poise

    def sha():
        study = {"models": [{"name": "m", "source": {"api": "m"}}], "deployments": ["scripted"], "tasks": [path]}
        [cell] = poise.plan(poise.load_study(study)).cells
        return cell.task.data_sha

    path = write(tmp_path)
    first = sha()
    assert first == sha()
    write(tmp_path, TICKETS.replace("Which queue?", "What queue?"))
    second = sha()
    (tmp_path / "tickets.csv").write_text("text,queue,lang\nno refund,billing,en\n")
    assert len({first, second, sha()}) == 3


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("choices:", "choises:", "unknown key 'choises'; did you mean 'choices'"),
        ("extract: label", "extract: lable", "unknown extractor 'lable'; did you mean 'label'"),
        ("[accuracy, f1]", "[acuracy]", "did you mean 'accuracy'"),
        ('answer: "{{ queue }}"\n', "", "'answer' is missing"),
        ("max_tokens: 4", "max_tokens: many", "max_tokens must be a number"),
        ("name: tickets", "name: 3", "name must be text"),
        ("choices: [billing, tech, other]", "choices: billing", "choices must be a list"),
        ('question: "Ticket: {{ text }}"', 'question: "{{ txt }}"', "'txt' is undefined; the columns are 'text'"),
        ('question: "Ticket: {{ text }}"', 'question: "{{ text"', "question: "),
        ("tech, other]", "other]", "answer 'tech' is none of billing, other"),
        ("name: tickets", "name: [", "line"),
        ('"Ticket: {{ text }}"', '"{{ text.__class__.__mro__ }}"', "unsafe"),
        ('"Ticket: {{ text }}"', "\"{{ ''.__class__.__base__.__subclasses__() }}\"", "unsafe"),
    ],
)
def test_errors(tmp_path, old, new, says):
    assert old in TICKETS
    path = write(tmp_path, TICKETS.replace(old, new))
    with pytest.raises(UsageError, match=says):
        task = get_task(path)
        for sample in task.samples(None, {}):
            task.question(sample)


def test_yes_and_no_are_words(tmp_path):
    path = write(tmp_path, TICKETS.replace("[billing, tech, other]", "[yes, no, on]").replace("{{ queue }}", "yes"))
    [first, _] = get_task(path).samples(None, {})
    assert first.choices == ("yes", "no", "on") and first.target == "yes"


def test_missing_file(tmp_path):
    with pytest.raises(UsageError, match="no task file"):
        get_task(str(tmp_path / "none.yaml"))
