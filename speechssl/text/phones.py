"""A tokenizer of phones in IPA: a symbol for each letter with the marks that belong to it."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechssl.text.tokenizer import (
    BLANK,
    NO_TEXT,
    SPACE,
    UNKNOWN,
    UNKNOWN_ID,
    Tokenizer,
    TokenWord,
    write_info,
)

_TIES = "\u0361\u035c"
"""Bars over or under two letters of one phone."""


class PhoneTokenizer(Tokenizer):
    """One symbol for each phone: ``kaːtʃ`` and ``k aː t ʃ`` are four, and ``t͡ʃ`` is one. Length,
    nasality and other marks belong to the letter before them; word boundaries are no symbols."""

    def __init__(self, symbols: Sequence[str]) -> None:
        """`symbols` in the order of their ids; raises ValueError if they are not a vocabulary."""
        super().__init__(symbols)
        if spaced := [symbol for symbol in self._symbols if SPACE in symbol]:
            raise ValueError(f'its phone "{spaced[0]}" holds a space')
        self._ids = {symbol: i for i, symbol in enumerate(self._symbols) if i > UNKNOWN_ID}

    @classmethod
    def train(cls, texts: Iterable[str]) -> "PhoneTokenizer":
        """Blank and unknown, then every phone of `texts` by its code points."""
        phones = set().union(*(split_phones(text) for text in texts)) - {UNKNOWN}
        if not phones:
            raise ValueError(NO_TEXT)
        return cls([BLANK, UNKNOWN, *sorted(phones)])

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(phone, UNKNOWN_ID) for phone in split_phones(text)]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        """Each phone by itself, so that :meth:`decode` puts spaces between them."""
        return [TokenWord(p, i, i + 1) for i, p in enumerate(self._pieces(ids))]

    def unknown_characters(self, text: str) -> list[str]:
        return [phone for phone in split_phones(text) if phone not in self._ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        write_info(Path(folder), {"type": "phones", "symbols": list(self._symbols)})


def split_phones(text: str) -> list[str]:
    """The phones of IPA text (NFD): letters, each with the combining marks (``ã``) and modifier
    letters (``aː``, ``tʰ``) that follow it, and both letters of a tie (``t͡ʃ``)."""
    phones: list[str] = []
    for word in unicodedata.normalize("NFD", text).split():
        own: list[str] = []
        for char in word:
            is_mark = unicodedata.category(char) in ("Mn", "Lm", "Sk")
            if own and (is_mark or own[-1][-1] in _TIES):
                own[-1] += char
            else:
                own.append(char)
        phones += own
    return phones
