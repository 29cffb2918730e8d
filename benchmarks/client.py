"""How true and how fast poise's client is: measured against a server that logs what it really did.

    python benchmarks/client.py                 # the whole `poise run` command, every figure
    python benchmarks/client.py --wire          # only the backend in a bare loop: what the wire alone can do
    python benchmarks/client.py --bare          # a Protocol that only stamps reads: what this machine allows
    python benchmarks/client.py --peers         # GuideLLM, AIPerf, aiohttp and httpx beside it (client_peers.py)
    python benchmarks/client.py --only streams  # one group: streams, speed, stalls, open, many

The client (all its processes) is pinned to one core, the mock server to another. Errors compare what the records say
with the server's truth log: TTFT error = (first chunk stamped - request sent) - (first chunk sent - request arrived);
gap error = largest gap seen - largest gap sent, per stream. CPU and memory count every process of the command; a rate
counts the time from the first request to the last. Targets stand beside the figures. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from poise.measure.mock_answers import prompt_sha
from poise.protocols import Answer, Raw
from poise.store.run import open_run
from poise.types import Message, Record, Request

CORES = sorted(os.sched_getaffinity(0))
CLIENT_CORE, SERVER_CORE = CORES[0], CORES[-1]


class Figure(msgspec.Struct):
    """One measured number and what it should be (None: shown, not judged)."""

    group: str
    case: str
    name: str
    value: float | None
    unit: str
    target: str | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None or self.value is None:
            return None
        sign, limit = self.target.split()
        return self.value <= float(limit) if sign == "<=" else self.value >= float(limit)


class Measured(msgspec.Struct):
    """What one command left behind."""

    records: list[Record]
    prompts: dict[str, str]
    """request id -> key in the truth log."""
    truth: dict[str, dict[str, Any]]
    cpu_s: float
    others: float
    """Cores that neither this command nor its server used, on average: above 0.05 the host was not quiet."""
    rss_mb: float
    start_s: float
    """Command start to the very first request."""
    all_cpu_s: float
    """CPU seconds of the client from the command's start to its end."""
    server_s: float | None
    """CPU seconds of the server meanwhile."""
    writes: int | None
    """Write calls of the server from its start, by the kernel's count."""
    end_s: float
    """First measured request to the last parsed record written (--wire: to the end of the last answer)."""


@contextlib.contextmanager
def mock(truth: Path, **config: Any) -> Iterator[tuple[str, int]]:
    """A mock server on its own core; yields its address and process id."""
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in config.items()]
    command = [*on(SERVER_CORE), sys.executable, "-m", "poise.measure.mock_server", f"--truth={truth}", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1], server.pid
        finally:
            server.terminate()


def on(*cores: int) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores))]


def study(url: str, n: int, load: dict[str, Any], tokens: int, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "client",
        "models": [{"name": "mock", "source": {"api": "mock"}}],
        "deployments": [{"name": "mock", "backend": "openai", "base_url": f"{url}/v1", "options": options}],
        "tasks": [{"task": "synthetic", "options": {"n": n, "prompt_tokens": 16, "output_tokens": tokens}}],
        "loads": [load],
        "warmup": 1,
    }


def by_command(
    folder: Path,
    n: int,
    load: dict[str, Any],
    tokens: int,
    options: dict[str, Any],
    mock_args: Any,
    cores: Sequence[int] = (CLIENT_CORE,),
    flags: Sequence[str] = (),
) -> Measured:
    """The whole `poise run` on one core; its records, its processes' CPU and peak memory."""
    truth = folder / "truth.jsonl"
    with mock(truth, tokens=tokens, **mock_args) as (url, server):
        (folder / "study.yaml").write_text(json.dumps(study(url, n, load, tokens, options)))
        command = [*on(*cores), sys.executable, "-m", "poise.cli", "run", str(folder / "study.yaml"), "-q", *flags]
        started = time.perf_counter_ns()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with (folder / "out.txt").open("w") as out:
            client = subprocess.Popen([*command, "-o", str(folder / "run")], stdout=out, stderr=out, env=environment)
            family = Family(client.pid, server)
            code = client.wait()
            family.stop()
            writes = write_calls(server)
    if code:
        sys.exit(f"poise run failed:\n{(folder / 'out.txt').read_text()}")
    [cell] = open_run(folder / "run").cells()
    everything = list(cell.records())
    records = [r for r in everything if r.phase == "measure"]
    begin = min(r.timeline.sent_ns for r in everything if r.timeline)
    first = min(r.timeline.sent_ns for r in records if r.timeline)
    last = max(s.t_ns for s in cell.segments())
    prompts = {r.id: prompt_sha(r.messages[-1].content if r.messages else r.prompt or "") for r in cell.requests()}
    spent, server_s, others = family.between(first, last)
    return Measured(
        records,
        prompts,
        read_truth(truth, set(prompts.values())),
        spent,
        others / (last - first) * 1e9,
        family.peak_mb,
        (begin - started) / 1e9,
        family.history[-1][1],
        server_s,
        writes,
        (last - first) / 1e9,
    )


