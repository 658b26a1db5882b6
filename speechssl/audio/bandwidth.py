"""What lies above a telephone's band."""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

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
        self._window = _hann(self._size)
        self._above = self._total = 0.0

    def add(self, mono: np.ndarray) -> None:
        """The next block (S,) float32; one of less than 32 ms tells nothing."""
        if not self._has_room or len(mono) < self._size or not mono.any():
            return
        num, last = min(_FRAMES, len(mono) // self._size), len(mono) - self._size
        starts = (np.arange(num) * (last / max(num - 1, 1))).astype(int)  # as np.linspace has them
        starts[-1] = last if num > 1 else 0
        every = as_strided(mono, (last + 1, self._size), 2 * mono.strides, writeable=False)
        frames = every[starts] * self._window  # (N, size)
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


@lru_cache(maxsize=16)
def _hann(size: int) -> np.ndarray:
    """(size,) float32"""
    return np.hanning(size).astype(np.float32)
