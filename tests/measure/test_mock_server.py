"""The mock's promises: when it sends, what it says, how it fails, and that its log tells the truth."""

import asyncio
import itertools
import json
import re
import subprocess
import sys

import pytest

from poise.measure import loop
from poise.measure.mock_answers import Script, prompt_sha
from poise.measure.mock_config import MockConfig
from poise.measure.mock_server import running
from poise.types import UsageError


def post(port, body, path="/v1/chat/completions"):
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(data), data)


def talk(config, *requests, read_s=2.0):
    """The raw bytes a mock answers to raw requests, each on its own connection that the server need not close."""

    async def one(port, request):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        data = b""
        try:
            async with asyncio.timeout(read_s):
                while not (data.endswith(b"\r\n0\r\n\r\n") or (b"content-length" in data and data.endswith(b"}"))):
                    more = await reader.read(65536)
                    if not more:
                        break
                    data += more
        except (TimeoutError, ConnectionError):
            pass
        writer.close()
        return data

    async def main():
        async with running(config) as (_, port):
            out = await asyncio.gather(*(one(port, r) for r in requests))
            await asyncio.sleep(0.02)
            return out

    return loop.run(main())


def chat(prompt, **more):
    return post(0, {"messages": [{"role": "user", "content": prompt}], "stream": True, **more})


def said(reply):
    texts = []
    for line in reply.split(b"\n"):
        if line.startswith(b"data: {"):
            texts += [c.get("text") or c.get("delta", {}).get("content") or "" for c in json.loads(line[6:])["choices"]]
    return "".join(texts)


def truth_of(path):
    return {t["prompt_sha"]: t for t in map(json.loads, path.read_text().splitlines())}


def test_times_are_kept_and_logged(tmp_path):
    path = tmp_path / "truth"
    config = MockConfig(ttft_s=0.05, gap_s=0.02, tokens=4, truth=str(path))
    [reply] = talk(config, chat("q"))
    assert said(reply) == "w0 w1 w2 w3 "
    line = truth_of(path)[prompt_sha("q")]
    after = [(s - line["arrived_ns"]) / 1e6 for s in line["sent_ns"]]
    for due, done in zip([50, 70, 90, 110, 110, 110], after):
        assert done >= due - 0.6, "never earlier than planned, but for the half millisecond of the timer"
    assert line["outcome"] == "ok" and len(after) == 6  # four words, the finish, [DONE]


def test_chunks_bundle_tokens_and_reasoning_comes_first():
    [reply] = talk(MockConfig(tokens=5, tokens_per_chunk=2, reasoning_tokens=1), chat("q"))
    assert reply.count(b"data: {") == 1 + 3 + 1
    assert reply.index(b"reasoning_content") < reply.index(b'"content"')


@pytest.mark.parametrize(
    ("config", "asked", "there"),
    [
        ({}, {}, False),
        ({}, {"stream_options": {"include_usage": True}}, True),
        ({"usage": "always"}, {}, True),
        ({"usage": "none"}, {"stream_options": {"include_usage": True}}, False),
    ],
)
def test_usage_comes_as_configured(config, asked, there):
    [reply] = talk(MockConfig(tokens=3, **config), chat("two words", **asked))
    assert (b'"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}' in reply) == there


@pytest.mark.parametrize(
    ("config", "asked", "text", "finish"),
    [
        ({"tokens": 3}, {}, "w0 w1 w2 ", "stop"),
        ({"tokens": 3}, {"max_tokens": 2}, "w0 w1 ", "length"),
        ({"tokens": 3}, {"max_completion_tokens": 2}, "w0 w1 ", "length"),
        ({"tokens": 3}, {"min_tokens": 5}, "w0 w1 w2 w3 w4 ", "stop"),
        ({"tokens": 3}, {"min_tokens": 4, "max_tokens": 9}, "w0 w1 w2 w3 ", "stop"),
        ({"tokens": 3}, {"ignore_eos": True, "max_tokens": 5}, "w0 w1 w2 w3 w4 ", "length"),
        ({"tokens": 3}, {"ignore_eos": True}, "w0 w1 w2 ", "stop"),
        ({"text": "so it is"}, {"ignore_eos": True, "max_tokens": 4}, "so it is w3 ", "length"),
        ({"text": "so it is"}, {"max_tokens": 2}, "so it ", "length"),
        ({"tokens": 3, "reasoning_tokens": 2}, {"max_tokens": 4}, "w0 w1 ", "length"),
        ({"tokens": 3, "reasoning_tokens": 2}, {"ignore_eos": True, "max_tokens": 7}, "w0 w1 w2 w3 w4 ", "length"),
    ],
)
def test_answers_are_as_long_as_asked(config, asked, text, finish, tmp_path):
    truth = tmp_path / "truth"
    [reply] = talk(MockConfig(truth=str(truth), usage="always", **config), chat("q", **asked))
    n = len(text.split()) + config.get("reasoning_tokens", 0)
    assert said(reply) == text
    assert f'"finish_reason":"{finish}"'.encode() in reply and f'"completion_tokens":{n}'.encode() in reply
    line = truth_of(truth)[prompt_sha("q")]
    assert (line["asked"], line["tokens"]) == (asked, n)


