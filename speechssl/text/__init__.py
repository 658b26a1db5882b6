"""Text: named normalisers, and tokenizers that turn text into CTC symbols and back."""

from speechssl.text.characters import CharTokenizer, VocabularyTokenizer
from speechssl.text.columns import columns_of
from speechssl.text.normalize import NORMALIZERS, lower_case, normalize
from speechssl.text.phones import PhoneTokenizer
from speechssl.text.sentencepieces import SentencePieceTokenizer
from speechssl.text.tokenizer import (
    BLANK,
    BLANK_ID,
    SPACE,
    UNKNOWN,
    UNKNOWN_ID,
    WORD_MARK,
    Tokenizer,
    TokenWord,
    ctc_min_frames,
)
from speechssl.text.tokenizers import (
    count_unknown,
    load_tokenizer,
    shared_symbols,
    train_tokenizer,
)

__all__ = [
    "BLANK",
    "BLANK_ID",
    "NORMALIZERS",
    "SPACE",
    "UNKNOWN",
    "UNKNOWN_ID",
    "WORD_MARK",
    "CharTokenizer",
    "PhoneTokenizer",
    "SentencePieceTokenizer",
    "TokenWord",
    "Tokenizer",
    "VocabularyTokenizer",
    "columns_of",
    "count_unknown",
    "ctc_min_frames",
    "load_tokenizer",
    "lower_case",
    "normalize",
    "shared_symbols",
    "train_tokenizer",
]
