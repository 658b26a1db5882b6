"""Recordings on disk: probe, read, stream, write. Shapes: S samples, C channels."""

import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from speechssl import shards
from speechssl.audio.resample import resampled

BLOCK_SAMPLES = 1 << 18
"""Samples that are decoded at once, all channels together (16 s at 16 kHz, one channel)."""

LOUDEST = float(1 << 31)
"""No sample is beyond it, not even 32-bit integers written as floats; 1e38 is a damaged file, and
turns to NaN in a filter."""

PREROLL_S = 1.0
"""Lossy decoders carry a state; after a seek they start this much earlier and throw it away."""

LOSSY = {"MP3", "MPEG", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}


class AudioError(ValueError):
    """A file that cannot be used as sound; the message is one sentence that names the file."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a recording says."""

    path: Path
    sample_rate: int
    """Samples a second and channel, of the file itself."""
    num_samples: int
    """Samples of one channel."""
    channels: int
    format: str
    """Container as soundfile names it, e.g. ``WAV``."""
    subtype: str
    """Coding as soundfile names it, e.g. ``PCM_16``."""

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


def probe(path: str | Path) -> AudioInfo:
    """Read the header of `path`; FileNotFoundError or AudioError when that is not possible.

    A FLAC whose header states no length is decoded to its end, once as long as it does not change.
    """
    with _open(Path(path), str(path)) as file:
        return _info_of_file(file, Path(path))


