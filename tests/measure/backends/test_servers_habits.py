"""What servers that cannot run here send and expect, played back: shapes from their documentation and sources."""

import asyncio
import contextlib
import json
import re

import pytest

from poise.measure import loop
from poise.measure.backends.openai import OpenAI
from poise.plan.spec import Deployment, Model
from poise.types import Message, Request


def events(*documents, before="data: ", done=True, end="\n\n"):
    lines = [d if isinstance(d, str) else before + json.dumps(d) for d in documents]
    return end.join([*lines, *["data: [DONE]"] * done, ""]).encode()


def delta(finish=None, **said):
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def counted(**usage):
    return {"object": "chat.completion.chunk", "choices": [], "usage": usage}


def asked(body, preset, path="", status="200 OK", kind="text/event-stream", chat=True, key=None, **options):
    """(request line, headers, the body sent, the answer recorded) of one request to a server that replies `body`."""
    seen = []

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(found[1]) if (found := re.search(rb"content-length: (\d+)", head)) else 0
                line, *headers = head.decode().strip().split("\r\n")
                if line.startswith("POST"):
                    seen.append((line, headers, json.loads(await reader.readexactly(size))))
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                )
                writer.write(body)
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
        backend = OpenAI()
        deployment = Deployment("d", "openai", base_url=url, preset=preset, key_env=key, options=options)
        await asyncio.to_thread(backend.open, Model("m", {"api": "served"}), deployment)
        said = {"messages": (Message("user", "hello"),)} if chat else {"prompt": "hello"}
        prepared = backend.prepare(Request("r", "s", "generate", "", max_tokens=8, deadline_s=5.0, **said))
        raw = await backend.send(prepared)
        answer = backend.finish(prepared, raw)
        assert [text for _, text in raw.stamps] == (answer.pieces or [])
        backend.close()
        server.close()
        await asyncio.sleep(0.01)
        return answer

    answer = loop.run(main())
    return *seen[0], answer


FILTERED = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
AZURE = (
    {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERED}],
    },
    delta(content="", refusal=None, role="assistant"),
    {
        "choices": [
            {"content_filter_results": FILTERED, "delta": {"content": "Hi"}, "finish_reason": None, "index": 0}
        ],
        "object": "chat.completion.chunk",
        "usage": None,
    },
    {
        "choices": [{"content_filter_results": FILTERED, "content_filter_offsets": {}, "index": 0, "delta": {}}],
        "object": "",
    },
    delta("stop"),
    counted(prompt_tokens=9, completion_tokens=1, total_tokens=10),
)


@pytest.mark.parametrize(
    ("path", "options", "line"),
    [
        ("", {}, "POST /openai/v1/chat/completions HTTP/1.1"),
        (
            "/openai/deployments/mine",
            {"api_version": "2024-10-21"},
            "POST /openai/deployments/mine/chat/completions?api-version=2024-10-21 HTTP/1.1",
        ),
    ],
)
def test_azure(path, options, line, monkeypatch):
    """A prelude of filter results without a choice, annotations without text, the key in a header of its own."""
    monkeypatch.setenv("AZURE_TEST_KEY", "0123456789abcdef")
    asked_line, headers, body, answer = asked(events(*AZURE), "azure", path, key="AZURE_TEST_KEY", **options)
    assert asked_line == line and "api-key: 0123456789abcdef" in headers
    assert not any(h.startswith("authorization") for h in headers)
    assert body["max_completion_tokens"] == 8 and "max_tokens" not in body
    assert (answer.status, answer.pieces, answer.finish_reason) == ("ok", ["Hi"], "stop")
    assert answer.usage["completion_tokens"] == 1


def test_azure_refuses_a_prompt():
    refusal = {
        "error": {
            "message": "The response was filtered: the prompt triggered Azure OpenAI's content management policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": FILTERED},
        }
    }
    *_, answer = asked(json.dumps(refusal).encode(), "azure", status="400 Bad Request", kind="application/json")
    assert (answer.status, answer.error.kind, answer.error.http_status) == ("error", "http", 400)
    assert "content management policy" in answer.error.message