def by_wire(
    folder: Path, n: int, load: dict[str, Any], tokens: int, options: dict[str, Any], mock_args: Any
) -> Measured:
    """The backend alone in this process: a closed or an open loop around `send`, `finish` when all is over."""
    from poise.measure import drive, loop
    from poise.measure.backends.openai import OpenAI
    from poise.plan.spec import Deployment, Model

    os.sched_setaffinity(0, {CLIENT_CORE})
    truth = folder / "truth.jsonl"
    backend = OpenAI()
    requests = [
        Request(str(i), str(i), "generate", "", messages=(Message("user", f"question {i}"),), max_tokens=tokens)
        for i in range(n)
    ]
    seen: list[Any] = []

    async def main() -> tuple[float, float]:
        await backend.warm(min(int(load.get("closed", 64)), n))
        gc.collect()
        gc.disable()
        started, cpu = time.perf_counter(), time.process_time()

        async def ask(request: Request) -> None:
            prepared = backend.prepare(request)
            seen.append((request, prepared, await backend.send(prepared)))

        async def lane(todo: Iterator[Request]) -> None:
            for request in todo:
                await ask(request)

        if "closed" in load:
            todo = iter(requests)
            await asyncio.gather(*(lane(todo) for _ in range(int(load["closed"]))))
        else:
            tasks = []
            for i, request in enumerate(requests):
                await asyncio.sleep(started + i / load["open"] - time.perf_counter())
                tasks.append(asyncio.create_task(ask(request)))
            await asyncio.gather(*tasks)
        gc.enable()
        return time.perf_counter() - started, time.process_time() - cpu

    with mock(truth, tokens=tokens, **mock_args) as (url, _):
        backend.open(Model("m", {"api": "mock"}), Deployment("d", "openai", base_url=url, options=options))
        wall_s, cpu_s = loop.run(main())
    began = time.process_time()
    records = [drive.record(r, raw, backend.finish(p, raw), "measure", 0, 1) for r, p, raw in seen]
    cpu_s += time.process_time() - began
    prompts = {r.id: prompt_sha(r.messages[-1].content) for r in requests if r.messages}
    rss_mb = psutil.Process().memory_info().rss / 1e6
    return Measured(
        records, prompts, read_truth(truth, set(prompts.values())), cpu_s, 0.0, rss_mb, 0.0, cpu_s, None, None, wall_s
    )


