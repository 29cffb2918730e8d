"""Models and data sets by their hub names, from a local server that speaks its protocol: the real path, offline."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from poise.plan.sources import bundled_names, has_chat_template
from poise.types import UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = Path(__file__).resolve().parent.parent / "src" / "poise" / "bundled" / "xs"


class Hub(BaseHTTPRequestHandler):
    """`HEAD`/`GET /org/tiny/resolve/<revision>/<file>` with the headers that huggingface_hub wants."""

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.path.startswith("/api/models/org/tiny"):
            files = [{"rfilename": p.name} for p in MODEL.iterdir() if p.is_file()]
            if "/tree/" in self.path:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return self._send(200, json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": files}).encode(), {})
        prefix = "/org/tiny/resolve/"
        if not self.path.startswith(prefix):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        file = MODEL / self.path[len(prefix) :].split("/", 1)[1]
        if not file.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        data = file.read_bytes()
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        return self._send(200, data, {"ETag": etag, "X-Repo-Commit": COMMIT}, body)

    def _send(self, code: int, data: bytes, headers: dict[str, str], body: bool = True) -> None:
        body = body and self.command != "HEAD"
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[str]:
    yield from served(Hub)


def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def poise(hub: str, cache: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env |= {"HF_ENDPOINT": hub, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "poise.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=240)


@pytest.mark.skipif(find_spec("transformers") is None, reason="the transformers extra is not installed")
@pytest.mark.skipif("xs" not in bundled_names(), reason="no bundled models in this checkout")
def test_a_hub_model_runs_by_its_name(hub: str, tmp_path: Path) -> None:
    done = poise(hub, tmp_path / "hf", "run", "-q", "-m", "org/tiny", "-b", "transformers", "-t", "mini-sentiment",
                 "--limit", "3", "-o", str(tmp_path / "run"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(poise(hub, tmp_path / "hf", "summary", str(tmp_path / "run"), "--json").stdout)
    (cell,) = summary["cells"]
    assert cell["model"] == "org/tiny" and cell["n"] == 3 and cell["failed"] == 0
    assert " raw " in cell["signature"]  # the hub's tokenizer_config.json has no chat template


def test_a_name_the_hub_does_not_know_is_refused_before_anything_runs(hub: str, tmp_path: Path) -> None:
    if find_spec("transformers") is None:
        pytest.skip("the transformers extra is not installed")
    done = poise(hub, tmp_path / "hf", "run", "-m", "org/absent", "-b", "transformers", "-t", "mini-qa",
                 "-o", str(tmp_path / "run"))  # fmt: skip
    assert done.returncode == 2 and "org/absent" in done.stderr and "check the name" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="the hub's package is not installed")
@pytest.mark.parametrize("name", ["a/b/c", "two words"])
def test_what_no_hub_could_call_a_model_is_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match=f"model '{name}': no such folder, and no name on the hub"):
        has_chat_template({"hf": name}, {"hf"}, None)


# ---------------------------------------------------------------- data sets

OLD, NEW, CODE = "a" * 40, "b" * 40, "c" * 40
CARD = b"""---
configs:
- config_name: reviews
  default: true
  data_files: [{split: test, path: reviews/test-*.parquet}, {split: train, path: reviews/train-*.parquet}]
- config_name: pairs
  data_files: [{split: validation, path: pairs/validation.parquet}]
---
"""
SCRIPT = b"raise SystemExit('code of a data set was run')"


def parquet(rows: list[dict[str, object]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


@cache
def tree(commit: str) -> dict[str, bytes]:
    """The files of a data set at a commit, in the hub's layout; at one with a loading script, which nobody may run."""
    word = {OLD: "older", NEW: "newer", CODE: "code"}[commit]
    pairs = [{"translation": {"zh": "你好。", "en": "Hello."}}, {"translation": {"zh": "再见。", "en": "Goodbye."}}]
    return {
        "README.md": CARD,
        **({"tiny.py": SCRIPT} if commit == CODE else {}),
        "reviews/test-00000.parquet": parquet([{"sentence": f"{word} {i}", "label": i % 2} for i in range(6)]),
        "reviews/train-00000.parquet": parquet([{"sentence": "shown", "label": 1}]),
        "pairs/validation.parquet": parquet(pairs),
    }


