"""What soundfile does not open, through PyAV (FFmpeg's libraries): m4a, mp4, mov, webm, mkv, 3gp,
wma, amr, aac, ac3, avi, flv, G.722. Of a video the first track of sound.

FFmpeg also opens playlists and scripts that name other files and addresses (ffconcat, m3u8, SDP).
Only the formats listed here are tried, and FFmpeg may open nothing: it is given the bytes of one
file. Shapes: S samples, C channels.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

FORMATS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "amr", "amrnb", "amrwb", "aac", "ac3"),
    *("eac3", "avi", "flv", "live_flv", "ogg", "caf", "wav", "mp3", "ape", "wv", "tta", "mpc"),
    *("mpc8", "dsf", "mpeg", "mpegts", "rm", "g722"),
)
"""Names of FFmpeg's demuxers that hold sound themselves and name nothing else."""

WITHOUT_HEADER = {".g722": "g722"}
"""Suffixes of codings that no first bytes tell, and soundfile does not know."""

LOSSLESS = frozenset(("FLAC", "ALAC", "APE", "WAVPACK", "TTA", "MLP", "TRUEHD"))
_STATE_LENGTH = frozenset(("MOV", "MATROSKA", "ASF"))
_LATE_S = 0.2
"""Containers count the silence that a coder puts before and behind the sound."""
_NO_LENGTH = 1 << 62


class MediaError(ValueError):
    """A file that PyAV does not open as sound; says why, without the file's name."""


def is_installed() -> bool:
    """Whether PyAV is there (the extra ``media``)."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class MediaDecoder:
    """One recording, whose blocks continue each other; the same as the `Decoder` of
    :mod:`speechssl.audio.opening` to those who read from it.

    Its length is not stated: containers round it, and count what coders add.
    """

    frames = _NO_LENGTH

    def __init__(self, place: Path | bytes, suffix: str = "") -> None:
        """`place`: a file, or the bytes of one; `suffix` of its name, with a dot.

        Raises MediaError where it is no sound that is read here, OSError where it cannot be read.
        """
        import av

        self._file = io.BytesIO(place) if isinstance(place, bytes) else place.open("rb")
        try:
            self._container: Any = av.open(
                self._file,
                format=WITHOUT_HEADER.get(suffix.lower()),
                options={
                    "format_whitelist": ",".join(FORMATS),
                    "protocol_whitelist": "none",  # nothing else is opened
                },
                metadata_errors="replace",
            )
            self._begin()
        except (av.FFmpegError, ValueError, IndexError) as error:
            self._file.close()
            raise MediaError(_reason(error)) from error
        except BaseException:
            self._file.close()
            raise

    def _begin(self) -> None:
        """Find the track of sound and decode its first block, which has its rate and channels."""
        streams = self._container.streams.audio
        if not streams:
            raise MediaError("there is no track of sound in it")
        self._stream = streams[0]
        self._why = ""
        self._blocks = self._decoded()
        first = next(self._blocks, None)
        if first is None:
            raise MediaError(self._why or "its sound cannot be decoded")
        self._rest = first
        self.channels = first.shape[1]
        self.samplerate = self._rate
        names = self._container.format.name.split(",")
        self.container = names[0].upper()
        self.coding = str(self._stream.codec_context.name).upper()
        self.format, self.subtype = self.container, self.coding
        self.is_lossy = self.coding not in LOSSLESS and not self.coding.startswith("PCM")

    @property
    def stated_s(self) -> float | None:
        """Seconds in the header of the track, less what a coder may have added; None: none."""
        stream, whole = self._stream, self._container
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif self.container in _STATE_LENGTH and len(whole.streams) == 1 and whole.duration:
            seconds = whole.duration / 1e6
        else:
            return None
        if self.container not in _STATE_LENGTH:  # FFmpeg's guess by the file's size
            return None
        seconds -= _LATE_S
        return seconds if math.isfinite(seconds) and 0 < seconds < 1e9 else None

    def next_block(self, most: int) -> tuple[np.ndarray, str]:
        """Up to `most` samples (S, C) float32, none at the end, and why the next ones do not decode
        (empty: they may)."""
        while not len(self._rest):
            block = next(self._blocks, None)
            if block is None:
                return np.zeros((0, self.channels), np.float32), self._why
            self._rest = block
        block, self._rest = self._rest[:most], self._rest[most:]
        return block, ""

    def go_to(self, first: int, preroll_s: float) -> None:  # noqa: ARG002  (all before is decoded)
        """The next block begins at sample `first`. All before it is decoded: most containers state
        times that are rounded to milliseconds."""
        left = first
        while left > 0:
            block, why = self.next_block(left)
            left -= len(block)
            if why or not len(block):
                return

    def goes_on_with(self, place: object, part: object) -> "MediaDecoder":
        """Of damage inside, which is FFmpeg's to pass over."""
        raise NotImplementedError

    def close(self) -> None:
        self._container.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decoded(self) -> Iterator[np.ndarray]:
        """Blocks (S, C) float32, all of the rate and channels of the first; `_why` says why there
        are no more. A packet that does not decode is left out, as players do."""
        import av

        resampler: Any = None
        form: Any = None
        layout: Any = None
        failed = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    failed += 1
                    self._damage = _reason(error)
                    continue
                for frame in frames:
                    if layout is None:
                        layout, self._rate = frame.layout.name, frame.sample_rate
                    if form != (frame.format.name, frame.layout.name, frame.sample_rate):
                        form = (frame.format.name, frame.layout.name, frame.sample_rate)
                        resampler = av.AudioResampler("flt", layout, self._rate)
                    frame.pts = None  # times with holes in them are not filled
                    yield from _arrays(resampler.resample(frame))
        except av.FFmpegError as error:
            self._why = _reason(error)
        except (OSError, ValueError) as error:
            self._why = str(error)
        if failed and not self._why and layout is None:
            self._why = self._damage


def _arrays(frames: Any) -> Iterator[np.ndarray]:
    """Packed float frames -> (S, C) float32."""
    for frame in frames:
        channels = frame.layout.nb_channels
        yield np.ascontiguousarray(frame.to_ndarray().reshape(-1, channels), dtype=np.float32)


def _reason(error: Exception) -> str:
    """FFmpeg's own words without number and file."""
    text = getattr(error, "strerror", None) or str(error)
    text = str(text).strip().rstrip(".")
    if not text or text.startswith(("Invalid data", "End of file", "Decoder not found")):
        return "it is damaged or cut off"
    return text
