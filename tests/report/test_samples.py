import shutil

import pytest

from poise.report.samples import asked, by_disagreement, chosen, items, sample_ids, verdict
from poise.store.run import open_run


@pytest.fixture(scope="module")
def words(run):
    return [c for c in asked([run]) if c.task == "words"]


def test_cells_carry_the_summarys_names(run, derived):
    assert {(*c.key, c.task) for c in asked([run])} == {(c.model, c.deployment, c.load, c.task) for c in derived.cells}


def test_disagreements_come_first_else_plan_order(words):
    ids = by_disagreement(words)
    assert sorted(ids) == sample_ids(words)
    assert ids[:5] == ["w00", "w03", "w06", "w07", "w09"]
    assert ids[5:] == sorted(ids[5:])


def test_chosen_samples_are_few_and_mostly_disagreements(words):
    picked = chosen(words, 4)
    assert len(picked) == len(set(picked)) == 4
    assert picked[:2] == ["w00", "w03"]
    assert set(chosen(words, 100)) == set(sample_ids(words))


def test_an_item_has_everything_side_by_side(words):
    (item,) = items(words, ["w03"])
    assert (item.task, item.id, item.prompt, item.target) == ("words", "w03", "w03?", "word 3")
    assert [a.mark for a in item.answers] == [0.0, 0.0, 1.0, 1.0]
    right = item.answers[-1]
    assert right.key == ("bundled:m", "transformers", "closed 1")
    assert right.stamps_s == pytest.approx([0.04, 0.08])
    assert "".join(right.pieces) == right.text == right.extracted == "word 3"
    assert right.tokens == 3


def test_a_failed_request_is_worth_nothing_and_says_why(words):
    (item,) = items(words, ["w07"])
    failed = item.answers[-1]
    assert failed.mark == 0.0
    assert failed.failure == "engine: it failed"
    assert verdict(failed.mark, bool(failed.failure)) == "failed"


def test_verdicts():
    assert [verdict(m) for m in (1.0, 0.0, 0.5, None)] == ["right", "wrong", "partly", "unscored"]


def test_two_runs_side_by_side_say_where_they_asked_differently(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    (inputs,) = other.glob("inputs/*words*.requests.jsonl")
    inputs.write_text(inputs.read_text().replace("w03?", "say w03"))
    cells = [c for c in asked([run, open_run(other)]) if c.task == "words"]
    (item,) = items(cells, ["w03"])
    assert item.prompt == "w03?"
    assert [a.asked for a in item.answers] == [None] * 4 + ["say w03"] * 4
    assert {a.key[1] for a in item.answers[4:]} == {"onnx@other", "transformers@other"}


def test_what_was_asked_may_be_lost(run, tmp_path):
    there = shutil.copytree(run.path, tmp_path / "copy")
    for path in (there / "inputs").glob("*.requests.jsonl"):
        path.unlink()
    (item,) = items([c for c in asked([open_run(there)]) if c.task == "words"], ["w03"])
    assert item.prompt == "" and [a.mark for a in item.answers] == [0.0, 0.0, 1.0, 1.0]
