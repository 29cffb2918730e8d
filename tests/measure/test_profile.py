import gc
from typing import ClassVar

import pytest

from poise import registry
from poise.measure.backends.scripted import Scripted
from poise.measure.profile import Profiler
from poise.plan.spec import Deployment, Model
from poise.types import PoiseError, UsageError

MODEL = Model("m", {"scripted": "m"})


def scripted(**options):
    return Deployment("d", "scripted", options=options)


def test_times_are_the_engine_s_to_the_last_token():
    # The scripted engine's clock is virtual: .05 s to the first token, .01 s for each further one.
    with Profiler(MODEL, scripted(ttft_s=0.05, gap_s=0.01)) as profiler:
        trials = profiler.measure([(8, 1), (100, 11)], repeats=3)
    assert [len(t) for t in trials] == [3, 3]
    assert {t.runtime_s for t in trials[0]} == {0.05}
    assert all(t.runtime_s == pytest.approx(0.15) for t in trials[1])
    assert {(t.prompt_tokens, t.output_tokens) for t in trials[1]} == {(100, 11)}
    assert profiler.spent_s == pytest.approx(3 * 0.05 + 3 * 0.15)


class Spy(Scripted):
    """Remembers what was sent, one entry a send."""

    sent: ClassVar[list] = []
    slow_collector: ClassVar[list] = []

    def send(self, batch):
        Spy.sent.append([request for request, _ in batch])
        Spy.slow_collector.append(gc.isenabled())
        return super().send(batch)


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setitem(registry.BACKENDS, "spy", f"{__name__}:Spy")
    monkeypatch.setattr(registry, "lookup", lambda kind, name: Spy)
    monkeypatch.setattr("poise.measure.profile.lookup", lambda kind, name: Spy)
    monkeypatch.setattr(Spy, "sent", [])
    monkeypatch.setattr(Spy, "slow_collector", [])
    return Spy


def test_repeats_are_interleaved_and_the_collector_rests(spy):
    pairs = [(4, 1), (4, 2), (4, 3), (4, 4), (4, 5)]
    with Profiler(MODEL, Deployment("d", "spy"), seed=1) as profiler:
        profiler.measure(pairs, repeats=4)
    lengths = [group[0].max_tokens for group in spy.sent]
    rounds = [lengths[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(r) == [1, 2, 3, 4, 5] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1
    assert not any(spy.slow_collector)
    assert gc.isenabled()


def test_lengths_are_asked_for_exactly_and_no_prompt_twice(spy):
    with Profiler(MODEL, Deployment("d", "spy"), batch=3) as profiler:
        profiler.warm_up([(7, 2)])
        profiler.measure([(7, 2)], repeats=5)
    requests = [r for group in spy.sent for r in group]
    assert {len(group) for group in spy.sent} == {3}
    assert {(r.prompt_tokens, r.min_tokens, r.max_tokens) for r in requests} == {(7, 2, 2)}
    assert len({r.prompt for r in requests}) == len(requests) == 18


def test_the_same_seed_asks_the_same(spy):
    for _ in range(2):
        with Profiler(MODEL, Deployment("d", "spy"), seed=5) as profiler:
            profiler.measure([(4, 1), (9, 2)], repeats=2)
    half = len(spy.sent) // 2
    assert spy.sent[:half] == spy.sent[half:]


def test_a_length_that_is_not_held_is_refused(spy, monkeypatch):
    monkeypatch.setattr(
        Spy, "finish", lambda self, prepared, raw: _short(Scripted.finish(self, prepared, raw)), raising=False
    )
    with (
        Profiler(MODEL, Deployment("d", "spy")) as profiler,
        pytest.raises(PoiseError, match="took 8 and gave 3 tokens; the lengths were not held"),
    ):
        profiler.measure([(8, 4)], repeats=1)


def _short(answer):
    answer.usage["completion_tokens"] -= 1
    return answer


def test_a_failing_engine_is_one_sentence():
    with (
        Profiler(MODEL, scripted(fail={"*": "engine"})) as profiler,
        pytest.raises(PoiseError, match="m on scripted, prompt 8, output 4: engine"),
    ):
        profiler.measure([(8, 4)], repeats=1)


def test_beyond_the_context_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    with Profiler(Model("m", {"hf": str(tmp_path)}), scripted()) as profiler:
        assert profiler.context == 64
        profiler.measure([(60, 4)], repeats=1)
        with pytest.raises(UsageError, match="61 \\+ 4 tokens are beyond the context of m, 64"):
            profiler.measure([(61, 4)], repeats=1)


def test_engines_that_cannot_are_refused():
    with pytest.raises(UsageError, match="cannot hold exact lengths"):
        Profiler(Model("m", {"api": "m"}), Deployment("d", "openai", base_url="http://127.0.0.1:1"))
    with pytest.raises(UsageError, match="batch must be 1 or more"):
        Profiler(MODEL, scripted(), batch=0)
