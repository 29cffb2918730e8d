"""Columns from hand-written records: METRICS §1 to the nanosecond, attempts, phases, batches, torn lines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from support import asked, cell, write_run

from poise.store.run import open_run
from poise.types import Batch, Record, Timeline
from poise.understand.attempts import output_tokens
from poise.understand.derive import Columns, columns, pooled


def derived(path: Path, *items: object, **more: object) -> Columns:
    run = write_run(path / "run", [cell("m", "t", list(items), **more)])  # type: ignore[arg-type]
    return columns(open_run(run).cells()[0])


def test_the_worked_example(tmp_path: Path) -> None:
    # METRICS §1: tokens at 0.5, 0.6, 0.7, 0.8 s after t0: ttft .5, tpot .1, e2e .8
    c = derived(
        tmp_path, asked("a", "x", list("abcd"), sent_s=7, at_s=[0.5, 0.6, 0.7, 0.8], output_tokens=4, done_s=0.9)
    )
    assert (c.ttft_s[0], c.tpot_s[0], c.e2e_s[0]) == pytest.approx((0.5, 0.1, 0.8))
    assert c.gaps.in_order() == pytest.approx([0.1, 0.1, 0.1])
    assert list(c.text) == ["abcd"] and c.n_out[0] == 4 and c.n_source == ["engine"]
    assert [(w.start_ns, w.end_ns) for w in c.windows] == [(7_000_000_000, 7_900_000_000)]
    assert np.isnan(c.wait_s[0]) and np.isnan(c.response_s[0])


times = some.lists(some.integers(1, 10**9), min_size=2, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    some.lists(some.tuples(times, some.lists(some.sampled_from(["", "x", "yz"]), min_size=20, max_size=20)), max_size=5)
)
def test_identities_hold_whatever_arrives(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("d")
    items = []
    for i, (deltas, texts) in enumerate(rows):
        stamps = list(np.cumsum(deltas) / 1e9)
        items.append(asked(str(i), "x", texts[: len(stamps)], at_s=stamps, output_tokens=len(stamps)))
    c = derived(path, *items)
    at = 0
    for i, (deltas, texts) in enumerate(rows):
        shown = [t for t, x in zip(np.cumsum(deltas) / 1e9, texts) if x]
        own = c.gaps.in_order()[at : at + max(0, len(shown) - 1)]
        at += len(own)
        if len(shown) < 2:
            assert np.isnan(c.tpot_s[i])
            continue
        assert c.ttft_s[i] == pytest.approx(shown[0]) and c.e2e_s[i] == pytest.approx(shown[-1])
        assert c.e2e_s[i] == pytest.approx(c.ttft_s[i] + (c.n_out[i] - 1) * c.tpot_s[i])
        assert own == pytest.approx(np.diff(shown))
    assert at == len(c.gaps)
    assert c.gaps.counts.sum() == len(c.gaps)


def test_empty_chunks_are_no_first_token_and_usage_no_last(tmp_path: Path) -> None:
    c = derived(tmp_path, asked("a", "x", ["", "a", "b", ""], at_s=[0.1, 0.5, 0.8, 2.0]))
    assert (c.ttft_s[0], c.e2e_s[0]) == pytest.approx((0.5, 0.8))
    assert c.gaps.in_order() == pytest.approx([0.3])


def test_reasoning_comes_first_and_is_apart(tmp_path: Path) -> None:
    c = derived(tmp_path, asked("a", "x", ["think", "ing", "yes"], at_s=[0.2, 0.4, 0.9], piece_kinds="rrv"))
    assert (c.ttft_s[0], c.ttfvt_s[0]) == pytest.approx((0.2, 0.9))
    assert list(c.text) == ["yes"] and c.chars[0] == 11


def test_output_tokens_come_from_the_engine_else_usage_never_from_chunks(tmp_path: Path) -> None:
    c = derived(
        tmp_path,
        asked("a", "x", list("abc"), at_s=[1, 2, 3], usage={"completion_tokens": 11, "prompt_tokens": 5}),
        asked("b", "x", list("abc"), at_s=[1, 2, 3]),
        asked("c", "x", list("abc"), at_s=[1, 2, 3], usage={"completion_tokens": "11"}),
    )
    assert c.n_out[0] == 11 and c.n_source[0] == "usage" and c.tpot_s[0] == pytest.approx(0.2)
    assert np.isnan(c.n_out[1:]).all() and np.isnan(c.tpot_s[1:]).all()
    assert c.n_prompt[0] == 5
    assert output_tokens(3, {"completion_tokens": 9}) == (3.0, "engine")


def test_one_piece_is_no_time_between_tokens(tmp_path: Path) -> None:
    c = derived(tmp_path, asked("a", "x", "a whole answer", e2e_s=2.0, output_tokens=4))
    assert c.e2e_s[0] == 2.0 and np.isnan(c.tpot_s[0])


def test_open_loop_counts_from_due_too(tmp_path: Path) -> None:
    c = derived(
        tmp_path,
        asked("a", "x", "a", sent_s=10.5, due_s=10.0, e2e_s=2.0),
        asked("b", "x", sent_s=11.0, due_s=11.0, status="dropped"),
    )
    assert (c.wait_s[0], c.response_s[0], c.spent_s[0]) == pytest.approx((0.5, 2.5, 2.5))
    assert np.isnan(c.wait_s[1])


def test_failures_have_no_latency_and_timeouts_an_infinite_one(tmp_path: Path) -> None:
    c = derived(
        tmp_path,
        asked("a", "x", list("ab"), at_s=[0.1, 0.2], output_tokens=2),
        asked("b", "x", status="error", done_s=0.3, kind="reset"),
        asked("c", "x", list("ab"), at_s=[0.4, 0.9], status="timeout", done_s=5.0, output_tokens=2),
    )
    assert np.isnan(c.e2e_s[1]) and c.e2e_s[2] == np.inf and c.tpot_s[2] == np.inf
    assert c.failure == [None, "reset", "timeout"]
    assert c.windows[0].wall_s == pytest.approx(5.0)


def test_latency_from_the_first_attempt_text_from_the_last(tmp_path: Path) -> None:
    item = asked("a", "x", status="error", sent_s=1.0, done_s=0.2, kind="http")
    later = Record(
        "a", "a", "ok", attempt=2, timeline=Timeline(2_000_000_000, [500_000_000], 500_000_000), pieces=["yes"]
    )
    item.records.append(later)
    c = derived(tmp_path, item)
    assert len(c) == 1 and list(c.text) == ["yes"] and c.failure == [None] and c.attempts[0] == 2
    assert np.isnan(c.e2e_s[0])
    assert c.spent_s[0] == pytest.approx(1.5)


def test_a_rerun_in_a_later_segment_starts_over(tmp_path: Path) -> None:
    item = asked("a", "x", status="error", sent_s=1.0, done_s=0.2)
    item.records.append(
        Record(
            "a",
            "a",
            "ok",
            attempt=2,
            segment=1,
            timeline=Timeline(90_000_000_000, [500_000_000], 500_000_000),
            pieces=["y"],
        )
    )
    c = derived(tmp_path, item)
    assert c.e2e_s[0] == pytest.approx(0.5) and c.spent_s[0] == pytest.approx(0.5) and c.reruns[0] == 1
    assert [w.segment for w in c.windows] == [0, 1]


def test_only_the_measured_phase_counts(tmp_path: Path) -> None:
    c = derived(
        tmp_path,
        asked("w", "x", "a", e2e_s=9.0, phase="warmup"),
        asked("c", "x", "a", e2e_s=4.0, phase="cold"),
        asked("a", "x", "a", sent_s=20, e2e_s=1.0),
    )
    assert c.request == ["a"] and c.cold_s == pytest.approx([4.0])
    assert c.windows[0].wall_s == pytest.approx(1.0)


def test_choice_ends_with_the_last_continuation(tmp_path: Path) -> None:
    c = derived(tmp_path, asked("a", "x", done_s=0.7, option_logprobs=[[-1.0], [-2.0, -0.5]]), mode="choice")
    assert c.e2e_s[0] == pytest.approx(0.7) and np.isnan(c.ttft_s[0]) and list(c.options) == [[[-1.0], [-2.0, -0.5]]]


def test_a_static_batch_has_each_sequences_own_end(tmp_path: Path) -> None:
    own = ("0.0", 3, 5.0, 9.0)
    c = derived(
        tmp_path,
        asked("a", "x", list("ab"), sent_s=5, at_s=[1, 2], output_tokens=2, batch=own),
        asked("b", "x", list("ab"), sent_s=5, at_s=[1, 4], output_tokens=2, batch=own),
        asked("c", "x", sent_s=5, batch=own),
    )
    assert c.e2e_s == pytest.approx([2, 4, 4])
    assert c.batch_s == pytest.approx([4, 4, 4]) and list(c.batch_size) == [3, 3, 3]


def test_torn_lines_and_cut_batches_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [cell("m", "t", [asked("a", "x", "a", e2e_s=1.0)])])
    folder = open_run(run).cells()[0]
    cut = Record("b", "b", "ok", timeline=Timeline(0, [1], 1), pieces=["b"], batch=Batch("0.1", 2, 0, 1))
    with (folder.path / "records.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(cut) + b"\n" + b'{"request_id":"c","sam')
    assert columns(folder).request == ["a"]


def test_pooling_keeps_every_row(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        [cell("m", "t", [asked("a", "x", list("ab"), at_s=[1, 2 + r], output_tokens=2)], repeat=r) for r in (0, 1)],
    )
    parts = [columns(f) for f in open_run(run).cells()]
    both = pooled(parts)
    assert both.request == ["a", "a"] and list(both.repeat) == [0, 1]
    assert both.gaps.in_order() == pytest.approx([1, 2]) and list(both.gaps.counts) == [1, 1]
    assert [w.repeat for w in both.windows] == [0, 1]


def test_an_empty_cell_has_empty_columns(tmp_path: Path) -> None:
    c = derived(tmp_path)
    assert len(c) == 0 and c.windows == [] and len(c.gaps) == 0
