"""Ogg: the streams that follow each other in a file, and where each of them ends (RFC 3533).

A file may be several streams one after the other ("chained"), of which a decoder reads the first.
It learns the length from the position that the last page states, which a file that was cut off, or
not finished, does not have or has wrong.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from speechssl.audio.containers.source import WINDOW, Part, Source

_CAPTURE = b"OggS"
_BOS, _EOS = 2, 4
_UNKNOWN = (1 << 64) - 1
_MAX_PACKET = 8192
"""Samples that a packet may hold at most: a long block of Vorbis (specification, 4.2.2); one of
Opus holds 120 ms, 5760 samples (RFC 6716, 3.2)."""


@dataclass(slots=True)
class _Page:
    start: int
    size: int
    """Bytes of the whole page."""
    flags: int
    position: int
    serial: int
    packets: int
    """Packets that end on it."""


@dataclass(slots=True)
class _Link:
    """One stream of sound, with the pages of others left out."""

    serial: int
    head: bytes
    """The beginning of its first packet."""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    packets: int = 0
    last: _Page | None = None
    """The last page with sound."""
    furthest: int = 0
    """The highest position of the pages before it."""
    has_others: bool = False

    def add(self, page: _Page) -> None:
        end = page.start + page.size
        if self.ranges and self.ranges[-1][1] == page.start:
            self.ranges[-1] = (self.ranges[-1][0], end)
        else:
            self.ranges.append((page.start, end))
        self.packets += page.packets
        if page.flags & _BOS or page.position == 0:  # a page of headers
            return
        if self.last is not None and self.last.position != _UNKNOWN:
            self.furthest = max(self.furthest, self.last.position)
        self.last = page

    @property
    def is_sound(self) -> bool:
        return self.head.startswith((b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   "))

    @property
    def is_doubtful(self) -> bool:
        """Whether the last page cannot be right about where the stream ends."""
        if self.last is None:
            return False
        most = self.furthest + _MAX_PACKET * max(self.packets, 1)
        return self.last.position == _UNKNOWN or not self.furthest <= self.last.position <= most

    @property
    def lacks_end(self) -> bool:
        """Whether it is of Opus, whose decoder takes the position of the last page for the end only
        where that page is marked as the last, and is not (RFC 7845, 4.4)."""
        last = self.last
        unmarked = last is not None and not last.flags & _EOS and not self.is_doubtful
        return unmarked and self.head.startswith(b"OpusHead")

    def seconds(self, position: int) -> float | None:
        """What a position means; None where that cannot be told."""
        if len(self.head) < 16 or position > _MAX_PACKET * max(self.packets, 1):
            return None  # also that of a stream that does not begin at 0
        if self.head.startswith(b"OpusHead"):
            return (position - int(struct.unpack_from("<H", self.head, 10)[0])) / 48000
        rate = int(struct.unpack_from("<I", self.head, 12)[0])
        return position / rate if self.head.startswith(b"\x01vorbis") and rate else None


def find_parts(source: Source) -> list[Part] | None:
    """The streams of an Ogg file; None where it is one, whole and as it says."""
    links: list[_Link] = []
    end = 0
    for page in _pages(source):
        if page.flags & _BOS:
            lacing = page.start + 27 + source.at(page.start + 26, 1)[0]
            new = _Link(page.serial, source.at(lacing, 32))
            if not links or links[-1].last is not None:
                links.append(new)
            elif page.serial != links[-1].serial:  # several streams at a time: sound and a picture
                if not links[-1].is_sound and new.is_sound:
                    links[-1] = new
                links[-1].has_others = True
        if not links:
            return None  # the beginning is missing: the decoder says so
        if page.serial == links[-1].serial:
            links[-1].add(page)
        end = page.start + page.size
    if not links:
        return None
    cut = end > source.size or source.at(end, 4) == _CAPTURE
    last = links[-1]
    parts = [_part(source, link, cut=cut and link is last) for link in links]
    plain = len(parts) == 1 and not parts[0].count and not parts[0].cut and not last.has_others
    plain = plain and not last.lacks_end
    return None if plain else parts


def _part(source: Source, link: _Link, *, cut: bool) -> Part:
    """The pages of a stream. Where the last one is cut or wrong, it is made anew from the packets
    that are whole, with a position behind all of them: the decoder then reads to the end."""
    last = link.last
    whole = last is not None and last.start + last.size <= source.size
    if last is not None and whole and link.lacks_end:
        page = _ended(source.at(last.start, last.size))
        if page:
            return Part((*_before(link, last), page), cut=cut)
    if last is None or (last.start + last.size <= source.size and not link.is_doubtful):
        ranges = [(start, min(end, source.size)) for start, end in link.ranges]
        damaged = last is not None and _is_damaged(source.at(last.start, last.size))
        stated_s = link.seconds(last.position) if last is not None and damaged else None
        return Part(tuple(ranges), stated_s=stated_s, cut=cut or damaged)
    pieces: list[bytes | tuple[int, int]] = _before(link, last)
    position = min(link.furthest + _MAX_PACKET * (last.packets + 1), _UNKNOWN - 1)
    if page := _renewed(source.at(last.start, last.size), position):
        pieces.append(page)
    stated_s = link.seconds(last.position) if cut else None
    return Part(tuple(pieces), count=True, stated_s=stated_s, cut=cut)


def _before(link: _Link, last: _Page) -> list[bytes | tuple[int, int]]:
    """The pages of a stream before its last one."""
    start, _ = link.ranges[-1]
    pieces: list[bytes | tuple[int, int]] = list(link.ranges[:-1])
    return [*pieces, (start, last.start)] if last.start > start else pieces


def _ended(page: bytes) -> bytes:
    """A page with the mark that it is the last one; empty where it is damaged."""
    if _is_damaged(page):
        return b""
    head = page[:5] + bytes((page[5] | _EOS,)) + page[6:22]
    return head + struct.pack("<I", _crc(head + bytes(4) + page[26:])) + page[26:]


def _renewed(data: bytes, position: int) -> bytes:
    """A page with the packets that are whole in `data`, its first bytes; empty where there is
    none."""
    lacing = data[27 : 27 + data[26]]
    if len(lacing) < data[26]:
        return b""
    room = len(data) - 27 - len(lacing)
    kept = size = total = 0
    for index, value in enumerate(lacing):
        total += value
        if total > room:
            break
        if value < 255:
            kept, size = index + 1, total
    if kept == 0:
        return b""
    first = 27 + len(lacing)
    head = data[:4] + bytes((data[4], data[5] & ~_EOS)) + struct.pack("<Q", position) + data[14:22]
    body = bytes((kept,)) + lacing[:kept] + data[first : first + size]
    return head + struct.pack("<I", _crc(head + bytes(4) + body)) + body


def _is_damaged(page: bytes) -> bool:
    """Whether a page is not what was written: decoders leave it out."""
    return page[22:26] != struct.pack("<I", _crc(page[:22] + bytes(4) + page[26:]))


def _pages(source: Source) -> Iterator[_Page]:
    """Every page in order, also the last one that is cut; bytes that are of none are skipped."""
    place = 0
    window, data = 0, source.at(0, WINDOW)
    while place + 27 <= source.size:
        at = place - window
        if at < 0 or (at + 282 > len(data) and window + len(data) < source.size):
            window, data, at = place, source.at(place, WINDOW), 0
        if data[at : at + 4] != _CAPTURE:
            found = data.find(_CAPTURE, at + 1)
            place = window + (found if found >= 0 else max(len(data) - 3, at + 1))
            continue
        flags, position, serial = struct.unpack_from("<BQI", data, at + 5)
        num = data[at + 26]
        lacing = data[at + 27 : at + 27 + num]
        size = 27 + num + sum(lacing)
        yield _Page(place, size, flags, position, serial, num - lacing.count(255))
        place += size


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _crc(data: bytes) -> int:
    """The checksum of a page (RFC 3533, 6): zlib's polynomial, from the other end of each byte."""
    found = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)
