"""Representations of a recording: the frames of any layer, and when they are.

A file gives ``NAME.npy`` (T, D) float32 and ``NAME.times.npy`` (T,) float64, the middle of each
frame in seconds. Layer 0 is the input of the first layer, layer K the output of the K-th.

Shapes: T frames, D width.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from speechssl.checkpoint import Checkpoint
from speechssl.device import Precision, autocast, pick_device
from speechssl.inference.recordings import MAX_CHUNK_S, Clip, as_clip, chunks


@dataclass(frozen=True)
class Features:
    """The frames of one layer."""

    frames: np.ndarray
    """(T, D) float32."""
    times_s: np.ndarray
    """(T,) float64, the middle of each frame in seconds of the recording."""
    layer: int


def extract(
    checkpoint: Checkpoint,
    source: str | Path | np.ndarray,
    layer: int = -1,
    *,
    precision: Precision = "fp32",
) -> Features:
    """The frames of `layer` (-1: the last) for a whole file, or a wave (S,) at the model's rate.

    Raises FileNotFoundError or AudioError for what cannot be read, and ValueError for a layer that
    the model does not have.
    """
    parts = list(extract_parts(checkpoint, as_clip(source), layer, precision))
    return Features(
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.times_s for part in parts]),
        parts[0].layer,
    )


def extract_parts(
    checkpoint: Checkpoint,
    clip: Clip,
    layer: int = -1,
    precision: Precision = "fp32",
    max_chunk_s: float = MAX_CHUNK_S,
) -> Iterator[Features]:
    """:func:`extract` in parts that follow each other.

    A recording up to `max_chunk_s` is heard whole, a longer one in chunks cut at quiet places, each
    without the others as context.
    """
    speech = checkpoint.speech
    number = check_layer(checkpoint, layer)
    device = pick_device()
    speech.to(device).eval()
    rate, hop = speech.config.sample_rate, speech.config.hop_samples
    for chunk in chunks(clip, rate, grid=hop, max_chunk_s=max_chunk_s):
        wave = torch.from_numpy(chunk.wave)[None].to(device)  # (1, S)
        lengths = torch.tensor([wave.shape[1]], device=device)
        with torch.inference_mode(), autocast(device, precision):
            out = speech(wave, lengths, keep_hidden=True)
        frames = out.hidden[number][0].float().cpu().numpy()  # (T, D)
        times_s = (chunk.start + hop * (np.arange(len(frames)) + 0.5)) / rate
        yield Features(frames, times_s, number)


def check_layer(checkpoint: Checkpoint, layer: int) -> int:
    """The number of the layer that is meant; ValueError where there is none such."""
    num_layers = checkpoint.speech.config.context.num_layers
    if layer == -1:
        return num_layers
    if not 0 <= layer <= num_layers:
        raise ValueError(
            f"The model has layers 0 (the input of the first) to {num_layers}, and -1 for the "
            f"last; got {layer}."
        )
    return layer


def write_features(parts: Iterator[Features], out: Path, name: str) -> tuple[int, int]:
    """Write ``out/NAME.npy`` and ``out/NAME.times.npy`` as the parts come -> (T, D).

    Both appear when they are whole. Memory is bounded by one part.
    """
    target = out / f"{name}.npy"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    seconds: list[np.ndarray] = []
    num_frames, width = 0, 0
    try:
        with fresh.open("wb") as file:
            for part in parts:
                if not seconds:
                    width = part.frames.shape[1]
                    _write_header(file, num_frames, width)
                file.write(np.ascontiguousarray(part.frames, dtype="<f4").tobytes())
                num_frames += len(part.frames)
                seconds.append(part.times_s)
            file.seek(0)
            _write_header(file, num_frames, width)
        np.save(out / f"{name}.times.npy", np.concatenate(seconds))
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)
    return num_frames, width


def _write_header(file: BinaryIO, num_frames: int, width: int) -> None:
    """The head of a .npy file; NumPy leaves room in it for the first dimension to grow."""
    description = {"descr": "<f4", "fortran_order": False, "shape": (num_frames, width)}
    np.lib.format.write_array_header_1_0(file, description)
