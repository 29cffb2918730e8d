"""Driving concurrently: every request leaves a record, loops keep their width, schedules their times."""

import asyncio
import time
from typing import Any

import pytest

from poise.measure.concurrent import Concurrent
from poise.plan.repeat import sequence
from poise.plan.spec import Load
from poise.protocols import Answer, Raw
from poise.types import Failure, PoiseError, Record, Request


def request(name: str, prompt: str = "p") -> Request:
    return Request(id=name, sample_id=name, kind="generate", asked_sha="", prompt=prompt, max_tokens=4)


def test_a_closed_loop_stops_when_its_time_is_over() -> None:
    backend, out = Remote(delay=0.001), []
    driver = Concurrent(backend, out.extend, segment=0, attempts={}, retries=0, alive=lambda: None)
    endless = sequence([request("a"), request("b")])
    asyncio.run(driver.run(endless, Load("closed", 3), seconds=0.05))
    sent = sorted(r.timeline.sent_ns for r in out)
    assert 3 < len(out) == len({r.request_id for r in out}) and backend.most == 3
    assert sent[-1] - sent[0] < 50_000_000


class Remote:
    """A concurrent engine that answers after `delay` and counts what is in flight."""

    capabilities = frozenset({"concurrent"})

    def __init__(self, delay: float = 0.002, fail_first: dict[str, Failure] | None = None) -> None:
        self.delay, self.fail_first = delay, dict(fail_first or {})
        self.now = self.most = 0

    def prepare(self, r: Request) -> Request:
        return r

    async def send(self, r: Request) -> Raw:
        self.now += 1
        self.most = max(self.most, self.now)
        sent = time.perf_counter_ns()
        await asyncio.sleep(self.delay)
        self.now -= 1
        failure = self.fail_first.pop(r.id, None)
        done = time.perf_counter_ns()
        return Raw(sent, [(done, "x")], done_ns=done, status="error" if failure else "ok", error=failure)

    def finish(self, prepared: Request, raw: Raw) -> Answer:
        return Answer(pieces=["x"])


def drive_remote(backend: Any, load: Load, n: int, retries: int = 0, due: list[int] | None = None) -> list[Record]:
    out: list[Record] = []
    driver = Concurrent(backend, out.extend, segment=0, attempts={}, retries=retries, alive=lambda: None)
    asyncio.run(driver.run([request(str(i)) for i in range(n)], load, due))
    return out


def test_closed_loop_keeps_its_width() -> None:
    backend = Remote()
    records = drive_remote(backend, Load("closed", 4), 20)
    assert backend.most == 4 and sorted(int(r.request_id) for r in records) == list(range(20))


class Stepwise(Remote):
    """Understands an answer in three steps, and counts what was sent meanwhile."""

    def finish_steps(self, prepared: Request, raw: Raw) -> Any:
        for _ in range(3):
            yield
        if prepared.id == "3":
            raise ValueError("not UTF-8")
        return Answer(pieces=["x"])


def test_answers_understood_in_steps_are_all_recorded() -> None:
    records = drive_remote(Stepwise(), Load("closed", 4), 20)
    assert sorted(int(r.request_id) for r in records) == list(range(20))
    failed = [(r.request_id, r.error and r.error.kind) for r in records if r.status != "ok"]
    assert failed == [("3", "parse")]


def test_a_retry_is_a_new_record() -> None:
    backend = Remote(fail_first={"1": Failure("http", "busy", 503), "2": Failure("http", "bad", 400)})
    records = drive_remote(backend, Load("closed", 3), 3, retries=1)
    by_id = {i: [(r.attempt, r.status) for r in records if r.request_id == i] for i in "012"}
    assert by_id == {"0": [(1, "ok")], "1": [(1, "error"), (2, "ok")], "2": [(1, "error")]}


