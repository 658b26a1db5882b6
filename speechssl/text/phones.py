"""A tokenizer of phones: symbols of one or several characters with spaces between them."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechssl.text.normalize import normalize
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


class PhoneTokenizer(Tokenizer):
    """One symbol for each phone: ``t ʃ aː`` is three, ``tʃ aː`` two. Word boundaries are none."""

    def __init__(self, symbols: Sequence[str]) -> None:
        """`symbols` in the order of their ids; raises ValueError if they are not a vocabulary."""
        super().__init__(symbols)
        if spaced := [symbol for symbol in self._symbols if SPACE in symbol]:
            raise ValueError(f'its phone "{spaced[0]}" holds a space')
        self._ids = {symbol: i for i, symbol in enumerate(self._symbols) if i > UNKNOWN_ID}

    @classmethod
    def train(cls, texts: Iterable[str]) -> "PhoneTokenizer":
        """Blank and unknown, then every phone of `texts` by its code points."""
        phones = set().union(*(_split(text) for text in texts)) - {UNKNOWN, BLANK}
        if not phones:
            raise ValueError(NO_TEXT)
        return cls([BLANK, UNKNOWN, *sorted(phones)])

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(phone, UNKNOWN_ID) for phone in _split(text)]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        """Each phone by itself, so that :meth:`decode` puts spaces between them."""
        return [TokenWord(p, i, i + 1) for i, p in enumerate(self._pieces(ids))]

    def unknown_characters(self, text: str) -> list[str]:
        return [phone for phone in _split(text) if phone not in self._ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        write_info(Path(folder), {"type": "phones", "symbols": list(self._symbols)})


def _split(text: str) -> list[str]:
    return normalize(text, "none").split(SPACE) if text.strip() else []
