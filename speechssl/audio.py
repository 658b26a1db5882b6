"""Sound: probe, read (crop, mono, resample), write, and the cache of decoded waves.

Shapes: S samples, C channels. A wave is float32 in [-1, 1]. Everything soundfile opens is read: WAV
of any width, FLAC, Ogg Vorbis and Opus, MP3, AIFF, AU, CAF, W64. Decoding streams in blocks, so a
ten-hour recording costs no more memory than the part that was asked for.
"""

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechssl import shards

BLOCK_SAMPLES = 1 << 18
"""Samples that are decoded at once, all channels together (16 s at 16 kHz, one channel)."""

LOUDEST = float(1 << 31)
"""No sample is beyond it, not even 32-bit integers written as floats; 1e38 is a damaged file, and
turns to NaN in a filter."""

PREROLL_S = 1.0
"""Lossy decoders carry a state; after a seek they start this much earlier and throw it away."""

LOSSY = {"MP3", "MPEG", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}

# fmt: off
SUFFIXES = frozenset((
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".w64", ".caf", ".rf64", ".voc",
))
"""What soundfile opens."""

FOREIGN_SUFFIXES = frozenset((
    ".m4a", ".aac", ".wma", ".amr", ".3gp", ".webm", ".mka", ".mp2", ".ape", ".wv", ".sph",
))
"""Sound that soundfile may not open: listed too, so that it is named and not overlooked."""
# fmt: on


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


def list_audio(folder: str | Path) -> list[Path]:
    """Every recording below `folder`, sorted, found by its suffix; hidden files are left out.

    A folder that several names lead to (links, also to a folder that it lies in) is listed once, by
    its own name where that is below `folder`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}.")
    known = SUFFIXES | FOREIGN_SUFFIXES
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    roots = [folder]
    for root in roots:  # links after all that is no link
        for parent, subfolders, names in os.walk(root):
            stat = os.stat(parent)
            if (stat.st_dev, stat.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            roots += [
                Path(parent, name) for name in subfolders if os.path.islink(f"{parent}/{name}")
            ]
            found += [
                Path(parent, name)
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in known
            ]
    return sorted(found)


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


def resampled(
    mono: Iterable[np.ndarray], source_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Blocks (n,) float32 at one rate -> blocks at another, in bounded memory.

    Together they are the whole's length times the ratio, rounded.
    """
    import soxr

    resampler = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="HQ")
    heard = made = 0
    for block in mono:
        part = resampler.resample_chunk(block)
        heard, made = heard + len(block), made + len(part)
        yield part
    part = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    left = max(math.floor(heard * sample_rate / source_rate + 0.5) - made, 0)
    yield np.pad(part[:left], (0, left - min(left, len(part))))


def play_at(wave: np.ndarray, speed: float) -> np.ndarray:
    """(S,) float32 -> (S / speed,) float32: faster and higher above 1, as a tape does it (speed
    perturbation, Ko et al., Interspeech 2015)."""
    import soxr

    return soxr.resample(wave, speed, 1.0, quality="HQ").astype(np.float32, copy=False)


# ---- what lies above a telephone's band ---------------------------------------------------------

NARROW_HZ = 4000
"""What a telephone carries: a recording with nothing above is not what most models learned."""

NARROW_SHARE = 1e-6
"""Less of its energy than this above NARROW_HZ means that a recording once was narrow band."""

_FRAME_S, _FRAMES = 0.032, 64


