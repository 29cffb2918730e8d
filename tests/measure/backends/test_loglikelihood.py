"""Log-probabilities of choices and texts, alone and as batches, against plain forward passes in double precision."""

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
hf = pytest.importorskip("transformers", reason="transformers is not installed")

import poise  # noqa: E402
from poise import registry  # noqa: E402
from poise.plan.spec import Deployment, Model  # noqa: E402
from poise.types import Request  # noqa: E402

BUNDLED = Path(poise.__file__).parent / "bundled"
TEXT = "The soup was lovely. 12 + 30 = 42. Ann said that the room is dirty, but I disagree.\n" * 24
ENGINES = ["transformers", "onnx"]


def opened(engine, folder):
    source = {"hf": str(folder), "onnx": str(folder / "onnx")}
    backend = registry.lookup("backend", engine)()
    backend.open(Model("m", source), Deployment("d", engine, device="cpu", options={"threads": 1}))
    return backend


def ask(number, prompt, kind="choice", **more):
    return Request(id=str(number), sample_id=str(number), kind=kind, asked_sha="", prompt=prompt, **more)


def answers(backend, requests, size=1):
    found = []
    for low in range(0, len(requests), size):
        prepared = [backend.prepare(r) for r in requests[low : low + size]]
        found += [backend.finish(p, raw) for p, raw in zip(prepared, backend.send(prepared))]
    assert [a.error for a in found] == [None] * len(found)
    return found


class Plain:
    """One forward pass in double precision over all there is."""

    def __init__(self, folder):
        self.tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        self.model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()

    def rows(self, ids):
        """(log p, whether it is the likeliest) of every token but the first."""
        with torch.inference_mode():
            table = self.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        aims = torch.tensor(ids[1:])
        return table.gather(-1, aims[:, None])[:, 0].tolist(), (table.argmax(-1) == aims).tolist()

    def option(self, prompt, continuation):
        whole, skip = self.tokenizer.encode(prompt + continuation), len(self.tokenizer.encode(prompt)) - 1
        logprobs, likeliest = self.rows(whole)
        return logprobs[skip:], all(likeliest[skip:])


@pytest.fixture(scope="module")
def plain():
    return Plain(BUNDLED / "xs")


def choices(plain):
    """Prompts of many lengths; options of one and of several tokens, and one that greedy decoding would write."""
    requests = []
    for i in range(20):
        prompt = "Review: " + "The soup was lovely. " * (i % 6) + f"It cost {i * 7}.\nSentiment:"
        ids = plain.tokenizer.encode(prompt)
        with torch.inference_mode():
            out = plain.model.generate(torch.tensor([ids]), max_new_tokens=3, do_sample=False)[0].tolist()
        likely = plain.tokenizer.decode(out)[len(prompt) :] or " x"
        requests.append(
            ask(i, prompt, continuations=(" positive", " negative", "!", likely, " far from it, not 7 times"))
        )
    return requests


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 16])
def test_choices_equal_a_full_precision_pass_at_every_batch_size(engine, size, plain):
    requests = choices(plain)
    found = answers(opened(engine, BUNDLED / "xs"), requests, size)
    greedy = 0
    for request, answer in zip(requests, found):
        expected = [plain.option(request.prompt, c) for c in request.continuations]
        for got, (logprobs, _) in zip(answer.option_logprobs, expected, strict=True):
            assert got == pytest.approx(logprobs, abs=1e-4)
        assert answer.option_greedy == [likeliest for _, likeliest in expected]
        greedy += sum(answer.option_greedy)
        assert answer.usage["prompt_tokens"] == len(plain.tokenizer.encode(request.prompt)), "no padding counted"
    assert greedy, "some option should be the greedy one for this test to mean something"


@pytest.mark.parametrize("engine", ENGINES)
def test_each_option_may_have_its_own_prompt(engine, plain):
    contexts = ("The soup was lovely", "The soup was awful, and", "The soup was lovely")
    requests = [
        ask(0, contexts[0], contexts=contexts, continuations=(" today.", " today.", " again.")),
        ask(1, "", contexts=("", "Ann"), continuations=("The", " said")),
    ]
    for size in (1, 2):
        own, empty = answers(opened(engine, BUNDLED / "xs"), requests, size)
        for got, context, continuation in zip(own.option_logprobs, contexts, requests[0].continuations, strict=True):
            assert got == pytest.approx(plain.option(context, continuation)[0], abs=1e-4)
        # nothing before it: the end-of-text token stands there, for want of a BOS
        assert empty.option_logprobs[0] == pytest.approx(
            plain.rows([plain.tokenizer.eos_token_id, *plain.tokenizer.encode("The")])[0], abs=1e-4
        )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("windows", ["overlapping", "disjoint"])
def test_texts_equal_a_full_precision_pass_at_every_batch_size(engine, windows, plain):
    texts = [TEXT[: 40 * i + 30] for i in range(5)] + [TEXT]
    requests = [ask(i, text, "windows", windows=windows) for i, text in enumerate(texts)]
    backend = opened(engine, BUNDLED / "xs")
    assert len(backend.prepare(requests[-1]).windows) > 1
    for size in (1, 4):
        for request, answer in zip(requests, answers(backend, requests, size)):
            prepared = backend.prepare(request)
            expected = []
            for start, scored, end in prepared.windows:
                expected += plain.rows(prepared.ids[start:end])[0][scored - 1 - start :]
            assert answer.token_logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_perplexity_of_a_run_is_the_plain_one(engine, tmp_path):
    """exp of the mean negative log-probability in double precision, to 1e-4 relative."""
    text = TEXT[: 15 * 84]
    assert text.endswith("\n")
    (tmp_path / "text.txt").write_text(text)
    study = {
        "models": ["bundled:s"],
        "deployments": [{"backend": engine, "device": "cpu"}],
        "tasks": [{"task": "perplexity", "data": str(tmp_path / "text.txt"), "mode": "perplexity"}],
    }
    [cell] = poise.summarize(poise.run(study, tmp_path / "run", quiet=True)).cells
    reference = Plain(BUNDLED / "s")
    logprobs, _ = reference.rows(reference.tokenizer.encode(text))
    assert cell["perplexity.token"].value == pytest.approx(math.exp(-math.fsum(logprobs) / len(logprobs)), rel=1e-4)
    bits = -math.fsum(logprobs) / math.log(2) / len(text.encode())
    assert cell["bits_per_byte"].value == pytest.approx(bits, rel=1e-4)
