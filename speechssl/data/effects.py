"""One distortion each, with its severity given. Pure numpy, time-aligned; none changes its input.

S is a number of samples, F of frequency bins, R of samples of a room's impulse response; waves are
float32 in about [-1, 1]. The samples keep their places: filters are zero-phase, and a room's direct
path stays at 0.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.fft

NoiseKind = Literal["white", "pink", "brown", "babble", "hum"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("white", "pink", "brown", "babble", "hum")


def overlap(
    wave: np.ndarray,
    other: np.ndarray,
    snr_db: float,
    *,
    start: int,
    other_start: int,
    length: int,
) -> np.ndarray:
    """Add `length` samples of `other` from `other_start` on to `wave` from `start` on.

    `snr_db` compares the whole utterances, as in WavLM's utterance mixing (arXiv:2110.13900):
    a pause that is cut out of `other` stays quiet.
    """
    result = wave.copy()
    scale = _scale_to(wave, other, snr_db)
    result[start : start + length] += scale * other[other_start : other_start + length]
    return result


def add_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`wave` + `noise`, both (S,), with the powers ``snr_db`` apart; silence stays silence."""
    return np.asarray(wave + _scale_to(wave, noise, snr_db) * noise, dtype=np.float32)


def _scale_to(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.float32:
    """The factor for `noise` that puts it `snr_db` under `wave`; 0 where one of them is silent."""
    power, noise_power = _power(wave), _power(noise)
    if noise_power == 0:
        return np.float32(0)
    return np.float32(math.sqrt(power / noise_power) * 10 ** (-snr_db / 20))


def _power(wave: np.ndarray) -> float:
    return float(np.dot(wave, wave)) / max(len(wave), 1)


def make_noise(
    kind: str, num_samples: int, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """(S,) float32 noise of one of `NOISE_KINDS`, at no particular level."""
    if kind == "hum":
        return _hum(num_samples, sample_rate, generator)
    size = scipy.fft.next_fast_len(num_samples, real=True)
    num_bins = size // 2 + 1
    hertz = np.arange(num_bins, dtype=np.float32) * np.float32(sample_rate / size)  # (F,)
    spectrum = generator.standard_normal(2 * num_bins, dtype=np.float32).view(np.complex64)  # (F,)
    if kind == "pink":  # power falls with f; level below 50 Hz, which is inaudible
        spectrum /= np.sqrt(np.maximum(hertz, 50))
    elif kind == "brown":  # with f squared
        spectrum /= np.maximum(hertz, 50)
    elif kind == "babble":  # the long-term spectrum of speech: level to 500 Hz, then falling
        spectrum *= np.minimum(hertz, 100) / np.maximum(hertz, 500)
    noise = np.asarray(scipy.fft.irfft(spectrum, size)[:num_samples], dtype=np.float32)
    if kind == "babble":
        noise *= _syllables(num_samples, sample_rate, generator)
    return noise


def _hum(num_samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """(S,) mains hum: 50 or 60 Hz with ten harmonics of random strength, read from one period."""
    phase = np.arange(1024, dtype=np.float32) / np.float32(1024)
    period = np.zeros(1024, dtype=np.float32)
    for harmonic in range(1, 11):
        shift, strength = generator.random(2)
        period += np.float32(strength / harmonic) * np.sin(
            np.float32(2 * math.pi) * (harmonic * phase + np.float32(shift))
        )
    step = generator.choice((50, 60)) / sample_rate * 1024
    position = (np.arange(num_samples) * step + generator.uniform(0, 1024)).astype(np.int64)
    return np.asarray(period[position & 1023])


def _syllables(num_samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """(S,) positive envelope that rises and falls about four times a second."""
    every = max(sample_rate // 8, 1)
    points = np.exp(0.6 * generator.standard_normal(num_samples // every + 2))
    times = np.arange(num_samples) / every
    return np.interp(times, np.arange(len(points)), points).astype(np.float32)


def make_rir(
    rt60_s: float, direct_db: float, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """(R,) float32 room impulse response: the direct path, 1 at sample 0, and decaying noise.

    Polack's statistical model: reflections are Gaussian noise that falls by 60 dB in `rt60_s`; they
    set in after 0.5 to 5 ms, and the direct path has `direct_db` more energy than all of them.
    """
    gap = max(round(generator.uniform(0.0005, 0.005) * sample_rate), 1)
    length = max(round(rt60_s * sample_rate), gap + 1)
    rir = generator.standard_normal(length, dtype=np.float32)
    rir *= np.exp(np.linspace(0, -3 * math.log(10), length, dtype=np.float32))
    rir[:gap] = 0
    rir *= np.float32(math.sqrt(10 ** (-direct_db / 10) / float(np.dot(rir, rir))))
    rir[0] = 1
    return rir


def align_rir(rir: np.ndarray) -> np.ndarray:
    """A recorded impulse response from its direct path on, made positive: speech stays in place.

    The direct path is the strongest sample.
    """
    direct = int(np.argmax(np.abs(rir)))
    return np.asarray(np.sign(rir[direct]) * rir[direct:])


def reverberate(wave: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """`wave` (S,) in the room of `rir` (R,), whose direct path is sample 0.

    The result has the power of `wave`; the echo after S is cut off.
    """
    room = rir[: len(wave)]
    size = scipy.fft.next_fast_len(len(wave) + len(room) - 1, real=True)
    spectrum = scipy.fft.rfft(wave, size) * scipy.fft.rfft(room, size)
    result = np.asarray(scipy.fft.irfft(spectrum, size)[: len(wave)], dtype=np.float32)
    power = _power(result)
    if power == 0:
        return wave.copy()
    return result * np.float32(math.sqrt(_power(wave) / power))


def amplify(wave: np.ndarray, gain_db: float) -> np.ndarray:
    """`wave` louder by `gain_db`."""
    return wave * np.float32(10 ** (gain_db / 20))


def clip(wave: np.ndarray, level: float) -> np.ndarray:
    """Cut off what exceeds `level` of the highest peak."""
    limit = np.float32(level) * np.max(np.abs(wave))
    return np.clip(wave, -limit, limit)


def low_pass(wave: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is above `cutoff_hz`."""
    return _filter(wave, sample_rate, lambda hertz: 1 - _step(hertz, cutoff_hz))


def high_pass(wave: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is below `cutoff_hz`."""
    return _filter(wave, sample_rate, lambda hertz: _step(hertz, cutoff_hz))


def band_stop(wave: np.ndarray, low_hz: float, high_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is between `low_hz` and `high_hz`."""
    return _filter(
        wave, sample_rate, lambda hertz: 1 - _step(hertz, low_hz) + _step(hertz, high_hz)
    )


def _step(hertz: np.ndarray, edge_hz: float) -> np.ndarray:
    """0 below the edge, 1 above it, with a smooth rise a tenth of it wide, at least 40 Hz."""
    width_hz = max(0.1 * edge_hz, 40.0)
    ramp = np.clip((hertz - np.float32(edge_hz)) / np.float32(width_hz) + np.float32(0.5), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))


def _filter(
    wave: np.ndarray, sample_rate: int, gain: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Zero-phase: `gain` maps hertz (F,) to factors (F,). 50 ms of zeros keep the ends apart."""
    size = scipy.fft.next_fast_len(len(wave) + sample_rate // 20, real=True)
    spectrum = scipy.fft.rfft(wave, size)  # (F,)
    spectrum *= gain(np.arange(len(spectrum), dtype=np.float32) * np.float32(sample_rate / size))
    return np.asarray(scipy.fft.irfft(spectrum, size)[: len(wave)], dtype=np.float32)


def down_up(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """To `rate` hertz and back by good converters: nothing is left above half of `rate`."""
    return low_pass(wave, 0.5 * rate / 1.05, sample_rate)  # the slope ends at half the rate


def hold(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """To `rate` hertz and back by bad converters: each sample is held until the next is taken."""
    taken = np.arange(len(wave)) * rate // sample_rate  # number of the latest low-rate sample
    return wave[-(-taken * sample_rate // rate)]


def compand(wave: np.ndarray, bits: int) -> np.ndarray:
    """Quantise to `bits` a sample on the mu-law scale (mu 255, ITU-T G.711).

    Full scale is the highest peak. Zero is a level of its own, so silence stays silent.
    """
    peak = np.abs(wave).max()
    if peak == 0:
        return wave.copy()
    top = 2 ** (bits - 1) - 1
    loudness = np.log1p(np.abs(wave) * np.float32(255 / peak)) * np.float32(top / math.log(256))
    levels = np.expm1(np.arange(top + 1) * (math.log(256) / top)) * (peak / 255)  # (top + 1,)
    return np.copysign(levels.astype(np.float32)[np.rint(loudness).astype(np.int32)], wave)


def choose_chunks(
    num_samples: int, num_lost: int, lengths: tuple[int, int], generator: np.random.Generator
) -> list[tuple[int, int]]:
    """(first, stop) of chunks that do not overlap and hold `num_lost` samples together.

    Their lengths are drawn from ``lengths`` (shortest, longest); the last is cut to fit.
    """
    sizes: list[int] = []
    while (missing := num_lost - sum(sizes)) > 0:
        sizes.append(min(int(generator.integers(lengths[0], lengths[1] + 1)), missing))
    # Places among the samples that are kept, in order, then moved by the chunks before each.
    places = np.sort(generator.integers(num_samples - num_lost + 1, size=len(sizes)))
    firsts = places + np.cumsum([0, *sizes[:-1]])[: len(sizes)]
    return [(int(first), int(first) + size) for first, size in zip(firsts, sizes, strict=True)]


def drop(wave: np.ndarray, chunks: list[tuple[int, int]]) -> np.ndarray:
    """Zeros in each chunk (first, stop)."""
    result = wave.copy()
    for first, stop in chunks:
        result[first:stop] = 0
    return result
