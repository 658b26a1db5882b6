"""What every tokenizer is: text to CTC symbols and back.

Id 0 is the CTC blank and id 1 the unknown symbol. A tokenizer lives in the model folder, beside the
weights it belongs to.
"""

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from speechssl.files import writing

BLANK_ID = 0
UNKNOWN_ID = 1
BLANK = "<blank>"
UNKNOWN = "⁇"  # what a transcript shows for the unknown symbol
SPACE = " "
WORD_MARK = "▁"  # SentencePiece's mark of a word's beginning, U+2581

FORMAT_VERSION = 1
INFO_FILE = "tokenizer.json"
MODEL_FILE = "tokenizer.model"
NO_TEXT = "A tokenizer cannot be trained: the transcripts are empty."


@dataclass(frozen=True, slots=True)
class TokenWord:
    """One word of a token sequence: its text, and its tokens as the slice ``ids[start:end]``."""

    text: str
    start: int
    end: int


class Tokenizer(ABC):
    """Text to CTC symbols and back. Id 0 is the blank, id 1 the unknown symbol."""

    def __init__(self, symbols: Any) -> None:
        """Raises ValueError if `symbols` are not distinct non-empty strings, led by the two."""
        self._symbols = _checked_symbols(symbols)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol as text, in the order of the ids."""
        return self._symbols

    @property
    def vocab_size(self) -> int:
        """Number of symbols, blank and unknown included: the width of a CTC head."""
        return len(self._symbols)

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """The text that each symbol adds to a transcript, :data:`WORD_MARK` for a space in it; ''
        for the blank and what else adds none."""
        return ("", *map(self._spelling, self._symbols[1:]))

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of `text` (brought to NFC and single spaces first), never the blank."""

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        """The words that `ids` (collapsed, without blanks) spell, each with its tokens.

        Raises ValueError for the blank and for ids outside the vocabulary.
        """
        pieces = self._pieces(ids)
        return list(group(pieces, starts=[False] * len(pieces), gaps=[p == SPACE for p in pieces]))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` (collapsed, without blanks): the words joined by single spaces."""
        return SPACE.join(word.text for word in self.words(ids))

    @abstractmethod
    def unknown_characters(self, text: str) -> list[str]:
        """The characters of `text` that the vocabulary lacks, in order, repeats included."""

    @abstractmethod
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the tokenizer's files into a model folder, where :func:`.load_tokenizer` finds
        them."""

    def _spelling(self, symbol: str) -> str:
        return symbol.replace(SPACE, WORD_MARK)

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        """Ids to symbols; the blank or an id outside the vocabulary is an error of the caller."""
        for i in ids:
            if not BLANK_ID < i < len(self._symbols):
                raise ValueError(
                    f"The id {i} spells no text: ids must be collapsed, without the blank "
                    f"({BLANK_ID}), and below the vocabulary size {len(self._symbols)}."
                )
        return [self._symbols[i] for i in ids]


def group(
    pieces: Sequence[str], starts: Sequence[bool], gaps: Sequence[bool]
) -> Iterator[TokenWord]:
    """Cut `pieces` into words: a gap belongs to no word, a start begins a new one."""
    begin = 0
    for i in range(len(pieces) + 1):
        if i == len(pieces) or gaps[i] or starts[i]:
            if begin < i:
                yield TokenWord("".join(pieces[begin:i]).removeprefix(WORD_MARK), begin, i)
            begin = i + 1 if i < len(pieces) and gaps[i] else i


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """The tokenizer's description, which also says of which version it is."""
    with writing(folder / INFO_FILE) as file:
        content = {"type": info.pop("type"), "version": FORMAT_VERSION, **info}
        file.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def ctc_min_frames(ids: Sequence[int]) -> int:
    """The fewest frames in which CTC can emit `ids`: one a token, and a blank between equal ones.

    (Graves et al. 2006, section 3.1: equal neighbours collapse unless a blank separates them.)
    """
    return len(ids) + sum(left == right for left, right in pairwise(ids))


def _checked_symbols(symbols: Any) -> tuple[str, ...]:
    """`symbols` as a tuple, if they are distinct non-empty strings led by blank and unknown."""
    if not isinstance(symbols, list | tuple) or not all(isinstance(s, str) and s for s in symbols):
        raise ValueError("its symbols are not a list of non-empty strings")
    if tuple(symbols[:2]) != (BLANK, UNKNOWN):
        raise ValueError(f'its symbols do not begin with "{BLANK}" and "{UNKNOWN}"')
    if len(set(symbols)) != len(symbols):
        twice = next(s for s, count in Counter(symbols).items() if count > 1)
        raise ValueError(f'its symbol "{twice}" occurs twice')
    return tuple(symbols)
