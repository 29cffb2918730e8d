"""The openai backend against the bundled mock: what is recorded for every way a server can answer or fail."""

import asyncio
import contextlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from tokenizers import Tokenizer

import poise
from poise.measure import loop
from poise.measure.backends.openai import OpenAI
from poise.measure.mock_answers import prompt_sha
from poise.measure.mock_config import MockConfig
from poise.measure.mock_server import running
from poise.plan.spec import Deployment, Model
from poise.types import Message, Request, UsageError


def request(prompt="hello", chat=False, **fields):
    fields = {"max_tokens": 8, "deadline_s": 10.0, **fields}
    said = {"messages": (Message("user", prompt),)} if chat else {"prompt": prompt}
    return Request(id="r", sample_id="s", kind=fields.pop("kind", "generate"), asked_sha="", **said, **fields)


def ask(config, *requests, preset=None, warm=0, **options):
    """Ask a mock with this configuration, one request after the other: [(raw, answer)]."""

    async def main():
        async with opened(config, preset=preset, options=options) as backend:
            await backend.warm(warm)
            out = []
            for r in requests:
                prepared = backend.prepare(r)
                raw = await backend.send(prepared)
                early = raw.error
                answer = backend.finish(prepared, raw)
                if early is not None:  # what a retry is decided on is what is recorded
                    assert (early.kind, early.http_status) == (raw.error.kind, raw.error.http_status)
                assert (raw.error, raw.status) == (answer.error, answer.status)
                assert len(raw.stamps) == len(answer.pieces)
                out.append((raw, answer))
            return out

    return loop.run(main())


@contextlib.asynccontextmanager
async def opened(config, model=None, **deployment):
    async with running(config) as (_, port):
        backend = OpenAI()
        url = f"http://127.0.0.1:{port}"
        backend.open(Model("m", model or {"api": "served"}), Deployment("d", "openai", base_url=url, **deployment))
        try:
            yield backend
        finally:
            backend.close()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("gap_s", [0.0, 0.002])
def test_text_usage_and_finish(chat, stream, done, gap_s):
    config = MockConfig(tokens=5, done=done, gap_s=gap_s)
    [(raw, answer)] = ask(config, request(chat=chat), stream=stream)
    assert answer.error is None and answer.status == "ok"
    assert "".join(answer.pieces) == "w0 w1 w2 w3 w4 "
    assert len(answer.pieces) == (5 if stream else 1)
    assert answer.usage == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    assert answer.finish_reason == "stop"
    assert answer.output_tokens is None and answer.piece_kinds is None
    times = [ns for ns, _ in raw.stamps]
    assert raw.sent_ns < raw.headers_ns <= times[0] and times == sorted(times) and times[-1] <= raw.done_ns


def test_stamps_follow_the_servers_truth(tmp_path):
    truth = tmp_path / "truth.jsonl"
    config = MockConfig(tokens=6, ttft_s=0.03, gap_s=0.02, tokens_per_chunk=2, truth=str(truth))
    [(raw, answer)] = ask(config, request("a question", max_tokens=6))
    line = json.loads(truth.read_text())
    assert line["prompt_sha"] == prompt_sha("a question")
    assert answer.pieces == ["w0 w1 ", "w2 w3 ", "w4 w5 "]
    for (seen, _), sent in zip(raw.stamps, line["sent_ns"]):
        assert sent < seen, "an event cannot arrive before it is sent"
    for after, following in zip(raw.stamps, line["sent_ns"][1:3]):
        assert after[0] < following, "a stamp belongs to its own event, not to a later one"


def test_reasoning_is_marked():
    [(_, answer)] = ask(MockConfig(tokens=2, reasoning_tokens=2), request(chat=True))
    assert answer.pieces == ["r0 ", "r1 ", "w0 ", "w1 "]
    assert answer.piece_kinds == "rrvv"


@pytest.mark.parametrize(
    ("fault", "kind", "status", "kept"),
    [
        ("429", "http", "error", 0),
        ("500", "http", "error", 0),
        ("wrong-json", "parse", "error", 2),
        ("reset", "reset", "error", 2),
        ("early-close", "closed", "error", 2),
        ("endless", "timeout", "timeout", 2),
    ],
)
def test_faults_are_recorded_with_what_arrived(fault, kind, status, kept):
    config = MockConfig(tokens=4, gap_s=0.01, error_share=1.0, faults=(fault,))
    [(_, answer), (_, again)] = ask(config, request(deadline_s=0.3), request(deadline_s=0.3))
    assert (answer.status, answer.error.kind) == (status, kind)
    assert "".join(answer.pieces).startswith("w0 w1 " if kept else "")
    assert len(answer.pieces) >= kept
    assert again.error.kind == kind, "the next request on this server is not disturbed by the one before"


