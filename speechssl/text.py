"""Text: named normalisers, and tokenizers that turn text into CTC symbols and back.

Nothing here knows a language. Diacritics and tone marks are kept, scripts without case pass
through, and every text is brought to Unicode NFC first, so that a letter typed as one code point
and the same letter typed as two are equal.

Every tokenizer has the CTC blank at id 0 and the unknown symbol at id 1. The tokenizer lives in the
model folder, beside the weights it belongs to.
"""

import hashlib
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from speechssl.files import replacing, writing

BLANK_ID = 0
UNKNOWN_ID = 1
BLANK = "<blank>"
UNKNOWN = "⁇"  # what a transcript shows for the unknown symbol
SPACE = " "
WORD_MARK = "▁"  # SentencePiece's mark of a word's beginning, U+2581

_FORMAT_VERSION = 1
_INFO_FILE = "tokenizer.json"
_MODEL_FILE = "tokenizer.model"

# --- normalisers ----------------------------------------------------------------------------------

_JOINERS = frozenset("'-·׳״\u200c\u200d")  # kept between two word characters, nowhere else
_FOLD = str.maketrans({"’": "'", "‘": "'", "＇": "'", "‐": "-", "‑": "-", "\u00ad": None})


def _none(text: str) -> str:
    """NFC, runs of white space to one space, no space at the ends."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _lower(text: str) -> str:
    """`_none` and lower case (``str.lower``, not case folding: ß stays ß)."""
    return unicodedata.normalize("NFC", _none(text).lower())


def _basic(text: str) -> str:
    """`_lower` without punctuation and symbols; apostrophes and hyphens stay within words.

    Letters, digits, combining marks and tone letters (˥ ˩ ꞉) stay; typographic apostrophes and
    hyphens become ' and -. An orthography that writes tone with an apostrophe or hyphen at the
    beginning of a word (several of Côte d'Ivoire do) loses it here: use "lower" for those.
    """
    text = _lower(text).translate(_FOLD)
    kept = []
    for before, char, after in zip(" " + text, text, text[1:] + " ", strict=False):
        joins = char in _JOINERS and _in_word(before) and _in_word(after)
        kept.append(char if joins or _in_word(char) else " ")
    return _none("".join(kept))


@cache
def _in_word(char: str) -> bool:
    """Letters, marks, digits, private use; and the modifier symbols that write tone (U+02C2 on)."""
    category = unicodedata.category(char)
    return category[0] in "LMN" or category == "Co" or (category == "Sk" and char > "\u00ff")


NORMALIZERS: dict[str, Callable[[str], str]] = {"none": _none, "lower": _lower, "basic": _basic}


def normalize(text: str, name: str) -> str:
    """`text` through the normaliser called `name`: "none", "lower" or "basic"; each is idempotent.

    An error rate means nothing without its normaliser, so results store this name beside the
    number. Raises ValueError for an unknown name.
    """
    if name not in NORMALIZERS:
        allowed = ", ".join(NORMALIZERS)
        raise ValueError(f'There is no normaliser "{name}"; choose one of: {allowed}.')
    return NORMALIZERS[name](text)


# --- tokenizers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenWord:
    """One word of a token sequence: its text, and its tokens as the slice ``ids[start:end]``."""

    text: str
    start: int
    end: int


class Tokenizer(Protocol):
    """Text to CTC symbols and back. Id 0 is the blank, id 1 the unknown symbol."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol as text, in the order of the ids."""

    @property
    def vocab_size(self) -> int:
        """Number of symbols, blank and unknown included: the width of a CTC head."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text` (brought to NFC and single spaces first), never the blank."""

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        """The words that `ids` (collapsed, without blanks) spell, each with its tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` (collapsed, without blanks): the words joined by single spaces."""

    def unknown_characters(self, text: str) -> list[str]:
        """The characters of `text` that the vocabulary lacks, in order, repeats included."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the tokenizer's files into a model folder; :func:`load_tokenizer` reads them."""


class CharTokenizer:
    """One symbol for each character; the space is a symbol like any other and separates words."""

    def __init__(self, symbols: Sequence[str]) -> None:
        """`symbols` in the order of their ids; ValueError if the list is not a vocabulary."""
        self._symbols = _checked_symbols(symbols)
        self._ids = {s: i for i, s in enumerate(self._symbols) if i not in (BLANK_ID, UNKNOWN_ID)}

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Blank, unknown, space, then every other character of `texts` by its code point."""
        characters = set().union(*(set(_none(text)) for text in texts)) - {SPACE, UNKNOWN}
        if not characters:
            raise ValueError(_NO_TEXT)
        return cls([BLANK, UNKNOWN, SPACE, *sorted(characters)])

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @property
    def vocab_size(self) -> int:
        return len(self._symbols)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(char, UNKNOWN_ID) for char in _none(text)]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        pieces = _pieces(self._symbols, ids)
        return list(_group(pieces, starts=[False] * len(pieces), gaps=[p == SPACE for p in pieces]))

    def decode(self, ids: Sequence[int]) -> str:
        return SPACE.join(word.text for word in self.words(ids))

    def unknown_characters(self, text: str) -> list[str]:
        return [char for char in _none(text) if char not in self._ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        info = {"type": "char", "version": _FORMAT_VERSION, "symbols": list(self._symbols)}
        _write_info(Path(folder), info)


class VocabularyTokenizer:
    """The symbols of somebody else's CTC model: of one or several characters, some of them without
    any text (``<s>``), perhaps upper case only."""

    def __init__(
        self, symbols: Sequence[str], silent: Iterable[str] = (), *, uppercase: bool = False
    ) -> None:
        """
        Args:
            symbols: in the order of their ids, :data:`SPACE` for what separates words.
            silent: those of them that spell nothing.
            uppercase: the symbols know no lower case; transcripts are written in it.

        Raises ValueError if the list is not a vocabulary.
        """
        self._symbols = _checked_symbols(symbols)
        self.silent, self.uppercase = frozenset(silent), uppercase
        if unknown := self.silent - set(self._symbols):
            raise ValueError(f"its silent symbols {sorted(unknown)} are not among its symbols")
        spelled = [s for s in self._symbols[2:] if s not in self.silent]
        self._ids = {s: self._symbols.index(s) for s in spelled}
        self._longest = max(map(len, spelled), default=1)

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @property
    def vocab_size(self) -> int:
        return len(self._symbols)

    def encode(self, text: str) -> list[int]:
        """The longest symbol that fits, from left to right."""
        return [i for i, _ in self._cut(text)]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        pieces = ["" if p in self.silent else p for p in _pieces(self._symbols, ids)]
        words = _group(pieces, starts=[False] * len(pieces), gaps=[p == SPACE for p in pieces])
        written = [
            replace(word, text=word.text.lower()) if self.uppercase else word for word in words
        ]
        return [word for word in written if word.text]

    def decode(self, ids: Sequence[int]) -> str:
        return SPACE.join(word.text for word in self.words(ids))

    def unknown_characters(self, text: str) -> list[str]:
        return [char for i, char in self._cut(text) if i == UNKNOWN_ID]

    def save(self, folder: str | os.PathLike[str]) -> None:
        info = {"type": "vocabulary", "version": _FORMAT_VERSION, "symbols": list(self._symbols)}
        info |= {"silent": sorted(self.silent), "uppercase": self.uppercase}
        _write_info(Path(folder), info)

    def _cut(self, text: str) -> Iterator[tuple[int, str]]:
        text = _none(text)
        text = text.upper() if self.uppercase else text
        while text:
            sizes = range(min(self._longest, len(text)), 0, -1)
            piece = next((text[:n] for n in sizes if text[:n] in self._ids), text[0])
            yield self._ids.get(piece, UNKNOWN_ID), piece
            text = text[len(piece) :]


class SentencePieceTokenizer:
    """Sub-word units of a unigram language model (Kudo 2018, arXiv:1804.10959)."""

    def __init__(self, model: bytes) -> None:
        """`model` is a serialized SentencePiece model whose piece 0 is the blank, 1 the unknown."""
        import sentencepiece

        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("these bytes are not a SentencePiece model") from error
        size = self._processor.get_piece_size()
        self._symbols = _checked_symbols([self._processor.id_to_piece(i) for i in range(size)])
        self._characters = {s for s in self._symbols[2:] if len(s) == 1} | {SPACE}

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, *, allow_smaller: bool = False
    ) -> "SentencePieceTokenizer":
        """Train on `texts`; equal texts in equal order give an equal model.

        Every character of `texts` becomes a symbol, so nothing seen in training is unknown later.
        Pieces may mix scripts, because orthographies do (Mboshi writes Latin letters and ε in one
        word). A `vocab_size` larger than the texts can fill raises ValueError naming the largest
        possible, or takes that one if `allow_smaller`; one too small for the characters raises.
        """
        lines = [line for text in texts if (line := _none(text.replace(UNKNOWN, "")))]
        if not lines:
            raise ValueError(_NO_TEXT)
        smallest = len({WORD_MARK, *(c for line in lines for c in line if c != SPACE)}) + 2
        if vocab_size < smallest:
            raise ValueError(
                f"A SentencePiece vocabulary of {vocab_size} cannot hold these transcripts: their "
                f"characters, the blank and the unknown symbol need at least {smallest}."
            )
        tokenizer = cls(_train_sentencepiece(lines, vocab_size))
        if tokenizer.vocab_size < vocab_size and not allow_smaller:
            raise ValueError(
                f"A SentencePiece vocabulary of {vocab_size} is more than these transcripts can "
                f"fill: the largest possible is {tokenizer.vocab_size}."
            )
        return tokenizer

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @property
    def vocab_size(self) -> int:
        return len(self._symbols)

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._processor.encode(_none(text))]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        pieces = _pieces(self._symbols, ids)
        starts = [piece.startswith(WORD_MARK) for piece in pieces]
        return list(_group(pieces, starts, gaps=[piece == WORD_MARK for piece in pieces]))

    def decode(self, ids: Sequence[int]) -> str:
        return SPACE.join(word.text for word in self.words(ids))

    def unknown_characters(self, text: str) -> list[str]:
        return [char for char in _none(text) if char not in self._characters]

    def save(self, folder: str | os.PathLike[str]) -> None:
        digest = hashlib.sha256(self._model).hexdigest()
        with replacing(Path(folder) / _MODEL_FILE) as part:
            part.write_bytes(self._model)
        _write_info(Path(folder), {"type": "spm", "version": _FORMAT_VERSION, "sha256": digest})

    def __reduce__(self) -> tuple[type["SentencePieceTokenizer"], tuple[bytes]]:
        return type(self), (self._model,)  # worker processes get the model, not the C++ object


def train_tokenizer(spec: str, texts: Iterable[str], *, allow_smaller: bool = False) -> Tokenizer:
    """A tokenizer for `texts`. `spec` is "char" or "spm:SIZE"; see the classes for the errors."""
    kind, _, size = spec.partition(":")
    if spec == "char":
        return CharTokenizer.train(texts)
    if kind == "spm" and size.isdecimal():
        return SentencePieceTokenizer.train(texts, int(size), allow_smaller=allow_smaller)
    raise ValueError(
        f'"{spec}" is not a tokenizer; write "char", or "spm:SIZE" with a number, e.g. "spm:300".'
    )


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises FileNotFoundError or ValueError with a sentence that names the missing or damaged file.
    """
    path = Path(folder) / _INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: {folder} holds no tokenizer, so it is not a fine-tuned model."
        ) from None
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        raise ValueError(_damaged(path, "it is not JSON")) from None
    if not isinstance(info, dict) or info.get("type") not in ("char", "vocabulary", "spm"):
        raise ValueError(_damaged(path, 'its "type" is neither "char", "vocabulary" nor "spm"'))
    if info.get("version") != _FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format version {info.get('version')!r}, and this speechssl reads "
            f"version {_FORMAT_VERSION}: install the version that wrote it."
        )
    if info["type"] == "spm":
        return _load_sentencepiece(path.with_name(_MODEL_FILE), info)
    try:
        if info["type"] == "vocabulary":
            silent, uppercase = info.get("silent", []), info.get("uppercase", False)
            if not isinstance(silent, list) or not all(isinstance(s, str) for s in silent):
                raise ValueError("its silent symbols are not a list of strings")
            if not isinstance(uppercase, bool):
                raise ValueError('its "uppercase" is neither true nor false')
            return VocabularyTokenizer(info.get("symbols"), silent, uppercase=uppercase)  # type: ignore[arg-type]  # checked inside
        return CharTokenizer(info.get("symbols"))  # type: ignore[arg-type]  # checked inside
    except ValueError as error:
        raise ValueError(_damaged(path, str(error))) from None


