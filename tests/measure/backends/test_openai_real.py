"""A server of other people's making, started here: the same model through it and in process gives the same answers."""

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poise.measure import wire
from poise.measure.backends.openai import OpenAI
from poise.plan.spec import Deployment, Model
from poise.types import Request

MODEL = Path(__file__).resolve().parents[3] / "src" / "poise" / "bundled" / "xs"
NEEDED = ("torch", "transformers", "fastapi", "uvicorn", "openai")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"`transformers serve` needs {', '.join(missing)}"),
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"no bundled model in {MODEL}"),
]
PROMPTS = ["12 + 7 =", "Review: a lovely film\nSentiment:", "3 * x = 12, x ="]


@pytest.fixture(scope="module")
def base_url(tmp_path_factory):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "log").open("w+")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=environment) as server:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail(f"transformers serve did not start:\n{log.read()[-2000:]}")
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
        server.terminate()
    log.close()


def through_server(base_url):
    async def main():
        backend = OpenAI()
        deployment = Deployment("d", "openai", base_url=base_url, preset="transformers-serve")
        backend.open(Model("m", {"api": str(MODEL)}), deployment)
        out = []
        for i, prompt in enumerate(PROMPTS):
            prepared = backend.prepare(Request(str(i), str(i), "generate", "", prompt=prompt, max_tokens=12))
            raw = await backend.send(prepared)
            out.append((raw, backend.finish(prepared, raw)))
        backend.close()
        await asyncio.sleep(0.01)
        return out

    return wire.run(main())


def in_process():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[
            0, ids.shape[1] :
        ]
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    return texts


@pytest.mark.filterwarnings("ignore")  # of the libraries that make the reference
def test_transformers_serve_answers_like_the_model_in_process(base_url):
    answers = through_server(base_url)
    for raw, answer in answers:
        assert answer.error is None
        assert answer.usage["completion_tokens"] >= len(answer.pieces) > 0
        assert answer.finish_reason in ("stop", "length")
        assert raw.sent_ns < raw.stamps[0][0] <= raw.stamps[-1][0] <= raw.done_ns
    assert ["".join(a.pieces) for _, a in answers] == in_process()
