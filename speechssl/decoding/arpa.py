r"""ARPA files: n-gram language models as text, from here and from other tools (KenLM, SRILM, ...).

What the tools do not agree on, and what is made of it:

- Tokens are separated by tabs and ASCII spaces, lines by ``\n``. Other white space (U+00A0,
  U+3000, U+2028) is part of a token. Tokens are brought to NFC, as every text here is.
- The unknown word is ``<unk>``, or ``<UNK>``, ``<oov>``, ``[UNK]``. Where it is missing
  or has no probability, an unknown word gets a tenth of the least probable word's: its cost is
  bounded, and it loses against every word that sounds the same. (KenLM's log10 of -100 forbids it,
  SRILM leaves it out of a perplexity.)
- A model of characters has a token for the space: :data:`SPACES`, which becomes the mark that ours
  have. Without any, spaces are free (:mod:`speechssl.decoding.beam`).
- Without ``</s>`` the end of a text is free.
"""

import bz2
import gzip
import io
import lzma
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from speechssl.decoding.ngram import (
    BEGIN,
    END,
    LN10,
    NEVER,
    UNKNOWN_WORD,
    Ngram,
    NgramLM,
    NgramTable,
    Unit,
)
from speechssl.files import replacing
from speechssl.text import SPACE, WORD_MARK

SPACES = frozenset(
    [WORD_MARK, SPACE, "<space>", "<sp>", "[space]", "<|space|>", "|", "_", "\u2423", "\u23b5"]
)
"""Tokens for the space, in capitals too; white space as a token is one as well."""

_UNIT = "# unit="
_WHITE = " \t\r\n"
_SPECIAL = {
    **dict.fromkeys(("<unk>", "<oov>", "[unk]"), UNKNOWN_WORD),
    BEGIN: BEGIN,
    END: END,
}
"""Names of other tools, in lower case."""
_SECTION = re.compile(r"\\(\d{1,2})-grams:")
_COUNT = re.compile(r"ngram\s+(\d{1,2})\s*=\s*(\d{1,15})")
_PIECE = re.compile(r"▁.|##.|Ġ.|.*(@@|</w>)$")
_MOST_PIECES = 0.1  # of the words, from which on they are taken for pieces of words
_COMMON = -1.5  # log10 of a token that stands between words: no word but a space is so frequent
_NO_PROBABILITY = -90.0  # log10; tools give -99 or -100 to what they have not counted

_ARPA_ADVICE = "give the ARPA file that it was built from"
_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"mmap lm http://kheafield.com/code", f"it is a binary file of KenLM: {_ARPA_ADVICE}"),
    (b"SRILM_BINARY_NGRAM", f"it is a binary file of SRILM: {_ARPA_ADVICE}"),
    (b"blmt", f"it is a binary file of IRSTLM: {_ARPA_ADVICE}"),
    (b"Qblmt", f"it is a binary file of IRSTLM: {_ARPA_ADVICE}"),
    (b"iARPA", "it is IRSTLM's own form: convert it with compile-lm --text=yes"),
    (b"qARPA", "it is IRSTLM's own form: convert it with compile-lm --text=yes"),
    (b"\xd6\xfd\xb2\x7e", f"it is an OpenFst transducer: {_ARPA_ADVICE}"),
    (b"\xff\xfe", "it is in UTF-16: save it in UTF-8"),
    (b"\xfe\xff", "it is in UTF-16: save it in UTF-8"),
    (b"PK\x03\x04", "it is a zip archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it, or compress it with gzip"),
    (b"version https://git-lfs", "it is a pointer of Git LFS: fetch the file with git lfs pull"),
    (b"<!DOCTYPE html", "it is a web page: download the file itself"),
    (b"<html", "it is a web page: download the file itself"),
)
_COMPRESSED: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


LONGEST_LINE = 1 << 20
"""Bytes: a small compressed file may hold a line of many GB."""


class _LineError(ValueError):
    """Why a line cannot be read."""


