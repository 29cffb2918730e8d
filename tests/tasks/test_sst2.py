from pathlib import Path

import pytest

from poise.tasks.build import draw, get_task
from poise.types import UsageError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "sst2"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")


@needs_data
def test_glue_dev_set():
    task = get_task("sst2")
    samples = list(task.samples(str(DATA / "dev.tsv"), {}))
    # The GLUE development set: 872 sentences, 444 of them positive.
    assert len(samples) == 872
    assert sum(s.target == "positive" for s in samples) == 444
    assert task.question(samples[0]).startswith("Sentence: it 's a charming and often affecting journey")
    drawn = [samples[k] for k in draw(samples, 200, "label", 0)]
    assert sum(s.target == "positive" for s in drawn) == 100
    assert {samples[k].id for k in draw(samples, 100, "label", 0)} < {s.id for s in drawn}


def test_labels(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"sentence": "a", "label": 1}\n{"sentence": "b", "label": "Negative"}\n')
    task = get_task("sst2")
    assert [s.target for s in task.samples(str(tmp_path / "x.jsonl"), {})] == ["positive", "negative"]
    (tmp_path / "test.tsv").write_text("sentence\tlabel\na\t-1\n")
    with pytest.raises(UsageError, match=r"row 1: label '-1' .* hidden test set"):
        list(task.samples(str(tmp_path / "test.tsv"), {}))
    with pytest.raises(UsageError, match="task sst2 needs data"):
        list(task.samples(None, {}))
