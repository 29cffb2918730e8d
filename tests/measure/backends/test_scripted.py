import subprocess
import sys

import msgspec
import pytest

from poise.measure.backends.scripted import Scripted
from poise.plan.spec import Deployment, Model
from poise.protocols import Backend
from poise.types import Message, Request, UsageError


def opened(**options):
    backend = Scripted()
    backend.open(Model("m", {"scripted": "x"}), Deployment("d", "scripted", options=options))
    return backend


def ask(id="1", prompt="one two three", kind="generate", max_tokens=16, **more):
    return Request(id=id, sample_id=f"s{id}", kind=kind, asked_sha="", prompt=prompt, max_tokens=max_tokens, **more)


def answers(backend, *requests):
    prepared = [backend.prepare(r) for r in requests]
    raws = backend.send(prepared)
    return raws, [backend.finish(p, r) for p, r in zip(prepared, raws)]


def test_the_clock_moves_by_the_script_alone():
    backend = opened(ttft_s=0.5, gap_s=0.1)
    (raw,), (answer,) = answers(backend, ask())
    assert raw.sent_ns == 0 and raw.clock == "virtual"
    assert [t for t, _ in raw.stamps] == [500_000_000, 600_000_000, 700_000_000]
    assert raw.done_ns == 700_000_000
    assert answer.pieces == ["one", " two", " three"]
    assert answer.output_tokens == 3 and answer.usage == {"prompt_tokens": 3, "completion_tokens": 3}
    (raw,), _ = answers(backend, ask())
    assert raw.sent_ns == 700_000_000, "the next request starts when the last is done"


def test_a_batch_starts_together_and_lasts_as_long_as_its_longest():
    backend = opened(ttft_s=0.5, gap_s=0.1)
    raws, _ = answers(backend, ask("1", "a"), ask("2", "a b c"))
    assert [r.sent_ns for r in raws] == [0, 0]
    assert [r.done_ns for r in raws] == [500_000_000, 700_000_000]
    (raw,), _ = answers(backend, ask())
    assert raw.sent_ns == 700_000_000


def test_chunks_may_hold_several_tokens():
    (raw,), (answer,) = answers(opened(tokens_per_chunk=2), ask(prompt="a b c"))
    assert answer.pieces == ["a b", " c"] and len(raw.stamps) == 2
    assert answer.output_tokens == 3


def test_answers_are_found_by_request_then_sample_then_for_all(tmp_path):
    table = {"1": "by request", "s2": "by sample", "*": "else"}
    for given in (table, str(tmp_path / "answers.json")):
        (tmp_path / "answers.json").write_bytes(msgspec.json.encode(table))
        _, found = answers(opened(answers=given), ask("1"), ask("2"), ask("3"))
        assert ["".join(a.pieces) for a in found] == ["by request", "by sample", "else"]
    with pytest.raises(UsageError, match="cannot be read"):
        opened(answers=str(tmp_path / "none.json"))


def test_lengths_are_held():
    _, (cut, exact) = answers(opened(), ask(max_tokens=2), ask(min_tokens=7, max_tokens=7))
    assert cut.pieces == ["one", " two"] and cut.finish_reason == "length"
    assert exact.output_tokens == 7


def test_failures_are_scripted():
    backend = opened(fail={"1": "timeout", "s2": "http"}, ttft_s=0.5)
    raws, found = answers(backend, ask("1", deadline_s=3.0), ask("2"), ask("3"))
    assert [r.status for r in raws] == [a.status for a in found] == ["timeout", "error", "ok"]
    assert [a.error and a.error.kind for a in found] == ["timeout", "http", None]
    assert raws[0].done_ns == 3_000_000_000


def test_choices_and_texts_are_scored():
    given = {"1": [[-0.5, -0.25], [-2.0]]}
    asked = ask("1", kind="choice", continuations=(" a b", " c"))
    raws, (answer,) = answers(opened(logprobs=given), asked)
    assert answer.option_logprobs == [[-0.5, -0.25], [-2.0]] and raws[0].stamps == []
    _, (answer,) = answers(opened(), asked)
    assert answer.option_logprobs == [[-1.0, -1.0], [-1.0]], "one for each word"
    _, (answer,) = answers(opened(), ask(kind="windows", prompt="a b c"))
    assert answer.token_logprobs == [-1.0] * 3


def test_messages_are_echoed_by_their_last():
    request = msgspec.structs.replace(ask(), prompt=None, messages=(Message("system", "s"), Message("user", "hi you")))
    _, (answer,) = answers(opened(), request)
    assert "".join(answer.pieces) == "hi you" and answer.usage["prompt_tokens"] == 3


def test_a_crash_ends_the_process_at_the_scripted_request():
    code = """
import sys
from poise.measure.backends.scripted import Scripted
from poise.plan.spec import Deployment, Model
from poise.types import Request
b = Scripted()
b.open(Model("m", {"scripted": "x"}), Deployment("d", "scripted", options={"crash_after": 3}))
for i in range(5):
    b.send([b.prepare(Request(id=str(i), sample_id="s", kind="generate", asked_sha="", prompt="x", max_tokens=1))])
    print(i, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 9 and done.stdout.split() == ["0", "1"]


def test_it_is_a_backend_and_knows_its_options():
    assert isinstance(Scripted(), Backend)
    with pytest.raises(msgspec.ValidationError, match="ttft"):
        opened(ttft=1)
