"""The tokenizer of phones: a symbol for each letter with its marks."""

import unicodedata

import pytest

from speechssl.text import PhoneTokenizer, load_tokenizer
from speechssl.text.phones import split_phones

TEXTS = ["t ʃ aː", "ta  ", "", " n̩ a ", "t͡ʃa"]


@pytest.fixture
def tokenizer():
    return PhoneTokenizer.train(TEXTS)


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("kaːtʃ", ["k", "aː", "t", "ʃ"]),
        ("k aː tʃ", ["k", "aː", "t", "ʃ"]),
        ("t͡ʃa", ["t͡ʃ", "a"]),
        ("sˤifr", ["sˤ", "i", "f", "r"]),
        ("pʰãː  n̩", ["pʰ", "ãː", "n̩"]),
        ("ʰp", ["ʰ", "p"]),
        ("həlˈəʊ", ["h", "ə", "lˈ", "ə", "ʊ"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_text_is_split_into_phones(text, phones):
    assert split_phones(text) == [unicodedata.normalize("NFD", phone) for phone in phones]


def test_symbols_are_phones(tokenizer):
    assert tokenizer.symbols == ("<blank>", "⁇", "a", "aː", "n̩", "t", "t͡ʃ", "ʃ")
    assert tokenizer.encode("taːʃ a") == [5, 3, 7, 2]
    assert tokenizer.encode("") == tokenizer.encode("  ") == []
    assert tokenizer.decode([6, 2, 5]) == "t͡ʃ a t"


def test_unknown_phones_are_named(tokenizer):
    assert tokenizer.encode("a ãx") == [2, 1, 1]
    assert tokenizer.unknown_characters("aãx") == [unicodedata.normalize("NFD", "ã"), "x"]


def test_composed_and_decomposed_forms_are_one():
    for form in ("NFC", "NFD"):
        tokenizer = PhoneTokenizer.train([unicodedata.normalize(form, "ã b")])
        assert tokenizer.encode(unicodedata.normalize("NFC", "ãb")) == [2, 3]
        assert tokenizer.encode(unicodedata.normalize("NFD", "ãb")) == [2, 3]


def test_a_folder_keeps_it(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, PhoneTokenizer)
    assert again.symbols == tokenizer.symbols


def test_what_is_no_alphabet(tmp_path):
    with pytest.raises(ValueError, match="transcripts are empty"):
        PhoneTokenizer.train(["", "  "])
    with pytest.raises(ValueError, match='phone "a b" holds a space'):
        PhoneTokenizer(["<blank>", "⁇", "a b"])
    (tmp_path / "tokenizer.json").write_text(
        '{"type": "phones", "version": 1, "symbols": ["<blank>", "⁇", "a b"]}', encoding="utf-8"
    )
    with pytest.raises(ValueError, match="damaged: its phone"):
        load_tokenizer(tmp_path)
