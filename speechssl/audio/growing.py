"""Sound that goes on growing: WAV or raw samples from a pipe, decoded as they come.

The size in a WAV's header is not believed: a program that writes into a pipe does not know it. It
tells only where metadata may begin behind the sound. Shapes: S samples, C channels.
"""

import io
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import soundfile

from speechssl.audio.blocks import LOUDEST, mix_channels
from speechssl.audio.containers.chunked import METADATA, UNKNOWN_SIZE
from speechssl.audio.info import AudioError
from speechssl.audio.sniff import NEEDED, name_content

BLOCK_S = 0.05
"""Channels are mixed and samples handed on in blocks of this length."""
IDLE_S = 3.0
"""A file that has not grown for so long has ended; a pipe says itself when it has."""
_POLL_S = 0.1
_RATES = (1000, 1_000_000)
_MOST_CHANNELS = 256
_LONGEST_HEADER = 1 << 20

CODINGS = {
    "u8": ("PCM_U8", "FILE", 1),
    "s8": ("PCM_S8", "FILE", 1),
    "mulaw": ("ULAW", "FILE", 1),
    "alaw": ("ALAW", "FILE", 1),
    **{
        f"{name}{order}": (subtype, "LITTLE" if order == "le" else "BIG", num_bytes)
        for name, subtype, num_bytes in (
            ("s16", "PCM_16", 2),
            ("s24", "PCM_24", 3),
            ("s32", "PCM_32", 4),
            ("f32", "FLOAT", 4),
            ("f64", "DOUBLE", 8),
        )
        for order in ("le", "be")
    },
}
"""Names of codings, as ffmpeg has them: soundfile's name, its order of bytes, bytes a sample."""