def test_a_retry_waits_as_long_as_the_server_asks_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds >= 1:
            slept.append(seconds)
        await real(0 if seconds >= 1 else seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for asked, expected in ((None, 1.0), (0.2, 1.0), (7.5, 7.5), (86_400.0, 60.0)):
        records = drive_remote(Remote(fail_first={"0": Failure("http", "busy", 429, asked)}), Load("closed", 1), 1, 1)
        assert slept.pop() == expected and not slept
        assert [r.error and r.error.retry_after_s for r in records] == [asked, None], "recorded as asked"


def test_open_loop_records_due_and_drops_beyond_the_cap() -> None:
    backend = Remote(delay=0.05)
    records = drive_remote(backend, Load("open", 1000, max_in_flight=2), 5, due=[0, 0, 0, 0, 120_000_000])
    assert [r.status for r in sorted(records, key=lambda r: r.request_id)] == ["ok", "ok", "dropped", "dropped", "ok"]
    for record in records:
        assert record.due_ns is not None and record.timeline is not None
        assert record.timeline.sent_ns >= record.due_ns
    ordered = sorted(records, key=lambda r: r.request_id)
    assert ordered[4].due_ns - ordered[0].due_ns == 120_000_000  # type: ignore[operator]


def test_an_engine_that_raises_fails_its_request_only() -> None:
    class Broken(Remote):
        async def send(self, r: Request) -> Raw:
            if r.id == "1":
                raise RuntimeError("boom")
            return await super().send(r)

    records = drive_remote(Broken(), Load("closed", 2), 3)
    assert {r.request_id: r.status for r in records} == {"0": "ok", "1": "error", "2": "ok"}
    failed = next(r for r in records if r.request_id == "1")
    assert failed.error is not None and "boom" in failed.error.message


def test_a_full_disk_stops_the_sending() -> None:
    from poise.types import PoiseError

    backend, written = Remote(), []

    def write(records: list[Record]) -> None:
        if len(written) >= 3:
            raise PoiseError("the disk is full")
        written.extend(records)

    driver = Concurrent(backend, write, segment=0, attempts={}, retries=0, alive=lambda: None)
    prepared: list[str] = []
    backend.prepare = lambda r: (prepared.append(r.id), r)[1]  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(PoiseError, match="disk is full"):
        asyncio.run(driver.run([request(str(i)) for i in range(500)], Load("closed", 2)))
    assert len(written) == 3 and len(prepared) < 20


def test_a_short_cell_has_a_reading_of_its_loop_too() -> None:
    driver = Concurrent(Remote(), lambda _: None, segment=0, attempts={}, retries=0, alive=lambda: None)
    asyncio.run(driver.run([request("a")], Load("closed", 1)))
    (reading,) = driver.lags
    assert 0 <= reading[1] < 10**9


class Gone:
    """A server that answers `lives` times and then refuses every connection."""

    capabilities = frozenset({"concurrent"})

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def prepare(self, r: Request) -> str:
        return r.id

    async def send(self, prepared: str) -> Raw:
        await asyncio.sleep(0)
        now = time.perf_counter_ns()
        self.lives -= 1
        if self.lives >= 0:
            return Raw(now, stamps=[(now, "a")], done_ns=now)
        return Raw(now, status="error", error=Failure("connect", "refused"), done_ns=now)

    def finish(self, prepared: str, raw: Raw) -> Answer:
        return Answer(pieces=["a"] if raw.stamps else [], status=raw.status, error=raw.error)


@pytest.mark.parametrize("load", [Load("closed", 4), Load("open", 1000)])
def test_a_server_that_is_gone_ends_the_cell_and_leaves_the_rest_unasked(load: Load) -> None:
    out: list[Record] = []
    driver = Concurrent(Gone(30), out.extend, segment=0, attempts={}, retries=0, alive=lambda: None)
    requests = [request(str(i)) for i in range(400)]
    due = [i * 100_000 for i in range(400)] if load.kind == "open" else None
    with pytest.raises(PoiseError, match=r"the server is gone: it refused \d+ connections"):
        asyncio.run(driver.run(requests, load, due))
    assert [r.status for r in out[:30]] == ["ok"] * 30
    assert 20 < len(out) - 30 < 150, "each refused connection has a record, what was not asked has none"


def test_refusals_between_answers_are_failures_of_their_requests_only() -> None:
    out: list[Record] = []
    server = Gone(0)

    def write(records: list[Record]) -> None:
        out.extend(records)
        server.lives = 1 if len(out) % 10 == 9 else 0  # every tenth request is answered

    driver = Concurrent(server, write, segment=0, attempts={}, retries=0, alive=lambda: None)
    asyncio.run(driver.run([request(str(i)) for i in range(100)], Load("closed", 1)))
    assert len(out) == 100 and {r.status for r in out} == {"ok", "error"}
