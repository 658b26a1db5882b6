"""Representations on disk, a .npy file for each recording.

What is there is whole: a recording that cannot be read to its end leaves nothing behind, and a file
takes its name when it is complete. Memory is bounded by one part of a recording.

Shapes: T frames, D width.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from speechssl.files import replacing
from speechssl.inference.extract import Features


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
