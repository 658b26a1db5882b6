"""Files of text as people have them: which encoding it is."""

import codecs
import re
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
