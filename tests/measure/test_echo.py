"""Which echoed log-probability belongs to which character, in the forms in which servers send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.measure.echo import read_echo


def answer(tokens, values, text, offsets=None, usage=None):
    logprobs = {"tokens": tokens, "token_logprobs": values}
    if offsets is not None:
        logprobs["text_offset"] = offsets
    document = {"choices": [{"index": 0, "text": text, "logprobs": logprobs}], "usage": usage}
    return json.dumps(document).encode()


@given(
    pieces=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=12),
    generated=st.sampled_from(["", "!", " x"]),
    form=st.sampled_from(["plain", "begin", "begin hidden", "no offsets", "blank"]),
    cut=st.integers(0, 11),
)
def test_every_form_gives_each_character_its_own_value(pieces, generated, form, cut):
    sent = "".join(pieces)
    values = [-float(k) for k in range(1, len(pieces) + 1)]
    starts = [sum(map(len, pieces[:i])) for i in range(len(pieces) + 1)]
    first = [] if form == "begin hidden" else [None]
    tokens, listed, offsets = [*pieces, generated], [*values, -99.0], list(starts)
    if form == "begin":  # vLLM counts the begin-of-text token's characters
        tokens, listed, offsets = ["<s>", *tokens], [None, *listed], [0, *(o + 3 for o in starts)]
    elif form != "begin hidden":
        listed = [*first, *listed[1:]]
    if form == "blank":  # SentencePiece puts one before the text, and llama-cpp-python counts it
        tokens, offsets = [" " + tokens[0], *tokens[1:]], [0, *(o + 1 for o in starts[1:])]
    if form == "no offsets":  # SGLang
        offsets = [-1] * len(tokens)
    if form == "blank" and sent[0].isspace():
        return  # which blank is whose cannot be told
    echo = read_echo(answer(tokens, listed, sent + generated, offsets), sent)
    expected = values if form in ("begin", "begin hidden") else values[1:]
    if expected:
        assert echo.scored() == expected
    cut = min(cut, len(pieces) - 1)
    if cut >= 1 or form in ("begin", "begin hidden"):
        assert echo.between(starts[cut], len(sent)) == values[cut:]
    else:
        with pytest.raises(ValueError):
            echo.between(0, len(sent))


# llama-cpp-python 0.3.36, `echo` and `logprobs` of a model without a begin-of-text token: as many values as the prompt
# has tokens, the generated one missing; each is the row *behind* its token (its best is the next token)
LATE = {
    "text": "12 + 7 = 1",
    "tokens": ["1", "2", " +", " ", "7", " ="],
    "values": [None, -9.5, -9.8, -11.0, -15.5, -12.9],
    "offsets": [0, 1, 2, 4, 5, 6],
}


def test_values_that_come_one_token_late_are_refused():
    late = answer(LATE["tokens"], LATE["values"], LATE["text"], LATE["offsets"], {"prompt_tokens": 6})
    with pytest.raises(ValueError, match="one token late"):
        read_echo(late, "12 + 7 =")


def test_without_a_generated_token_the_list_must_lack_the_begin_of_the_text():
    """A model that ends at once generates nothing: llama-cpp-python then lists the prompt alone."""

    def ended(prompt_tokens):
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 0}
        values = [-1.0, *LATE["values"][1:]]
        return answer(LATE["tokens"], values, "12 + 7 =", LATE["offsets"], usage)

    assert read_echo(ended(7), "12 + 7 =").scored() == [-1.0, *LATE["values"][1:]]
    for unknown in (6, None):
        with pytest.raises(ValueError, match="cannot be matched"):
            read_echo(ended(unknown), "12 + 7 =")


def test_parts_of_a_character_belong_to_it():
    """Three tokens make one Chinese character; llama-cpp-python shows no text for parts, and offsets of whole text."""
    body = answer(["a", "", "", "", "b", "!"], [None, -1, -2, -3, -4, -5], "a我b!", [0, 1, 1, 1, 2, 3])
    assert read_echo(body, "a我b").between(1, 2) == [-1, -2, -3]
    assert read_echo(body, "a我b").between(2, 3) == [-4]


@pytest.mark.parametrize(("start", "found"), [(4, [-2.0, -3.0]), (3, [-2.0, -3.0]), (6, [-3.0])])
def test_a_token_across_the_border_belongs_to_the_choice(start, found):
    body = answer(["abc", "def", "gh", "!"], [None, -2.0, -3.0, -9.0], "abcdefgh!", [0, 3, 6, 8])
    assert read_echo(body, "abcdefgh").between(start, 8) == found


def test_whether_greedy_decoding_would_write_it():
    """`top_logprobs` holds the likeliest token and, where it is another, the token itself."""
    logprobs = {
        "tokens": ["a", "b", "c", "!"],
        "token_logprobs": [None, -0.1, -2.0, -0.5],
        "top_logprobs": [None, {"b": -0.1}, {"x": -1.0, "c": -2.0}, {"!": -0.5}],
    }
    body = json.dumps({"choices": [{"text": "abc!", "logprobs": logprobs}]}).encode()
    echo = read_echo(body, "abc")
    assert [echo.greedy(1, 2), echo.greedy(2, 3), echo.greedy(1, 3), echo.greedy(0, 2)] == [True, False, False, None]


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        [],
        {"tokens": [], "token_logprobs": []},
        {"tokens": ["a"], "token_logprobs": []},
        {"tokens": [1], "token_logprobs": [-1.0]},
        {"tokens": ["a"], "token_logprobs": ["x"]},
        {"tokens": ["a", "!"], "token_logprobs": [-1.0, -1.0], "text_offset": [0, "1"]},
        {"tokens": ["a", "!"], "token_logprobs": [-1.0, -1.0], "text_offset": [5, 1]},
    ],
)
def test_a_server_without_prompt_logprobs_is_a_recorded_failure(logprobs):
    body = json.dumps({"choices": [{"text": "ab!", "logprobs": logprobs}]}).encode()
    with pytest.raises(ValueError):
        read_echo(body, "ab")