_OTHER_SOUND = ((b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3", "MP3"), (b"FORM", "AIFF"))
_WAV = (b"RIFF", b"RIFX", b"RF64", b"BW64")


@dataclass(frozen=True)
class RawFormat:
    """How samples without a header are to be read."""

    coding: str
    """One of :data:`CODINGS`."""
    sample_rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if self.coding not in CODINGS:
            raise ValueError(
                f"The coding of raw samples must be one of {', '.join(CODINGS)}, got "
                f"{self.coding!r}."
            )
        if not _RATES[0] <= self.sample_rate <= _RATES[1]:
            raise ValueError(
                f"A sample rate must be from {_RATES[0]} to {_RATES[1]} Hz, got {self.sample_rate}."
            )
        if not 1 <= self.channels <= _MOST_CHANNELS:
            raise ValueError(f"There must be 1 to {_MOST_CHANNELS} channels, got {self.channels}.")

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel."""
        return CODINGS[self.coding][2] * self.channels


def parse_raw(text: str) -> RawFormat:
    """``s16le:16000`` or ``f32le:48000:2``: coding, rate, channels; ValueError for another text."""
    coding, *numbers = text.split(":")
    if len(numbers) not in (1, 2) or not all(n.isascii() and n.isdecimal() for n in numbers):
        raise ValueError(
            "A raw format must be CODING:RATE or CODING:RATE:CHANNELS, such as s16le:16000, got "
            f"{text!r}."
        )
    return RawFormat(coding, *map(int, numbers))


class GrowingSound:
    """Reads its head at once, and the rest as :meth:`blocks` is asked for it."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        raw: RawFormat | None = None,
        *,
        name: str = "standard input",
        channel: int | None = None,
    ) -> None:
        """
        Args:
            read: gives up to so many bytes as soon as there are some; none at the end.
            raw: of samples without a header; None: it is a WAV.
            name: for messages.
            channel: the one to take, from 0; None: their mean.

        Raises AudioError for what is no WAV, or obviously no raw samples.
        """
        self._read, self._name, self._channel = read, name, channel
        self._ahead = b""  # what was read and not taken
        self._sound_bytes: int | None = None  # of a WAV that states them
        self._louder: int | None = None  # the channel that is taken where they cancel
        self.notes: list[str] = []
        """Sentences about what was left out or changed; complete at the end."""
        self.format = raw if raw is not None else self._wav_format()
        if raw is not None:
            self._check_raw()
        if channel is not None and channel >= self.format.channels:
            raise AudioError(f"{name} has {self.format.channels} channels, no channel {channel}.")

    @property
    def sample_rate(self) -> int:
        """Hz, of the source."""
        return self.format.sample_rate

    def blocks(self) -> Iterator[np.ndarray]:
        """(S,) float32 in [-1, 1], of 50 ms, the last one less; AudioError for NaN, infinite or
        impossible samples."""
        frame = self.format.frame_bytes
        size = max(round(BLOCK_S * self.sample_rate), 1) * frame
        pending, taken = b"", 0
        for data in self._sound():
            pending += data
            while len(pending) >= size:
                yield self._decoded(pending[:size], taken)
                pending, taken = pending[size:], taken + size
        if rest := len(pending) % frame:
            self.notes.append(
                f"{self._name} stops in the middle of a sample: its last {rest} bytes were left "
                "out."
            )
        if whole := len(pending) - rest:
            yield self._decoded(pending[:whole], taken)
        if not taken + whole:
            raise AudioError(f"{self._name} holds no samples.")

    def _decoded(self, data: bytes, before: int) -> np.ndarray:
        subtype, order, _ = CODINGS[self.format.coding]
        values, _ = soundfile.read(
            io.BytesIO(data),
            dtype="float32",
            always_2d=True,
            samplerate=self.sample_rate,
            channels=self.format.channels,
            format="RAW",
            subtype=subtype,
            endian=order,
        )  # (S, C)
        peak = float(np.abs(values).max(initial=0.0))
        if not peak < LOUDEST:  # NaN compares as False
            at_s = before / self.format.frame_bytes / self.sample_rate
            raise AudioError(
                f"{self._name} holds NaN or infinite samples, or impossible ones, at {at_s:.1f} s."
            )
        if peak > 1 and not any("full scale" in note for note in self.notes):
            self.notes.append(f"{self._name} has samples beyond full scale: they were limited.")
        if self._channel is not None:
            mono = np.ascontiguousarray(values[:, self._channel])
        else:
            mono, notes, channel = mix_channels(values, self._name)
            if notes and self._louder is None:
                self._louder = channel
                self.notes += notes
            if notes and self._louder != channel:  # one of them, or it would click
                mono = np.ascontiguousarray(values[:, self._louder])
        return np.clip(mono, -1.0, 1.0)

    def _sound(self) -> Iterator[bytes]:
        """The bytes of the samples, as they come."""
        while True:
            left = stated = self._sound_bytes
            while left != 0:
                data = self._take(1 << 16 if left is None else min(left, 1 << 16))
                if not data:
                    return
                left = None if left is None else left - len(data)
                yield data
            assert stated is not None
            if not self._goes_on(stated % 2):
                return

    def _goes_on(self, padding: int) -> bool:
        """Whether there is more sound behind a stated end: of another WAV, or what the header did
        not know of. Else it is metadata, or nothing."""
        head = self._exactly(8 + padding)
        if len(head) < 8 or head[padding : padding + 4] in METADATA:
            return False
        is_wav = head[padding : padding + 4] in _WAV
        self._ahead = head[padding if is_wav else 0 :] + self._ahead
        self._sound_bytes = None
        if is_wav and self._wav_format() != self.format:
            raise AudioError(
                f"{self._name} goes on with a WAV of another format: send one format throughout."
            )
        return True

    def _take(self, most: int) -> bytes:
        if not self._ahead:
            return self._read(most)
        data, self._ahead = self._ahead[:most], self._ahead[most:]
        return data

    def _exactly(self, count: int) -> bytes:
        """So many bytes; fewer at the end."""
        data = b""
        while len(data) < count and (more := self._take(count - len(data))):
            data += more
        return data

    def _wav_format(self) -> RawFormat:
        head = self._exactly(12)
        if head[:4] not in _WAV or head[8:12] != b"WAVE":
            raise AudioError(self._no_wav(head))
        order = ">" if head[:4] == b"RIFX" else "<"
        form: RawFormat | None = None
        large: int | None = None
        while True:
            start = self._exactly(8)
            if len(start) < 8:
                raise AudioError(f"{self._name} ends within its WAV header.")
            name, (size,) = start[:4], struct.unpack(order + "I", start[4:])
            if name == b"data":
                break
            if size > _LONGEST_HEADER:
                raise AudioError(f"{self._name} has a damaged WAV header.")
            content = self._exactly(size + size % 2)
            if name == b"ds64":  # the sizes that 32 bits cannot hold
                large = int.from_bytes(content[8:16], "little")
            if name == b"fmt ":
                form = self._format_of(content, order)
        if form is None:
            raise AudioError(f"{self._name} has a WAV header that does not tell its format.")
        if large and size == 0xFFFFFFFF:
            self._sound_bytes = large
        else:
            self._sound_bytes = size if 0 < size < UNKNOWN_SIZE else None
        return form

    def _format_of(self, content: bytes, order: str) -> RawFormat:
        if len(content) < 16:
            raise AudioError(f"{self._name} ends within its WAV header.")
        tag, channels, rate, _, _, bits = struct.unpack(order + "HHIIHH", content[:16])
        if tag == 0xFFFE and len(content) >= 26:  # WAVE_FORMAT_EXTENSIBLE
            (tag,) = struct.unpack(order + "H", content[24:26])
        ending = "le" if order == "<" else "be"
        codings = {
            (1, 8): "u8",
            (6, 8): "alaw",
            (7, 8): "mulaw",
            **{(1, width): f"s{width}{ending}" for width in (16, 24, 32)},
            **{(3, width): f"f{width}{ending}" for width in (32, 64)},
        }
        if (tag, bits) not in codings:
            raise AudioError(
                f"{self._name} is a WAV in a coding that is not read from a stream (format {tag}, "
                f"{bits} bits): {_CONVERT}"
            )
        try:
            return RawFormat(codings[tag, bits], rate, channels)
        except ValueError as error:
            raise AudioError(f"{self._name} has a wrong WAV header. {error}") from None

    def _no_wav(self, head: bytes) -> str:
        head += self._exactly(NEEDED - len(head))
        if not head:
            return f"{self._name} is empty."
        raw = "for samples without a header state their format, such as --raw s16le:16000."
        if (kind := _named(head, raw=False)) is not None:
            return f"{self._name} is no WAV but {kind}: {_CONVERT}"
        return f"{self._name} is no WAV: {raw}"

    def _check_raw(self) -> None:
        self._ahead = self._exactly(NEEDED)
        if not self._ahead:
            raise AudioError(f"{self._name} is empty.")
        if self._ahead.startswith(_WAV) and self._ahead[8:12] == b"WAVE":
            raise AudioError(f"{self._name} is a WAV, which states its format: leave out --raw.")
        if (kind := _named(self._ahead, raw=True)) is not None:
            raise AudioError(f"{self._name} holds no raw samples but {kind}: {_CONVERT}")


_CONVERT = "let `ffmpeg -i INPUT -f wav -` send it."


def _named(head: bytes, *, raw: bool) -> str | None:
    """What bytes are that are neither a WAV nor (where these are meant) raw samples."""
    for magic, name in _OTHER_SOUND:
        if head.startswith(magic):
            return name
    content = name_content(head)
    if content is None or not any(head) or (raw and content.is_sound):
        return None  # the marks of some codings have two bytes, which samples may have too
    return content.name


def reader_of(
    file: IO[bytes], *, follow: bool, idle_s: float = IDLE_S, poll_s: float = _POLL_S
) -> Callable[[int], bytes]:
    """`read` of :class:`GrowingSound` for an open file or pipe.

    With `follow` the end of a file is where it has not grown for `idle_s`. The file's own buffer,
    which waits until it is full and whose lock a thread would hold, is passed by.
    """
    try:
        source: IO[bytes] | io.FileIO = io.FileIO(file.fileno(), closefd=False)
    except (AttributeError, OSError):  # a stream of Python's own
        source = file
    once = getattr(source, "read1", source.read)

    def read(most: int) -> bytes:
        data = once(most) or b""
        waited_s = 0.0
        while not data and follow and waited_s < idle_s:
            time.sleep(poll_s)
            waited_s += poll_s
            data = once(most) or b""
        return data

    return read