def count_unknown(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, int]:
    """Characters of `texts` that the tokenizer lacks -> how often; the most frequent first."""
    counts = Counter(char for text in texts for char in tokenizer.unknown_characters(text))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def shared_symbols(new: Tokenizer, old: Tokenizer) -> list[int | None]:
    """For each symbol of `new` its id in `old`, None where `old` does not have it.

    A letter that `old` has in the other case only is the same sound, and taken: published models
    often write in capitals.
    """
    ids = {symbol: i for i, symbol in enumerate(old.symbols)}
    return [
        next((ids[form] for form in (s, s.upper(), s.lower()) if form in ids), None)
        for s in new.symbols
    ]


def ctc_min_frames(ids: Sequence[int]) -> int:
    """The fewest frames in which CTC can emit `ids`: one a token, and a blank between equal ones.

    (Graves et al. 2006, section 3.1: equal neighbours collapse unless a blank separates them.)
    """
    return len(ids) + sum(left == right for left, right in pairwise(ids))


# --- inside ---------------------------------------------------------------------------------------

_NO_TEXT = "A tokenizer cannot be trained: the transcripts are empty."


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


def _pieces(symbols: Sequence[str], ids: Sequence[int]) -> list[str]:
    """Ids to symbols; the blank or an id outside the vocabulary is an error of the caller."""
    for i in ids:
        if not BLANK_ID < i < len(symbols):
            raise ValueError(
                f"The id {i} spells no text: ids must be collapsed, without the blank "
                f"({BLANK_ID}), and below the vocabulary size {len(symbols)}."
            )
    return [symbols[i] for i in ids]