class HighBand:
    """How much of a recording's energy lies above :data:`NARROW_HZ`, where its rate has room for
    it.

    Of each block up to 64 Hann frames of 32 ms are looked at, evenly spread, and added up over all
    blocks, so that silence has no say. Shapes: S samples, N frames.
    """

    def __init__(self, sample_rate: int) -> None:
        self._size = round(_FRAME_S * sample_rate)
        self._first = int(1.05 * NARROW_HZ * _FRAME_S) + 1  # past the skirt of the window
        self._has_room = sample_rate > 2.2 * NARROW_HZ
        self._window = np.hanning(self._size).astype(np.float32)
        self._above = self._total = 0.0

    def add(self, mono: np.ndarray) -> None:
        """The next block (S,) float32; one of less than 32 ms tells nothing."""
        if not self._has_room or len(mono) < self._size:
            return
        num = min(_FRAMES, len(mono) // self._size)
        starts = np.linspace(0, len(mono) - self._size, num).astype(int)
        frames = mono[starts[:, None] + np.arange(self._size)] * self._window  # (N, size)
        power = np.square(np.abs(np.fft.rfft(frames))).sum(axis=0)  # (size // 2 + 1,)
        self._above += float(power[self._first :].sum())
        self._total += float(power.sum())

    @property
    def share(self) -> float:
        """0 to 1; 1 where nothing can be told: no room above, only silence, or too short."""
        return self._above / self._total if self._total > 0 else 1.0

    @property
    def is_narrow(self) -> bool:
        return self.share < NARROW_SHARE


# ---- the cache ----------------------------------------------------------------------------------

CacheItem = tuple[Path, float, float | None]
"""``(path, start_s, duration_s)``, the arguments of :func:`read`."""

_CACHE_VERSION = 2


def read_item(item: CacheItem, sample_rate: int) -> np.ndarray:
    """:func:`read`, and AudioError where there is nothing to be heard in the part: no sample."""
    path, start_s, duration_s = item
    wave = read(path, sample_rate=sample_rate, start_s=start_s, duration_s=duration_s)
    if len(wave) == 0:
        raise AudioError(f"{path}: the part from {start_s:g} s on is too short to hold a sample.")
    return wave


class WaveCache:
    """Decoded, resampled waves as int16 in one memory-mapped file: reading item i costs a copy.

    Opus decodes at a few hundred times real time; an epoch that decodes every file again is bound
    by that. The cache takes 115 MB an hour at 16 kHz and is shared by all processes through
    the page cache. Two files per list of items lie in its folder, named by a fingerprint of the
    items (path and part) and the rate: `.i16` with the samples and `.json` with the lengths, what
    could not be read, and a digest of the recordings' sizes and times of change; the latter is
    written last, so that a cache that was not finished is never read. Other lists share the folder;
    to free the space, delete it.

    Opens its file on first use in each process, and pickles without it (DataLoader workers).
    """

    def __init__(
        self,
        items: Sequence[CacheItem],
        sample_rate: int,
        data: Path | None = None,
        contents: "_Contents | None" = None,
    ) -> None:
        """Use :meth:`build`. Without `data`: no cache, decode on each read."""
        self.sample_rate = sample_rate
        self.faults: dict[int, str] = contents.faults if contents else {}
        """What could not be read when the cache was made: item -> a sentence."""
        self._items = None if data else list(items)
        self._states = None if data else [file_state(path) for path, _, _ in items]
        self._data = data
        lengths = contents.lengths if contents else np.zeros(0, np.int64)
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])  # (N + 1,)
        self._samples: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        folder: str | Path,
        items: Sequence[CacheItem],
        sample_rate: int = 16000,
        *,
        progress: bool = False,
        num_threads: int = 2,
        keep: bool = False,
    ) -> "WaveCache":
        """The cache of `items` in `folder`: the one that is there when it fits, else a new one.

        Several processes may call this at once: one builds, the others wait for it. On a full
        or unwritable disk a warning is given and the waves are decoded on each read. Items that
        :func:`read_item` refuses are in `faults`. `keep`: a cache that is there stays as it is
        although recordings have changed or vanished since, so that a run goes on with what it
        heard.
        """
        folder = Path(folder)
        key = _fingerprint(items, sample_rate)
        data, index = folder / f"{key}.i16", folder / f"{key}.json"
        digest = None if keep else _digest_states(items)
        contents = _load_index(data, index, digest)
        if contents is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with _lock(folder / f"{key}.lock"):
                    contents = _load_index(data, index, digest)
                    if contents is None:
                        _need_space(folder, items, sample_rate)
                        contents = _fill(data, index, items, sample_rate, progress, num_threads)
            except OSError as error:
                warnings.warn(
                    f"No wave cache in {folder} ({error.strerror or error}); sound is decoded on "
                    "each read, which is slower.",
                    stacklevel=2,
                )
                return cls(items, sample_rate)
        return cls(items, sample_rate, data, contents)

    @classmethod
    def find(
        cls, folder: str | Path, items: Sequence[CacheItem], sample_rate: int = 16000
    ) -> "WaveCache":
        """The cache of `items` that is in `folder`, in whatever state the recordings are now; where
        there is none, one that decodes on each read. Writes nothing."""
        data = Path(folder) / f"{_fingerprint(items, sample_rate)}.i16"
        contents = _load_index(data, data.with_suffix(".json"), None)
        return cls(items, sample_rate, data if contents else None, contents)

    @property
    def path(self) -> Path | None:
        """The file with the samples; None where there is none, and each read decodes."""
        return self._data

    def __len__(self) -> int:
        return len(self._offsets) - 1 if self._items is None else len(self._items)

    def get(self, index: int) -> np.ndarray:
        """The wave (S,) float32 of item `index`, a new array: what `read` gives, to 16 bits.

        Raises the errors of :func:`read_item` for one of the `faults` and, where there is no cache,
        for a recording that is no longer what it was.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Item {index} of a wave cache of {len(self)} items.")
        if index in self.faults:
            raise AudioError(self.faults[index])
        if self._items is not None and self._states is not None:
            item = self._items[index]
            now = file_state(item[0])
            if now is not None and now != self._states[index]:
                raise AudioError(f"{item[0]} has changed since the work on it began.")
            # as from a cache, which may be there when the run goes on
            samples = _to_int16(read_item(item, self.sample_rate))
        else:
            if self._samples is None:
                self._samples = _map(self._data)
            samples = self._samples[self._offsets[index] : self._offsets[index + 1]]  # (S,)
        return np.asarray(np.multiply(samples, np.float32(2**-15), dtype=np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_samples": None}


def _to_int16(wave: np.ndarray) -> np.ndarray:
    """(S,) float32 in [-1, 1] -> (S,) int16."""
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype("<i2")


def _map(data: Path | None) -> np.ndarray:
    """(all samples,) int16, read-only; an empty file cannot be mapped."""
    if data is None or data.stat().st_size == 0:
        return np.zeros(0, np.int16)
    return np.asarray(np.memmap(data, dtype="<i2", mode="r"))


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a cache's index says."""

    lengths: np.ndarray
    """(N,) int64 samples; 0 for what could not be read."""
    faults: dict[int, str]