def test_what_may_be_retried_is_known_right_after_send():
    async def main(fault):
        async with opened(MockConfig(gap_s=0.002, error_share=1.0, faults=(fault,))) as backend:
            return (await backend.send(backend.prepare(request(deadline_s=0.2)))).error

    found = {fault: loop.run(main(fault)) for fault in ("429", "503", "reset", "early-close", "endless")}
    assert found["429"].http_status == 429 and found["503"].http_status == 503
    assert [found[f].kind for f in ("reset", "early-close", "endless")] == ["reset", "closed", "timeout"]


def test_http_errors_say_why():
    config = MockConfig(error_share=1.0, faults=("429",))
    [(_, answer)] = ask(config, request())
    assert answer.error.http_status == 429
    assert answer.error.message == "HTTP 429, retry after 1: this error was asked for"
    assert answer.error.retry_after_s == 1.0


def test_connections_are_reused_and_replaced_when_the_server_closes():
    config = MockConfig(tokens=1, keep_alive=False)
    for _, answer in ask(config, *[request(str(i)) for i in range(3)], warm=2):
        assert answer.error is None and answer.pieces == ["w0 "]


def test_many_at_once_and_queueing(tmp_path):
    truth = tmp_path / "t"

    async def main():
        async with opened(MockConfig(tokens=3, gap_s=0.005, capacity=2, truth=str(truth))) as backend:
            await backend.warm(6)
            prepared = [backend.prepare(request(f"q{i}")) for i in range(6)]
            raws = await asyncio.gather(*(backend.send(p) for p in prepared))
            return [backend.finish(p, r) for p, r in zip(prepared, raws)]

    assert all(a.pieces == ["w0 ", "w1 ", "w2 "] for a in loop.run(main()))
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    spans = [(line["started_ns"], line["sent_ns"][-1]) for line in lines]
    assert len(spans) == 6
    for start, _ in spans:
        assert sum(a <= start < b for a, b in spans) <= 2


def test_request_bytes(monkeypatch):
    monkeypatch.setenv("POISE_TEST_KEY", "sk-secret-123456")

    async def main():
        async with opened(MockConfig(), preset="vllm", key_env="POISE_TEST_KEY") as backend:
            sampled = backend.prepare(request(temperature=0.5, seed=3)).payloads[0]
            return backend.prepare(request("hé", min_tokens=8, stop=("\n",), seed=3)).payloads[0], sampled

    payload, sampled = loop.run(main())
    assert b'"seed":3' in sampled
    head, _, body = payload.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/completions HTTP/1.1"
    assert "authorization: Bearer sk-secret-123456" in lines
    assert f"content-length: {len(body)}" in lines
    assert msgspec.json.decode(body) == {
        "model": "served",
        "prompt": "hé",
        "max_tokens": 8,
        "min_tokens": 8,
        "ignore_eos": True,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop": ["\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "repetition_penalty": 1.0,
        "top_k": -1,
        "min_p": 0.0,
    }


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ({"base_url": None}, "needs a base_url"),
        ({"base_url": "http://127.0.0.1:1"}, "no server answers at 127.0.0.1:1 (Connection refused)"),
        ({"base_url": "unix:/nonexistent.sock"}, "no server answers at /nonexistent.sock"),
        ({"base_url": "http://me:pw@h/v1"}, "holds credentials"),
        ({"base_url": "ftp://h"}, "must start with http://"),
        ({"base_url": "http://127.0.0.1:1", "preset": "vlm"}, "unknown server preset 'vlm'; did you mean 'vllm'?"),
        ({"base_url": "http://127.0.0.1:1", "key_env": "POISE_ABSENT"}, "POISE_ABSENT is not set"),
        ({"base_url": "https://elsewhere.example/v1", "key_env": "PATH_KEY"}, "--allow-key PATH_KEY@elsewhere.example"),
        ({"base_url": "http://127.0.0.1:1", "options": {"streem": True}}, "unknown field"),
    ],
)
def test_bad_input_is_one_sentence(deployment, message, monkeypatch):
    monkeypatch.setenv("PATH_KEY", "k")
    with pytest.raises(UsageError) as caught:
        OpenAI().open(Model("m", {"api": "x"}), Deployment("d", "openai", **deployment))
    assert message in str(caught.value) and "\n" not in str(caught.value)


