import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from poise.measure.tokens import (
    UNFINISHED,
    Codec,
    cut_at_stop,
    folder_codec,
    has_stop,
    split_pieces,
    stop_suspects,
)
from poise.plan.tokenizer import chat_template, renderer, tokenizer_sha
from poise.types import Message, UsageError


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox 猫 jumps zażółć"] * 20, trainer)
    return tokenizer


def sentence_like() -> Tokenizer:
    """Blanks as ▁, stripped at the start of a text: decoding is not additive."""
    words = ["<unk>", "▁the", "▁fox", "▁", "s", ".", "▁jump", "ed", "\n", "▁▁"]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


BYTES, WORDS = byte_level(), sentence_like()


def codec(tokenizer: Tokenizer) -> Codec:
    return Codec(
        encode=lambda text, special: tokenizer.encode(text, add_special_tokens=special).ids,
        decode=lambda ids: tokenizer.decode(list(ids)),
        surface=tokenizer.id_to_token,
        size=tokenizer.get_vocab_size(),
        eos=frozenset({0}),
    )


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_piece_shows_half_a_character(text):
    ids = BYTES.encode(text).ids
    pieces = split_pieces(codec(BYTES).decode, ids)
    assert len(pieces) == len(ids) and "".join(pieces) == text
    if UNFINISHED not in text:
        assert all(UNFINISHED not in piece for piece in pieces)


@settings(deadline=None)
@pytest.mark.parametrize("tokenizer", [BYTES, WORDS], ids=["byte level", "stripping"])
@given(data=st.data())
def test_pieces_of_any_tokens_join_to_the_decoded_text(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=40))
    pieces = split_pieces(codec(tokenizer).decode, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids)


def test_a_character_appears_with_its_last_byte():
    ids = BYTES.encode("é").ids
    assert len(ids) == 2
    assert split_pieces(codec(BYTES).decode, ids) == ["", "é"]


def test_leading_blanks_survive_in_later_pieces():
    assert split_pieces(codec(WORDS).decode, [1, 2, 4, 6, 7]) == ["the", " fox", "s", " jump", "ed"]


def test_pieces_where_earlier_text_is_rewritten():
    """A decoder that changes what it had shown (here: blanks before a full stop) still gives the whole text."""

    def decode(ids):
        return "".join("ab ."[i] for i in ids).replace(" .", ".")

    assert "".join(split_pieces(decode, [0, 2, 3, 1])) == "a.b"
    assert len(split_pieces(decode, [0, 2, 3, 1])) == 4


@pytest.mark.parametrize(
    ("pieces", "stops", "first", "kept"),
    [
        (["ab", "cd", "ef"], ("d",), 0, ["ab", "c", ""]),
        (["ab", "cd", "ef"], ("bc",), 0, ["a", "", ""]),
        (["ab", "cd", "ef"], ("e", "c"), 0, ["ab", "", ""]),
        (["ab", "cd", "ef"], ("x", ""), 0, ["ab", "cd", "ef"]),
        (["ab", "ab", "ab"], ("b",), 1, ["ab", "a", ""]),
    ],
)
def test_text_ends_before_the_earliest_stop(pieces, stops, first, kept):
    assert cut_at_stop(pieces, stops, first) == (kept, kept != pieces)


@settings(deadline=None)
@given(text=st.text(min_size=1, max_size=20), stop=st.text(min_size=1, max_size=4))
def test_a_stop_never_ends_at_an_unsuspected_token(text, stop):
    """Looking only after suspects finds every stop: at the token that completes one, the id is a suspect."""
    both = codec(BYTES)
    ids = BYTES.encode(text + stop).ids
    done = next((i for i in range(1, len(ids) + 1) if stop in both.decode(ids[:i])), None)
    if done is not None:
        assert ids[done - 1] in stop_suspects(both, (stop,))
        assert has_stop(both, ids[:done], (stop,))


def test_suspects_know_blanks_that_decoding_alone_loses():
    assert stop_suspects(codec(WORDS), (" ",)) >= {1, 2, 3, 6, 9}
    assert stop_suspects(codec(WORDS), ()) == frozenset()


# ---------------------------------------------------------------- folders and templates


def saved(folder, **config):
    BYTES.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>", **config}))
    return folder


TEMPLATE = """{% for message in messages %}
{{ '<|' + message['role'] + '|>' }}
{%- if message.role == 'assistant' %}{% generation %}{{ message.content | trim }}{{ eos_token }}{% endgeneration %}
{% else %}
 {{ message.content }}
{% endif %}
{% if loop.last and message.role == 'assistant' %}{% break %}{% endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}
"""
TALK = [
    Message("system", "Be brief."),
    Message("user", "Hi <there> & 猫"),
    Message("assistant", " Yes "),
    Message("user", "So?"),
]


def test_a_template_renders_as_in_transformers(tmp_path):
    hf = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=BYTES, eos_token="<eos>")
    turns = [{"role": m.role, "content": m.content} for m in TALK]
    expected = tokenizer.apply_chat_template(turns, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True)
    folder = saved(tmp_path)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    made = folder_codec(folder, frozenset({0}), None)
    assert made.render is not None and made.render(TALK) == expected
    assert "Yes<eos>" in expected, "the template's own branches were taken"


def test_templates_are_found_where_folders_keep_them(tmp_path):
    assert chat_template(saved(tmp_path)) is None
    assert chat_template(saved(tmp_path, chat_template="a")) == "a"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert chat_template(saved(tmp_path, chat_template=named)) == "d"
    (tmp_path / "chat_template.jinja").write_text("own")
    assert chat_template(tmp_path) == "own"


def test_a_hostile_template_cannot_leave_the_sandbox():
    render = renderer("{{ messages.__class__.__mro__[1].__subclasses__() }}", {})
    with pytest.raises(Exception, match="unsafe"):
        render(TALK)
    with pytest.raises(UsageError, match="not valid Jinja"):
        renderer("{% if %}", {})


def test_a_resaved_tokenizer_keeps_its_identity(tmp_path):
    first = tokenizer_sha(saved(tmp_path))
    body = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(body, indent=4, ensure_ascii=True))
    assert tokenizer_sha(tmp_path) == first
    body["model"]["vocab"]["new"] = 999
    (tmp_path / "tokenizer.json").write_text(json.dumps(body))
    assert tokenizer_sha(tmp_path) != first


def test_a_folder_without_tokenizer_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        folder_codec(tmp_path / "x", frozenset(), None)
