"""The tokenizer of phones: a symbol for each, whatever its length."""

import pytest

from speechssl.text import PhoneTokenizer, load_tokenizer

TEXTS = ["t ʃ aː", "tʃ aː  ", "", " n̩ a "]


@pytest.fixture
def tokenizer():
    return PhoneTokenizer.train(TEXTS)


def test_symbols_are_phones(tokenizer):
    assert tokenizer.symbols == ("<blank>", "⁇", "a", "aː", "n̩", "t", "tʃ", "ʃ")
    assert tokenizer.encode("tʃ a t  ʃ") == [6, 2, 5, 7]
    assert tokenizer.encode("") == tokenizer.encode("  ") == []
    assert tokenizer.decode([6, 2, 5]) == "tʃ a t"


def test_unknown_phones_are_named(tokenizer):
    assert tokenizer.encode("a aːː x") == [2, 1, 1]
    assert tokenizer.unknown_characters("a aːː x") == ["aːː", "x"]


def test_composed_and_decomposed_forms_are_one():
    tokenizer = PhoneTokenizer.train(["ã b"])
    assert tokenizer.encode("ã") == tokenizer.encode("ã") == [tokenizer.symbols.index("ã")]


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
