"""Other clients beside poise in one run: the same mock server with the same truth log, client on one core.

    python benchmarks/client_peers.py [--peers-dir DIR] [--only NAME …]

Each peer is installed into an environment of its own under DIR (default: a temporary folder, some gigabytes; what is
there is used as it is) and asked the same: N streams, first token after 100 ms, one every 10 ms, 128 chunks an answer.
Error = a quantile of what the client reports minus the same quantile of what the server's log says. CPU and memory
count all of a client's processes from its start to its end. A peer that cannot run here has a row that says why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import client
import msgspec

TOKENS, ROUNDS, WAIT_S = 128, 4, 150
INSTALL = {  # torch is named so that pip takes one build and no other
    "guidellm": ["guidellm", "torch==2.13.0"],
    "aiperf": ["aiperf", "torch==2.13.0"],
    "loops": ["aiohttp", "httpx"],
}
MODEL = "bundled/s"
"""GuideLLM needs a tokenizer under the model's name: a local hub cache holds this one."""
TOKENIZER = Path(client.__file__).parents[1] / "src" / "poise" / "bundled" / "s"


class Row(msgspec.Struct):
    """One client at one number of streams."""

    client: str
    streams: int
    ttft_error_p50_ms: float | None = None
    ttft_error_p99_ms: float | None = None
    requests_per_s: float | None = None
    cpu_s_per_1000_chunks: float | None = None
    memory_mb: float | None = None
    start_s: float | None = None
    note: str = ""


def guidellm(bin_: Path, url: str, streams: int, requests: int, folder: Path) -> list[str]:
    return [
        str(bin_ / "guidellm"), "run", "--disable-console",
        "--backend", f"kind=openai_http,target={url},model={MODEL}",
        "--profile", f"kind=concurrent,streams={streams}",
        "--constraint", f"kind=max_requests,count={requests}",
        "--data", f"kind=json_file,path={folder / 'questions.jsonl'}",
        "--output", f"kind=json,path={folder / 'out.json'}",
    ]  # fmt: skip


def read_guidellm(folder: Path) -> list[float]:
    [benchmark] = json.loads((folder / "out.json").read_bytes())["benchmarks"]
    return [r["time_to_first_token_ms"] / 1e3 for r in benchmark["requests"]["successful"]]


def aiperf(bin_: Path, url: str, streams: int, requests: int, folder: Path) -> list[str]:
    return [
        str(bin_ / "aiperf"), "profile", "--model", MODEL, "--tokenizer", str(TOKENIZER),
        "--url", url, "--endpoint-type", "chat", "--streaming",
        "--concurrency", str(streams), "--request-count", str(requests),
        "--input-file", str(folder / "questions.jsonl"), "--custom-dataset-type", "single_turn",
        "--output-artifact-dir", str(folder / "out"), "--ui", "none",
    ]  # fmt: skip


def read_aiperf(folder: Path) -> list[float]:
    [file] = (folder / "out").rglob("profile_export.jsonl")
    lines = map(json.loads, file.read_bytes().splitlines())
    return [r["metrics"]["time_to_first_token"]["value"] / 1e3 for r in lines if "time_to_first_token" in r["metrics"]]


def loop(name: str) -> Callable[..., list[str]]:
    def command(bin_: Path, url: str, streams: int, requests: int, folder: Path) -> list[str]:
        script = Path(__file__).with_name("client_loops.py")
        return [str(bin_ / "python"), str(script), name, url, str(streams), str(requests), str(folder / "out.json")]

    return command


def read_loop(folder: Path) -> list[float]:
    return list(json.loads((folder / "out.json").read_bytes()))


PEERS: dict[str, tuple[str, Callable[..., list[str]], Callable[[Path], list[float]]]] = {
    "guidellm": ("guidellm", guidellm, read_guidellm),
    "aiperf": ("aiperf", aiperf, read_aiperf),
    "aiohttp": ("loops", loop("aiohttp"), read_loop),
    "httpx": ("loops", loop("httpx"), read_loop),
}


def installed(environment: str, peers: Path) -> str | None:
    """None once the environment is there, else why it cannot be made."""
    home = peers / environment
    if (home / "bin" / "python").exists():
        return None
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "pip"), "install", "-q", *INSTALL[environment]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"not installed: {(done.stderr or done.stdout).strip().splitlines()[-1][:100]}"
    return None


def hub(folder: Path) -> Path:
    """A hub cache with the tokenizer of a bundled model in it."""
    home, revision = folder / "hub" / f"models--{MODEL.replace('/', '--')}", "0" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    snapshot = home / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, snapshot)
    return folder / "hub"


