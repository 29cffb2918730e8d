"""Prompts for servers: exactly as many tokens as asked for, in tokenizers of every kind, shared parts kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from poise.plan.build import plan
from poise.plan.lengths import Fitter
from poise.plan.read import load_study
from poise.plan.repeat import sequence
from poise.plan.sources import bundled_folder
from poise.plan.tokenizer import Folder, find
from poise.tasks.synthetic import WORDS, Synthetic
from poise.types import Message, Request, Traced, UsageError

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}<|assistant|>"


def trained(kind: str) -> Tokenizer:
    """A small tokenizer of some common make, trained on English words."""
    text = [" ".join(WORDS), "the quick brown fox jumps over the lazy dog, again and again. " * 3]
    if kind == "metaspace":  # as SentencePiece models are: the blank belongs to the word, with a begin of text
        tokenizer = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # words apart while it learns
        tokenizer.decoder = decoders.Metaspace()
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))  # type: ignore[arg-type]
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "words")
        tokenizer.decoder = decoders.ByteLevel()
    make = trainers.WordPieceTrainer if kind == "wordpiece" else trainers.BpeTrainer
    tokenizer.train_from_iterator(text, make(vocab_size=400, special_tokens=["<unk>", "<s>"]))
    if kind == "metaspace":
        tokenizer.pre_tokenizer = None  # type: ignore[assignment]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tokenizers: byte-level words, word pieces, a begin of text, and a bundled model's; with a template."""
    home = tmp_path_factory.mktemp("tokenizers")
    found = {}
    for kind in ("words", "wordpiece", "metaspace"):
        (home / kind).mkdir()
        trained(kind).save(str(home / kind / "tokenizer.json"))
        (home / kind / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
        found[kind] = home / kind
    return found | {"bundled": bundled_folder("s")}


def asked(sample: Any, chat: bool) -> Request:
    text = sample.fields["text"]
    said: dict[str, Any] = {"messages": (Message("user", text),)} if chat else {"prompt": text}
    return Request(
        sample.id, sample.id, "generate", "sha", prompt_tokens=sample.fields["prompt_tokens"],
        shared_chars=sample.fields.get("shared_chars"), **said,
    )  # fmt: skip


def length(folder: Path, request: Request) -> int:
    """Tokens as a server counts them: of the rendered messages, or of the prompt with its begin of text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if request.messages:
        text = "".join(f"<|{m.role}|>\n{m.content}\n" for m in request.messages) + "<|assistant|>"
        return len(tokenizer.encode(text, add_special_tokens=False).ids)
    return len(tokenizer.encode(request.prompt or "").ids)


@settings(max_examples=40)
@given(
    st.sampled_from(["words", "wordpiece", "metaspace", "bundled"]),
    st.booleans(),
    st.integers(40, 300),
    st.integers(0, 40),
    st.integers(0, 10**6),
)
def test_prompts_are_as_many_tokens_as_asked_again_and_again(
    folders: dict[str, Path], kind: str, chat: bool, tokens: int, prefix: int, seed: int
) -> None:
    chat = chat and kind != "bundled"  # it has no template
    options = {"n": 3, "prompt_tokens": tokens, "prefix_tokens": prefix, "seed": seed}
    task, fitter = Synthetic(), Fitter(Folder(folders[kind]), chat)
    samples = list(task.samples(None, options))
    made = [fitter.fit(asked(s, chat), task.parts(s)) for s in samples]
    for request in [*made, *(r for r, _ in zip(sequence(made), range(12)))]:
        assert length(folders[kind], request) == tokens
    texts = [(r.messages[0].content if r.messages else r.prompt) or "" for r in made]
    own = made[0].shared_chars or 0
    assert len({t[:own] for t in texts}) == 1
    if prefix < tokens - 20:  # else the template may leave no room for words of one's own
        assert len(set(texts)) == 3
        assert Folder(folders[kind]).count(texts[0][:own].rstrip()) == prefix


def test_blocks_of_a_trace_keep_their_512_tokens_in_every_prompt(folders: dict[str, Path]) -> None:
    rows = [Traced(0, 1400, 5, (7, 8, 9)), Traced(1, 1100, 5, (7, 8, 4)), Traced(2, 600, 5, (7, 2)), Traced(3, 30, 5)]
    task, folder = Synthetic(), Folder(folders["words"])
    fitter = Fitter(folder, chat=False)
    made = [fitter.fit(asked(s, False), task.parts(s)) for s in task.traced(rows, {})]
    assert [length(folders["words"], r) for r in made] == [1400, 1100, 600, 30]
    ids = [folder.tokenizer.encode(r.prompt).ids for r in made]
    assert ids[0][:1024] == ids[1][:1024] and ids[0][:512] == ids[2][:512]
    assert ids[0][1024:1040] != ids[1][1024:1040] and ids[0][512:530] != ids[2][512:530]


def test_what_stands_round_the_text_cannot_be_cut(folders: dict[str, Path]) -> None:
    [sample] = Synthetic().samples(None, {"n": 1, "prompt_tokens": 5})
    with pytest.raises(UsageError, match=r"a prompt of 5 tokens .* tokens: chat template"):
        Fitter(Folder(folders["words"]), chat=True).fit(asked(sample, True))


def study(folder: Path | str | None, prompt_tokens: int = 50, **model: Any) -> dict[str, Any]:
    options = {"options": {"tokenizer": str(folder)}} if folder else {}
    return {
        "models": [{"name": "m", "source": {"api": "x", **model}, "format": "raw"}],
        "deployments": [{"name": "d", "backend": "openai", "base_url": "http://127.0.0.1:1/v1", **options}],
        "tasks": [{"task": "synthetic", "options": {"n": 2, "prompt_tokens": prompt_tokens}}],
    }


def test_a_plan_cuts_for_the_tokenizer_that_a_deployment_names(folders: dict[str, Path], tmp_path: Path) -> None:
    plain, named, own = (
        plan(load_study(s)) for s in (study(None), study(folders["words"]), study(None, hf=str(folders["words"])))
    )
    [cell], [fitted], [same] = plain.cells, named.cells, own.cells
    assert cell.task.fitted_by is None and fitted.task.fitted_by == Folder(folders["words"]).sha
    assert (fitted.id, fitted.task.items_sha) == (same.id, same.task.items_sha) != (cell.id, cell.task.items_sha)
    before, after = (p.items[c.task.items_sha].requests for p, c in ((plain, cell), (named, fitted)))
    assert [length(folders["words"], r) for r in after] == [50, 50]
    assert [r.asked_sha for r in after] == [r.asked_sha for r in before], "the same items, counted in another way"
    moved = tmp_path / "elsewhere"
    moved.symlink_to(folders["words"])
    assert plan(load_study(study(moved))).cells[0].id == fitted.id, "where the tokenizer lies is no identity"


def test_a_tokenizer_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for name, said in (
        (tmp_path, "no tokenizer.json"),
        (tmp_path / "m.gguf", "GGUF files are not read; give the folder or the hub name of the model"),
        ("./x", "is no folder"),
    ):
        with pytest.raises(UsageError, match=said):
            Folder(find(str(name)))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be read"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("model", "template", "said"),
    [
        (models.BPE(vocab={"猫": 0}, merges=[]), TEMPLATE, "makes 0 tokens of English words"),
        (models.WordLevel(vocab={"<unk>": 0}, unk_token="<unk>"), TEMPLATE, "makes 1 tokens of English words"),
        (models.WordLevel(vocab={"x": 0}, unk_token="<unk>"), TEMPLATE, "cannot read a text"),
        (models.BPE(), "{{ raise_exception('roles must alternate') }}", "chat template .* roles must alternate"),
        (models.BPE(), "{{ messages[9].content }}", "chat template .* failed"),
        (models.BPE(), ["no template", 3], "makes 0 tokens"),
    ],
)
def test_tokenizers_that_cannot_count(tmp_path: Path, model: Any, template: Any, said: str) -> None:
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    [sample] = Synthetic().samples(None, {"n": 1, "prompt_tokens": 50})
    with pytest.raises(UsageError, match=said):
        Fitter(Folder(tmp_path), chat=True).fit(asked(sample, True))
