"""Representations on disk, a .npy file for each recording.

What is there is whole: a recording that cannot be read to its end leaves nothing behind, and a file
takes its name when it is complete. Memory is bounded by one part of a recording.

Shapes: T frames, D width.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from speechssl.audio import AudioError
from speechssl.checkpoint import Checkpoint
from speechssl.device import Precision
from speechssl.files import replacing
from speechssl.inference.extract import Features, Layers, extract_all
from speechssl.inference.groups import GroupWork, audio_notes
from speechssl.inference.recordings import Clip


@dataclass(frozen=True)
class Written:
    """What was written of a recording."""

    num_frames: int = 0
    width: int = 0
    notes: tuple[str, ...] = ()
    """What is missing of it, or was changed: sentences."""
    error: AudioError | FileNotFoundError | None = None
    """Why nothing was."""


@dataclass(frozen=True)
class ExtractGroup:
    """Makes the work of :func:`speechssl.inference.groups.for_each_clip`, which writes files.

    Its items are a clip and the name of its files in `out`.
    """

    layers: Layers
    precision: Precision
    batch_s: float
    out: Path
    pool: bool
    """One vector for each recording, the mean of its frames."""

    def __call__(self, checkpoint: Checkpoint) -> GroupWork[tuple[Clip, str], Written]:
        write = write_mean if self.pool else write_features

        def work(items: tuple[tuple[Clip, str], ...]) -> list[Written]:
            clips = [clip for clip, _ in items]
            found = extract_all(
                checkpoint, clips, self.layers, precision=self.precision, batch_s=self.batch_s
            )
            written = []
            for (_, name), parts in zip(items, found, strict=True):
                num_frames, width, error = 0, 0, None
                with audio_notes() as notes:
                    try:
                        num_frames, width = write(parts, self.out, name)
                    except (AudioError, FileNotFoundError) as e:
                        error = e
                written.append(Written(num_frames, width, tuple(notes), error))
            return written

        return work


def read_features(out: Path, name: str, rows: int = 4096) -> Iterator[Features]:
    """What :func:`write_features` wrote, in parts of so many frames."""
    times_s = np.load(out / f"{name}.times.npy")
    with (out / f"{name}.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        (_, width), _, _ = np.lib.format.read_array_header_1_0(file)
        for start in range(0, len(times_s), rows):
            values = np.frombuffer(file.read(4 * rows * width), "<f4").reshape(-1, width)
            yield Features(values, times_s[start : start + rows], None)


def write_features(parts: Iterator[Features], out: Path, name: str) -> tuple[int, int]:
    """Write ``out/NAME.npy`` and ``out/NAME.times.npy`` as the parts come -> (T, D)."""
    with (
        replacing(out / f"{name}.npy") as place,
        replacing(out / f"{name}.times.npy") as times,
    ):
        with place.open("wb") as file:
            first = next(parts)
            width = first.frames.shape[1]
            _write_header(file, 0, width)
            times_s = append_frames(itertools.chain([first], parts), file)
            file.seek(0)
            _write_header(file, len(times_s), width)
        with times.open("wb") as file:
            np.save(file, times_s)
    return len(times_s), width


def write_mean(parts: Iterator[Features], out: Path, name: str) -> tuple[int, int]:
    """Write the mean over all frames, (D,) float32, as ``out/NAME.npy`` -> (T, D)."""
    vector, num_frames = mean_frame(parts)
    with replacing(out / f"{name}.npy") as place, place.open("wb") as file:
        np.save(file, vector)
    return num_frames, len(vector)


def append_frames(parts: Iterator[Features], file: IO[bytes]) -> np.ndarray:
    """Write the frames of all parts to `file` as float32 -> their times (T,)."""
    seconds: list[np.ndarray] = []
    for part in parts:
        file.write(np.ascontiguousarray(part.frames, dtype="<f4").tobytes())
        seconds.append(part.times_s)
    return np.concatenate(seconds)


def mean_frame(parts: Iterator[Features]) -> tuple[np.ndarray, int]:
    """The mean over all frames (D,) float32, and their number."""
    total: np.ndarray | None = None
    num_frames = 0
    for part in parts:
        own = part.frames.sum(axis=0, dtype=np.float64)
        total = own if total is None else total + own
        num_frames += len(part.frames)
    assert total is not None, "a recording has at least one frame"
    return (total / num_frames).astype(np.float32), num_frames


def _write_header(file: IO[bytes], num_frames: int, width: int) -> None:
    """The head of a .npy file; NumPy leaves room in it for the first dimension to grow."""
    description = {"descr": "<f4", "fortran_order": False, "shape": (num_frames, width)}
    np.lib.format.write_array_header_1_0(file, description)
