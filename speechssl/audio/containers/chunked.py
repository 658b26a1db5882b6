"""WAV, RF64, W64, AIFF, CAF and AU: where their sound ends, whatever a size in the header says.

A program that is ended, or writes into a pipe, leaves a size of 0 or of the part that it knew of.
The bytes behind the sound are then sound as well, unless they are another chunk, or another
recording that was joined to this one.
"""

import struct
from dataclasses import dataclass

from speechssl.audio.containers.source import Part, Source

UNKNOWN_SIZE = 0x7FFF0000
"""From here on a size of 32 bits is one that the writer did not know."""

PLAIN_HEAD = 44
"""Bytes in front of the sound of a WAV file that holds nothing else."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a container writes its chunks."""

    magic: tuple[bytes, ...]
    form_place: int
    """Where the name of the form stands."""
    forms: tuple[bytes, ...]
    first: int
    """Where the first chunk begins."""
    size_format: str
    sound: bytes
    """The chunk with the samples."""
    id_bytes: int = 4
    counts_head: bool = False
    """Whether a size includes the head of its chunk."""
    grid: int = 2
    """Chunks begin at multiples of it from the start of the file."""


_W64_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_KINDS = (
    _Kind((b"RIFF", b"RF64", b"BW64"), 8, (b"WAVE",), 12, "<I", b"data"),
    _Kind((b"RIFX",), 8, (b"WAVE",), 12, ">I", b"data"),
    _Kind((b"FORM",), 8, (b"AIFF", b"AIFC"), 12, ">I", b"SSND"),
    _Kind((b"caff",), 0, (b"caff",), 8, ">q", b"data", grid=1),
    _Kind(
        (b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000"),), 24, (b"wave" + _W64_END,), 40,
        "<q", b"data" + _W64_END, id_bytes=16, counts_head=True, grid=8,
    ),
)  # fmt: skip
_METADATA = frozenset(
    b"LIST bext cue  smpl id3  ID3  fact PEAK iXML JUNK junk FLLR PAD  axml levl DISP afsp inst "
    b"plst labl note acid strc _PMX SAUR minf elm1 regn umid cart chna slnt MARK NAME AUTH (c)  "
    b"ANNO COMT INST MIDI AESD APPL CHAN SAXL free info pakt strg uuid wsmp MD5  Xtra PAD".split(
        b" "
    )
)


def is_plain_wav(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` (:data:`PLAIN_HEAD` bytes) is a WAV of
    16-byte format and sound alone, whose size is right."""
    return (
        head[36:40] == b"data"
        and head[:4] == b"RIFF"
        and head[8:20] == b"WAVEfmt \x10\0\0\0"
        and int.from_bytes(head[40:44], "little") == size - PLAIN_HEAD < UNKNOWN_SIZE
    )


def find_parts(source: Source) -> list[Part] | None:
    """The recordings of a file; None where it is one, and as long as it says."""
    parts: list[Part] = []
    place: int | None = 0
    while place is not None and (kind := _kind(source, place)) is not None:
        part, place = _recording(source, place, kind)
        if part is None:
            break
        parts.append(part)
    fine = len(parts) == 1 and not parts[0].pieces and parts[0].stated_ratio == 1
    return None if not parts or fine else parts


def _kind(source: Source, place: int) -> _Kind | None:
    head = source.at(place, 40)
    for kind in _KINDS:
        if (
            head[:4]
            and head.startswith(kind.magic)
            and head[kind.form_place :].startswith(kind.forms)
        ):
            return kind
    return None


def _recording(source: Source, first: int, kind: _Kind) -> tuple[Part | None, int | None]:
    """The recording that begins at `first`, and where another one begins behind it."""
    head_size = kind.id_bytes + struct.calcsize(kind.size_format)
    place = first + kind.first
    size_place = 0
    large: int | None = None
    while True:
        head = source.at(place, head_size)
        if len(head) < head_size:
            return None, None  # no sound: the decoder says so
        name, size = head[: kind.id_bytes], _size(head, kind)
        if name == b"ds64":  # the sizes that 32 bits cannot hold
            size_place = place + 16
            large = int.from_bytes(source.at(size_place, 8), "little")
        if name == kind.sound:
            break
        if size < 0:
            return None, None
        place = _aligned(place + head_size + size, first, kind.grid)
    start = place + head_size
    there = source.size - start
    if large is not None and size == 0xFFFFFFFF:
        size, most, number = large, 1 << 62, struct.pack("<Q", there)
    else:
        size_place, most = place + kind.id_bytes, 1 << 62
        true_size = there + (head_size if kind.counts_head else 0)
        if struct.calcsize(kind.size_format) == 4:
            most, true_size = UNKNOWN_SIZE, min(true_size, 0xFFFFFFFF)
        number = struct.pack(kind.size_format, true_size)
    patched = ((first, size_place), number, (size_place + len(number), source.size))
    whole = () if first == 0 else ((first, source.size),)
    is_exact = kind.magic == (b"caff",) or large is not None  # the decoder takes no other size
    if not 0 <= size < most:
        return Part(patched if is_exact else whole), None
    if size > there:
        return Part(patched if is_exact else whole, stated_ratio=size / max(there, 1)), None
    behind = _behind(source, start + size, first, kind)
    if behind is None:  # more sound than the size says
        return Part(patched), None
    if behind >= source.size:
        return Part(whole), None
    return Part(((first, behind),)), behind


def _behind(source: Source, end: int, first: int, kind: _Kind) -> int | None:
    """Where what belongs to a recording ends: the end of the file, or another recording. None where
    what lies behind its sound is sound too."""
    width = struct.calcsize(kind.size_format)
    head_size = kind.id_bytes + width
    place = end if _kind(source, end) else _aligned(end, first, kind.grid)
    known = False
    while source.size - place >= 8:
        if _kind(source, place) is not None:
            return place
        head = source.at(place, head_size)
        name = head[:4]
        if not any(source.at(place, 64)) and _is_empty(source, place):
            return source.size
        if not all(32 <= byte < 127 for byte in name):
            return source.size if known else None
        size = _size(head.ljust(head_size, b"\0"), kind)
        if size < 0 or place + head_size + size > source.size + kind.grid:
            return source.size if known or name in _METADATA else None
        known = known or name in _METADATA
        place = _aligned(place + head_size + size, first, kind.grid)
    return source.size


def behind(source: Source, odd: int) -> int | None:
    """Where another recording begins in what follows the samples that the header of a WAV states:
    the size of `source` where there is none, None where it is sound, too. `odd`: whether it begins
    at an odd place."""
    return _behind(source, 0, odd, _KINDS[0])


def _is_empty(source: Source, place: int) -> bool:
    """Whether nothing but zeros follows: a file that was given its size beforehand."""
    return not any(any(data) for _, data in source.windows(place, 0))


def _size(head: bytes, kind: _Kind) -> int:
    size = int(struct.unpack(kind.size_format, head[kind.id_bytes :])[0])
    return size - len(head) if kind.counts_head else size


def _aligned(place: int, first: int, grid: int) -> int:
    return place + (first - place) % grid


def find_au_parts(source: Source) -> list[Part] | None:
    """AU has one size and nothing behind its sound, which may also be another recording."""
    parts: list[Part] = []
    first = 0
    while (head := source.at(first, 24))[:4] in (b".snd", b"dns.") and len(head) == 24:
        order = ">" if head[:4] == b".snd" else "<"
        offset, size = struct.unpack(order + "II", head[4:12])
        start = first + offset
        there = source.size - start
        number = struct.pack(order + "I", min(max(there, 0), 0xFFFFFFFF))
        patched = Part(((first, first + 8), number, (first + 12, source.size)))
        if size >= UNKNOWN_SIZE or there < 0:
            parts.append(patched)
            break
        if size > there:
            parts.append(Part(((first, source.size),), stated_ratio=size / max(there, 1)))
            break
        behind = start + size
        if source.at(behind, 4) in (b".snd", b"dns."):
            parts.append(Part(((first, behind),)))
            first = behind
            continue
        parts.append(patched if behind < source.size else Part(((first, source.size),)))
        break
    fine = len(parts) == 1 and len(parts[0].pieces) == 1 and parts[0].stated_ratio == 1
    return None if not parts or fine else parts
