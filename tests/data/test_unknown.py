"""Characters that a model does not know: which, how many, why."""

from pathlib import Path

import pytest

from speechssl.data.manifest import Utterance
from speechssl.data.unknown import REASONS, explain, find_unknown, merge_unknown, min_rows
from speechssl.text import (
    BLANK,
    UNKNOWN,
    UNKNOWN_ID,
    CharTokenizer,
    VocabularyTokenizer,
    ctc_min_frames,
)

UPPER = "upper case where the vocabulary is lower case"
LOWER = "lower case where the vocabulary is upper case"
FORM = "another Unicode form of known characters"
MARKED = "letters with a mark that the vocabulary has only without it"
ALPHABET = "letters of another alphabet"
NEW = "letters that the training transcripts do not have"
PUNCTUATION = "punctuation and symbols"


def utterances(*texts: str | None) -> list[Utterance]:
    return [
        Utterance(f"u{i}", Path(f"{i}.wav"), 0.0, 1.0, 16000, None, text)
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("char", "known", "reason"),
    [
        ("A", "abc", UPPER),
        ("Ж", "абвж", UPPER),
        ("Σ", "σας", UPPER),
        ("Ɛ", "aeɛ", UPPER),
        ("a", "ABC", LOWER),
        ("ş", "ABCŞ", LOWER),
        ("é", "e\u0301", FORM),  # the vocabulary of another tool, decomposed
        ("ａ", "abc", FORM),  # full width
        ("ﬁ", "fin", FORM),  # a ligature
        ("한", "\u1112\u1161\u11ab", FORM),  # decomposed Hangul
        ("\u0301", "abc", "combining marks"),
        ("\u064b", "ابت", "combining marks"),  # Arabic fathatan
        ("é", "abcde", MARKED),
        ("É", "abcde", MARKED),
        ("\u0300", "abɔ", "combining marks"),  # of ɔ̀, which has no code point of its own
        ("ǹ", "mn", MARKED),
        ("7", "abc", "digits"),
        ("٣", "ابت", "digits"),
        ("½", "ab", "digits"),
        (",", "abc", PUNCTUATION),
        ("'", "abc", PUNCTUATION),
        ("。", "日本", PUNCTUATION),
        ("€", "abc", PUNCTUATION),
        ("\u200b", "abc", "invisible characters"),
        ("\ufeff", "abc", "invisible characters"),
        ("\u00ad", "abc", "invisible characters"),
        ("а", "abc", ALPHABET),  # the Cyrillic look-alike
        ("λ", "abc", ALPHABET),
        ("ক", "कखग", ALPHABET),
        ("q", "abc", NEW),
        ("語", "日本", NEW),
        ("⁇", "abc", "the mark of an unknown symbol"),
        ("ʼ", "abc", NEW),  # a modifier letter
    ],
)
def test_the_likely_reason(char, known, reason):
    assert explain([char], set(known)) == {reason: (char,)}
    assert REASONS[reason].endswith(".")


def test_what_is_counted():
    tokenizer = CharTokenizer.train(["abc ab"])
    found = find_unknown(tokenizer, utterances("abc", "AB c", None, "a1 1", ""))
    assert found.counts == {"1": 2, "A": 1, "B": 1}
    assert found.ids == ("u1", "u3")
    assert (found.num_utterances, found.num_characters) == (3, 3 + 4 + 4)  # one is blank
    assert found.share == pytest.approx(4 / 11)
    assert found.reasons == {UPPER: ("A", "B"), "digits": ("1",)}


def test_the_sentence_names_characters_utterances_and_reasons():
    tokenizer = CharTokenizer.train(["abc"])
    told = find_unknown(tokenizer, utterances("ABC", "a\u200bb", "b")).sentence("validation")
    assert told.startswith("2 of 3 validation transcripts (u0, u1) hold characters that the model")
    assert "(A B C)" in told
    assert "(U+200B)" in told
    assert "Write all transcripts in lower case." in told
    assert "upsample" not in told
    many = [chr(ord("あ") + i) for i in range(20)]
    told = find_unknown(tokenizer, utterances(*many)).sentence()
    assert "20 of 20 transcripts (u0, u1, u2, u3, u4, ...)" in told
    assert "and 12 more" in told


def test_nothing_unknown_is_false():
    found = find_unknown(CharTokenizer.train(["abc"]), utterances("a  cab", None))
    assert not found
    assert found.share == 0
    assert not find_unknown(CharTokenizer.train(["abc"]), utterances(None))


@pytest.mark.parametrize(
    ("vocabulary", "text", "normalizer", "unknown"),
    [
        ("abc", "ABC.", "basic", {}),
        ("abc", "ABC.", "lower", {".": 1}),
        ("abc", "ABC.", "none", {"A": 1, "B": 1, "C": 1, ".": 1}),
        ("ABC", "abc", "basic", {}),  # both are made lower before they are compared
        ("abc", "a'b", "basic", {"'": 1}),
        ("abc'", "a'b", "basic", {}),
        ("abc", "É", "basic", {"é": 1}),
    ],
)
def test_what_a_normaliser_makes_equal_is_known(vocabulary, text, normalizer, unknown):
    tokenizer = CharTokenizer.train([vocabulary])
    assert find_unknown(tokenizer, utterances(text), normalizer).counts == unknown


def test_a_vocabulary_in_upper_case_knows_both():
    symbols = [BLANK, UNKNOWN, " ", "A", "B", "<s>"]
    tokenizer = VocabularyTokenizer(symbols, ["<s>"], uppercase=True)
    assert not find_unknown(tokenizer, utterances("ab A"))
    assert find_unknown(tokenizer, utterances("abs")).counts == {"S": 1}  # not as in <s>


@pytest.mark.parametrize(
    ("ids", "rows", "merged"),
    [
        ([], 0, []),
        ([2, 2, 3], 4, [2, 2, 3]),
        ([1, 1, 1], 3, [1]),
        ([2, 1, 1, 2, 2, 1], 7, [2, 1, 2, 2, 1]),
    ],
)
def test_neighbours_that_are_unknown_are_no_repeat(ids, rows, merged):
    assert min_rows(ids) == rows
    assert merge_unknown(ids) == merged
    if UNKNOWN_ID not in ids:
        assert min_rows(ids) == ctc_min_frames(ids)


@pytest.mark.parametrize(("text", "share"), [("xyz", "100 %"), ("a" * 199 + "x", "0.5 %")])
def test_the_share_is_written_as_a_plain_number(text, share):
    found = find_unknown(CharTokenizer.train(["a"]), utterances(text))
    assert f"know, {share} of all characters" in found.sentence()
