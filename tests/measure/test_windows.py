"""How texts are cut for perplexity: every token is scored once, with as much before it as is promised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.measure.backends import _inprocess
from poise.measure.tokens import Codec
from poise.types import Request


def codec(context, bos=None, start=None):
    """A token a character."""
    return Codec(
        encode=lambda text, special: [ord(c) for c in text],
        decode=lambda ids: "".join(map(chr, ids)),
        surface=chr,
        size=256,
        eos=frozenset(),
        bos=bos,
        start=bos if start is None else start,
        context=context,
    )


def cut(text, windows, codec):
    request = Request(id="1", sample_id="1", kind="windows", asked_sha="", prompt=text, windows=windows)
    return _inprocess.prepare(request, codec)


@given(
    length=st.integers(2, 400),
    context=st.integers(2, 64),
    bos=st.sampled_from([None, 1]),
    windows=st.sampled_from(["overlapping", "disjoint"]),
)
def test_every_token_is_scored_once(length, context, bos, windows):
    prepared = cut("a" * length, windows, codec(context, bos, start=2))
    positions = [i for _, scored, end in prepared.windows for i in range(scored, end)]
    assert positions == list(range(1, len(prepared.ids))), "in order, none twice, none left out but the first"
    assert len(prepared.ids) == length + (windows == "disjoint" or bos is not None)
    for start, scored, end in prepared.windows:
        fed = end - 1 - start  # the last token is only looked at
        assert start < scored < end and fed <= context
        if windows == "overlapping" and start:
            assert scored - start >= context // 2, "half a context stands before every token"
        if windows == "disjoint" and end < len(prepared.ids):
            assert fed == context and scored == start + 1


@given(length=st.integers(1, 300), context=st.integers(2, 64))
def test_disjoint_windows_are_those_of_lm_eval(length, context):
    utils = pytest.importorskip("lm_eval.utils", reason="lm-eval is not installed")
    text = "".join(chr(32 + i % 90) for i in range(length))
    prepared = cut(text, "disjoint", codec(context, start=2))
    rolled = utils.get_rolling_token_windows([ord(c) for c in text], 2, context, 1)
    theirs = [(a + b[-1:], len(b)) for a, b in rolled]
    ours = [(prepared.ids[start:end], end - scored) for start, scored, end in prepared.windows]
    assert ours == theirs


def test_a_text_without_a_token_to_score_is_said():
    assert cut("a", "overlapping", codec(8)).error.kind == "empty"
    assert cut("", "disjoint", codec(8, start=2)).error.kind == "empty"
    assert cut("a", "disjoint", codec(8, start=2)).error is None
