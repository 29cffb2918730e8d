"""Driving: every request leaves a record, failures are data, batches stay the same."""

import pytest

from poise.measure import drive
from poise.protocols import Answer, Raw
from poise.types import Record, Request


def request(name: str, prompt: str = "p") -> Request:
    return Request(id=name, sample_id=name, kind="generate", asked_sha="", prompt=prompt, max_tokens=4)


class Local:
    """An in-process engine that fails where the prompt says so."""

    capabilities = frozenset({"batch"})

    def prepare(self, r: Request) -> str:
        if r.prompt == "unpreparable":
            raise ValueError("no such token")
        return r.prompt or ""

    def send(self, batch: list[str]) -> list[Raw]:
        if "crash" in batch:
            raise RuntimeError("engine exploded")
        return [Raw(sent_ns=100, stamps=[(110, "a"), (130, "b")], done_ns=140) for _ in batch]

    def finish(self, prepared: str, raw: Raw) -> Answer:
        if prepared == "unreadable":
            raise ValueError("not UTF-8")
        return Answer(pieces=["a", "b"], output_tokens=2)


def drive_local(prompts: list[str], size: int = 1) -> list[Record]:
    requests = [request(str(i), p) for i, p in enumerate(prompts)]
    out: list[Record] = []
    groups = drive.groups(requests, lambda _: True, size)
    drive.in_process(Local(), groups, out.extend, segment=3, batched=size > 1, attempts={"1": 1}, alive=lambda: None)
    return out


def test_stamps_become_deltas() -> None:
    (record,) = drive_local(["p"])
    assert record.timeline is not None
    assert record.timeline.chunk_deltas_ns == [10, 20] and record.timeline.done_ns == 40
    assert (record.segment, record.attempt, record.status) == (3, 1, "ok")


def test_failures_are_recorded_where_they_happen() -> None:
    records = drive_local(["p", "crash", "unpreparable", "unreadable", "p"])
    assert [r.status for r in records] == ["ok", "error", "error", "error", "ok"]
    assert [r.error and r.error.kind for r in records] == [None, "engine", "prepare", "parse", None]
    assert records[1].attempt == 2


def test_batches_are_the_same_when_resumed() -> None:
    requests = [request(str(i)) for i in range(7)]
    everything = [[r.id for r in g] for g in drive.groups(requests, lambda _: True, 3)]
    assert everything == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert [[r.id for r in g] for g in drive.groups(requests, lambda r: r.id == "4", 3)] == [["3", "4", "5"]]


def test_a_duration_ends_on_the_backends_clock() -> None:
    # every answer of Local ends 40 ns after it was sent, all at the same reading: 39 ns are over after the first
    def asked(seconds: float) -> int:
        out: list[Record] = []
        groups = drive.groups([request(str(i)) for i in range(5)], lambda _: True, 1)
        drive.in_process(
            Local(), groups, out.extend, segment=0, batched=False, attempts={}, alive=lambda: None, seconds=seconds
        )
        return len(out)

    assert asked(39e-9) == 1 and asked(41e-9) == 5


def test_a_batch_shares_its_frame() -> None:
    records = drive_local(["p", "p", "unpreparable"], size=3)
    assert len({r.batch for r in records}) == 1 and records[0].batch is not None
    assert records[0].batch.size == 3 and [r.status for r in records] == ["ok", "ok", "error"]


@pytest.mark.parametrize("size", [1, 3])
def test_alive_is_asked_before_every_send(size: int) -> None:
    def gone() -> None:
        raise SystemExit("parent gone")

    requests = [request(str(i)) for i in range(3)]
    out: list[Record] = []
    groups = drive.groups(requests, lambda _: True, size)
    with pytest.raises(SystemExit):
        drive.in_process(Local(), groups, out.extend, segment=0, batched=False, attempts={}, alive=gone)
    assert out == []
