import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from poise.report.text import cap, common_prefix, shorten, visible


def test_controls_and_bidi_marks_are_shown_not_obeyed():
    assert visible("a\x1b[31mb\x7f\u202e\u2028\ufeff") == "a␛[31mb␡⟨U+202E⟩⟨U+2028⟩⟨U+FEFF⟩"


def test_newlines_stay_in_blocks_and_are_pictures_in_lines():
    assert visible("a\n\tb") == "a\n\tb"
    assert visible("a\n\tb", newlines=False) == "a⏎⇥b"


def test_emoji_and_foreign_scripts_are_left_alone():
    assert visible("我们 👩‍💻 می‌خواهم é") == "我们 👩‍💻 می‌خواهم é"


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text):
    for char in visible(text, newlines=False):
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert char not in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text(), st.integers(1, 40))
def test_shortened_names_fit(text, width):
    assert len(shorten(text, width)) <= width
    if len(text) <= width:
        assert shorten(text, width) == text


def test_shortening_keeps_both_ends():
    assert shorten("llama-3-8b-instruct", 9) == "llam…ruct"


def test_capped_text_says_how_much_is_left_out():
    assert cap("abcdef", 4) == "abcd… 2 more characters"
    assert cap("abcd", 4) == "abcd"


def test_common_prefix_ends_at_a_word_and_leaves_something_of_each_name():
    assert common_prefix(["mini-linear", "mini-logic"]) == "mini-"
    assert common_prefix(["bundled:xs", "bundled:s"]) == "bundled:"
    assert common_prefix(["mini-", "mini-a"]) == ""
    assert common_prefix(["sst2"]) == ""
    assert common_prefix(["apple", "apricot"]) == ""
