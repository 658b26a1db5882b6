"""Tokenizers with a list of symbols: characters of transcripts, or somebody else's vocabulary."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from speechssl.text.normalize import lower_case, normalize
from speechssl.text.tokenizer import (
    BLANK,
    NO_TEXT,
    SPACE,
    UNKNOWN,
    UNKNOWN_ID,
    WORD_MARK,
    Tokenizer,
    TokenWord,
    group,
    write_info,
)


class CharTokenizer(Tokenizer):
    """One symbol for each character; the space is a symbol like any other and separates words."""

    def __init__(self, symbols: Sequence[str]) -> None:
        """`symbols` in the order of their ids; raises ValueError if they are not a vocabulary."""
        super().__init__(symbols)
        self._ids = {symbol: i for i, symbol in enumerate(self._symbols) if i > UNKNOWN_ID}

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Blank, unknown and space, then every other character of `texts` by its code point."""
        characters = set().union(*(set(normalize(text, "none")) for text in texts))
        characters -= {SPACE, UNKNOWN}
        if not characters:
            raise ValueError(NO_TEXT)
        return cls([BLANK, UNKNOWN, SPACE, *sorted(characters)])

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(char, UNKNOWN_ID) for char in normalize(text, "none")]

    def unknown_characters(self, text: str) -> list[str]:
        return [char for char in normalize(text, "none") if char not in self._ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        write_info(Path(folder), {"type": "char", "symbols": list(self._symbols)})


class VocabularyTokenizer(Tokenizer):
    """The symbols of somebody else's CTC model: of one or several characters, some of them without
    any text (``<s>``), perhaps upper case only."""

    def __init__(
        self, symbols: Sequence[str], silent: Iterable[str] = (), *, uppercase: bool = False
    ) -> None:
        """
        Args:
            symbols: in the order of their ids, :data:`SPACE` for what separates words; one with a
                space before its letters begins a word.
            silent: those of them that add no text.
            uppercase: the symbols have no lower case; transcripts are in it.

        Raises ValueError if the list is not a vocabulary.
        """
        super().__init__(symbols)
        self.silent, self.uppercase = frozenset(silent), uppercase
        if unknown := self.silent - set(self._symbols):
            raise ValueError(f"its silent symbols {sorted(unknown)} are not among its symbols")
        spelled = [s for s in self._symbols[2:] if s not in self.silent]
        self._ids = {s: self._symbols.index(s) for s in spelled}
        self._longest = max(map(len, spelled), default=1)
        self._dotted = uppercase and "İ" in spelled
        """Where İ is a letter (Turkish, Azerbaijani, Tatar), I is the capital of ı."""
        self._begins_words = any(s.startswith(SPACE) and not s.isspace() for s in spelled)

    def encode(self, text: str) -> list[int]:
        """The longest symbol that fits, from left to right."""
        return [i for i, _ in self._cut(text)]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        pieces = self._pieces(ids)
        gaps = [p.isspace() for p in pieces]  # some vocabularies have two symbols for the space
        words = group(pieces, [p.startswith(SPACE) for p in pieces], gaps)
        lowered = (replace(word, text=self._lower(word.text).strip(SPACE)) for word in words)
        return [word for word in lowered if word.text]

    def unknown_characters(self, text: str) -> list[str]:
        return [char for i, char in self._cut(text) if i == UNKNOWN_ID]

    def save(self, folder: str | os.PathLike[str]) -> None:
        info = {"type": "vocabulary", "symbols": list(self._symbols)}
        write_info(
            Path(folder), info | {"silent": sorted(self.silent), "uppercase": self.uppercase}
        )

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        return ["" if p in self.silent else p for p in super()._pieces(ids)]

    def _spelling(self, symbol: str) -> str:
        if symbol in self.silent:
            return ""
        return WORD_MARK if symbol.isspace() else self._lower(super()._spelling(symbol))

    def _lower(self, text: str) -> str:
        if not self.uppercase:
            return text
        return lower_case(text.replace("I", "ı") if self._dotted else text)

    def _upper(self, text: str) -> str:
        if not self.uppercase:
            return text
        return (text.replace("i", "İ") if self._dotted else text).upper()

    def _cut(self, text: str) -> Iterator[tuple[int, str]]:
        text = self._upper(normalize(text, "none"))
        text = SPACE + text if self._begins_words and text else text
        while text:
            sizes = range(min(self._longest, len(text)), 0, -1)
            piece = next((text[:n] for n in sizes if text[:n] in self._ids), text[0])
            if piece in self._ids or not (self._begins_words and piece == SPACE):
                yield self._ids.get(piece, UNKNOWN_ID), piece
            text = text[len(piece) :]