class DataHub(Hub):
    """The routes that `datasets` asks of a data set `org/tiny` of two commits; `org/gated` wants a token."""

    revisions: ClassVar = {"main": NEW, "v1": OLD, "script": CODE, OLD: OLD, NEW: NEW, CODE: CODE}

    def _answer(self, body: bool) -> None:
        path = unquote(self.path).partition("?")[0]
        api, files = "/api/datasets/org/tiny/", "/datasets/org/tiny/resolve/"
        if "/org/gated" in path:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        if not path.startswith((api, files)):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        kind, _, rest = path.removeprefix(api).partition("/") if path.startswith(api) else ("", "", path[len(files) :])
        name, _, file = rest.partition("/")
        if (commit := self.revisions.get(name)) is None:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        there = tree(commit)
        if kind == "revision":
            found = [{"rfilename": f} for f in there]
            return self._send(200, json.dumps({"id": "org/tiny", "sha": commit, "siblings": found}).encode(), {})
        if kind == "tree":
            inside = {f[len(file) :].lstrip("/"): f for f in there if f.startswith(file)}
            entries = [
                {"type": "file", "path": whole, "size": len(there[whole]), "oid": "1" * 40}
                for part, whole in inside.items()
                if "/" not in part
            ]
            folders = {part.partition("/")[0] for part in inside if "/" in part}
            entries += [{"type": "directory", "path": d, "size": 0, "oid": "0" * 40} for d in sorted(folders)]
            return self._send(200, json.dumps(entries).encode(), {})
        if file not in there:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = f'"{hashlib.sha1(there[file]).hexdigest()}"'
        return self._send(200, there[file], {"ETag": etag, "X-Repo-Commit": commit}, body)


@pytest.fixture
def data_hub() -> Iterator[str]:
    pytest.importorskip("datasets", reason="the hub extra is not installed")
    yield from served(DataHub)


def plan(hub: str, cache: Path, task: str, data: str, *more: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, stderr, and the items that are asked."""
    out = cache / f"run{len(list(cache.glob('run*')))}"
    done = poise(hub, cache / "hf", "run", "-q", "-m", "m", "-b", "scripted", "-t", task, "--data", data, *more,
                 "-o", str(out))  # fmt: skip
    files = sorted((out / "inputs").glob("*.targets.jsonl"))
    rows = [json.loads(line) for f in files for line in f.read_text().splitlines()]
    return done.returncode, done.stderr, sorted(rows, key=lambda r: r["id"])


def test_a_hub_data_set_is_read_by_name_configuration_revision_and_split(data_hub: str, tmp_path: Path) -> None:
    code, err, rows = plan(data_hub, tmp_path, "sst2", "hub:org/tiny")
    assert code == 0, err
    assert [r["fields"]["text"] for r in rows] == [f"newer {i}" for i in range(6)]
    assert [r["target"] for r in rows] == ["negative", "positive"] * 3
    assert "examples/s" not in err and "it/s" not in err, "no progress bars of another package"
    for pin in ("v1", OLD):
        assert plan(data_hub, tmp_path, "sst2", f"hub:org/tiny@{pin}")[2][0]["fields"]["text"] == "older 0"
    assert [r["fields"]["text"] for r in plan(data_hub, tmp_path, "sst2", "hub:org/tiny:train")[2]] == ["shown"]
    pairs = plan(data_hub, tmp_path, "translation", "hub:org/tiny/pairs:validation")[2]
    assert [(r["fields"]["text"], r["target"]) for r in pairs] == [("你好。", "Hello."), ("再见。", "Goodbye.")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("hub:org/absent", "'org/absent' doesn't exist on the Hub or cannot be accessed; check the name"),
        ("hub:org/gated", "gated dataset on the Hub"),
        ("hub:org/tiny@v2", "Revision 'v2' doesn't exist"),
        ("hub:org/tiny@script", "Dataset scripts are no longer supported, but found tiny.py"),
        ("hub:org/tiny:dev", "Should be one of ['test', 'train']"),
        ("hub:org/tiny/reviewz", "'reviewz' not found. Available: ['reviews', 'pairs']"),
        ("hub:org/tiny/pairs:validation", "no column 'sentence'; it has 'translation'"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(data_hub: str, tmp_path: Path, data: str, says: str) -> None:
    code, err, rows = plan(data_hub, tmp_path, "sst2", data)
    assert code == 2 and says in err and not rows and "Traceback" not in err and len(err.strip().splitlines()) <= 3
    assert "HF_TOKEN" in err or "gated" not in data


def test_no_network_is_one_sentence_and_what_was_loaded_needs_none(data_hub: str, tmp_path: Path) -> None:
    away = "http://127.0.0.1:9"
    code, err, _ = plan(away, tmp_path, "sst2", "hub:org/tiny")
    assert code == 2 and "hub:org/tiny could not be loaded" in err and "Traceback" not in err
    assert "give a local path" in err
    assert plan(data_hub, tmp_path, "sst2", f"hub:org/tiny@{OLD}")[0] == 0
    code, err, rows = plan(away, tmp_path, "sst2", f"hub:org/tiny@{OLD}")
    assert code == 0 and rows[0]["fields"]["text"] == "older 0", err