class Bare(asyncio.Protocol):
    """Stamps every read and knows an answer's end by its last bytes: the least that any client does."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reads.append((time.perf_counter_ns(), data))
        if data.endswith(b"\r\n0\r\n\r\n"):
            self.over.set_result(None)

    async def ask(self, payload: bytes) -> Raw:
        self.reads: list[tuple[int, bytes]] = []
        self.over = asyncio.get_running_loop().create_future()
        raw = Raw(time.perf_counter_ns(), self.reads)
        self.transport.write(payload)
        await self.over
        return raw


def by_bare(
    folder: Path, n: int, load: dict[str, Any], tokens: int, options: dict[str, Any], mock_args: Any
) -> Measured:
    """A closed loop of `Bare` connections in this process."""
    from poise.measure import drive, loop

    os.sched_setaffinity(0, {CLIENT_CORE})
    truth = folder / "truth.jsonl"
    seen: dict[int, Raw] = {}

    def payload(i: int) -> bytes:
        ask = {"model": "m", "messages": [{"role": "user", "content": f"question {i}"}], "stream": True}
        body = json.dumps({**ask, "max_tokens": tokens}).encode()
        return b"POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    async def main(port: int) -> float:
        here = asyncio.get_running_loop()
        lanes = [(await here.create_connection(Bare, "127.0.0.1", port))[1] for _ in range(load["closed"])]
        payloads = iter([(i, payload(i)) for i in range(n)])
        await lanes[0].ask(payload(n))  # the server plans its answer
        gc.disable()

        async def lane(connection: Bare) -> None:
            for i, request in payloads:
                seen[i] = await connection.ask(request)

        cpu = time.process_time()
        await asyncio.gather(*map(lane, lanes))
        return time.process_time() - cpu

    with mock(truth, tokens=tokens, **mock_args) as (url, _):
        spent_s = loop.run(main(int(url.rpartition(":")[2])))
    records = []
    for i, raw in seen.items():
        answer = Answer(pieces=["x"] * len(raw.stamps))
        records.append(drive.record(Request(str(i), str(i), "generate", ""), raw, answer, "measure", 0, 1))
    prompts = {str(i): prompt_sha(f"question {i}") for i in range(n)}
    found = read_truth(truth, set(prompts.values()))
    return Measured(records, prompts, found, spent_s, 0.0, resident_mb(os.getpid()), 0.0, spent_s, None, None, 0.0)


class Family:
    """A process with all its children, and the whole host, looked at 50 times a second from the server's core."""

    def __init__(self, pid: int, server: int) -> None:
        self.peak_mb, self.process, self.over = 0.0, psutil.Process(pid), threading.Event()
        self.server, self.spent = server, dict[int, float]()
        self.history: list[tuple[int, float, float, float]] = []
        """(clock reading, CPU seconds of the family, of the server, of everyone else but this process)."""
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        os.sched_setaffinity(0, {SERVER_CORE})  # this thread must not be in the way
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        known, looks = [self.process.pid], 0
        while not self.over.wait(0.02):
            if looks % 50 == 0:  # finding children reads all of /proc
                with contextlib.suppress(psutil.Error):
                    known = [self.process.pid, *(p.pid for p in self.process.children(recursive=True))]
            if looks % 5 == 0:
                self.peak_mb = max(self.peak_mb, sum(map(resident_mb, known)))
            for pid in known:
                self.spent[pid] = max(self.spent.get(pid, 0.0), cpu_s(pid))
            looks += 1
            mine, server = sum(self.spent.values()), cpu_s(self.server)
            others = busy_s() - mine - server - cpu_s(os.getpid())
            self.history.append((time.perf_counter_ns(), mine, server, others))

    def between(self, start_ns: int, end_ns: int) -> list[float]:
        """CPU seconds (of the family, the server, others) from the last look before to the first after these times."""
        before = max((row for row in self.history if row[0] <= start_ns), default=self.history[0])
        after = min((row for row in self.history if row[0] >= end_ns), default=self.history[-1])
        return [b - a for a, b in zip(before, after, strict=True)][1:]

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process; 0 once it is gone."""
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except OSError:
        return 0.0


def resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def write_calls(pid: int) -> int:
    """How often a process has called write so far."""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["syscw"])


def busy_s() -> float:
    """CPU seconds of the whole host but idling and waiting."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def read_truth(path: Path, wanted: set[str]) -> dict[str, dict[str, Any]]:
    lines = map(msgspec.json.decode, path.read_bytes().splitlines())
    return {line["prompt_sha"]: line for line in lines if line["prompt_sha"] in wanted}


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def stamps(record: Record) -> list[int]:
    assert record.timeline is not None
    return list(itertools.accumulate(record.timeline.chunk_deltas_ns, initial=record.timeline.sent_ns))[1:]


def largest_gap(times: list[int]) -> int:
    return max((b - a for a, b in itertools.pairwise(times)), default=0)