async def echoing(reader, writer):
    """A completions server with echo: one token a character (so the target is countable), log-probability -k/10."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        size = int(re.search(rb"content-length: (\d+)", head)[1])
        body = json.loads(await reader.readexactly(size))
        assert body["echo"] is True and body["logprobs"] == 1
        text = body["prompt"] + "!"
        values = [None] + [-k / 10 for k in range(1, len(text))]
        logprobs = {"tokens": list(text), "token_logprobs": values, "text_offset": list(range(len(text)))}
        data = json.dumps({"choices": [{"index": 0, "text": text, "logprobs": logprobs}]}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data
        )


def scored(request):
    async def main():
        server = await asyncio.start_server(echoing, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        deployment = Deployment("d", "openai", base_url=url, preset="llama-cpp-python")
        assert "score" in OpenAI.capabilities_of(deployment)
        backend = OpenAI()
        backend.open(Model("m", {"api": "x"}), deployment)
        prepared = backend.prepare(request)
        raw = await backend.send(prepared)
        answer = backend.finish(prepared, raw)
        backend.close()
        server.close()
        await asyncio.sleep(0.01)
        return raw, answer

    raw, answer = loop.run(main())
    assert answer.error is None and raw.stamps == [] and raw.sent_ns < raw.done_ns
    return answer


def test_choices_are_scored_through_echoed_prompts():
    answer = scored(request("abé", kind="choice", continuations=(" yes", "né")))
    assert answer.option_logprobs == [[-0.3, -0.4, -0.5, -0.6], [-0.3, -0.4]]


def test_a_text_is_scored_through_its_echo():
    """Every token but the first, which nothing stands before; the generated one does not count."""
    assert scored(request("abc\n", kind="windows")).token_logprobs == [-0.1, -0.2, -0.3]


def test_a_stop_string_that_the_server_leaves_in_is_cut_and_reasoning_kept():
    """transformers serve ends at the stop string and sends it; stamps stay one a piece."""
    config = MockConfig(tokens=4, reasoning_tokens=2, tokens_per_chunk=2)
    [(raw, answer)] = ask(config, request(stop=(" w1", "r1"), chat=True))
    visible = [p for p, k in zip(answer.pieces, answer.piece_kinds) if k == "v"]
    assert "".join(visible) == "w0" and len(raw.stamps) == len(answer.pieces)
    assert "r1" in "".join(p for p, k in zip(answer.pieces, answer.piece_kinds) if k == "r")
    [(_, answer)] = ask(MockConfig(tokens=4), request(stop=("nothing",)))
    assert "".join(answer.pieces) == "w0 w1 w2 w3 "


@pytest.mark.parametrize(("usage", "counted"), [("none", True), ("option", False)])
def test_tokens_that_the_server_does_not_count_are_counted_by_the_models_tokenizer(usage, counted):
    folder = Path(poise.__file__).parent / "bundled" / "xs"
    if not folder.is_dir():
        pytest.skip("no bundled model here")

    async def main():
        async with opened(MockConfig(tokens=4, usage=usage), model={"api": "x", "hf": str(folder)}) as backend:
            prepared = backend.prepare(request())
            return backend.finish(prepared, await backend.send(prepared))

    answer = loop.run(main())
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("".join(answer.pieces)).ids
    assert (answer.output_tokens, answer.tokens_by) == ((len(ids), "tokenizer") if counted else (None, None))


def test_penalties_that_a_server_applies_unasked_are_switched_off_and_its_habits_explained():
    async def main():
        async with opened(
            MockConfig(gap_s=0.002, error_share=1.0, faults=("early-close",)), preset="llama-cpp-python"
        ) as backend:
            prepared = backend.prepare(request())
            body = json.loads(prepared.payloads[0].split(b"\r\n\r\n")[1])
            answer = backend.finish(prepared, await backend.send(prepared))
            return body, answer

    body, answer = loop.run(main())
    assert (body["repeat_penalty"], body["top_k"], body["min_p"]) == (1.0, 0, 0.0)
    assert answer.error.kind == "closed" and "--interrupt_requests false" in answer.error.message


def test_what_cannot_be_asked_is_refused_in_prepare():
    async def main():
        async with opened(MockConfig(), preset="tgi") as backend:
            for r in (request(kind="choice", continuations=("a",)), request(kind="windows")):
                with pytest.raises(UsageError):
                    backend.prepare(r)

    loop.run(main())
