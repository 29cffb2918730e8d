"""`poise score FILE`: outputs made elsewhere, scored as a run's own are."""

import json

import msgspec
import numpy as np
import pytest
import sacrebleu

import poise
from poise.types import UsageError
from poise.understand import codetest
from poise.understand.sandbox import Outcome

ROWS = [("a lovely film", 1), ("dull and long", 0), ("a fine, warm story", 1), ("a waste of time", 0)]


@pytest.fixture
def sst2(tmp_path):
    path = tmp_path / "dev.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS))
    return str(path)


def written(tmp_path, *rows, name="out.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def accuracy(path, data, **more):
    return poise.score_outputs(path, "sst2", data, **more).cells[0]["accuracy"]


RIGHT = ["positive", "negative", "positive", "negative"]


def test_by_id_in_any_order_and_in_the_order_of_the_data(tmp_path, sst2):
    outputs = [{"id": str(i), "output": text} for i, text in enumerate(["positive", "positive", *RIGHT[2:]])]
    by_id = accuracy(written(tmp_path, *reversed(outputs)), sst2)
    in_order = accuracy(written(tmp_path, *({"output": o["output"]} for o in outputs)), sst2)
    plain = tmp_path / "out.txt"
    plain.write_text("\n".join(o["output"] for o in outputs) + "\n")
    mapping = tmp_path / "out.json"
    mapping.write_text(json.dumps({o["id"]: o["output"] for o in outputs}))
    assert by_id.value == 0.75 and by_id.lo < 0.75 < by_id.hi
    assert by_id == in_order == accuracy(plain, sst2) == accuracy(mapping, sst2)


def test_the_same_numbers_as_the_run_that_made_them(tmp_path):
    from poise.tasks.build import get_task

    items = list(get_task("mini-qa").samples(None, {}))
    answers = {s.id: s.target if i % 3 else items[i - 1].target for i, s in enumerate(items)}
    study = {
        "models": [{"name": "m", "source": {"api": "m"}}],
        "deployments": [{"backend": "scripted", "options": {"answers": answers}}],
        "tasks": [{"task": "mini-qa", "limit": 40}],
    }
    run = poise.run(study, tmp_path / "run", quiet=True)
    [cell] = run.cells()
    rows = [{"id": r.sample_id, "output": "".join(r.pieces)} for r in cell.records() if r.phase == "measure"]
    theirs = poise.summarize(run).cells[0]
    ours = poise.score_outputs(written(tmp_path, *rows), "mini-qa", limit=40).cells[0]
    for name in ("exact_match", "f1", "quality", "none_found"):
        assert ours[name] == theirs[name], name
    assert 0.4 < ours["exact_match"].value < 0.9 and ours.groups.keys() == theirs.groups.keys()


def test_missing_outputs_count_as_wrong(tmp_path, sst2):
    rows = [{"id": "0", "output": "positive"}, {"id": "1", "output": None}]
    cell = poise.score_outputs(written(tmp_path, *rows), "sst2", sst2).cells[0]
    assert cell["accuracy"].value == 0.25 and cell["accuracy"].n == 4
    assert cell.failures == {"missing": 3}
    assert [c.evidence for c in cell.checks if c.code == "missing_outputs"] == [
        "3 of 4 items have no output; they count as wrong"
    ]


def test_an_answer_that_is_not_found_is_counted(tmp_path, sst2):
    rows = [{"output": text} for text in ["positive", "hard to say", "positive", "negative"]]
    cell = poise.score_outputs(written(tmp_path, *rows), "sst2", sst2).cells[0]
    assert cell["none_found"].value == 0.25 and cell["accuracy"].value == 0.75
    assert cell.signature.startswith("accuracy v1 | extract label | sst2 v2")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [{"id": "0", "output": "x"}, {"id": "9", "output": "x"}],
            r"ids that are none of the task's 4 items \(1, first",
        ),
        ([{"output": "x"}] * 3, "3 outputs without ids, the task 4 items"),
        ([{"id": "0", "output": "x"}, {"output": "x"}], "1 of 2 rows have an id"),
        ([{"id": "0", "output": 3}], "row 1: the output is a number"),
        ([{"id": "0", "text": "x"}], "no column 'output'"),
        ([{"id": "0", "output": "x"}] * 2 + [{"id": "1", "output": "x"}], "2 outputs for item '0', 1 for '1'"),
        ([], "has no rows"),
    ],
)
def test_errors(tmp_path, sst2, rows, says):
    with pytest.raises(UsageError, match=says):
        accuracy(written(tmp_path, *rows), sst2)


def test_no_file_a_group_and_a_task_without_outputs(tmp_path, sst2):
    there = written(tmp_path, {"output": "x"})
    with pytest.raises(UsageError, match="no file"):
        accuracy(tmp_path / "nothing.jsonl", sst2)
    with pytest.raises(UsageError, match="mini is a group"):
        poise.score_outputs(there, "mini")
    (tmp_path / "a.txt").write_text("some text\n")
    with pytest.raises(UsageError, match="log-probabilities"):
        poise.score_outputs(there, "perplexity", str(tmp_path / "a.txt"))


