"""A model by its hub name, from a local server that speaks the hub's protocol: the real download path, offline."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from poise.plan.sources import bundled_names

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
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
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