def write_arpa(lm: NgramLM | NgramTable, path: Path) -> None:
    """Gzip where the name ends in .gz."""
    sizes = lm.sizes()
    opener: Any = gzip.open if path.name.endswith(".gz") else open
    with replacing(path) as part, opener(part, "wt", encoding="utf-8", newline="\n") as file:
        # What stands before the data is a comment; KenLM wants the sign.
        file.write(f"{_UNIT}{lm.unit}\n\n\\data\\\n")
        file.writelines(f"ngram {n}={num}\n" for n, num in enumerate(sizes, start=1))
        for n in range(1, lm.order + 1):
            file.write(f"\n\\{n}-grams:\n")
            for gram, log_prob, weight in lm.rows(n):
                behind = f"\t{weight / LN10:.7g}" if n < lm.order else ""
                prob = max(log_prob / LN10, NEVER)
                file.write(f"{prob:.7g}\t{' '.join(gram)}{behind}\n")
        file.write("\n\\end\\\n")


def read_arpa(path: Path) -> NgramLM:
    """An ARPA file, plain or compressed by gzip, bzip2 or xz.

    Its unit is what :func:`write_arpa` put at its head; in a file of another tool the character
    where every token is one, else the word. Raises FileNotFoundError, or ValueError that names the
    line, or what the file is instead.
    """
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: name the ARPA file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no language model {path}.")
    content = _Content()
    with path.open("rb") as file:
        try:
            with _unpacked(file) as lines:
                content.read(lines)
        except (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            ours = isinstance(error, _LineError)
            reason = str(error) if ours else f"its data are damaged ({error})"
            raise ValueError(
                f"{path} is not an ARPA language model: line {max(content.line, 1)} cannot be "
                f"read: {reason}."
            ) from error
    if missing := content.missing():
        raise ValueError(f"{path} is not a whole ARPA language model: {missing}.")
    try:
        return _adopt(content.entries, content.unit, path.name, content.behind)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}.") from None