def _fingerprint(items: Sequence[CacheItem], sample_rate: int) -> str:
    digest = hashlib.blake2b(repr((_CACHE_VERSION, sample_rate)).encode(), digest_size=12)
    for path, start_s, duration_s in items:
        key = (os.path.abspath(path), start_s, duration_s)
        digest.update(repr(key).encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None where there is no such file."""
    try:
        stat = os.stat(shards.file_of(path))
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _digest_states(items: Sequence[CacheItem]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for path in dict.fromkeys(path for path, _, _ in items):
        digest.update(repr(file_state(path)).encode())
    return digest.hexdigest()


def _load_index(data: Path, index: Path, digest: str | None) -> _Contents | None:
    """A finished cache of recordings in the state `digest` (None: in any); None when there is
    none."""
    try:
        told = json.loads(index.read_text())
        lengths = np.array(told["num_samples"], dtype=np.int64)
        faults = {int(item): reason for item, reason in told["faults"].items()}
        fits = digest in (None, told["recordings"]) and len(faults) == np.sum(lengths == 0)
        if not fits or data.stat().st_size != 2 * int(lengths.sum()):
            return None
        return _Contents(lengths, faults)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None


def _need_space(folder: Path, items: Sequence[CacheItem], sample_rate: int) -> None:
    needed = sum(2 * sample_rate * (duration_s or 0) for _, _, duration_s in items)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"it needs {needed / 1e9:.1f} GB and the disk has less")


def _fill(
    data: Path,
    index: Path,
    items: Sequence[CacheItem],
    sample_rate: int,
    progress: bool,
    num_threads: int,
) -> _Contents:
    from tqdm import tqdm

    def decode(item: CacheItem) -> np.ndarray | str:
        try:
            return _to_int16(read_item(item, sample_rate))
        except (AudioError, OSError) as error:
            return str(error)

    part = data.with_suffix(f".{os.getpid()}.part")
    recordings = _digest_states(items)  # before they are read: a later change is seen next time
    lengths: list[int] = []
    faults: dict[int, str] = {}
    try:
        with part.open("wb") as file, ThreadPoolExecutor(num_threads) as threads:
            waves = _ordered(threads, decode, items, window=4 * num_threads)
            for wave in tqdm(
                waves, "decoding", len(items), unit="rec", disable=not progress, file=sys.stderr
            ):
                if isinstance(wave, str):
                    faults[len(lengths)] = wave
                    lengths.append(0)
                    continue
                file.write(wave.tobytes())
                lengths.append(len(wave))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, data)
        part.write_text(
            json.dumps({"num_samples": lengths, "faults": faults, "recordings": recordings})
        )
        os.replace(part, index)
    finally:
        part.unlink(missing_ok=True)
    return _Contents(np.array(lengths, dtype=np.int64), faults)


def _ordered(
    threads: ThreadPoolExecutor, work: Any, items: Sequence[CacheItem], window: int
) -> Iterator[np.ndarray | str]:
    """``map(work, items)`` on threads, in order, never more than `window` results ahead."""
    waiting: deque[Future[np.ndarray | str]] = deque()
    try:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the lock of a killed process is gone. None where there is no fcntl."""
    if sys.platform == "win32":
        yield  # two builders then write the same bytes twice, each into its own file
        return
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for old in path.parent.glob(f"{path.stem}.*.part"):
            old.unlink(missing_ok=True)  # left by a process that was killed
        yield
