"""The bytes of a recording, and the parts of it that a decoder is to be given.

A header may be wrong about what follows it, and a file may hold several recordings. A decoder is
then not given the file but a :class:`Part` of it: stretches of its bytes, with a corrected header
in front.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from speechssl.system import open_to_read, read_at

WINDOW = 1 << 20
"""Bytes that are looked at at once."""

_HEAD = 1 << 10
"""Bytes of a file that are read first: most headers end in them."""


class Source:
    """The bytes of a file or of memory, at any place. To be closed."""

    def __init__(self, place: Path | str | bytes, size: int | None = None) -> None:
        """`size`: of the file, where it is known."""
        if isinstance(place, bytes):
            self._fd, self._head, self.size = -1, place, len(place)
        else:
            self._fd = open_to_read(place)
            self._head = read_at(self._fd, _HEAD, 0)
            self.size = os.fstat(self._fd).st_size if size is None else size

    def at(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start` on; fewer only at the end."""
        if start + count <= len(self._head) or len(self._head) >= self.size:
            return self._head[start : start + count]
        count = min(count, self.size - start)
        parts = []
        while count > 0 and (part := read_at(self._fd, count, start)):
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def windows(self, start: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        """``(place, data)`` from `start` to the end, each with the end of the one before."""
        while start < self.size:
            data = self.at(start, WINDOW)
            yield start, data
            if start + len(data) >= self.size or len(data) <= overlap:
                return
            start += len(data) - overlap

    def find(self, pattern: bytes, start: int) -> int:
        """The first place of `pattern` from `start` on; -1 where there is none."""
        for place, data in self.windows(start, len(pattern) - 1):
            if (found := data.find(pattern)) >= 0:
                return place + found
        return -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def id3_size(head: bytes) -> int:
    """Bytes of the tag (ID3v2) that begins with these 10 bytes."""
    return 10 + sum((b & 127) << n for b, n in zip(head[6:10], (21, 14, 7, 0), strict=True))


@dataclass(frozen=True, slots=True)
class Part:
    """A recording in a file: what a decoder is to be given of it, and what its header claims."""

    pieces: tuple[bytes | tuple[int, int], ...] = ()
    """New bytes, and ``(start, end)`` of the file's. Empty: the file as it is."""
    count: bool = False
    """Whether only decoding it to its end tells its length."""
    stated_s: float | None = None
    """Seconds that its header states; None: it states none, or bytes only."""
    stated_ratio: float = 1.0
    """Bytes that its header states over those that are there: above 1, some are missing."""
    cut: bool = False
    """The file ends within it."""


class PartFile(io.RawIOBase):
    """A :class:`Part` as a file that a decoder can read and seek in. Closes its source."""

    def __init__(self, source: Source, part: Part) -> None:
        super().__init__()
        self._source, self._pieces = source, part.pieces
        self._starts = [0]
        for piece in part.pieces:
            size = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            self._starts.append(self._starts[-1] + size)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._starts[-1]}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        left = self._starts[-1] - self._place if size < 0 else size
        found = []
        while left > 0 and self._place < self._starts[-1]:
            index = self._piece_at(self._place)
            piece, inside = self._pieces[index], self._place - self._starts[index]
            count = min(left, self._starts[index + 1] - self._place)
            if isinstance(piece, bytes):
                data = piece[inside : inside + count]
            else:
                data = self._source.at(piece[0] + inside, count)
            if not data:  # the file has become shorter
                break
            found.append(data)
            self._place, left = self._place + len(data), left - len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()

    def _piece_at(self, place: int) -> int:
        return bisect_right(self._starts, place) - 1