class _Content:
    """What the lines of a file hold, as far as they have been read."""

    def __init__(self) -> None:
        self.line = 0
        self.unit = ""
        self.entries: dict[Ngram, tuple[float, float]] = {}
        self._promised: dict[int, int] = {}
        self._merged: Counter[int] = Counter()  # entries that were one with another
        self._size = 0  # of the n-grams of this section
        self.behind = 0  # lines after the end that are not blank
        self._begun = self._ended = self._composed = False

    def read(self, file: io.BufferedReader) -> None:
        """Raises :class:`_LineError` at ``self.line``."""
        lines = iter(partial(file.readline, LONGEST_LINE), b"")
        for self.line, data in enumerate(lines, start=1):
            if len(data) >= LONGEST_LINE:
                raise _LineError(f"it is longer than {LONGEST_LINE:,} bytes, as no n-gram is")
            try:
                line = data.decode("utf-8-sig" if self.line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise _LineError(
                    f"the byte 0x{byte:02X} is not UTF-8 (it may be Latin-1: convert it with iconv "
                    "-f latin1 -t utf-8)"
                ) from None
            if self._size and line[0] not in "\\ \t\r\n":
                self._add(line)
                continue
            text = line.strip(_WHITE)
            if self._size and text and text[0] != "\\":
                self._add(line)
            elif self._control(text):
                self._ended = True
                self.behind = sum(not line.isspace() for line in lines)
                return

    def _control(self, line: str) -> bool:
        r"""A line outside the sections, or one that begins one; is it ``\end\``?"""
        count, section = _COUNT.fullmatch(line), _SECTION.fullmatch(line)
        if line == "\\end\\":
            return True
        if line == "\\data\\":
            self._begun = True
        elif count and not self._size:
            self._begun = True
            self._promised[int(count[1])] = int(count[2])
        elif section and self._begun:
            self._size = int(section[1])
            if self._size not in self._promised:
                raise _LineError(f"no line promises {self._size}-grams")
        elif (self._size and line) or (self._begun and line.startswith(("ngram ", "\\"))):
            raise _LineError(f"{_shown(line)} is neither an n-gram nor the head of a section")
        elif line.startswith(_UNIT) and not self._begun:
            self.unit = line[len(_UNIT) :]
        return False

    def _add(self, line: str) -> None:
        line = line.rstrip("\r\n")
        # The tokens of longer n-grams are those of the 1-grams.
        if (self._size == 1 or self._composed) and not unicodedata.is_normalized("NFC", line):
            line, self._composed = unicodedata.normalize("NFC", line), True
        gram, values = _entry(line, self._size)
        if gram in self.entries:  # two forms of one word in NFC, or a mistake
            if not self._composed:
                raise _LineError(f"{_shown(' '.join(gram))} is there for the second time")
            first, weight = self.entries[gram]
            values = (min(math.log(math.exp(first) + math.exp(values[0])), 0.0), weight)
            self._merged[self._size] += 1
        self.entries[gram] = values

    def missing(self) -> str:
        """What a whole file would have, as a sentence; empty if it is whole."""
        if not self._begun:
            return (
                "it has no line \\data\\; if it is text, make a language model of it with "
                "speechssl lm"
            )
        if not self._ended:
            return f"the line \\end\\ is missing, and the file is cut off after line {self.line}"
        found = self._merged + Counter(map(len, self.entries))
        for n, promised in sorted(self._promised.items()):
            if promised != found[n]:
                return f"it promises {promised} {n}-grams and holds {found[n]}"
        return "" if self.entries else "it promises no n-gram and holds none"


@contextmanager
def _unpacked(file: io.BufferedReader) -> Iterator[io.BufferedReader]:
    """The lines of `file` without its compression; :class:`_LineError` for another format."""
    head = file.peek(8)
    opener = next((opener for magic, opener in _COMPRESSED if head.startswith(magic)), None)
    with file if opener is None else io.BufferedReader(opener(file)) as plain:
        head = plain.peek(4096)
        for magic, what in _FORMATS:
            if head[: len(magic)].lower() == magic.lower():
                raise _LineError(what)
        if opener and any(head.startswith(magic) for magic, _ in _COMPRESSED):
            raise _LineError("it is compressed more than once: unpack it")
        if b"\x00" in head and b"\\data\\" not in head:
            raise _LineError("it is a binary file, or text in UTF-16")
        yield plain


def _entry(line: str, size: int) -> tuple[Ngram, tuple[float, float]]:
    """``log10 probability, tokens, perhaps the weight behind`` in natural logarithms."""
    fields = line.split("\t")
    num = len(fields)
    gram = fields[1].split(" ") if 2 <= num <= 3 else []
    if len(gram) != size or "" in gram:
        fields, gram = _loose_fields(line, fields, size)
        num = len(fields)
    try:
        log_prob = _number(fields[0])
        weight = _number(fields[2] or "0") if num == 3 else 0.0
    except ValueError:
        raise _LineError(f"{_shown(line)} has no number where one belongs") from None
    if not log_prob <= 0:
        raise _LineError(f"a log10 probability is 0 at most, and here {log_prob}")
    if not weight <= -NEVER:
        raise _LineError(f"a log10 weight is {-NEVER:.0f} at most, and here {weight}")
    if log_prob < NEVER or weight < NEVER:  # also -inf
        log_prob, weight = max(log_prob, NEVER), max(weight, NEVER)
    return tuple(gram), (log_prob * LN10, weight * LN10)


def _number(text: str) -> float:
    """ValueError also for what Python alone takes for a number: ``1_0``, other scripts' digits."""
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)


def _loose_fields(line: str, fields: list[str], size: int) -> tuple[list[str], list[str]]:
    """The fields and tokens of a line that has spaces in another way than most files."""
    # Characters with one space between them, of which some are spaces themselves.
    if 2 <= len(fields) <= 3 and len(fields[1]) == 2 * size - 1:
        spaced = fields[1]
        if set(spaced[1::2]) <= {SPACE}:
            return fields, list(spaced[::2])
    parts = re.split("[ \t]+", line.strip(_WHITE))
    if len(parts) not in (size + 1, size + 2):
        raise _LineError(
            f"{_shown(line)} is not a log10 probability, {size} tokens and perhaps a weight"
        )
    return [parts[0], "", *parts[size + 1 :]], parts[1 : size + 1]


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else f"{line[:60]}...")


# --- names of other tools -------------------------------------------------------------------------


