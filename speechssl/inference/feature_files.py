"""Representations on disk, a .npy file for each recording.

What is there is whole: a recording that cannot be read to its end leaves nothing behind, and a file
takes its name when it is complete. Memory is bounded by one part of a recording.

Shapes: T frames, D width.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from speechssl.inference.extract import Features


def write_features(parts: Iterator[Features], out: Path, name: str) -> tuple[int, int]:
    """Write ``out/NAME.npy`` and ``out/NAME.times.npy`` as the parts come -> (T, D)."""
    target, times = out / f"{name}.npy", out / f"{name}.times.npy"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, fresh_times = fresh_place(target), fresh_place(times)
    try:
        with fresh.open("wb") as file:
            first = next(parts)
            width = first.frames.shape[1]
            _write_header(file, 0, width)
            times_s = append_frames(itertools.chain([first], parts), file)
            file.seek(0)
            _write_header(file, len(times_s), width)
        with fresh_times.open("wb") as file:
            np.save(file, times_s)
        os.replace(fresh_times, times)
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)
        fresh_times.unlink(missing_ok=True)
    return len(times_s), width


def write_mean(parts: Iterator[Features], out: Path, name: str) -> tuple[int, int]:
    """Write the mean over all frames, (D,) float32, as ``out/NAME.npy`` -> (T, D)."""
    target = out / f"{name}.npy"
    vector, num_frames = mean_frame(parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = fresh_place(target)
    try:
        with fresh.open("wb") as file:
            np.save(file, vector)
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)
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


def fresh_place(target: Path) -> Path:
    """Where a file is written before it takes its name."""
    return target.with_name(f".{target.name}.part")


def _write_header(file: IO[bytes], num_frames: int, width: int) -> None:
    """The head of a .npy file; NumPy leaves room in it for the first dimension to grow."""
    description = {"descr": "<f4", "fortran_order": False, "shape": (num_frames, width)}
    np.lib.format.write_array_header_1_0(file, description)
