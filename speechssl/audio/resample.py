"""Waves at another sample rate."""

import math
from collections.abc import Iterable, Iterator

import numpy as np


def resampled(
    mono: Iterable[np.ndarray], source_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Blocks (n,) float32 at one rate -> blocks at another, in bounded memory.

    Together they are the whole's length times the ratio, rounded.
    """
    import soxr

    resampler = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="HQ")
    taken = made = 0
    for block in mono:
        part = resampler.resample_chunk(block)
        taken, made = taken + len(block), made + len(part)
        yield part
    part = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    left = max(math.floor(taken * sample_rate / source_rate + 0.5) - made, 0)
    yield np.pad(part[:left], (0, left - min(left, len(part))))


def play_at(wave: np.ndarray, speed: float) -> np.ndarray:
    """(S,) float32 -> (S / speed,) float32: faster and higher above 1, as a tape does it (speed
    perturbation, Ko et al., Interspeech 2015)."""
    import soxr

    return soxr.resample(wave, speed, 1.0, quality="HQ").astype(np.float32, copy=False)