def _adopt(
    entries: dict[Ngram, tuple[float, float]], unit: str, name: str, behind: int = 0
) -> NgramLM:
    """The model with our names for the unknown word, the ends and the space; `behind` lines of the
    file are not used."""
    order = max(map(len, entries))
    has_space = True
    notes: list[str] = []
    if behind:
        notes.append(f"{name}: what comes after the line \\end\\ is not used ({behind} lines).")
    if unit not in get_args(Unit):
        words = [gram[0] for gram in entries if len(gram) == 1]
        renamed = dict(_special_names(words))
        rest = [word for word in words if word not in renamed and word not in (BEGIN, END)]
        unit = _unit({word: entries[(word,)][0] / LN10 for word in rest})
        if unit == "char":
            spaces = sorted(
                filter(_is_space, rest), key=lambda w: (w != WORD_MARK, -entries[(w,)][0])
            )
            has_space = bool(spaces)
            if spaces:
                renamed[spaces[0]] = WORD_MARK
            if spaces and (len(spaces) > 1 or spaces[0] in "|_"):
                notes.append(f"{name}: {spaces[0]!r} is taken for the space.")
        renamed = {theirs: ours for theirs, ours in renamed.items() if theirs != ours}
        if renamed:
            entries = {tuple(renamed.get(t, t) for t in g): v for g, v in entries.items()}
    elif unit == "char" and (long := [g[0] for g in entries if len(g) == 1 and _is_long(g[0])]):
        raise ValueError(f"it says that it counts characters, and has the token {long[0]!r}")
    if lost := [gram for gram in entries if any((token,) not in entries for token in gram)]:
        token = next(token for token in lost[0] if (token,) not in entries)
        notes.append(
            f"{name}: {len(lost)} n-grams are not used, as they hold tokens without a 1-gram, such "
            f"as {token!r}."
        )
    if (END,) not in entries:
        entries[(END,)] = (0.0, 0.0)
    unknown = entries.get((UNKNOWN_WORD,), (-math.inf, 0.0))
    if unknown[0] <= _NO_PROBABILITY * LN10:
        cost = _unknown_log_prob(entries)
        entries[(UNKNOWN_WORD,)] = (cost, unknown[1])
        what = "a word" if unit == "word" else "a character"
        notes.append(
            f"{name} has no probability for {UNKNOWN_WORD}: {what} that it does not know gets a "
            f"tenth of that of the least probable one (log10 {cost / LN10:.2f})."
        )
    return NgramLM(order, cast(Unit, unit), entries, has_space, tuple(notes))


def _special_names(words: list[str]) -> Iterator[tuple[str, str]]:
    """(their name, ours), the first of each of ours; ours itself comes first where it is there."""
    taken: set[str] = set()
    for word in sorted(words, key=lambda w: w not in (BEGIN, END, UNKNOWN_WORD)):
        ours = _SPECIAL.get(word.lower())
        if ours is not None and ours not in taken:
            taken.add(ours)
            yield word, ours


def _unit(words: dict[str, float]) -> Literal["char", "word"]:
    """What a file counts that does not say it, from the log10 probabilities of its tokens.

    ValueError if it is neither characters nor words.
    """
    counted = [word for word in words if not _is_space(word) and not _is_tag(word)]
    if counted and all(len(word) == 1 for word in counted):
        return "char"
    pieces = [word for word in counted if _PIECE.match(word)]
    spaced = any(_is_space(w) and p > _COMMON for w, p in words.items())
    if len(pieces) > _MOST_PIECES * len(counted) or spaced:
        some = ", ".join(repr(w) for w in (pieces or [w for w in counted if len(w) > 1])[:2])
        raise ValueError(
            f"it counts parts of words (such as {some}), and the decoder takes models of words or "
            "of single characters: make one with speechssl lm"
        )
    return "word"


def _is_space(token: str) -> bool:
    return token.lower() in SPACES or token.isspace()


def _is_tag(token: str) -> bool:
    """``<noise>``, ``[laughter]``."""
    return len(token) > 2 and (token[0], token[-1]) in (("<", ">"), ("[", "]"))


def _is_long(token: str) -> bool:
    return len(token) > 1 and token not in (BEGIN, END, UNKNOWN_WORD) and not _is_tag(token)


def _unknown_log_prob(entries: dict[Ngram, tuple[float, float]]) -> float:
    """A tenth of the least probable token's, natural logarithm."""
    known = [
        log_prob
        for gram, (log_prob, _) in entries.items()
        if len(gram) == 1 and gram[0] not in (BEGIN, END, UNKNOWN_WORD)
    ]
    listed = [p for p in known if p > _NO_PROBABILITY * LN10]
    return min(listed, default=0.0) - LN10
