"""Which recordings carry nothing above 4 kHz."""

import numpy as np
import pytest
import soxr

from speechssl import audio

RATE = 16000


def noise(duration_s: float, rate: int, silence_s: float = 0.0) -> np.ndarray:
    """Silence and then white noise of `rate`, at 16 kHz."""
    wave = 0.1 * np.random.default_rng(0).standard_normal(round(duration_s * rate))
    wave = np.concatenate([np.zeros(round(silence_s * rate)), wave])
    return soxr.resample(wave.astype(np.float32), rate, RATE)


@pytest.mark.parametrize(("rate", "narrow"), [(8000, True), (RATE, False)])
@pytest.mark.parametrize("silence_s", [0.0, 17.0])
@pytest.mark.parametrize("block_s", [0.1, 16.0])
def test_what_a_telephone_carries_is_narrow(
    rate: int, narrow: bool, silence_s: float, block_s: float
) -> None:
    wave = noise(2.0, rate, silence_s)
    size, high = round(block_s * RATE), audio.HighBand(RATE)
    for first in range(0, len(wave), size):
        high.add(wave[first : first + size])
    assert high.is_narrow == narrow
    assert (high.share < 1e-6) == narrow


def test_what_cannot_be_told_is_not_narrow() -> None:
    for rate, wave in (
        (RATE, np.zeros(RATE, np.float32)),
        (RATE, np.full(1, 0.1, np.float32)),
        (8000, noise(1.0, RATE)),  # a model of 8 kHz is given no more
    ):
        high = audio.HighBand(rate)
        high.add(wave)
        assert not high.is_narrow
        assert high.share == 1
