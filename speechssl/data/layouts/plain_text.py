"""Files of text as people have them: which encoding it is, and all that is wrong in one message."""

import codecs
import os
import re
from collections.abc import Sequence
from pathlib import Path

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and the encodings that they stand for."""

_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x19]")

BOM = "\ufeff"

MOST_LISTED = 10
"""Files that an error names at most."""


class Problems:
    """What is wrong with a file, line by line, raised all at once."""

    most = 20
    """No more are listed; a reader may stop at :attr:`full`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, sentence: str) -> None:
        """`sentence` has no full stop at its end."""
        self.found.append((line, sentence))

    @property
    def full(self) -> bool:
        """So many that the file is hardly what it was taken for."""
        return len(self.found) >= 50 * self.most

    def raise_if_any(self) -> None:
        """ValueError that names the file and each line, in the order of the lines."""
        if not self.found:
            return
        found = sorted(self.found, key=lambda problem: problem[0])
        if len(found) == 1:
            raise ValueError(f"{self.path}, line {found[0][0]}: {found[0][1]}.")
        lines = [f"  line {line}: {sentence}." for line, sentence in found[: self.most]]
        if len(found) > self.most:
            at_least = "at least " if self.full else ""
            lines.append(f"  ... and {at_least}{len(found) - self.most} more lines.")
        raise ValueError("\n".join([f"{self.path} has {len(found)} lines that are wrong:", *lines]))


def decode(data: bytes, path: Path) -> str:
    """The text of a file, without byte order marks; lines end in ``\\n``, however they ended.

    UTF-8, or UTF-16 and UTF-32 with a byte order mark; UTF-16 is found without one too. A mark at
    the beginning of a later line, where two files were joined, is left out as well. Raises
    ValueError, which names the encoding that it may be, for anything else.
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), None)
    try:
        text = data.decode(encoding or _without_mark(data))
    except UnicodeDecodeError as error:
        if encoding not in (None, "utf-8"):
            raise ValueError(
                f"{path} is not text in {encoding.upper()} ({error.reason})."
            ) from None
        raise ValueError(_not_utf8(data, path, error)) from None
    if encoding is None and len(_CONTROLS.findall(text)) * 20 > len(text):
        raise ValueError(
            f"{path} is not UTF-8 text: it is full of control characters. It may be UTF-16 without "
            "a byte order mark, or no text at all; save it as UTF-8."
        )
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if BOM in text:
        text = text.removeprefix(BOM).replace("\n" + BOM, "\n")
    return text


def peek(path: Path) -> str:
    """The beginning of a file, in the encoding that it seems to have; empty where it cannot be
    opened."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return ""
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), None)
    text = head.decode(encoding or _without_mark(head), errors="replace")
    return text.removeprefix(BOM).replace("\r\n", "\n").replace("\r", "\n")


def _without_mark(data: bytes) -> str:
    """UTF-16 leaves a zero byte beside each letter of the first 256; text in UTF-8 has none."""
    head = data[:4096]
    pairs = len(head) // 2
    if pairs and b"\0" in head:
        for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if head[first::2].count(0) > 0.4 * pairs and head[1 - first :: 2].count(0) == 0:
                return name
    return "utf-8"


def _not_utf8(data: bytes, path: Path, error: UnicodeDecodeError) -> str:
    """The sentence for text in an 8-bit encoding, of which there are many."""
    begin = max(data.rfind(white, 0, error.start) for white in (b" ", b"\t", b"\n", b",", b";")) + 1
    words = data[begin : begin + 100].replace(b",", b" ").replace(b";", b" ").split()
    try:
        word = words[0].decode("cp1252") if words else ""
        guess = f"it may be Windows-1252 (Latin-1, ANSI), in which this word would be {word!r}"
    except UnicodeDecodeError:
        guess = "it may be Windows-1250, Windows-1251 or another encoding of one byte a letter"
    line = data.count(b"\n", 0, error.start) + 1
    return (
        f"{path} is not UTF-8 text: the byte 0x{data[error.start]:02x} in line {line} cannot be; "
        f"{guess}. Save it as UTF-8 from a program that shows it rightly."
    )


def read_text(path: Path) -> str:
    """A whole file, white space at the ends removed; ValueError where it cannot be decoded."""
    return decode(path.read_bytes(), path).strip()


def read_lines(path: Path) -> list[str]:
    """The lines of a file; ValueError where it cannot be decoded."""
    lines = decode(path.read_bytes(), path).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


_NAMED = re.compile(r"trans|text|prompt|sentence|script|words|utterances|metadata")
_WORD = re.compile(r"[^\d_/:.]*[^\W\d_][^\d_/:.]*[.:]?")
"""A token of a sentence: letters, and no numbers, paths or times."""


def is_named_after_text(path: str | Path) -> bool:
    """Whether the name of a list or table says that it holds transcripts."""
    return bool(_NAMED.search(os.path.basename(path).lower()))


def are_transcripts(path: str | Path, texts: Sequence[str]) -> bool:
    """Whether `texts`, of the lines of a list, are what was said, and not speakers, durations or
    origins: the list's name says so, or most are several words, and most of their tokens words."""
    if is_named_after_text(path):
        return any(texts)
    tokens = [token for text in texts for token in text.split()]
    words = sum(bool(_WORD.fullmatch(token)) for token in tokens)
    return 2 * sum(" " in text for text in texts) >= len(texts) and words > 0.7 * len(tokens)