@pytest.mark.parametrize(
    "asked", [{"max_tokens": "4"}, {"max_tokens": -1}, {"min_tokens": 2.5}, {"min_tokens": 5, "max_tokens": 4}]
)
def test_lengths_that_make_no_sense_are_refused(asked):
    [reply] = talk(MockConfig(), chat("q", **asked))
    assert reply.startswith(b"HTTP/1.1 400") and b"_tokens" in reply


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "q"}]}, "chat.completion"),
        ("/v1/completions", {"prompt": "q"}, "text_completion"),
    ],
)
def test_every_document_names_its_object(path, body, kind, stream):
    """OpenAI's reference: `chat.completion.chunk` in a stream, `text_completion` in both; strict clients look at it."""
    [reply] = talk(MockConfig(tokens=2, usage="always"), post(0, {**body, "stream": stream}, path))
    documents = re.findall(rb'{"id":"mock".*}', reply)
    wanted = kind + ".chunk" * (stream and kind.startswith("chat"))
    assert len(documents) == (4 if stream else 1)
    assert {json.loads(d)["object"] for d in documents} == {wanted}


def test_known_answers_with_a_given_accuracy(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {i}", "answer": f"right {i}"}) + "\n" for i in range(200)))
    config = MockConfig(answers=str(path), accuracy=0.7, wrong="no idea", seed=5)
    replies = talk(config, *(chat(f"question {i}") for i in range(200)))
    right = [said(r) == f"right {i}" for i, r in enumerate(replies)]
    assert all(ok or said(r) == "no idea" for ok, r in zip(right, replies))
    assert 120 <= sum(right) <= 160  # 140 expected; 20 is three standard deviations
    assert said(talk(config, chat("question 3"))[0]) == said(replies[3]), "the draw depends on seed and prompt only"


def test_stalls_hit_a_share_of_the_streams():
    script = Script(MockConfig(gap_s=0.01, tokens=20, stall_share=0.25, stall_s=0.4, seed=1))
    gaps = []
    for i in range(400):
        due = script.plan({"prompt": f"p{i}", "stream": True}, False).due_ns
        gaps.append(max(b - a for a, b in itertools.pairwise(due)))
    stalled = [g for g in gaps if g > 300e6]
    assert 75 <= len(stalled) <= 125  # 100 expected; 25 is just under three standard deviations
    assert all(abs(g - 410e6) < 10 for g in stalled)


def test_jitter_stays_within_its_bounds():
    due = Script(MockConfig(gap_s=0.01, tokens=500, jitter=0.2)).plan({"prompt": "p", "stream": True}, False).due_ns
    gaps = [b - a for a, b in itertools.pairwise(due[:500])]
    assert 8e6 - 1 <= min(gaps) < 8.5e6 and 11.5e6 < max(gaps) <= 12e6 + 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["429", "500", "503", "wrong-json", "reset", "early-close", "endless"])
def test_faults_end_as_named(fault, stream, tmp_path):
    path = tmp_path / "truth"
    config = MockConfig(gap_s=0.005, tokens=4, error_share=1.0, faults=(fault,), truth=str(path))
    [reply] = talk(config, chat("q", stream=stream), read_s=0.3)
    assert truth_of(path)[prompt_sha("q")]["outcome"] == fault
    if fault.isdigit():
        assert reply.startswith(b"HTTP/1.1 " + fault.encode())
        assert (b"retry-after: 1" in reply) == (fault != "500")
    elif fault != "wrong-json":
        assert not reply.endswith(b"\r\n0\r\n\r\n") and b'finish_reason":"' not in reply


def test_other_paths_and_bad_bodies():
    get = b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n"
    health, models, nothing, bad = talk(MockConfig(), get % b"/health", get % b"/v1/models", get % b"/x", post(0, [1]))
    assert health.startswith(b"HTTP/1.1 200") and b'"id":"mock"' in models
    assert nothing.startswith(b"HTTP/1.1 404") and bad.startswith(b"HTTP/1.1 400")


def test_bad_configuration_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="unknown fault '40'"):
        Script(MockConfig(faults=("40",)))
    with pytest.raises(UsageError, match="answers file"):
        Script(MockConfig(answers=str(tmp_path / "none")))


def test_command_line():
    command = [sys.executable, "-m", "poise.measure.mock_server", "--tokens", "2", "--ttft", ".001", "--done", "false"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")

        async def ask():
            reader, writer = await asyncio.open_connection("127.0.0.1", int(line.rsplit(":", 1)[1]))
            writer.write(chat("q"))
            reply = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            return reply

        reply = asyncio.run(ask())
        server.terminate()
    assert said(reply) == "w0 w1 " and b"[DONE]" not in reply
    wrong = subprocess.run([*command, "--tokens", "many"], check=False, capture_output=True, text=True)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr and "tokens" in wrong.stderr


@pytest.mark.parametrize(
    "config", [{"coalesce": True}, {"coalesce": True, "keep_alive": False}, {"one_write": True}, {}]
)
def test_the_same_bytes_and_truth_however_they_are_written(config, tmp_path):
    path = tmp_path / "truth"
    replies = talk(MockConfig(tokens=300, truth=str(path), **config), *(chat(f"q{k}") for k in range(5)))
    assert {said(reply) for reply in replies} == {"".join(f"w{i} " for i in range(300))}
    assert [len(line["sent_ns"]) for line in truth_of(path).values()] == [302] * 5


def test_clients_that_left_before_their_answers(tmp_path, capfd):
    path = tmp_path / "truth"

    async def main():
        async with running(MockConfig(tokens=1, truth=str(path))) as (server, port):
            clients = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(20)]
            for client in clients:  # answers are begun one a turn of the loop: most of these when nobody is there
                client.write(chat("q"))
                client.transport.abort()
            await asyncio.sleep(0.2)
            return server.active

    assert loop.run(main()) == 0 and "Traceback" not in capfd.readouterr().err