def test_openai():
    """Usage is null in every chunk but its own, which has no choice; refusals are text; settings may be refused."""
    stream = events(
        {**delta(role="assistant", content="", refusal=None), "usage": None, "obfuscation": "x7"},
        {**delta(refusal="I cannot"), "usage": None},
        {**delta(refusal=" do that."), "usage": None},
        {**delta("stop"), "usage": None},
        counted(prompt_tokens=9, completion_tokens=5, completion_tokens_details={"reasoning_tokens": 2}),
    )
    line, _, body, answer = asked(stream, "openai", omit=["temperature", "top_p"])
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert body == {
        "model": "served",
        "messages": [{"role": "user", "content": "hello"}],
        "max_completion_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert answer.pieces == ["I cannot", " do that."]
    assert answer.usage["completion_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize(
    ("preset", "name"),
    [("vllm", "reasoning_content"), ("vllm", "reasoning"), ("sglang", "reasoning_content"), ("ollama", "reasoning")],
)
def test_reasoning_comes_under_two_names(preset, name):
    """vLLM and SGLang also send each other field as null; Ollama repeats an empty content and the role."""
    empty = {"content": ""} if preset == "ollama" else {"content": None}
    stream = events(
        delta(role="assistant", content=""),
        delta(role="assistant", **empty, **{name: "Let me"}),
        delta(role="assistant", **empty, **{name: " see."}),
        delta(role="assistant", content="42", **({} if preset == "ollama" else {name: None})),
        delta("stop", role="assistant", content=""),
        counted(prompt_tokens=3, completion_tokens=4, total_tokens=7),
    )
    *_, answer = asked(stream, preset)
    assert (answer.pieces, answer.piece_kinds) == (["Let me", " see.", "42"], "rrv")


def test_tgi():
    """No blank after the colon, comments to keep the connection, the usage asked for in a chunk of its own."""
    stream = events(
        delta(role="assistant", content="Hi"),
        ":",
        delta(role="assistant", content=" you"),
        delta("length", role="assistant", content=""),
        counted(prompt_tokens=3, completion_tokens=2, total_tokens=5),
        before="data:",
    )
    _, _, body, answer = asked(stream, "tgi")
    assert body["stream_options"] == {"include_usage": True}
    assert (answer.pieces, answer.finish_reason, answer.usage["total_tokens"]) == (["Hi", " you"], "length", 5)


@pytest.mark.parametrize(
    ("preset", "last"),
    [
        ("tgi", {"error": "Request failed during generation: out of memory", "error_type": "generation"}),
        ("sglang", {"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}}),
        ("vllm", {"error": {"object": "error", "message": "out of memory", "type": "InternalServerError"}}),
        ("lmstudio", 'event: error\ndata: {"error": {"message": "out of memory"}}'),
    ],
)
def test_errors_within_a_stream_keep_what_came_before(preset, last):
    *_, answer = asked(events(delta(content="Hi"), last), preset)
    assert (answer.status, answer.error.kind, answer.pieces) == ("error", "engine", ["Hi"])
    assert "out of memory" in answer.error.message


@pytest.mark.parametrize(
    ("preset", "status", "body", "said"),
    [
        ("tgi", "429 Too Many Requests", {"error": "Model is overloaded", "error_type": "overloaded"}, "overloaded"),
        (
            "tgi",
            "422 Unprocessable Entity",
            {"error": "Input validation error: `inputs` tokens", "error_type": "v"},
            "tok",
        ),
        ("vllm", "400 Bad Request", {"object": "error", "message": "maximum context length is 1024"}, "1024"),
        ("vllm", "404 Not Found", {"error": {"message": "The model `x` does not exist.", "code": 404}}, "not exist"),
        ("sglang", "400 Bad Request", {"object": "error", "message": "longer than the context"}, "longer"),
        ("ollama", "404 Not Found", {"error": {"message": 'model "x" not found', "type": "api_error"}}, "not found"),
        ("hf-router", "401 Unauthorized", {"error": "Invalid username or password."}, "Invalid username"),
        ("lightllm", "417 Expectation Failed", {"message": "the input prompt is too long"}, "too long"),
        ("mlc", "422 Unprocessable Entity", {"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
    ],
)
def test_error_bodies_say_why(preset, status, body, said):
    *_, answer = asked(json.dumps(body).encode(), preset, status=status, kind="application/json")
    assert answer.error.http_status == int(status[:3]) and said in answer.error.message


@pytest.mark.parametrize("preset", ["lightllm", "deepspeed-mii"])
def test_servers_without_usage_in_the_stream_are_not_asked_for_it(preset):
    chunks = [delta(role="assistant", content="Hi"), delta(content=" you"), delta("stop")]
    _, _, body, answer = asked(events(*chunks, done=preset != "lightllm"), preset)
    assert "stream_options" not in body and "seed" not in body
    assert (answer.pieces, answer.usage, answer.status) == (["Hi", " you"], None, "ok")


def test_a_router_without_completions_gets_a_prompt_as_a_message():
    line, _, body, answer = asked(events(delta(content="Hi"), delta("stop")), "hf-router", chat=False)
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert body["messages"] == [{"role": "user", "content": "hello"}] and answer.pieces == ["Hi"]


def test_mlc_counts_in_a_chunk_without_choices():
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "extra": {"prefill_tokens_per_s": 5.0}}
    *_, answer = asked(events(delta(content="Hi"), delta("stop"), counted(**usage)), "mlc")
    assert answer.usage == usage