def measured(name: str, streams: int, peers: Path, folder: Path) -> Row:
    environment, command, read = PEERS[name]
    if why := installed(environment, peers):
        return Row(name, streams, note=why)
    requests, truth_file = ROUNDS * streams, folder / "truth.jsonl"
    field = "text" if name == "aiperf" else "prompt"
    questions = [json.dumps({field: f"question {i}"}) for i in range(requests)]
    (folder / "questions.jsonl").write_text("\n".join(questions) + "\n")
    with client.mock(truth_file, tokens=TOKENS, ttft=0.1, gap=0.01) as (url, server), (folder / "log").open("w") as log:
        line = [*client.on(client.CLIENT_CORE), *command(peers / environment / "bin", url, streams, requests, folder)]
        started = time.perf_counter_ns()
        environ = {**os.environ, "HF_HUB_CACHE": str(hub(folder)), "PYTHONPATH": ""}
        if name != "aiperf":  # offline it takes a folder for a name on the hub, and refuses it
            environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=folder, env=environ, start_new_session=True)
        family = client.Family(process.pid, server)
        try:
            code = process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            code = process.wait()
        ended = time.perf_counter_ns()
        family.stop()
    try:
        reported = read(folder)
    except (OSError, ValueError, KeyError):
        reported = []
    if not reported:
        last = [text for text in (folder / "log").read_text(errors="replace").splitlines() if text.strip()][-1:]
        return Row(name, streams, note=f"exit code {code}: {' '.join(last).strip()[:120]}")
    truth: list[dict[str, Any]] = [json.loads(text) for text in truth_file.read_bytes().splitlines()]
    truth = sorted((t for t in truth if len(t["sent_ns"]) >= TOKENS), key=lambda t: t["arrived_ns"])
    true = [(t["sent_ns"][0] - t["arrived_ns"]) / 1e9 for t in truth]
    first, last_ns = truth[0]["arrived_ns"], max(t["sent_ns"][-1] for t in truth)
    p50, p99 = (1e3 * (client.quantile(reported, q) - client.quantile(true, q)) for q in (0.5, 0.99))
    return Row(
        name,
        streams,
        p50,
        p99,
        len(truth) / (last_ns - first) * 1e9,
        family.between(started, ended)[0] / (len(truth) * TOKENS) * 1000,
        family.peak_mb,
        (first - started) / 1e9,
    )


def poise(streams: int, folder: Path) -> Row:
    """The whole command, counted as the peers are: its CPU from start to end over all chunks."""
    m = client.by_command(folder, ROUNDS * streams, {"closed": streams}, TOKENS, {}, {"ttft": 0.1, "gap": 0.01})
    truth = sorted(m.truth.values(), key=lambda t: t["arrived_ns"])
    reported = [r.timeline.chunk_deltas_ns[0] / 1e9 for r in m.records if r.timeline]
    true = [(t["sent_ns"][0] - t["arrived_ns"]) / 1e9 for t in truth]
    p50, p99 = (1e3 * (client.quantile(reported, q) - client.quantile(true, q)) for q in (0.5, 0.99))
    span_s = (max(t["sent_ns"][-1] for t in truth) - truth[0]["arrived_ns"]) / 1e9
    chunks = len(truth) * TOKENS
    return Row("poise", streams, p50, p99, len(truth) / span_s, m.all_cpu_s / chunks * 1000, m.rss_mb, m.start_s)


def compare(peers_dir: Path | None, streams: Sequence[int] = (64, 256), clients: Sequence[str] = ()) -> None:
    rows = []
    columns = f"{'req/s':>9}{'CPU-s/1k chunks':>17}{'MB':>7}{'start s':>9}"
    print(f"{'client':10}{'streams':>8}{'TTFT error p50/p99 ms':>24}{columns}")
    with tempfile.TemporaryDirectory() as name:
        peers = (peers_dir or Path(name) / "peers").resolve()
        for number in streams:
            for who in clients or ["poise", *PEERS]:
                folder = client.fresh(Path(name))
                row = poise(number, folder) if who == "poise" else measured(who, number, peers, folder)
                rows.append(row)
                show(row)
    print(json.dumps({"rows": [msgspec.to_builtins(r) for r in rows]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-dir", type=Path)
    parser.add_argument("--only", choices=["poise", *PEERS], action="append")
    parser.add_argument("--streams", type=int, action="append")
    chosen = parser.parse_args()
    compare(chosen.peers_dir, chosen.streams or (64, 256), chosen.only or ())


def show(row: Row) -> None:
    if row.ttft_error_p50_ms is None:
        print(f"{row.client:10}{row.streams:>8}  {row.note}", flush=True)
        return
    error = f"{row.ttft_error_p50_ms:+.2f}/{row.ttft_error_p99_ms:+.2f}"
    print(
        f"{row.client:10}{row.streams:>8}{error:>24}{row.requests_per_s:>9.1f}{row.cpu_s_per_1000_chunks:>17.4f}"
        f"{row.memory_mb:>7.0f}{row.start_s:>9.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
