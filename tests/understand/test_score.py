"""Scores and their cache: failures, choices, the unscorable, and a cache that is only ever a copy."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import msgspec
import numpy as np
from support import asked, cell, write_run

from poise.store.run import CellFolder, open_run
from poise.understand.derive import columns
from poise.understand.score import Scores, score_cell

LABELS = ("bad", "good")


def scored(folder: CellFolder) -> Scores:
    return score_cell(folder, columns(folder), folder.targets())


def folder_of(path: Path, *items: object, **more: object) -> CellFolder:
    return open_run(write_run(path / "run", [cell("m", "t", list(items), **more)])).cells()[0]  # type: ignore[arg-type]


def labelled(id: str, target: str | None, text: str, **more: object) -> object:
    return asked(id, target, text, e2e_s=1.0, choices=LABELS, **more)  # type: ignore[arg-type]


def test_right_wrong_failed_and_unscorable(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        labelled("a", "good", "good"),
        labelled("b", "good", "bad"),
        labelled("c", "good", "maybe"),
        asked("d", "good", status="error", choices=LABELS),
        labelled("e", "unheard of", "good"),
        metrics=("accuracy", "f1.macro"),
        extract="label",
    )
    found = scored(folder)
    assert list(found.answers) == ["good", "bad", None, None, "good"]
    assert found.first is not None
    assert found.first.values[:4].tolist() == [1, 0, 0, 0] and math.isnan(found.first.values[4])
    assert "unheard of" in (found.first.reasons[4] or "")
    # the failed request stands in the confusion table's column "none"
    assert found.first.stats is not None and found.first.stats[3].reshape(2, 3)[1].tolist() == [0, 0, 1]


def test_stops_cut_the_answer(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, asked("a", "4", "4\n\nQ: 2+3", e2e_s=1.0), metrics=("exact_match",), extract="text")
    path = folder.run / "inputs" / f"{folder.cell.task.items_sha}.requests.jsonl"
    request = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**request, "stop": ["\n\n"]}) + b"\n")
    assert list(scored(folder).answers) == ["4"]


def test_choice_takes_the_likeliest_raw_and_per_byte(tmp_path: Path) -> None:
    choices = ("no", "absolutely")
    folder = folder_of(
        tmp_path,
        # sums -2 and -3: raw says "no"; per byte -1 and -.3: "absolutely"
        asked("a", "absolutely", done_s=1, option_logprobs=[[-2.0], [-1.0, -2.0]], choices=choices),
        asked("b", "no", done_s=1, option_logprobs=[[-1.0]], choices=choices),
        mode="choice",
        metrics=("accuracy",),
    )
    found = scored(folder)
    assert list(found.answers) == ["no", None]
    assert found.by_metric["accuracy"].values[0] == 0
    assert found.by_metric["accuracy.bytes"].values[0] == 1
    assert np.isnan(found.by_metric["accuracy"].values[1])


def test_the_cache_comes_back_byte_for_byte_and_is_believed_only_if_it_fits(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, asked("a", "yes", "yes", e2e_s=1.0), asked("b", "yes", "no", e2e_s=1.0))
    scored(folder)
    path = folder.run / "derived" / "scores" / f"{folder.path.name}.jsonl"
    kept = path.read_bytes()
    assert str(tmp_path).encode() not in kept

    path.write_bytes(kept.replace(b'"value":1.0', b'"value":0.5'))
    first = scored(folder).first
    assert first is not None and first.values[0] == 0.5, "a cache that fits is read"

    path.write_bytes(kept.replace(b'"records ', b'"records 9').replace(b'"value":1.0', b'"value":0.5'))
    first = scored(folder).first
    assert first is not None and first.values[0] == 1.0, "a stale one is not"
    path.unlink()
    scored(folder)
    assert path.read_bytes() == kept

    for broken in (b"", b"not json\n", kept.splitlines()[0] + b"\n", kept[:-30]):
        path.write_bytes(broken)
        first = scored(folder).first
        assert first is not None and first.values.tolist() == [1.0, 0.0]
        assert path.read_bytes() == kept


def test_a_change_of_the_records_that_keeps_their_length_is_noticed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", asked("a", "yes", "yes", e2e_s=1.0), asked("b", "yes", "no!", e2e_s=1.0))
    scored(folder)
    elsewhere = tmp_path / "copy"
    shutil.copytree(folder.run, elsewhere)  # with other times of the files
    copy = CellFolder(elsewhere, elsewhere / "cells" / folder.path.name)
    kept = elsewhere / "derived" / "scores" / f"{folder.path.name}.jsonl"
    kept.write_bytes(kept.read_bytes().replace(b'"value":1.0', b'"value":0.5'))
    first = scored(copy).first
    assert first is not None and first.values.tolist() == [0.5, 0.0], "a copied folder keeps its scores"

    records = copy.path / "records.jsonl"
    records.write_bytes(records.read_bytes().replace(b"no!", b"yes"))
    first = scored(copy).first
    assert first is not None and first.values.tolist() == [1.0, 1.0]


def test_a_metric_that_raises_leaves_the_item_unscorable(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, asked("a", {"not": "a text"}, "yes", e2e_s=1.0), metrics=("math_equal",))
    first = scored(folder).first
    assert first is not None and len(first.values) == 1


def test_unknown_metrics_and_code_are_a_reason_not_a_crash(tmp_path: Path) -> None:
    for number, name in enumerate(("nonesuch", "evil.py:Metric")):
        folder = folder_of(tmp_path / str(number), asked("a", "x", "x", e2e_s=1.0), metrics=(name,))
        found = scored(folder)
        assert found.first is None and found.unscored and name in found.unscored


def test_nothing_to_score(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, asked("a", None, "x", e2e_s=1.0), metrics=())
    found = scored(folder)
    assert found.first is None and "nothing to score" in (found.unscored or "")
    assert not (folder.run / "derived").exists()


METRIC = """
from poise.types import Score

class Loud:
    name, version, unit, better = "loud", 3, "", "lower"
    def score(self, answer, sample):
        return Score(float((answer or "").isupper()))
"""


def test_a_metric_in_a_file_runs_with_permission_only_and_its_scores_stay(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(METRIC)
    name = f"{tmp_path / 'loud.py'}:Loud"
    items = (labelled("a", "good", "good"), labelled("b", "good", "BAD"))
    folder = folder_of(tmp_path, *items, metrics=("accuracy", name), extract="text")
    before = scored(folder)
    assert before.first is not None and before.first.values.tolist() == [1, 0], "the others are scored all the same"
    assert "--allow-code" in (before.by_metric[name].reasons[0] or "")
    allowed = score_cell(folder, columns(folder), folder.targets(), allow_code=True)
    assert allowed.by_metric[name].values.tolist() == [0, 1]
    (tmp_path / "loud.py").write_text("raise SystemExit('ran without permission')")
    assert scored(folder).by_metric[name].values.tolist() == [0, 1], "kept, and read without running it"
