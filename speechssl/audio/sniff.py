"""What a file is that cannot be opened as sound: its first bytes tell more than its name."""

import codecs
from dataclasses import dataclass

_SOUND: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "MPEG-4, as m4a, mp4 or mov"),
    (4, b"moov", "QuickTime"),
    (4, b"mdat", "QuickTime"),
    (0, b"\x1aE\xdf\xa3", "Matroska, as mkv or webm"),
    (0, bytes.fromhex("3026b2758e66cf11"), "Windows Media, as wma or wmv"),
    (8, b"AVI ", "an AVI video"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x0bw", "AC-3"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"TTA1", "True Audio"),
    (0, b".RMF", "RealMedia"),
    (0, b"FLV", "a Flash video"),
    (0, b"ajkg", "Shorten"),
    (0, b"NIST_1A", "NIST Sphere in a coding that is not read, as Shorten"),
    (0, b"ADIF", "AAC"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"OggS", "Ogg, in a coding that is not read, or damaged"),
)  # fmt: skip
"""Where some bytes stand, and the sound or film that begins so."""

_NO_SOUND: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WEBP", "a WebP picture"),
    (0, b"MThd", "MIDI, notes without sound"),
    (0, b"PK\x03\x04", "a zip archive, as docx and xlsx too"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "compressed with gzip"),
    (0, b"BZh", "compressed with bzip2"),
    (0, b"\xfd7zXZ\0", "compressed with xz"),
    (0, b"(\xb5/\xfd", "compressed with zstd"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"version https://git-lfs", "a Git LFS pointer, in place of the file itself"),
    (0, b"ooTextFile", "a Praat file"),
    (0, b"File type = \"ooTextFile", "a Praat file"),
)  # fmt: skip

NEEDED = 512
"""Bytes from the start that are looked at."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file is, for a sentence."""

    name: str
    is_sound: bool
    """Whether other programs can make a recording of it."""


def name_content(head: bytes) -> Content | None:
    """What a file with these first bytes is; None where nothing is known of it."""
    for table, is_sound in ((_SOUND, True), (_NO_SOUND, False)):
        for place, magic, name in table:
            if head[place:].startswith(magic):
                return Content(name, is_sound)
    text = _name_text(head)
    return None if text is None else Content(text, False)


def _name_text(head: bytes) -> str | None:
    if not head:
        return "empty"
    if not any(head):
        return "nothing but zero bytes at its start, as a copy or download leaves that did not end"
    text = _as_text(head)
    if text is None:
        return None
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        return "an html page, of a download that needs a login or another address"
    if start.startswith("<?xml"):
        return "an XML document"
    if start.startswith(("{", "[")):
        return "JSON or other text"
    return "text" if start else None


def _as_text(head: bytes) -> str | None:
    """Characters, where the bytes are some: UTF-8 (whose last character may be cut), or UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = head.decode("utf-16", errors="replace")
    else:
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            return None
    text = text.removeprefix("\ufeff")
    printable = sum(c.isprintable() or c.isspace() for c in text)
    return text if text and printable >= 0.95 * len(text) else None
