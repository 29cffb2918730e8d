"""Servers of other people's making, started here: a model through them and in process gives the same answers."""

import asyncio
import contextlib
import importlib.util
import math
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
PROMPTS = ["12 + 7 =", "Review: a lovely film\nSentiment:", "3 * x = 12, x ="]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the libraries that make the reference
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"no bundled model in {MODEL}"),
]


def needs(*names):
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"this server needs {', '.join(missing)}")


@contextlib.contextmanager
def serving(folder, *command):
    """A server on a free port of its own; its base URL once it listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as server,
    ):
        try:
            deadline = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail(f"the server did not start:\n{log.read()[-2000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def asked(base_url, preset, name, requests):
    async def main():
        backend = OpenAI()
        backend.open(Model("m", {"api": name}), Deployment("d", "openai", base_url=base_url, preset=preset))
        out = []
        for r in requests:
            prepared = backend.prepare(r)
            raw = await backend.send(prepared)
            out.append((raw, backend.finish(prepared, raw)))
        backend.close()
        await asyncio.sleep(0.01)
        return out

    return wire.run(main())


def generations():
    return [
        Request(str(i), str(i), "generate", "", prompt=p, max_tokens=12, stop=("\n",)) for i, p in enumerate(PROMPTS)
    ]


def reference():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    return torch, AutoTokenizer.from_pretrained(MODEL), AutoModelForCausalLM.from_pretrained(MODEL)


def texts_in_process():
    torch, tokenizer, model = reference()
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).split("\n")[0])
    return texts


def check(answers):
    for raw, answer in answers:
        assert answer.error is None and answer.status == "ok"
        assert answer.finish_reason in ("stop", "length")
        times = [ns for ns, _ in raw.stamps]
        assert times == sorted(times)
        assert not times or raw.sent_ns < times[0] <= times[-1] <= raw.done_ns
    texts = ["".join(a.pieces).split("\n")[0].strip() for _, a in answers]  # mlx_lm trims the first space
    assert texts == [text.strip() for text in texts_in_process()]


@needs("torch", "transformers", "fastapi", "uvicorn", "openai")
def test_transformers_serve(tmp_path):
    with serving(tmp_path, "transformers.cli.transformers", "serve", "--device", "cpu") as url:
        answers = asked(url, "transformers-serve", str(MODEL), generations())
    check(answers)
    assert all(a.usage["completion_tokens"] >= len(a.pieces) for _, a in answers), "usage comes unasked"


@needs("torch", "transformers", "mlx_lm")
def test_mlx_server(tmp_path):
    """HTTP/1.0, answers ended by the connection, keep-alive comments between the events."""
    with serving(tmp_path, "mlx_lm", "server", "--model", str(MODEL)) as url:
        answers = asked(url, "mlx", str(MODEL), generations())
    check(answers)
    assert all(a.usage["completion_tokens"] >= len(a.pieces) for _, a in answers)


@needs("torch", "transformers", "llama_cpp", "gguf", "fastapi", "uvicorn")
def test_llama_cpp_server(tmp_path):
    sys.path.insert(0, str(Path(__file__).parent))
    from llama_gguf import write_gguf

    write_gguf(MODEL, tmp_path / "xs.gguf")
    choice = Request("c", "c", "choice", "", prompt=PROMPTS[1], continuations=(" positive", " negative"))
    flags = ["--model", str(tmp_path / "xs.gguf"), "--n_ctx", "1024", "--logits_all", "true", "--n_threads", "1"]
    with serving(tmp_path, "llama_cpp.server", *flags) as url:
        *answers, (_, scored) = asked(url, "llama-cpp-python", "xs", [*generations(), choice])
    check(answers)
    assert scored.error is None
    torch, tokenizer, model = reference()
    for continuation, found in zip(choice.continuations, scored.option_logprobs):
        start = len(tokenizer(choice.prompt).input_ids)
        ids = tokenizer(choice.prompt + continuation, return_tensors="pt").input_ids
        with torch.no_grad():
            log_p = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[start - 1 :, 0]
        assert len(found) == len(log_p)
        assert math.isclose(sum(found), float(log_p.sum()), rel_tol=1e-3)
