import csv
import io
import json
import math
import sys

import polars
import pytest

from poise.report.tables import COLUMNS, Csv, Json, Parquet, rows
from poise.types import Estimate, UsageError


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_a_row_per_cell_and_estimate_then_per_model_and_mark(summary):
    table = read_csv(Csv().render(summary, []))
    estimates = sum(len(c.estimates) for c in summary.cells)
    marks = sum(4 + len(m.sensitivity) + sum(map(len, m.tasks.values())) for m in summary.models)
    assert len(table) == estimates + marks
    first = table[0]
    assert (first["model"], first["task"], first["quantity"]) == ("bundled:xs", "mini-sentiment", "quality")
    assert float(first["value"]) == pytest.approx(0.49)
    assert float(first["lo"]) == pytest.approx(0.445)
    balanced = next(r for r in table if r["quantity"] == "balanced" and not r["task"])
    assert float(balanced["value"]) == 52.4


def test_missing_values_are_empty_never_zero(summary):
    late = next(r for r in read_csv(Csv().render(summary, [])) if r["quantity"] == "e2e_s.p99")
    assert late["value"] == late["lo"] == late["hi"] == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_run_is_quoted(summary, make_cell, name):
    evil = make_cell(name, "onnx", "t", 0.5, 0.1)
    table = read_csv(Csv().render(type(summary)(1, [name], [evil], [], summary.verdict), []))
    assert table[0]["model"].startswith(("'", "␍"))


def test_negative_numbers_stay_numbers(summary, make_cell):
    cell = make_cell("m", "onnx", "t", 0.5, 0.1, estimates={"matthews": Estimate(-0.25, -0.5, 0.0)})
    (row,) = read_csv(Csv().render(type(summary)(1, [], [cell], [], summary.verdict), []))
    assert float(row["value"]) == -0.25


def test_groups_are_rows_too(derived):
    groups = {r["group"] for r in rows(derived) if r["task"] == "labels"}
    assert {"", "category=even", "category=odd"} <= groups


def test_json_is_what_the_command_line_prints(derived):
    from poise.understand.summarize import to_json

    data = Json().render(derived, [])
    assert data == to_json(derived)
    assert {"cells", "models", "verdict"} <= set(json.loads(data))


def test_parquet_holds_the_same_rows(summary):
    frame = polars.read_parquet(io.BytesIO(Parquet().render(summary, [])))
    assert frame.columns == list(COLUMNS)
    assert frame.height == len(list(rows(summary)))
    assert frame["value"].dtype == polars.Float64
    assert math.isclose(frame["value"][0], 0.49)


def test_parquet_without_a_frame_library_names_the_extra(summary, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"poise\[frames\]"):
        Parquet().render(summary, [])