def fidelity(group: str, case: str, m: Measured, streams: int, whole: bool) -> list[Figure]:
    """Errors against the truth, delivered concurrency, cost."""
    asking, answering, gap, overlap = [], [], [], 0
    chunks = sum(len(r.pieces) for r in m.records)
    for r in m.records:
        truth, seen = m.truth[m.prompts[r.request_id]], stamps(r)
        assert r.timeline is not None
        asking.append((truth["arrived_ns"] - r.timeline.sent_ns) / 1e6)
        answering.append((seen[0] - truth["sent_ns"][0]) / 1e6)
        gap.append(abs(largest_gap(seen) - largest_gap(truth["sent_ns"][: len(seen)])) / 1e6)
        overlap += truth["sent_ns"][-1] - truth["arrived_ns"]
    begun = min(t["arrived_ns"] for t in m.truth.values())
    ended = max(t["sent_ns"][-1] for t in m.truth.values())
    ttft = list(map(sum, zip(asking, answering, strict=True)))
    figures = [
        Figure(group, case, "TTFT error p50", quantile(ttft, 0.5), "ms", "<= 0.3"),
        Figure(group, case, "TTFT error p99", quantile(ttft, 0.99), "ms", "<= 1.5"),
        Figure(group, case, "  of it: to the server, p99", quantile(asking, 0.99), "ms"),
        Figure(group, case, "  of it: from the server, p99", quantile(answering, 0.99), "ms"),
        Figure(group, case, "largest gap error, p99", quantile(gap, 0.99), "ms"),
        Figure(group, case, "largest gap error", max(gap), "ms", "<= 2"),
        Figure(group, case, "delivered concurrency", overlap / (ended - begun) / streams, "of asked", ">= 0.99"),
        Figure(group, case, "CPU per 1000 chunks", m.cpu_s / chunks * 1000, "s", "<= 0.015"),
        Figure(group, case, "memory", m.rss_mb, "MB", "<= 120"),
    ]
    if whole:
        figures.append(Figure(group, case, "other users of the host", m.others, "cores"))
        figures.append(Figure(group, case, "start to first request", m.start_s, "s", "<= 1.5"))
    return figures


def streams(measure: Any, whole: bool, folder: Path) -> Iterator[Figure]:
    for n in (64, 256):
        m = measure(fresh(folder), 6 * n, {"closed": n}, 128, {}, {"ttft": 0.1, "gap": 0.01})
        yield from fidelity("streams", f"{n} streams, TTFT 100 ms, gap 10 ms", m, n, whole)


def speed(measure: Any, whole: bool, folder: Path) -> Iterator[Figure]:
    yield from writes()
    servers = (
        ("a write an event", {}),
        ("a write an event, coalesced", {"coalesce": True}),
        ("a write an answer", {"one_write": True}),
    )
    for case, server in servers:
        m = measure(fresh(folder), 64 * 100, {"closed": 64}, 128, {}, server)
        chunks, events = sum(len(r.pieces) for r in m.records), sum(len(t["sent_ns"]) for t in m.truth.values())
        name = "chunks, parsed and on disk" if whole else "chunks received and stamped"
        busy = "" if m.server_s is None else f"server {m.server_s / m.end_s:.0%} busy"
        busy += "" if m.writes is None else f", {m.writes / events:.3f} writes an event"
        least = ">= 100000" if whole else ">= 250000"
        yield Figure("speed", f"64 streams, no pauses, {case}", name, chunks / m.end_s, "/s", least, busy)
    m = measure(fresh(folder), 40_000, {"closed": 64}, 16, {"stream": False}, {})
    busy = "" if m.server_s is None else f"server {m.server_s / m.end_s:.0%} busy"
    rate = len(m.records) / m.end_s
    yield Figure("speed", "64 connections, not streamed", "requests", rate, "/s", ">= 8000", busy)
    if whole:
        yield from shared(folder)


def writes() -> Iterator[Figure]:
    """What a server's core allows: small writes in a bare loop, to a reader on the other core that throws them away."""
    for case, at_once in (("each sent at once", 1), ("coalesced", 0)):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            code = f"import socket as s; c = s.create_connection(('127.0.0.1', {port}))\nwhile c.recv(1 << 18): pass"
            reader = subprocess.Popen([*on(CLIENT_CORE), sys.executable, "-c", code])
            connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, at_once)
        usual = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {SERVER_CORE})
        start, data = time.perf_counter(), b"x" * 150
        for _ in range(300_000):
            connection.send(data)
        rate = 300_000 / (time.perf_counter() - start)
        os.sched_setaffinity(0, usual)
        connection.close()
        reader.wait()
        yield Figure("speed", f"a bare loop of writes, {case}", "writes of 150 bytes", rate, "/s")


def shared(folder: Path) -> Iterator[Figure]:
    """Two client processes on two cores against one, the server on another; needs a core for the rest too."""
    case, ratio, note = "two client processes", None, f"{len(CORES)} cores, needs 4"
    if len(CORES) >= 4:
        rates = []
        for number in (1, 2):
            flags = ["--client-processes", str(number)]
            m = by_command(fresh(folder), 64 * 100, {"closed": 64}, 128, {}, {"one_write": True}, CORES[:number], flags)
            rates.append(sum(len(r.pieces) for r in m.records) / m.end_s)
        ratio, note = rates[1] / rates[0], ""
    yield Figure("speed", case, "speed-up over one", ratio, "", ">= 1.8", note)


