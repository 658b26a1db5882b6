"""What a browser draws and plays of a recording: peaks at several zooms, and a copy to seek in.

A browser would have to decode three hours to draw them, into 700 MB. Here they are decoded once, in
blocks, and what comes of it is kept in the cache folder for as long as the file stays the same.

Shapes: S samples, C channels, N peaks.
"""

import math
import threading
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import soundfile

from speechssl import audio
from speechssl.audio.info import file_state
from speechssl.caches import cache_subfolder
from speechssl.files import replacing

LEVELS = (10, 50, 200)
"""Peaks a second, rising; each divides the next."""
FOLDER = "desk"
VERSION = 1
"""Of what is kept; another one is made anew."""

MEDIA_TYPES = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "audio/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}
"""What browsers play, by the suffix."""
EXACT_CODINGS = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")
"""Of a WAV that browsers play, and seek in to the sample."""
MAX_WAV_BYTES = 4_000_000_000
"""A WAV states its length in 32 bits."""


@dataclass(frozen=True)
class Prepared:
    """What was made of a recording."""

    peaks: tuple[np.ndarray, ...]
    """Of each of LEVELS: (2, N) uint8, the largest sample of each stretch and the smallest one
    negated, 255 at full scale."""
    copy: Path | None
    """A 16-bit WAV of the same sound; None where the file itself is as good, or nothing can be
    kept."""


def is_exact(info: audio.AudioInfo) -> bool:
    """Whether a browser plays the file as it is and seeks in it to the sample. Of compressed files
    (mp3) it finds the place by guessing, and words would follow the sound too early or too late."""
    return (
        info.format in ("WAV", "WAVEX")
        and info.subtype in EXACT_CODINGS
        and info.channels <= 2
        and not info.problem
        and info.path.is_file()
    )


def media_type(path: Path) -> str | None:
    """For a browser; None where it plays no such file."""
    return MEDIA_TYPES.get(path.suffix.lower()) if path.is_file() else None


def key_of(path: Path) -> str:
    """The name in the cache of what is made of a file as it is now; FileNotFoundError without."""
    state = file_state(path)
    if state is None:
        raise FileNotFoundError(f"No such file: {path}.")
    return sha256(repr((VERSION, LEVELS, str(path.absolute()), state)).encode()).hexdigest()[:32]


class Preparer:
    """Makes what browsers need of recordings, each once, and keeps it in the cache folder."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._last: dict[str, Prepared] = {}  # of the few that were opened last

    def __call__(self, path: Path) -> Prepared:
        """Blocks while it is made: about a second for an hour. FileNotFoundError or AudioError
        where the file cannot be read."""
        key = key_of(path)
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if (made := self._last.get(key)) is None:
                made = kept(path) or _make(path, key)
                with self._guard:
                    self._last[key] = made
                    while len(self._last) > 4:
                        del self._last[next(iter(self._last))]
            return made


def kept(path: Path) -> Prepared | None:
    """What the cache has of a file; None where it lacks something."""
    folder, key = cache_subfolder(FOLDER), key_of(path)
    if folder is None:
        return None
    try:
        with (folder / f"{key}.npz").open("rb") as file, np.load(file) as data:
            peaks = tuple(data[f"peaks_{level}"] for level in LEVELS)
            has_copy = bool(data["has_copy"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    copy = folder / f"{key}.wav"
    return Prepared(peaks, copy if has_copy else None) if copy.exists() or not has_copy else None


def _make(path: Path, key: str) -> Prepared:
    folder = cache_subfolder(FOLDER)
    info, blocks = audio.stream(path)
    finest = _Peaks(info)
    if folder is None or is_exact(info):
        for block in blocks:
            finest.add(block)
        copy = None
    else:
        copy = folder / f"{key}.wav"
        stereo = min(info.channels, 2)
        channels = stereo if 2 * stereo * info.num_samples < MAX_WAV_BYTES else 1
        with (
            replacing(copy) as part,
            soundfile.SoundFile(
                part, "w", info.sample_rate, channels, subtype="PCM_16", format="WAV"
            ) as file,
        ):
            for block in blocks:
                finest.add(block)
                file.write(block[:, :2] if channels == stereo else block.mean(1))
    peaks = finest.levels()
    if folder is not None:
        with replacing(folder / f"{key}.npz") as part, part.open("wb") as target:
            names = (f"peaks_{level}" for level in LEVELS)
            arrays: dict[str, Any] = dict(zip(names, peaks, strict=True))
            np.savez(target, **arrays | {"has_copy": np.array(copy is not None)})
    return Prepared(peaks, copy)


class _Peaks:
    """The finest peaks while the blocks come."""

    def __init__(self, info: audio.AudioInfo) -> None:
        self._rate, self._done = info.sample_rate, 0
        self._size = 1 + self._place(info.num_samples)
        self._values = np.zeros((2, self._size), dtype=np.float32)

    def _place(self, sample: int) -> int:
        """The peak that a sample belongs to."""
        return sample * LEVELS[-1] // self._rate

    def add(self, block: np.ndarray) -> None:
        """The next block (S, C) float32."""
        if not len(block):
            return
        first, last = self._place(self._done), self._place(self._done + len(block) - 1)
        if last >= self._values.shape[1]:  # more than the header states
            grown = np.zeros((2, 2 * last), dtype=np.float32)
            grown[:, : self._values.shape[1]] = self._values
            self._values = grown
        places = np.arange(first, last + 1)
        begins = np.maximum(-(-places * self._rate // LEVELS[-1]) - self._done, 0)
        for row, values in zip(self._values, (block.max(1), -block.min(1)), strict=True):
            part = row[first : last + 1]
            np.maximum(part, np.maximum.reduceat(values, begins), out=part)
        self._done += len(block)

    def levels(self) -> tuple[np.ndarray, ...]:
        num = max(1, math.ceil(self._done * LEVELS[-1] / self._rate))
        values = self._values[:, :num]
        made = [np.rint(255 * values.clip(0, 1)).astype(np.uint8)]
        for finer, coarser in zip(LEVELS[:0:-1], LEVELS[-2::-1], strict=True):
            step = finer // coarser
            fine = made[0]
            padded = np.pad(fine, ((0, 0), (0, -fine.shape[1] % step)))
            made.insert(0, padded.reshape(2, -1, step).max(2))
        return tuple(made)