def _group(
    pieces: Sequence[str], starts: Sequence[bool], gaps: Sequence[bool]
) -> Iterator[TokenWord]:
    """Cut `pieces` into words: a gap belongs to no word, a start begins a new one."""
    begin = 0
    for i in range(len(pieces) + 1):
        if i == len(pieces) or gaps[i] or starts[i]:
            if begin < i:
                yield TokenWord("".join(pieces[begin:i]).removeprefix(WORD_MARK), begin, i)
            begin = i + 1 if i < len(pieces) and gaps[i] else i


def _train_sentencepiece(lines: Sequence[str], vocab_size: int) -> bytes:
    """At most `vocab_size` pieces; fewer where the lines do not give more."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocab_size,
        hard_vocab_limit=False,  # fewer pieces are an answer: the caller compares and says so
        character_coverage=1.0,
        split_by_unicode_script=False,
        normalization_rule_name="identity",  # the text is NFC already
        max_sentence_length=max(4192, *(len(line.encode()) + 1 for line in lines)),  # drop none
        num_threads=1,  # sums over threads would depend on the machine
        pad_id=BLANK_ID,
        pad_piece=BLANK,
        unk_id=UNKNOWN_ID,
        unk_piece=UNKNOWN,
        unk_surface=UNKNOWN,
        bos_id=-1,
        eos_id=-1,
        minloglevel=3,
    )
    return model.getvalue()


def _load_sentencepiece(path: Path, info: dict[str, Any]) -> SentencePieceTokenizer:
    try:
        model = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing, but {_INFO_FILE} beside it names a SentencePiece model."
        ) from None
    if hashlib.sha256(model).hexdigest() != info.get("sha256"):
        raise ValueError(_damaged(path, f"its checksum is not the one in {_INFO_FILE}"))
    try:
        return SentencePieceTokenizer(model)
    except ValueError as error:
        raise ValueError(_damaged(path, str(error))) from None


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged: {reason}; copy the model folder again."


def _write_info(folder: Path, info: dict[str, Any]) -> None:
    with writing(folder / _INFO_FILE) as file:
        file.write(json.dumps(info, ensure_ascii=False, indent=1) + "\n")
