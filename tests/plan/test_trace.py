"""Traces of public formats: times and lengths as recorded, and what does not fit named with its line."""

from pathlib import Path

import pytest

from poise.plan.build import plan
from poise.plan.read import load_study
from poise.plan.schedule import due_times
from poise.plan.trace import read_trace
from poise.types import Traced, UsageError

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.4799610,34,12\n"
)
MOONCAKE = (
    '{"timestamp": 500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
    '{"timestamp": 3500, "input_length": 20, "output_length": 0, "hash_ids": [0]}\n'
)


def write(folder: Path, text: str, name: str = "t.txt") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_azure(tmp_path: Path) -> None:
    rows = read_trace(write(tmp_path, AZURE.replace("\n", "\r\n"))).rows
    assert rows[0] == Traced(0.0, 4808, 10)
    assert (rows[1].input_tokens, rows[1].output_tokens) == (34, 12)
    assert rows[1].at_s == pytest.approx(0.500001, abs=1e-6)


def test_mooncake(tmp_path: Path) -> None:
    rows = read_trace(write(tmp_path, MOONCAKE)).rows
    assert rows == (Traced(0.0, 6758, 500, (0, 1)), Traced(3.0, 20, 1, (0,)))  # no answer can have no token


def test_rows_are_put_in_order_of_time(tmp_path: Path) -> None:
    lines = MOONCAKE.splitlines(keepends=True)
    assert (
        read_trace(write(tmp_path, lines[1] + "\n" + lines[0])).rows == read_trace(write(tmp_path, MOONCAKE, "u")).rows
    )


def test_seconds_and_time_zones(tmp_path: Path) -> None:
    seconds = "GeneratedTokens,TIMESTAMP,ContextTokens\n7,10.5,3\n8,12,4\n"
    assert read_trace(write(tmp_path, seconds)).rows == (Traced(0.0, 3, 7), Traced(1.5, 4, 8))
    zoned = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,3,7\n"
    zoned += "2024-05-10 00:00:01+00:00,4,8\n"
    assert read_trace(write(tmp_path, zoned, "z")).rows[1].at_s == pytest.approx(0.99007)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column TIMESTAMP"),
        ("a,b\n1,2\n", "line 1: no column TIMESTAMP"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        (AZURE + "2023-11-16 18:17:05,5\n", "line 4: 2 columns instead of 3"),
        (AZURE + "2023-11-16 18:17:05,5,many\n", "line 4: invalid literal"),
        (AZURE + "yesterday,5,5\n", "line 4: Invalid isoformat"),
        (AZURE + "2023-11-16 18:17:05+00:00,5,5\n", "line 4: can't subtract offset-naive and offset-aware"),
        (AZURE + "2023-11-16 18:17:05,0,5\n", "line 4: 0 input tokens"),
        (AZURE + "2023-11-16 18:17:05,5,-5\n", "line 4: -5 output tokens"),
        (AZURE + "2023-11-16 18:17:05,5,99999999999\n", "line 4: 99999999999 output tokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnan,1,1\n", "line 2: nan is no time"),
        (MOONCAKE + "{}\n", "line 3: Object missing required field"),
        (MOONCAKE + "[1]\n", "line 3: Expected `object`"),
        (MOONCAKE + '{"timestamp": 1, "input_length": 1.5, "output_length": 1}\n', "line 3: Expected `int`"),
        (MOONCAKE + "{broken\n", "line 3: JSON is malformed"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"^trace t\.txt") as caught:
        read_trace(write(tmp_path, text))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_trace(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="Is a directory"):
        read_trace(tmp_path)
    (tmp_path / "latin").write_bytes(b"TIMESTAMP\n\xff\n")
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        read_trace(tmp_path / "latin")


def study(tmp_path: Path, load: dict[str, object], **task: object) -> dict[str, object]:
    return {
        "models": [{"name": "a", "source": {"api": "a"}}],
        "deployments": [{"backend": "openai", "base_url": "http://127.0.0.1:1/v1"}],
        "tasks": [{"task": "synthetic", **task}],
        "loads": [load],
    }


def test_a_replay_asks_the_traced_lengths_at_the_traced_times(tmp_path: Path) -> None:
    path = str(write(tmp_path, MOONCAKE))
    made = plan(load_study(study(tmp_path, {"trace": path, "scale": 0.5})))
    (cell,) = made.cells
    requests = made.items[cell.task.items_sha].requests
    assert [(r.prompt_tokens, r.min_tokens, r.max_tokens) for r in requests] == [(6758, 500, 500), (20, 1, 1)]
    assert made.due_ns(cell) == [0, 1_500_000_000] and cell.load.label == "trace t.txt x0.5"
    shorter = plan(load_study(study(tmp_path, {"trace": path, "duration_s": 3})))
    assert shorter.cells[0].planned == 1
    assert plan(load_study(study(tmp_path, {"trace": path}, limit=1))).cells[0].planned == 1


def test_another_task_takes_the_times_alone(tmp_path: Path) -> None:
    path = str(write(tmp_path, AZURE + "2023-11-16 18:17:05,5,5\n" * 3))
    data = study(tmp_path, {"trace": path})
    (tmp_path / "q.csv").write_text("text,queue\nhi,a\nho,b\n")
    (tmp_path / "q.yaml").write_text(
        "name: q\nversion: 1\ndata: q.csv\nquestion: '{{ text }}'\nanswer: '{{ queue }}'\nmetrics: [exact_match]\n"
        "max_tokens: 4\n"
    )
    made = plan(load_study({**data, "tasks": [str(tmp_path / "q.yaml")]}))
    (cell,) = made.cells
    assert cell.planned == 5 and len(made.items[cell.task.items_sha].requests) == 2
    assert len(made.due_ns(cell) or []) == 5


def test_the_file_is_in_the_cells_identity_and_its_place_is_not(tmp_path: Path) -> None:
    def identity(path: Path) -> str:
        return plan(load_study(study(tmp_path, {"trace": str(path)}))).cells[0].id

    one, same = write(tmp_path, AZURE), write(tmp_path, AZURE, "elsewhere.csv")
    assert identity(one) == identity(same) != identity(write(tmp_path, MOONCAKE, "m.jsonl"))


@pytest.mark.parametrize(
    ("name", "rows", "first", "seconds"),
    [
        # counted with `wc -l` and read off the first and last lines
        ("azure2023/AzureLLMInferenceTrace_code.csv", 3000, (4808, 10), 1088.955361),
        ("azure2023/AzureLLMInferenceTrace_conv.csv", 3000, (374, 44), 628.703398),
        ("mooncake/conversation_trace.jsonl", 2000, (6758, 500), 669.0),
    ],
)
def test_real_traces(shared_data: Path, name: str, rows: int, first: tuple[int, int], seconds: float) -> None:
    trace = read_trace(shared_data / "traces" / name)
    assert len(trace.rows) == rows
    assert (trace.rows[0].input_tokens, trace.rows[0].output_tokens) == first
    assert trace.rows[-1].at_s == pytest.approx(seconds, abs=1e-5)
    from poise.plan.spec import Load

    due = due_times(Load("trace", 0.1, trace=name), rows, 0, trace.rows)
    assert due is not None and due == sorted(due) and due[-1] == pytest.approx(seconds * 1e8, rel=1e-6)