def stalls(measure: Any, whole: bool, folder: Path) -> Iterator[Figure]:
    m = measure(
        fresh(folder), 256, {"closed": 64}, 64, {}, {"ttft": 0.05, "gap": 0.01, "stall_share": 0.1, "stall_s": 0.4}
    )
    errors, stalled = [], 0
    for r in m.records:
        sent = largest_gap(m.truth[m.prompts[r.request_id]]["sent_ns"][: len(r.pieces)])
        if sent > 300e6:
            stalled += 1
            errors.append(abs(largest_gap(stamps(r)) - sent) / 1e6)
    yield Figure("stalls", "400 ms in 10 % of streams", "share of streams", stalled / len(m.records), "")
    yield Figure("stalls", "400 ms in 10 % of streams", "largest gap error", max(errors), "ms", "<= 5")


def open_loop(measure: Any, whole: bool, folder: Path) -> Iterator[Figure]:
    for rate, target in ((500, "<= 3"), (40, "<= 2")):
        load = {"open": rate, "arrivals": "constant"}
        m = measure(fresh(folder), rate * 8, load, 4, {}, {"ttft": 0.02, "gap": 0.005})
        sent = sorted(r.timeline.sent_ns for r in m.records if r.timeline)
        start = sent[0]
        late = [(r.timeline.sent_ns - r.due_ns) / 1e6 for r in m.records if r.timeline and r.due_ns is not None]
        late = late or [(t - start) / 1e6 - i * 1000 / rate for i, t in enumerate(sent)]
        achieved = (len(sent) - 1) / (sent[-1] - start) * 1e9
        yield Figure("open", f"{rate} requests/s", "achieved", achieved, "/s", f">= {rate * 0.998:g}")
        yield Figure("open", f"{rate} requests/s", "lateness p99", quantile(late, 0.99), "ms", target)


def many(measure: Any, whole: bool, folder: Path) -> Iterator[Figure]:
    m = measure(fresh(folder), 100_000, {"closed": 64}, 16, {}, {})
    yield Figure("many", "100 000 requests", "records", float(len(m.records)), "", ">= 100000")
    yield Figure("many", "100 000 requests", "memory", m.rss_mb, "MB", "<= 200")


GROUPS = {"streams": streams, "speed": speed, "stalls": stalls, "open": open_loop, "many": many}


def fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def turn_ns() -> float:
    """What one turn of a plain Python loop costs on this core now: the yardstick of the machine, the best of five."""
    best = math.inf
    for _ in range(5):
        start = time.process_time_ns()
        for _ in range(1_000_000):
            pass
        best = min(best, (time.process_time_ns() - start) / 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wire", action="store_true")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--only", choices=GROUPS, action="append")
    parser.add_argument("--peers", action="store_true", help="other clients beside poise, in one table")
    parser.add_argument("--peers-dir", type=Path, help="their environments (default: made in a temporary folder)")
    chosen = parser.parse_args()
    if len(CORES) < 2:
        sys.exit("this benchmark needs two cores: one for the client, one for the server")
    if chosen.peers:
        import client_peers

        return client_peers.compare(chosen.peers_dir)
    mode = "bare" if chosen.bare else "wire" if chosen.wire else "run"
    measure = {"bare": by_bare, "wire": by_wire, "run": by_command}[mode]
    figures = [Figure("machine", "this core", "one turn of a Python loop", turn_ns(), "ns")]
    show(figures[0])
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.only or (["streams"] if chosen.bare else GROUPS):
            for figure in GROUPS[name](measure, mode == "run", Path(folder)):
                figures.append(figure)
                show(figure)
    print(json.dumps({"mode": mode, "figures": [msgspec.to_builtins(f) for f in figures]}))


def show(figure: Figure) -> None:
    value = "not measured" if figure.value is None else f"{figure.value:,.3f} {figure.unit}"
    mark = {True: "ok", False: "MISSED", None: ""}[figure.met]
    line = f"{figure.case:42} {figure.name:28} {value:>22}  {figure.target or '':10} {mark:6} {figure.note}"
    print(line.rstrip(), flush=True)


if __name__ == "__main__":
    main()
