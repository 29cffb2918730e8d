"""Token ids of a request, as poise makes them and as lm-evaluation-harness does, with a codec of a letter a token."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from poise.measure.backends import _inprocess
from poise.measure.tokens import Codec
from poise.protocols import Raw
from poise.types import Message, Request

BOS = 1


def letters(text, special):
    return [BOS] * special + [BOS if c == "^" else ord(c) for c in text]


PLAIN = Codec(letters, lambda ids: "".join(map(chr, ids)), chr, 200, frozenset(), context=10)
WITH_BOS = dataclasses.replace(PLAIN, bos=BOS, start=BOS, render=lambda messages: f"^{messages[-1].content}> ")


def prepare(codec, kind="choice", **asked):
    return _inprocess.prepare(Request(id="a", sample_id="a", kind=kind, asked_sha="", **asked), codec)


def text(ids):
    return "".join("^" if i == BOS else chr(i) for i in ids)


def test_a_prompt_that_is_too_long_fails_unless_it_may_be_cut():
    long = {"prompt": "abcdefghijkl", "continuations": ("12", "1234")}
    assert prepare(PLAIN, **long).error.kind == "context"
    codec = dataclasses.replace(PLAIN, encode=lambda t, special: letters(t, False))
    cut = prepare(codec, encoded_as="lm-eval", **long)
    # the last token needs no position: 10 = 9 + 1, and 7 + 3
    assert [text(c) for c in cut.contexts] == ["defghijkl", "fghijkl"] and cut.after == [0, 1] and cut.cut == 5
    answer = _inprocess.finish(cut, Raw(0, data=[([-1.0], True)] * 2), codec)
    assert answer.usage == {"prompt_tokens": 16, "completion_tokens": 0, "cut_tokens": 5}
    fits = prepare(codec, encoded_as="lm-eval", prompt="abcdefghi", continuations=("12", "3"))
    assert fits.cut == 0 and "cut_tokens" not in _inprocess.finish(fits, Raw(0, data=[]), codec).usage
    written = prepare(codec, "generate", encoded_as="lm-eval", prompt="abcdefghijkl", max_tokens=4)
    assert text(written.ids) == "ghijkl" and written.cut == 6
    for kind, more in (("choice", {"continuations": ("1" * 11,)}), ("generate", {"max_tokens": 10})):
        assert prepare(codec, kind, encoded_as="lm-eval", prompt="abc", **more).error.kind == "context"


def test_a_templates_text_is_encoded_as_the_harness_does_where_it_is_asked_for():
    said = {"messages": (Message("user", "hi"),), "continuations": ("a", "b")}
    own, theirs = prepare(WITH_BOS, **said), prepare(WITH_BOS, encoded_as="lm-eval", **said)
    assert [text(own.ids), *map(text, own.options)] == ["^hi> ", "a", "b"]
    assert [text(theirs.ids), *map(text, theirs.options)] == ["^hi>", " a", " b"]
    bare = dataclasses.replace(WITH_BOS, render=lambda messages: f"{messages[-1].content}>")
    assert text(prepare(bare, **said).ids) == "hi>" and text(prepare(bare, encoded_as="lm-eval", **said).ids) == "^hi>"


OPTIONS = st.lists(st.text("xy", min_size=1, max_size=9), min_size=1, max_size=4)


@given(st.text("abc ", min_size=1, max_size=30), OPTIONS)
def test_what_is_left_is_the_end_of_the_prompt_and_fits(prompt, continuations):
    found = prepare(WITH_BOS, encoded_as="lm-eval", prompt=prompt, continuations=tuple(continuations))
    whole = letters(prompt, True)
    for option, place, said in zip(found.options, found.after, continuations):
        context = found.contexts[place]
        assert (whole + letters(said, False))[-11:] == (context + option)[-11:]
        assert context and len(context) + len(option) <= 11
