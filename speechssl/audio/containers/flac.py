"""FLAC: the streams of a file, and whether a header is right about its length (RFC 9639)."""

from speechssl.audio.containers.source import Part, Source, id3_size

_MARKER = b"fLaC\x00\x00\x00\x22"
"""The marker and the head of STREAMINFO, which has 34 bytes and comes first (8.1)."""
_MARKER_LAST = b"fLaC\x80\x00\x00\x22"
"""The same where no other metadata follows."""
_TAIL = 1 << 16


def find_parts(source: Source) -> list[Part] | None:
    """The streams of a FLAC file; None where it is one, and as long as it says."""
    first = _start(source)
    if first is None:
        return None
    starts = [first]
    while (place := _next(source, starts[-1] + 42)) >= 0:
        starts.append(place)
    ends = [*starts[1:], source.size]
    parts = [_part(source, *limits) for limits in zip(starts, ends, strict=True)]
    return None if len(parts) == 1 and not parts[0].count else parts


def is_flac(source: Source) -> bool:
    """Whether there is a stream behind the tags."""
    return _start(source) is not None


def _start(source: Source) -> int | None:
    """Behind tags in front of it (ID3v2), which some programs write."""
    head = source.at(0, 10)
    place = 0
    if head[:3] == b"ID3" and len(head) == 10:
        place = id3_size(head)
    return place if source.at(place, 4) == b"fLaC" else None


def _next(source: Source, start: int) -> int:
    found = [source.find(marker, start) for marker in (_MARKER, _MARKER_LAST)]
    return min((place for place in found if place >= 0), default=-1)


def _part(source: Source, start: int, end: int) -> Part:
    info = source.at(start + 8, 34)
    if len(info) < 34:
        return Part(((start, end),))
    rate = int.from_bytes(info[10:13]) >> 4
    total = int.from_bytes(info[13:18]) & ((1 << 36) - 1)
    if total and _ends_at(source, start, end, int.from_bytes(info[:2]), total):
        return Part(((start, end),))
    unknown = info[:13] + bytes((info[13] & 0xF0,)) + bytes(4) + info[18:]
    pieces = ((start, start + 8), unknown, (start + 42, end))
    return Part(pieces, count=True, stated_s=total / rate if total and rate else None)


def _ends_at(source: Source, start: int, end: int, block_size: int, total: int) -> bool:
    """Whether one of the last frames is the one that ends at sample `total` (9.1)."""
    first = max(end - _TAIL, start + 42)
    data = source.at(first, end - first)
    for sync in (b"\xff\xf8", b"\xff\xf9"):
        place = data.rfind(sync)
        while place >= 0:
            frame = _frame(data[place : place + 16], block_size)
            if frame is not None and frame[1] == total:
                return True
            place = data.rfind(sync, 0, place)
    return False


def resume(source: Source, part: Part, sample: int) -> tuple[Part, int] | None:
    """What follows damage: the stream from the first frame on that begins at `sample` or behind it,
    and where that one begins; None where there is none."""
    limits = [piece for piece in part.pieces if isinstance(piece, tuple)]
    start, end = (limits[0][0], limits[-1][1]) if limits else (_start(source) or 0, source.size)
    info = source.at(start + 8, 34)
    for first, data in source.windows(start + 42, 16):
        place = data.find(b"\xff")
        while place >= 0:
            head = data[place : place + 16]
            frame = _frame(head, int.from_bytes(info[:2])) if head[1:2] in _SYNC_ENDS else None
            if frame is not None and frame[0] >= sample and first + place < end:
                front = b"fLaC\x80\0\0\x22" + info[:13] + bytes((info[13] & 0xF0,)) + bytes(4)
                return Part((front + info[18:], (first + place, end)), count=True), frame[0]
            place = data.find(b"\xff", place + 1)
    return None


_SYNC_ENDS = (b"\xf8", b"\xf9")


def _frame(head: bytes, block_size: int) -> tuple[int, int] | None:
    """The first sample of a frame and the one behind it, from its head; None where it is none."""
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0:
        return None
    number = _coded_number(head[4:])
    if number is None:
        return None
    value, size = number
    place, code = 4 + size, head[2] >> 4
    if code == 6:
        own, place = head[place] + 1, place + 1
    elif code == 7:
        own, place = int.from_bytes(head[place : place + 2]) + 1, place + 2
    else:
        own = {1: 192}.get(code) or (576 << (code - 2) if code < 6 else 256 << (code - 8))
    place += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return None
    begin = value if head[1] & 1 else value * block_size
    return begin, begin + own


def _coded_number(data: bytes) -> tuple[int, int] | None:
    """The number of the frame or sample, coded like a character in UTF-8, and its bytes (9.1.5)."""
    ones = 8 - (data[0] ^ 0xFF).bit_length()
    if ones == 0:
        return data[0], 1
    if ones in (1, 8) or len(data) < ones + 3:
        return None
    value = data[0] & (0x7F >> ones)
    for byte in data[1:ones]:
        value = value << 6 | byte & 0x3F
    return value, ones


def _crc8(data: bytes) -> int:
    found = 0
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found << 1 ^ (0x107 if found & 0x80 else 0)
    return found
