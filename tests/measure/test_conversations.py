"""Conversations through every driver: a record a turn, the next one after the last, skipped after a failure."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from poise.measure import drive
from poise.measure.concurrent import Concurrent
from poise.plan.spec import Load
from poise.protocols import Answer, Raw
from poise.store.run import CellFolder
from poise.types import Failure, Record, Request


def talk(name: str, *turns: str, temperature: float = 0.0) -> Request:
    first, *later = turns
    return Request(name, name, "generate", "", prompt=first, max_tokens=4, turns=tuple(later), temperature=temperature)


class Local:
    """Answers the last word of its prompt; a virtual clock moves by 10 a request. Fails where asked to."""

    capabilities = frozenset({"batch"})

    def __init__(self) -> None:
        self.now, self.sizes = 0, []  # type: ignore[var-annotated]

    def prepare(self, r: Request) -> str:
        if (r.prompt or "").endswith("fail"):
            raise ValueError("no such word")
        return (r.prompt or "").split()[-1].upper()

    def send(self, batch: list[str]) -> list[Raw]:
        self.sizes.append(len(batch))
        self.now += 10
        return [Raw(self.now, [(self.now + 5, w)], done_ns=self.now + 6) for w in batch]

    def finish(self, prepared: str, raw: Raw) -> Answer:
        return Answer(pieces=["thought", prepared], piece_kinds="rv")


class Remote(Local):
    capabilities = frozenset({"concurrent"})

    def __init__(self) -> None:
        super().__init__()
        self.busy: list[str] = []

    def prepare(self, r: Request) -> Any:
        return r.id, super().prepare(r)

    async def send(self, prepared: Any) -> Raw:
        name = prepared[0].partition("#")[0]
        assert name not in self.busy, "two turns of one conversation at once"
        self.busy.append(name)
        sent = time.perf_counter_ns()
        await asyncio.sleep(0.001)
        self.busy.remove(name)
        done = time.perf_counter_ns()
        return Raw(sent, [(done, prepared[1])], done_ns=done)

    def finish(self, prepared: Any, raw: Raw) -> Answer:
        return Answer(pieces=["thought", prepared[1]], piece_kinds="rv")


def locally(requests: list[Request], size: int = 1) -> list[Record]:
    out: list[Record] = []
    load = Load("batch", size) if size > 1 else Load("closed", 1)
    groups = drive.groups(requests, lambda _: True, load.width)
    drive.in_process(Local(), groups, out.extend, segment=0, batched=size > 1, attempts={"a#1": 2}, alive=lambda: None)
    return out


def remotely(requests: list[Request], load: Load, due: list[int] | None = None) -> list[Record]:
    out: list[Record] = []
    driver = Concurrent(Remote(), out.extend, segment=0, attempts={"a#1": 2}, retries=0, alive=lambda: None)
    asyncio.run(driver.run(requests, load, due))
    return out


CONVERSATIONS = [talk("a", "one", "two", "three"), talk("b", "x", "fail", "y"), talk("c", "alone")]
SAID = {
    "a#0": ("ok", "ONE"), "a#1": ("ok", "TWO"), "a#2": ("ok", "THREE"),
    "b#0": ("ok", "X"), "b#1": ("error", ""), "b#2": ("skipped", ""), "c": ("ok", "ALONE"),
}  # fmt: skip


@pytest.mark.parametrize("how", ["alone", "batch", "closed", "open"])
def test_a_record_a_turn_and_none_after_a_failure(how: str) -> None:
    if how in ("alone", "batch"):
        records = locally(CONVERSATIONS, 3 if how == "batch" else 1)
    else:
        load = Load("closed", 2) if how == "closed" else Load("open", 100)
        records = remotely(CONVERSATIONS, load, [0, 0, 0] if how == "open" else None)
    said = {r.request_id: (r.status, "".join(r.pieces).removeprefix("thought")) for r in records}
    assert said == SAID and len(records) == len(SAID)
    parts = {r.request_id: (r.sample_id, r.part, r.attempt) for r in records}
    assert parts["a#1"] == ("a", 1, 3) and parts["b#2"] == ("b", 2, 1) and parts["c"] == ("c", 0, 1)
    assert next(r for r in records if r.request_id == "b#2").timeline is None


def test_the_next_turn_reads_the_visible_answer_only() -> None:
    seen: list[str] = []

    class Reading(Local):
        def prepare(self, r: Request) -> str:
            seen.append(r.prompt or "")
            return super().prepare(r)

    drive.in_process(
        Reading(), iter([[talk("a", "one", "two")]]), lambda r: None, segment=0, batched=False, attempts={},
        alive=lambda: None,
    )  # fmt: skip
    assert seen == ["one", "one ONE\n\ntwo"]


def test_a_batch_moves_on_a_turn_at_a_time() -> None:
    records = locally([talk("a", "one", "two"), talk("b", "x", "fail"), talk("c", "alone"), talk("d", "k", "l")], 4)
    batches = {(r.batch.id, r.batch.size) for r in records if r.batch}
    assert batches == {("0.0", 4), ("0.0#1", 3)}


def test_a_batch_is_sampled_alike() -> None:
    warm, cold = talk("a", "p", temperature=0.7), talk("b", "p")
    groups = drive.groups([warm, cold, warm], lambda _: True, 8)
    assert [[r.temperature for r in g] for g in groups] == [[0.7, 0.7], [0.0]]


def test_in_an_open_loop_a_turn_is_due_when_the_one_before_ended() -> None:
    records = {r.request_id: r for r in remotely([talk("a", "one", "two")], Load("open", 10), [0])}
    first, second = records["a#0"].timeline, records["a#1"].timeline
    assert first and second and records["a#1"].due_ns == first.sent_ns + first.done_ns
    assert second.sent_ns >= first.sent_ns + first.done_ns


def test_a_dropped_conversation_leaves_all_its_records() -> None:
    load = Load("open", 1000, max_in_flight=1)
    records = remotely([talk("a", "one", "two"), talk("b", "x", "y")], load, [0, 0])
    assert {r.request_id: r.status for r in records} == {
        "a#0": "ok", "a#1": "ok", "b#0": "dropped", "b#1": "skipped"
    }  # fmt: skip


def test_a_retried_turn_answers_for_its_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky(Remote):
        failed = False

        async def send(self, prepared: Any) -> Raw:
            if not self.failed:
                self.failed = True
                now = time.perf_counter_ns()
                return Raw(now, done_ns=now, status="error", error=Failure("http", "busy", 503))
            return await super().send(prepared)

    out: list[Record] = []
    driver = Concurrent(Flaky(), out.extend, segment=0, attempts={}, retries=1, alive=lambda: None)
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(min(seconds, 0.001)))
    asyncio.run(driver.run([talk("a", "one", "two")], Load("closed", 1)))
    assert [(r.request_id, r.attempt, r.status) for r in out] == [
        ("a#0", 1, "error"), ("a#0", 2, "ok"), ("a#1", 1, "ok")
    ]  # fmt: skip


STUDY = {
    "models": [{"name": "m", "source": {"api": "m"}, "format": "raw"}],
    "deployments": [{"backend": "scripted"}],
    "tasks": [{"task": "mini-chat", "limit": 6}],
}


def test_a_conversation_that_lacks_a_turn_runs_again_from_its_first(tmp_path: Path) -> None:
    import poise

    run = poise.run(STUDY, tmp_path / "run", quiet=True)
    (folder,) = run.cells()
    lines = (folder.path / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert b'#1"' in lines[-1]
    (folder.path / "records.jsonl").write_bytes(b"".join(lines[:-1]))
    poise.run(STUDY, tmp_path / "run", quiet=True)
    again = [r for r in CellFolder(run.path, folder.path).records() if r.phase == "measure" and r.segment == 1]
    assert [r.part for r in again] == [0, 1] and len({r.sample_id for r in again}) == 1
    summary = poise.summarize(run)
    assert (summary.cells[0].planned, summary.cells[0].n, summary.cells[0].state) == (12, 12, "ok")