def test_limit_takes_the_items_a_run_draws(tmp_path, sst2):
    study = {
        "models": [{"name": "m", "source": {"api": "m"}}],
        "deployments": ["openai"],
        "tasks": [{"task": "sst2", "data": sst2, "limit": 2}],
    }
    drawn = [s.id for items in poise.plan(study).items.values() for s in items.samples]
    rows = [{"id": name, "output": RIGHT[int(name)]} for name in drawn]
    assert accuracy(written(tmp_path, *rows), sst2, limit=2).n == 2
    every = [{"id": str(i), "output": RIGHT[i]} for i in range(4)]
    assert accuracy(written(tmp_path, *every), sst2, limit=2).n == 2
    with pytest.raises(UsageError, match=r"ids that are none of the task's 4 items \(1, first"):
        accuracy(written(tmp_path, *every, {"id": "4", "output": "x"}), sst2, limit=2)
    with pytest.raises(UsageError, match="no output for any of the 2 items that the limit leaves"):
        accuracy(written(tmp_path, *(row for row in every if row["id"] not in drawn)), sst2, limit=2)


def test_aligned_text_has_a_line_for_every_line_of_the_data(tmp_path):
    (tmp_path / "a.zh").write_text("你好。\n\n再见。\n")
    (tmp_path / "b.en").write_text("Hello.\nA line without a source.\nGoodbye.\n")
    (tmp_path / "mine.txt").write_text("Hello.\nwhatever\nGoodbye.\n")
    data = [str(tmp_path / "a.zh"), str(tmp_path / "b.en")]
    cell = poise.score_outputs(tmp_path / "mine.txt", "translation", data).cells[0]
    assert cell["exact_match"].value == 1 and cell["exact_match"].n == 2
    assert cell.signatures["bleu"].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    (tmp_path / "mine.txt").write_text("Hello.\nGoodbye.\n")
    assert poise.score_outputs(tmp_path / "mine.txt", "translation", data).cells[0]["chrf"].value == 100


def test_a_text_file_answers_a_document_line_by_line(tmp_path):
    """Windows of lines are scored as the lines are, by sacreBLEU over the file; a line without text moves no other."""
    said = ["你好。", "今天很冷。", "", "我们去河边。", "再见。"]
    wanted = ["Hello.", "It is cold today.", "No source.", "We go to the river.", "Goodbye."]
    mine = ["2. Hello.", "", "not compared", "We went to a river.", "Good bye."]
    for name, lines in (("a.zh", said), ("b.en", wanted), ("mine.txt", mine)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    data = [str(tmp_path / "a.zh"), str(tmp_path / "b.en")]
    kept = [0, 1, 3, 4]
    for lines in (1, 2, 3, 20):
        options = {"unit": "document", "lines": lines}
        cell = poise.score_outputs(tmp_path / "mine.txt", "translation", data, options=options).cells[0]
        assert cell.planned == -(-4 // lines)
        for name in ("bleu", "chrf"):
            theirs = getattr(sacrebleu, f"corpus_{name}")([mine[i] for i in kept], [[wanted[i] for i in kept]])
            assert cell[name].value == pytest.approx(theirs.score, abs=1e-9)
        assert cell["lines.missing"].value == 1 / 4 and cell["lines.extra"].value == 0
    (tmp_path / "mine.txt").write_text("\n".join(mine[:3]) + "\n")
    with pytest.raises(UsageError, match="the outputs end at line 3, the data do not"):
        poise.score_outputs(tmp_path / "mine.txt", "translation", data, options=options)


def test_kept_as_a_run_folder(tmp_path, sst2):
    path = written(tmp_path, *({"output": text} for text in RIGHT))
    first = poise.score_outputs(path, "sst2", sst2, out=tmp_path / "run")
    assert poise.summarize(tmp_path / "run") == first
    assert poise.score_outputs(path, "sst2", sst2, out=tmp_path / "run") == first
    assert msgspec.structs.replace(first, runs=[]).cells[0]["accuracy"].value == 1


def reference(n, c, k):
    # Chen et al. 2021, figure 3: "a numerically stable script for calculating an unbiased estimate of pass@k"
    return 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))


@pytest.mark.parametrize(("id", "output"), [("id", "output"), ("task_id", "completion")])  # HumanEval's own names
def test_pass_at_k_of_several_draws(tmp_path, monkeypatch, id, output):
    monkeypatch.setattr(codetest, "run_tests", lambda code, *_, **__: Outcome("right" in code))
    tasks = [
        {"task_id": f"T/{i}", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "", "test": ""}
        for i in range(3)
    ]
    data = written(tmp_path, *tasks, name="data.jsonl")
    passing = [0, 2, 7]
    rows = [
        {id: f"T/{i}", output: "    return 'right'" if draw < c else None if draw == 7 else "    pass"}
        for draw in range(8)
        for i, c in enumerate(passing)
    ]
    cell = poise.score_outputs(written(tmp_path, *rows), "humaneval", str(data)).cells[0]
    for k in (1, 5, 8):
        found = cell[f"pass_at.{k}"]
        assert found.value == pytest.approx(np.mean([reference(8, c, k) for c in passing]))
        assert found.n == 3 and found.lo < found.value < found.hi
    assert "pass_at.10" not in cell.estimates and "8 draws" in cell["pass_at.5"].method
