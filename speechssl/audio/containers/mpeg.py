"""MPEG audio (MP3): its frames, counted, since a header in the first one may tell another number.

A frame's size is in its head (ISO 11172-3, 2.4.2.3; 13818-3 for the lower rates), so that counting
costs a look at each. The number and size of all frames lie in an information frame in front, if an
encoder has put one there, and it is right only as long as nobody cuts or joins files. Without one
the decoder guesses from the size of the first frame.
"""

import struct
from dataclasses import dataclass, field

from speechssl.audio.containers.source import WINDOW, Part, Source, id3_size

# kbit/s by the index in the head (2.4.2.3 and table B.2 of 13818-3): (version 1, layer), others
_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SURE = 3
"""Frames that follow each other before a stretch of bytes is taken for sound."""


_TAGS = (b"Xing", b"Info", b"VBRI")


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first four bytes of a frame say."""

    kind: tuple[int, int, int, int]
    """Version, layer, samples a second, channels: what does not change within a stream."""
    size: int
    samples: int
    rate_index: int
    info_place: int
    """Where the information frame has its name: behind the side information."""


@dataclass(slots=True)
class _Run:
    """Frames of one kind that follow each other, behind at most one information frame."""

    head: _Head
    first: bytes
    """The four bytes of its first frame."""
    info: bytes = b""
    """The information frame."""
    frames: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    rate_indices: set[int] = field(default_factory=set)

    @property
    def num_bytes(self) -> int:
        return len(self.info) + sum(end - start for start, end in self.ranges)

    def stated(self, which: int) -> int | None:
        """Frames (1) or bytes (2) that the information frame states, itself not and included."""
        place = self.head.info_place
        if self.info[place : place + 4] in _TAGS[:2]:
            flags = _uint(self.info, place + 4)
            return (
                _uint(self.info, place + 8 + 4 * (which == 2 and flags & 1))
                if flags & which
                else None
            )
        return _uint(self.info, 50 if which == 1 else 46) if self.info else None


def find_parts(source: Source) -> list[Part] | None:
    """The runs of frames of a file; None where it is one, and as long as the decoder believes."""
    runs = [run for run in _runs(source) if run.frames]
    if not runs or (len(runs) == 1 and _is_as_stated(source, runs[0])):
        return None
    return [_part(run) for run in runs]


def is_frame(head: bytes) -> bool:
    """Whether these bytes begin a frame."""
    return _parse(head[:4]) is not None


def _is_as_stated(source: Source, run: _Run) -> bool:
    if len(run.ranges) > 1:
        return False
    if run.info:
        return run.stated(1) == run.frames and _size_is_right(run)
    if run.head.kind[1] == 3 and len(run.rate_indices) > 1:
        return False
    return abs(source.size * run.frames / run.num_bytes - run.frames) < 1  # the decoder's guess


def _size_is_right(run: _Run) -> bool:
    stated = run.stated(2)
    return stated is not None and abs(stated - run.num_bytes) <= 0.005 * run.num_bytes


def _part(run: _Run) -> Part:
    """The frames, behind an information frame with their true number and size."""
    if run.head.kind[1] != 3:  # others have none
        return Part(tuple(run.ranges))
    stated = run.stated(1) or 0
    missing = stated > run.frames and not _size_is_right(run)
    stated_s = stated * run.head.samples / run.head.kind[2] if missing else None
    return Part((_information(run, missing), *run.ranges), stated_s=stated_s, cut=missing)


def _information(run: _Run, missing: bool) -> bytes:
    """The information frame of a run, its numbers put right, or a new one. Where frames are missing
    at the end, what the encoder added there is missing too and is not to be taken away."""
    place = run.head.info_place
    flags = _uint(run.info, place + 4) if run.info[place : place + 4] in _TAGS[:2] else 0
    if flags & 3 == 3:
        info = bytearray(run.info)
        struct.pack_into(">II", info, place + 8, run.frames, run.num_bytes)
        trim = place + 16 + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1) + 21
        if missing and trim + 3 <= len(info):
            info[trim + 1] &= 0xF0
            info[trim + 2] = 0
        return bytes(info)
    for index in range(1, 15):
        head = bytes((*run.first[:2], index << 4 | run.first[2] & 0x0C, run.first[3]))
        parsed = _parse(head)
        if parsed is not None and parsed.size >= place + 16:
            break
    else:
        raise AssertionError("a frame of the highest rate has room for three numbers")
    size = parsed.size
    numbers = _TAGS[0] + struct.pack(">III", 3, run.frames, size + run.num_bytes)
    return (head + bytes(place - 4) + numbers).ljust(size, b"\0")


def _runs(source: Source) -> list[_Run]:
    """Every frame, in runs: a new one where the kind changes or an information frame stands."""
    runs: list[_Run] = []
    heads: dict[bytes, _Head | None] = {}
    window, data, marks = 0, b"", set[int]()
    start = place = 0  # of the frames that are not yet in a run
    count, in_step = 0, False
    run: _Run | None = None

    def close() -> None:
        if run is not None and count:
            run.frames += count
            run.ranges.append((start, place))

    while place + 4 <= source.size:
        at = place - window
        if at + _MAX_FRAME > len(data) and (not data or window + len(data) < source.size):
            window, data, at = place, source.at(place, WINDOW), 0
            marks = _marks(data, window)
        key = data[at : at + 4]
        head = heads.get(key)
        if head is None and key not in heads:
            head = heads[key] = _parse(key)
        if head is None or (not in_step and not _follow(source, place)):
            close()
            count, in_step = 0, False
            start = place = _next_frame(source, place)
            in_step = place < source.size
            continue
        in_step = True
        end = place + head.size
        if end > source.size:  # it is cut, and cannot be decoded
            break
        is_info = (
            bool(marks) and place in marks and _is_information(data[at : at + head.size], head)
        )
        if is_info or run is None or run.head.kind != head.kind:
            close()
            run, count = _Run(head, key), 0
            runs.append(run)
            start = place
            if is_info:
                run.info = data[at : at + head.size]
                start = place = end
                continue
        run.rate_indices.add(head.rate_index)
        count += 1
        place = end
    close()
    return runs


_MAX_FRAME = 4096
"""More than any frame: 144 * 448 kbit/s / 8 kHz, and Layer I less."""


def _marks(data: bytes, window: int) -> set[int]:
    """Where frames would begin whose information name is in `data`."""
    found: set[int] = set()
    for tag in _TAGS:
        place = data.find(tag)
        while place >= 0:
            found.update(window + place - offset for offset in (13, 15, 21, 23, 36, 38))
            place = data.find(tag, place + 1)
    return found


def _is_information(frame: bytes, head: _Head) -> bool:
    place = head.info_place
    named = frame[place : place + 4] in _TAGS[:2] and len(frame) >= place + 16
    return head.kind[1] == 3 and (named or (frame[36:40] == _TAGS[2] and len(frame) >= 54))


def _next_frame(source: Source, place: int) -> int:
    """Where the next frames begin that are surely some; the end of the file where nowhere."""
    head = source.at(place, 10)
    if head[:3] == b"ID3" and len(head) == 10:
        place += id3_size(head)
        if _follow(source, place):
            return place
    else:
        place += 1
    for first, data in source.windows(place, 3):
        at = data.find(b"\xff")
        while 0 <= at < len(data) - 3:
            if data[at + 1] >= 0xE0 and _parse(data[at : at + 4]) and _follow(source, first + at):
                return first + at
            at = data.find(b"\xff", at + 1)
    return source.size


def _follow(source: Source, place: int) -> bool:
    """Whether frames of one kind follow each other from `place` on, or up to the end."""
    kind = None
    for number in range(_SURE):
        head = _parse(source.at(place, 4))
        if head is None or kind not in (None, head.kind):
            return number > 0 and place + 128 >= source.size
        kind, place = head.kind, place + head.size
        if place >= source.size:
            return number > 0 or place == source.size
    return True


def _parse(key: bytes) -> _Head | None:
    """The head of a frame; None for four bytes that are none, or say no size."""
    if len(key) < 4 or key[0] != 0xFF or key[1] < 0xE0:
        return None
    version, layer = key[1] >> 3 & 3, 4 - (key[1] >> 1 & 3)
    index, rate_index, padding = key[2] >> 4, key[2] >> 2 & 3, key[2] >> 1 & 1
    if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    hertz = _HERTZ[version][rate_index]
    bits = 1000 * _RATES[version == 3, layer][index - 1]
    if layer == 1:
        samples, size = 384, (12 * bits // hertz + padding) * 4
    else:
        samples = 576 if layer == 3 and version != 3 else 1152
        size = samples // 8 * bits // hertz + padding
    mono, crc = key[3] >> 6 == 3, 2 * (not key[1] & 1)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Head((version, layer, hertz, 1 if mono else 2), size, samples, index, 4 + crc + side)


def _uint(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4])
