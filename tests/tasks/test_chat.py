"""MT-Bench from its published files, and the miniature conversation."""

import hashlib

import pytest

from poise.tasks.build import get_task
from poise.tasks.mini._items import is_test
from poise.types import UsageError


def test_mt_bench_from_the_published_files(shared_data):
    task = get_task("mt_bench")
    home = shared_data / "mt_bench"
    plain = list(task.samples(str(home / "question.jsonl"), {}))
    assert len(plain) == 80 and {len(task.question(s)) for s in plain} == {2}
    assert {s.category: sum(x.category == s.category for x in plain) for s in plain} == dict.fromkeys(
        ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"), 10
    )
    both = list(task.samples([str(home / "question.jsonl"), str(home / "reference_answer_gpt-4.jsonl")], {}))
    given = [s for s in both if s.target]
    assert {s.category for s in given} == {"reasoning", "math", "coding"} and len(given) == 30
    assert all(len(s.target) == 2 for s in given)
    # FastChat, fastchat/llm_judge/common.py: temperature_config
    published = {"writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0,
                 "stem": 0.1, "humanities": 0.1}  # fmt: skip
    assert {s.category: task.temperature(s) for s in plain} == published


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"question_id": 1, "category": "math", "turns": "no list"}', "row 1: turns"),
        ('{"question_id": 1, "category": "math"}', "turns"),
    ],
)
def test_mt_bench_says_what_is_wrong(tmp_path, lines, said):
    path = tmp_path / "q.jsonl"
    path.write_text(lines + "\n")
    with pytest.raises(UsageError, match=said):
        list(get_task("mt_bench").samples(str(path), {}))
    good = tmp_path / "good.jsonl"
    good.write_text('{"question_id": 1, "category": "math", "turns": ["a", "b"]}\n')
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question_id": 1, "choices": []}\n')
    with pytest.raises(UsageError, match=r"choices\[0\].turns"):
        list(get_task("mt_bench").samples([str(good), str(bad)], {}))
    with pytest.raises(UsageError, match="needs data"):
        list(get_task("mt_bench").samples(None, {}))


def test_mini_chat_is_pinned_and_consistent():
    task = get_task("mini-chat")
    samples = list(task.samples(None, {}))
    assert len(samples) == 400
    for s in samples:
        first, second = task.question(s)
        assert is_test(first) and is_test(f"{first}\n{second}")
        facts = [fact.split() for fact in first.split(". ")[:-1]]
        thing = second.rstrip("?").split()[-1]
        (owner,) = [fact for fact in facts if fact[-1] == thing]
        assert s.target[1] == (owner[0] if second.startswith("Who") else owner[3])
    lines = [f"{s.category}\t{task.question(s)}\t{s.target}" for s in samples]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "8bb97d2d5970ded1"
