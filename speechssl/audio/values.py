"""Arrays as waves: their values in [-1, 1], their channels mixed. Shapes: S samples, C channels."""

import numpy as np

from speechssl.audio.blocks import LOUDEST, mix_channels, scaled
from speechssl.audio.info import AudioError

MIN_RATIO = 16
"""An array of two dimensions has channels where one is so many times longer than the other."""


def as_wave(values: np.ndarray, name: str = "The wave") -> tuple[np.ndarray, list[str]]:
    """An array as a wave (S,) float32 in [-1, 1], and what was done to it: sentences.

    Args:
        values: (S,), (S, C) or (C, S). Floats have full scale at 1; beyond it they are divided by
            the largest. Integers of 8, 16 and 32 bits have it where their type ends (unsigned
            8 bits are around 128, as in a WAV).
        name: for the messages.

    Raises AudioError for another type or shape, for NaN, and for infinite or impossible values.
    """
    wave, notes = _in_scale(values, name), []
    if wave.ndim == 2 and max(wave.shape) >= MIN_RATIO * min(wave.shape) > 0:
        channels = wave if wave.shape[0] > wave.shape[1] else wave.T
        wave, note, _ = mix_channels(np.ascontiguousarray(channels), name)
        notes += note
    if wave.ndim != 1:
        raise AudioError(
            f"A wave must have the shape (samples,), got {values.shape}; of two dimensions the one "
            f"with the channels must be {MIN_RATIO} times shorter than the other."
        )
    if len(wave) == 0:
        return wave, notes
    peak = max(float(wave.max()), -float(wave.min()))
    if not peak < LOUDEST:  # NaN compares as False
        raise AudioError(f"{name} holds NaN or infinite samples, or impossible ones.")
    if peak > 1:
        notes.append(scaled(name, peak))
        wave = wave / np.float32(peak)
    return wave, notes


def _in_scale(values: np.ndarray, name: str) -> np.ndarray:
    """float32 with full scale at 1."""
    kind = values.dtype
    if kind.kind == "f":
        return np.asarray(values, dtype=np.float32)
    if kind.kind == "u" and kind.itemsize == 1:
        return (values.astype(np.float32) - 128) / np.float32(128)
    if kind.kind == "i" and kind.itemsize <= 4:
        return (values / float(-np.iinfo(kind).min)).astype(np.float32)
    raise AudioError(
        f"{name} is of {kind}, whose full scale nobody can tell: give floats in [-1, 1], or "
        "integers of 8, 16 or 32 bits."
    )
