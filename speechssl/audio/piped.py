"""A WAV of integers as it comes through a pipe: read once, block by block, without a file.

All that a file of it would tell is told: sizes that the writer did not know, that are too small or
too large, and other recordings behind it. Floats are not read so, as their peak in the whole file
scales them, nor are containers whose end is to be looked at first.

Shapes: S samples, C channels.
"""

import io
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, cast

import numpy as np

from speechssl.audio import opening
from speechssl.audio.blocks import Blocks
from speechssl.audio.containers import Source, chunked
from speechssl.audio.info import AudioError, AudioInfo
from speechssl.audio.resample import resampled

_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_IN_MEMORY = 1 << 20
"""Bytes behind the stated end that are kept in memory."""
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of a WAV says."""

    sample_rate: int
    channels: int
    width: int
    """Bytes of a sample: 1 to 4."""
    start: int
    """Where its samples begin."""
    size: int | None
    """Bytes of them; None: the writer did not know."""


@dataclass(frozen=True, slots=True)
class Piped:
    """A WAV that begins with `head` and goes on in `rest`, to be read once."""

    header: Header
    head: bytes
    rest: IO[bytes]


def piped_wav(head: bytes, rest: IO[bytes]) -> Piped | None:
    """A WAV of 8 to 32 bits, by the bytes that were read of it; None for anything else."""
    header = _header(head)
    return None if header is None else Piped(header, head, rest)


def _header(head: bytes) -> Header | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    place, form = 12, b""
    while place + 8 <= len(head):
        name, size = head[place : place + 4], int.from_bytes(head[place + 4 : place + 8], "little")
        if name == b"data":
            break
        if name == b"fmt ":
            form = head[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    if len(form) < 16 or head[place : place + 4] != b"data":
        return None
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", form[:16])
    is_pcm = tag == 1 or (tag == 0xFFFE and form[24:40] == _PCM_GUID)
    width = bits // 8
    if not (
        is_pcm and bits in (8, 16, 24, 32) and 0 < channels <= 64 and align == width * channels
    ):
        return None
    known = None if not size or size >= chunked.UNKNOWN_SIZE else size
    return Header(rate, channels, width, place + 8, known)


def stream_piped(piped: Piped, name: str) -> tuple[AudioInfo, Blocks]:
    """As :func:`speechssl.audio.stream`, once. How long it is, is not known: the information holds
    the most that it may be."""
    header = piped.header
    most = int(opening.MOST_S * header.sample_rate)
    decoder = PipedDecoder(piped, name)
    coding = ("", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")[header.width]
    info = AudioInfo(Path(name), header.sample_rate, most, header.channels, "WAV", coding)
    stretch = opening.Stretch(opening.Part(), most, most)
    opened = opening.Opened(b"", name, info, (stretch,), cast(opening.AnyDecoder, decoder), None)
    return info, _PipedBlocks(opened, decoder)


class _PipedBlocks(Blocks):
    """Blocks whose number is known at the end."""

    def __init__(self, opened: opening.Opened, decoder: "PipedDecoder") -> None:
        super().__init__(opened)
        self._piped = decoder

    def _note_missing(self, asked: int, got: int, why: str) -> None:  # noqa: ARG002
        name, rate = self._opened.name, self.info.sample_rate
        if got == 0:
            raise AudioError(f"{name} holds no samples.")
        if got >= asked:
            raise AudioError(opening.too_long(name, got / rate))
        stated_s, there_s = self._piped.stated_s, got / rate
        if stated_s is not None and stated_s - there_s > min(0.1, 0.01 * there_s):
            self.missing = opening.missing(name, there_s, stated_s)
            self.notes.append(self.missing)
        self.notes += self._piped.notes


class PipedDecoder:
    """The samples, as the `Decoder` of :mod:`speechssl.audio.opening` gives them."""

    is_lossy = False
    container = format = "WAV"

    def __init__(self, piped: Piped, name: str) -> None:
        header = piped.header
        self._header, self._name = header, name
        self._head: IO[bytes] = io.BytesIO(piped.head[header.start :])
        self._rest = piped.rest
        self.samplerate, self.channels = header.sample_rate, header.channels
        self.frames = opening.NO_LENGTH
        self.stated_s: float | None = None
        """Seconds of the header, where fewer bytes are there."""
        self.notes: list[str] = []
        self._folder: Any = None
        self._blocks = self._all()
        self._left = np.zeros((0, header.channels), np.float32)

    def next_block(self, most: int) -> tuple[np.ndarray, str]:
        """Up to `most` samples (S, C) float32, none at the end."""
        while not len(self._left):
            block = next(self._blocks, None)
            if block is None:
                return self._left, ""
            self._left = block
        block, self._left = self._left[:most], self._left[most:]
        return block, ""

    def go_to(self, first: int, preroll_s: float) -> None:  # noqa: ARG002  (it is read from 0 on)
        """A pipe is read from its beginning."""
        assert first == 0

    def goes_on_with(self, place: object, part: object) -> "PipedDecoder":
        """Of damage inside, which is none here."""
        raise NotImplementedError

    def close(self) -> None:
        self._blocks.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, count: int) -> bytes:
        data = self._head.read(count)
        return data if len(data) == count else data + (self._rest.read(count - len(data)) or b"")

    def _all(self) -> Iterator[np.ndarray]:
        """(S, C) float32 of all that comes."""
        size = self._header.size
        frame = self._header.width * self.channels
        got = 0
        while size is None or got < size:
            count = _BLOCK_BYTES // frame * frame
            data = self._read(count if size is None else min(count, size - got))
            if not data:
                break
            got += len(data)
            yield self._samples(data)
        if size is not None and got < size:
            self.stated_s = size / frame / self.samplerate
        if size is not None and got == size:
            yield from self._behind(got)

    def _samples(self, data: bytes) -> np.ndarray:
        """Bytes -> (S, C) float32; what is less than a sample of each channel is left out."""
        width = self._header.width
        data = data[: len(data) // (width * self.channels) * (width * self.channels)]
        if width == 1:
            values = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
        elif width == 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
        else:
            values = np.frombuffer(data, f"<i{width}").astype(np.float32)
            values /= np.float32(1 << (8 * width - 1))
        return values.reshape(-1, self.channels)

    def _behind(self, got: int) -> Iterator[np.ndarray]:
        """What follows the samples that the header states: more of them, another recording, or what
        is no sound (:func:`speechssl.audio.containers.chunked.behind`)."""
        place, size = self._spool()
        if not size:
            return
        with Source(place) as source:
            end = chunked.behind(source, (self._header.start + got) % 2)
        if end is None:
            with io.BytesIO(place) if isinstance(place, bytes) else place.open("rb") as file:
                while data := file.read(_BLOCK_BYTES // 48 * 48 * self.channels):
                    yield self._samples(data)
        elif end < size:
            yield from self._another(place, end)

    def _another(self, place: bytes | Path, start: int) -> Iterator[np.ndarray]:
        """The recordings from `start` on, at the rate and with the channels of the first."""
        if isinstance(place, bytes):
            place = place[start:]
        elif start:
            data = place.open("rb")
            data.seek(start)
            place = _copied(data, Path(self._folder.name) / "another", b"")
        name = self._name if isinstance(place, bytes) else str(place)
        try:
            opened = opening.open_recording(place, name)
            blocks = Blocks(opened)
            for block in resampled(blocks.mono(), opened.info.sample_rate, self.samplerate):
                yield np.repeat(block[:, None], self.channels, axis=1)
        except AudioError as error:
            raise AudioError(str(error).replace(name, self._name)) from error
        self.notes += [note.replace(name, self._name) for note in blocks.notes]

    def _spool(self) -> tuple[bytes | Path, int]:
        """The rest of the stream, in memory or in a file, and its bytes."""
        data = self._read(_IN_MEMORY + 1)
        if len(data) <= _IN_MEMORY:
            return data, len(data)
        self._folder = tempfile.TemporaryDirectory(prefix="speechssl-")
        rest = _Joined(self._head, self._rest)
        path = _copied(rest, Path(self._folder.name) / "behind", data)
        return path, path.stat().st_size


class _Joined(io.RawIOBase):
    """Two streams, one after the other."""

    def __init__(self, *streams: IO[bytes]) -> None:
        super().__init__()
        self._streams = streams

    def read(self, size: int = -1, /) -> bytes:
        return next((data for each in self._streams if (data := each.read(size))), b"")


def _copied(stream: Any, path: Path, first: bytes) -> Path:
    with stream, path.open("wb") as file:
        file.write(first)
        while data := stream.read(1 << 20):
            file.write(data)
    return path
