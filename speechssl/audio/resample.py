"""Waves at another sample rate."""

import math
from collections.abc import Iterable, Iterator

import numpy as np


class Resampler:
    """Blocks (n,) float32 at one rate -> blocks at another, in bounded memory.

    Together they are the whole's length times the ratio, rounded.
    """

    def __init__(self, source_rate: int, sample_rate: int) -> None:
        import soxr

        self._resampler = soxr.ResampleStream(
            source_rate, sample_rate, 1, dtype="float32", quality="HQ"
        )
        self._ratio = (source_rate, sample_rate)
        self._taken = self._made = 0

    def add(self, block: np.ndarray) -> np.ndarray:
        """The next block -> what can be told by now."""
        part: np.ndarray = self._resampler.resample_chunk(block)
        self._taken, self._made = self._taken + len(block), self._made + len(part)
        return part

    def finish(self) -> np.ndarray:
        """What is left at the end."""
        part = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        source_rate, sample_rate = self._ratio
        total = math.floor(self._taken * sample_rate / source_rate + 0.5)
        left = max(total - self._made, 0)
        return np.pad(part[:left], (0, left - min(left, len(part))))


def resampled(
    mono: Iterable[np.ndarray], source_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """The blocks of :class:`Resampler`."""
    resampler = Resampler(source_rate, sample_rate)
    for block in mono:
        yield resampler.add(block)
    yield resampler.finish()


def play_at(wave: np.ndarray, speed: float) -> np.ndarray:
    """(S,) float32 -> (S / speed,) float32: faster and higher above 1, as a tape does it (speed
    perturbation, Ko et al., Interspeech 2015)."""
    import soxr

    return soxr.resample(wave, speed, 1.0, quality="HQ").astype(np.float32, copy=False)
