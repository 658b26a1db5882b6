"""Tokenizers with a list of symbols: their words, spellings and what is no vocabulary."""

import pytest

from speechssl.text import (
    UNKNOWN,
    CharTokenizer,
    SentencePieceTokenizer,
    TokenWord,
    VocabularyTokenizer,
)


def test_char_symbols_are_sorted_and_hold_the_space() -> None:
    assert CharTokenizer.train(["ba", "ć"]).symbols == ("<blank>", UNKNOWN, " ", "a", "b", "ć")


def test_char_words_leave_the_spaces_out() -> None:
    tokenizer = CharTokenizer.train(["ab c"])
    space, a, b, c = (tokenizer.encode(f"x{s}")[1] for s in (" a", "a", "b", "c"))
    assert tokenizer.words([space, a, b, space, space, c, space]) == [
        TokenWord("ab", 1, 3),
        TokenWord("c", 5, 6),
    ]
    assert tokenizer.words([]) == tokenizer.words([space]) == []


@pytest.mark.parametrize(
    ("symbols", "reason"),
    [
        (["a", "b"], "do not begin with"),
        (["<blank>", UNKNOWN, "a", "a"], '"a" occurs twice'),
        (["<blank>", UNKNOWN, ""], "non-empty strings"),
        (["<blank>", UNKNOWN, 3], "non-empty strings"),
        (None, "non-empty strings"),
        ("ab", "non-empty strings"),
    ],
)
def test_a_list_that_is_no_vocabulary(symbols: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CharTokenizer(symbols)  # type: ignore[arg-type]


def test_spellings_of_all_tokenizers():
    assert CharTokenizer.train(["ab a"]).spellings == ("", UNKNOWN, "▁", "a", "b")
    own = VocabularyTokenizer(["<blank>", "⁇", " ", "A", "<s>"], ["<s>"], uppercase=True)
    assert own.spellings[2:] == ("▁", "a", "")
    pieces = SentencePieceTokenizer.train(["ab abab ba"] * 4, 9, allow_smaller=True)
    texts = pieces.spellings
    assert "".join(texts[i] for i in pieces.encode("ab ba")).replace("▁", " ").strip() == "ab ba"


def test_symbols_may_begin_a_word_and_the_space_may_have_two() -> None:
    symbols = ["<blank>", UNKNOWN, " ", "\u00a0", " a", "a", "b"]
    pieces = VocabularyTokenizer(symbols)
    assert pieces.encode("ab aa") == [4, 6, 4, 5]
    assert pieces.decode([4, 6, 4, 5]) == "ab aa"
    assert pieces.decode([6, 3, 6, 2, 5]) == "b b a"
    assert pieces.spellings[2:] == ("▁", "▁", "▁a", "a", "b")


def test_capitals_with_a_dotted_i_are_turkish() -> None:
    capitals = VocabularyTokenizer(["<blank>", UNKNOWN, " ", *"İIKL"], uppercase=True)
    assert capitals.decode(capitals.encode("ılık ilik")) == "ılık ilik"
    assert capitals.unknown_characters("ılık ilik") == []
    assert capitals.spellings[3:] == ("i", "ı", "k", "l")
    plain = VocabularyTokenizer(["<blank>", UNKNOWN, " ", *"IKL"], uppercase=True)
    assert plain.decode(plain.encode("ilik")) == "ilik"