def read(
    path: str | Path,
    *,
    sample_rate: int = 16000,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> np.ndarray:
    """The wave (S,) float32 in [-1, 1] of a recording or a part of it: mono, at `sample_rate`.

    Channels are averaged. S is ``round(n * sample_rate / source_rate)`` for the n source samples
    between `start_s` and ``start_s + duration_s`` (`duration_s` None: to the end).

    Raises FileNotFoundError for a missing file, and AudioError when the file is not sound, holds no
    samples, ends before the part that was asked for or before its own header says (a file cut
    off), does not decode, or holds NaN, infinite or impossible samples (see :data:`LOUDEST`).
    """
    info, blocks = stream(path, start_s=start_s, duration_s=duration_s)
    return _mono_at(blocks, info.sample_rate, sample_rate)


def read_bytes(data: bytes, name: str = "<stdin>", *, sample_rate: int = 16000) -> np.ndarray:
    """:func:`read` for a whole file in memory; `name` is used in messages."""
    file = _open(io.BytesIO(data), name)
    frames = _count_samples(file, name) if file.frames >= _NO_LENGTH else file.frames
    info = _info(file, Path(name), frames)
    return _mono_at(_blocks(file, info, name, 0, None), info.sample_rate, sample_rate)


def stream(
    path: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[AudioInfo, Iterator[np.ndarray]]:
    """The header, and blocks (S, C) float32 at the source rate; errors as in :func:`read`."""
    if not (0 <= start_s < 1e9 and (duration_s is None or 0 <= duration_s < 1e9)):
        raise ValueError(
            f"start_s and duration_s must be 0 or more and below 1e9, got {start_s} and "
            f"{duration_s}."
        )
    file = _open(Path(path), str(path))
    info = _info_of_file(file, Path(path))
    first = round(start_s * info.sample_rate)
    wanted = None if duration_s is None else round(duration_s * info.sample_rate)
    return info, _blocks(file, info, str(path), first, wanted)


def mix(block: np.ndarray) -> np.ndarray:
    """Channels (S, C) float32 -> mono (S,) float32, the mean of the channels."""
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    return np.asarray(block.mean(axis=1, dtype=np.float32))


def write(
    path: str | Path, wave: np.ndarray, sample_rate: int, subtype: str | None = "PCM_16"
) -> None:
    """Write a wave (S,) or (S, C) float to `path`; the suffix says the format (.wav, .flac, ...).

    `subtype` is soundfile's name of the coding; None takes the usual one of the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        soundfile.write(path, wave, sample_rate, subtype=subtype)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise AudioError(f"Cannot write {path}: {_why(error)}.") from error


# ---- decoding -----------------------------------------------------------------------------------


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file whose blocks continue each other.

    After every read soundfile seeks to where it already is, and a seek resets the decoder of MP3,
    Vorbis and Opus: blocks then differ from the whole at each border. It leaves that out for files
    that cannot seek, so this one says that it cannot; `seek` works all the same.
    """

    def seekable(self) -> bool:
        return False


def _open(source: Path | io.BytesIO, name: str) -> soundfile.SoundFile:
    if isinstance(source, Path) and (inside := _from_shard(source, name)) is not None:
        source = inside
    if isinstance(source, Path):
        if not os.path.exists(source):  # also for a name that no file can have
            raise FileNotFoundError(f"No such recording: {name}.")
        if source.is_dir():
            raise AudioError(f"{name} is a folder, not a recording.")
        if not source.is_file():
            raise AudioError(f"{name} is no file (a pipe?): give - and pipe the recording in.")
        if source.stat().st_size == 0:
            raise AudioError(f"{name} is empty (0 bytes).")
    try:
        return _SoundFile(source if isinstance(source, io.BytesIO) else _soundfile_name(source))
    except (soundfile.SoundFileError, TypeError) as error:
        raise AudioError(
            f"{name} cannot be opened as sound ({_why(error)}); wav, flac, ogg, opus and mp3 are "
            "read, anything else can be converted with `ffmpeg -i IN OUT.flac`."
        ) from error


def _from_shard(path: Path, name: str) -> io.BytesIO | None:
    try:
        data = shards.read_member(path)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise AudioError(f"{name} cannot be read: {error}") from error
    return None if data is None else io.BytesIO(data)


def _soundfile_name(path: Path) -> str | bytes:
    """Never an integer, which soundfile takes for an open file. Bytes where a file's name is made
    of them: soundfile fails on a str that stands for bytes that are not UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def _info_of_file(file: soundfile.SoundFile, path: Path) -> AudioInfo:
    frames = file.frames
    if frames >= _NO_LENGTH:
        frames = _count_samples_once(path, file_state(path))
    return _info(file, path, frames)


def _info(file: soundfile.SoundFile, path: Path, num_samples: int) -> AudioInfo:
    return AudioInfo(path, file.samplerate, num_samples, file.channels, file.format, file.subtype)


def file_state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None where there is no such file."""
    try:
        stat = os.stat(shards.file_of(path))
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=1 << 14)
def _count_samples_once(path: Path, _state: tuple[int, int] | None) -> int:
    """:func:`_count_samples` of a file in a state: a manifest may read it in many parts."""
    with _open(path, str(path)) as file:
        return _count_samples(file, str(path))


def _count_samples(file: soundfile.SoundFile, name: str) -> int:
    """The samples of a file without a stated length, of which the decoder alone finds the end."""
    most, count = max(BLOCK_SAMPLES // file.channels, 1), 0
    try:
        while block := len(file.read(most, dtype="float32", always_2d=True)):
            count += block
        file.seek(0)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name} cannot be decoded to its end ({_why(error)}).") from error
    return count


def _why(error: Exception) -> str:
    """soundfile's own words without the path that it repeats."""
    text = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
    return re.sub(r"^Error( opening .*?)? ?: ", "", text) or "the data is damaged"


def _blocks(
    file: soundfile.SoundFile, info: AudioInfo, name: str, first: int, wanted: int | None
) -> Iterator[np.ndarray]:
    """Blocks (S, C) float32 of ``[first, first + wanted)``; the file is closed at the end."""
    with file:
        if not 1000 <= info.sample_rate <= 1_000_000:
            raise AudioError(
                f"{name} claims {info.sample_rate} samples a second: its header is wrong."
            )
        _check_header(file, name)
        tolerance = _tolerance(info)
        available = max(info.num_samples - first, 0)
        if available == 0 and (wanted is None or wanted > 0):
            if first == 0:
                raise AudioError(f"{name} holds no samples.")
            raise _ends_early(name, info, first)
        if wanted is not None and wanted - available > tolerance:
            raise _ends_early(name, info, first + wanted)
        left = available if wanted is None else min(wanted, available)
        most = max(BLOCK_SAMPLES // info.channels, 1)
        try:
            _seek(file, info, first)
            while left > 0:
                block = file.read(min(left, most), dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                if not (block.max() < LOUDEST and block.min() > -LOUDEST):  # NaN compares as False
                    raise AudioError(f"{name} holds NaN or infinite samples, or impossible ones.")
                left -= len(block)
                yield block
        except soundfile.SoundFileError as error:
            raise AudioError(f"{name} cannot be decoded to its end ({_why(error)}).") from error
        if left > tolerance:
            raise AudioError(
                f"{name} is cut off: {left / info.sample_rate:.3f} s of the "
                f"{info.duration_s:.3f} s in its header are missing."
            )


def _ends_early(name: str, info: AudioInfo, wanted: int) -> AudioError:
    wanted_s = wanted / info.sample_rate
    return AudioError(f"{name} ends at {info.duration_s:.3f} s, before {wanted_s:.3f} s.")


def _seek(file: soundfile.SoundFile, info: AudioInfo, first: int) -> None:
    if first == 0:
        return
    lossy = info.format in LOSSY or info.subtype in LOSSY
    preroll = min(first, round(PREROLL_S * info.sample_rate)) if lossy else 0
    file.seek(first - preroll)
    if preroll:
        file.read(preroll, dtype="float32")


def _tolerance(info: AudioInfo) -> float:
    """Samples that may be missing at the end: headers of lossy files are off by a frame or two."""
    if info.format in LOSSY or info.subtype in LOSSY:
        return 0.1 * info.sample_rate
    return min(0.1 * info.sample_rate, 0.01 * info.num_samples)


_SHORT_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
_UNKNOWN_LENGTH = 0x7FFF0000  # written by programs that stream into a pipe
_NO_LENGTH = 1 << 62
"""soundfile's samples of a FLAC that states none, as encoders write it into a pipe (RFC 9639, 8.2:
total samples 0): the largest 64-bit number."""


def _check_header(file: soundfile.SoundFile, name: str) -> None:
    """soundfile shortens a cut-off WAV, AIFF or AU without a word, except in its log."""
    match = _SHORT_CHUNK.search(file.extra_info)
    if match is None:
        return
    promised, present = int(match[1]), int(match[2])
    if promised < _UNKNOWN_LENGTH and present < 0.99 * promised:
        raise AudioError(
            f"{name} is cut off: its header promises {promised} bytes of sound and has {present}."
        )


def _mono_at(blocks: Iterable[np.ndarray], source_rate: int, sample_rate: int) -> np.ndarray:
    """Blocks (S, C) at `source_rate` -> wave (S',) float32 in [-1, 1] at `sample_rate`."""
    if sample_rate <= 0:
        raise ValueError(f"sample_rate must be positive, got {sample_rate}.")
    mono = map(mix, blocks)
    if source_rate == sample_rate:
        parts = list(mono)
        wave = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    else:
        wave = np.concatenate(list(resampled(mono, source_rate, sample_rate)))
    return np.clip(wave, -1.0, 1.0, out=wave)
