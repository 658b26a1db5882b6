"""speechssl.spelling: which names are one name, and which texts say nothing."""

import unicodedata

import pytest

from speechssl.spelling import count_invisible, free_name, is_blank, name_key, text_key


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        (None, True),
        ("", True),
        (" \t\n", True),
        ("\u00a0\u3000\u2028", True),  # no-break and ideographic space, line separator
        ("\ufeff", True),  # a byte order mark alone
        ("\u200b\u200e\u2060\u00ad", True),  # zero-width space, direction, joiner, soft hyphen
        ("\u3164\u2800", True),  # Hangul filler, empty Braille cell
        ("\x00\x1f", True),
        ("a", False),
        ("...", False),
        ("\u200bɛ", False),
        ("\u0301", False),  # a tone mark without its letter is a mistake, not nothing
        ("\u0601", False),  # an Arabic number sign is a format character that is drawn
    ],
)
def test_a_text_is_blank_where_nothing_of_it_can_be_seen(text, blank):
    assert is_blank(text) is blank


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Zoé", "Zoe\u0301", True),
        ("Zoé", " Zoé ", True),
        ("Zoé", "Zoé\u200b", True),
        ("Zoé", "\ufeffZoé", True),
        ("Anna Maria", "Anna\u00a0 Maria", True),
        ("가", "\u1100\u1161", True),  # one syllable, or its two letters
        ("s1", "s1\x00", True),
        ("Zoé", "Zoe", False),
        ("s1", "S1", False),
        ("Anna", "An na", False),
        ("A", "Ａ", False),  # a full-width letter is another letter
    ],
)
def test_names_are_compared_in_one_form(one, two, same):
    assert (name_key(one) == name_key(two)) is same


@pytest.mark.parametrize("name", ["", "plain", "a b", "é", "e\u0301 \u200b x", " \ufeff"])
def test_a_key_is_its_own_key(name):
    assert name_key(name_key(name)) == name_key(name)
    assert text_key(text_key(name)) == text_key(name)
    assert unicodedata.is_normalized("NFC", name_key(name))


def test_invisible_characters_are_counted_by_name():
    texts = ["a\u200bb\u200b", "\ufeffc\u00a0d", "e\u00adf", "g h\ti\n", "\x07", "k\u3000l"]
    assert count_invisible(texts) == {
        "U+200B ZERO WIDTH SPACE": 2,
        "U+0007 control character": 1,
        "U+00A0 NO-BREAK SPACE": 1,
        "U+00AD SOFT HYPHEN": 1,
        "U+FEFF ZERO WIDTH NO-BREAK SPACE (byte order mark)": 1,
    }


def test_a_free_name_is_the_first_that_nobody_has():
    taken = {"a.json", "a-2.json"}
    assert free_name("a", taken, ending=".json") == "a-3.json"
    assert free_name("a", taken, ending=".json") == "a-4.json"  # the one before is taken now
    assert free_name("b", taken, mark="_") == "b"
    assert free_name("b", taken, mark="_") == "b_2"
    assert free_name("B", taken) == "B"
    assert free_name("B", {"b"}, key=str.casefold) == "B-2"
    assert free_name("e\u0301", {"\u00e9"}) == "e\u0301-2"  # as people read it
