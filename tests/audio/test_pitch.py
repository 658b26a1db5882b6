"""A shift of pitch: the ratio, the formants, the places of the samples, and every length."""

import math

import numpy as np
import pytest

from speechssl.audio import shift_pitch, stretch
from speechssl.audio.pitch import _HALF_S, _NEAREST, _REACH_S, MOST_SEMITONES
from speechssl.rng import rng

RATE = 16_000
SHIFTS = (-9.0, -3.0, -0.5, 1.0, 3.0, 9.0)


def vowel(pitch_hz: float, formants=(700, 1200), seconds: float = 1.0) -> np.ndarray:
    """(S,) harmonics of a pitch, strong near the formants."""
    times = np.arange(int(RATE * seconds)) / RATE
    wave = np.zeros(len(times))
    for harmonic in range(1, int(6000 / pitch_hz)):
        hertz = harmonic * pitch_hz
        size = sum(1 / (1 + ((hertz - centre) / 90) ** 2) for centre in formants)
        wave += size * np.sin(2 * np.pi * hertz * times + harmonic**2)
    return (0.1 * wave).astype(np.float32)


def pitch_of(wave: np.ndarray) -> float:
    """Hertz, by the first high peak of the autocorrelation."""
    middle = wave[RATE // 10 : -RATE // 10].astype(np.float64)
    spectrum = np.fft.rfft(middle * np.hanning(len(middle)), 1 << 16)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: RATE // 40]
    lags = np.arange(RATE // 700, len(correlation) - 1)
    before, here, after = (correlation[lags + step] for step in (-1, 0, 1))
    peaks = lags[(here > before) & (here >= after) & (here > 0.9 * here.max())]
    before, here, after = (correlation[peaks[0] + step] for step in (-1, 0, 1))
    return RATE / (peaks[0] + (before - after) / (2 * (before - 2 * here + after)))


@pytest.mark.parametrize("pitch_hz", [80, 120, 240, 330])
@pytest.mark.parametrize("semitones", SHIFTS)
def test_the_pitch_has_the_ratio_of_the_semitones(pitch_hz, semitones):
    wave = vowel(pitch_hz)
    before = wave.copy()
    shifted = shift_pitch(wave, semitones, RATE)
    assert pitch_of(shifted) / pitch_of(wave) == pytest.approx(2 ** (semitones / 12), rel=0.01)
    assert shifted.shape == wave.shape
    assert shifted.dtype == np.float32
    assert shifted.std() == pytest.approx(wave.std(), rel=0.05)
    assert np.array_equal(wave, before)


@pytest.mark.parametrize("semitones", [-3.0, 3.0])
def test_formants_move_with_the_pitch(semitones):
    spectrum = np.fft.rfft(0.1 * rng(0, "breath").standard_normal(4 * RATE))
    hertz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    spectrum *= 1 / (1 + ((hertz - 1500) / 100) ** 2)  # a whispered resonance
    wave = np.fft.irfft(spectrum).astype(np.float32)
    power = np.abs(np.fft.rfft(shift_pitch(wave, semitones, RATE))) ** 2
    assert np.average(hertz, weights=power) == pytest.approx(1500 * 2 ** (semitones / 12), rel=0.02)


@pytest.mark.parametrize("semitones", SHIFTS)
def test_what_is_short_stays_in_its_place(semitones):
    """Bursts of 5 ms at every 250 ms: where their energy is, and that none is lost or doubled."""
    wave = 1e-4 * rng(0, "floor").standard_normal(3 * RATE).astype(np.float32)
    places = np.arange(RATE // 4, 3 * RATE - RATE // 4, RATE // 4)
    for place in places:
        wave[place : place + 80] += 0.5 * rng(0, "burst", place).standard_normal(80)
    shifted = shift_pitch(wave, semitones, RATE)
    most_s = _REACH_S + _HALF_S * abs(1 - 2 ** (-semitones / 12))
    assert most_s < 0.017
    assert abs(semitones) > 3 or most_s < 0.010
    for place in places:
        near = slice(place - RATE // 8, place + RATE // 8)
        power = shifted[near].astype(np.float64) ** 2
        centre = np.average(np.arange(near.start, near.stop), weights=power)
        assert abs(centre - (place + 40)) / RATE < most_s
        loud = np.flatnonzero(power > 1e-3 * power.max()) + near.start
        reach = round(most_s * RATE) + 5  # and what the resampling smears
        assert place - reach <= loud.min()
        assert loud.max() <= place + 80 + reach


@pytest.mark.parametrize("semitones", [-6.0, -3.0, 3.0, 6.0])
def test_the_envelope_of_syllables_has_no_lag(semitones):
    rise = np.interp(np.arange(3 * RATE) / RATE * 5, np.arange(16), rng(3).random(16))
    wave = (vowel(140, seconds=3.0) * rise).astype(np.float32)
    envelopes = [
        np.convolve(np.abs(w), np.hanning(480), "same")
        for w in (wave, shift_pitch(wave, semitones, RATE))
    ]
    first, second = (each - each.mean() for each in envelopes)
    lags = range(-400, 401, 8)
    best = max(lags, key=lambda lag: float(first[400:-400] @ np.roll(second, lag)[400:-400]))
    assert abs(best) <= 0.004 * RATE


@pytest.mark.parametrize("num_samples", [1, 2, 3, 17, 239, 240, 241, 399, 4001])
@pytest.mark.parametrize("semitones", [-9.0, -0.1, 0.0, 0.1, 9.0])
def test_total_for_every_length_and_silence(num_samples, semitones):
    for wave in (np.zeros(num_samples, np.float32), np.ones(num_samples, np.float32)):
        wave.setflags(write=False)
        shifted = shift_pitch(wave, semitones, RATE)
        assert shifted.shape == wave.shape
        assert shifted.dtype == np.float32
        assert np.isfinite(shifted).all()
        assert wave.any() or not shifted.any()
        assert not np.shares_memory(shifted, wave)


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
def test_other_sample_rates(rate):
    times = np.arange(rate) / rate
    wave = np.sin(2 * np.pi * 200 * times).astype(np.float32)
    power = np.abs(np.fft.rfft(shift_pitch(wave, 3.0, rate) * np.hanning(rate))) ** 2
    assert np.argmax(power) == pytest.approx(200 * 2**0.25, abs=1)


@pytest.mark.parametrize("factor", [0.6, 0.84, 1.0, 1.19, 1.7])
def test_stretching_keeps_the_pitch_and_changes_the_length(factor):
    wave = vowel(130)
    longer = stretch(wave, factor, RATE)
    assert len(longer) == round(factor * len(wave))
    assert pitch_of(longer) == pytest.approx(130, rel=0.005)
    if factor == 1:
        assert np.allclose(longer, wave, atol=1e-6)


def test_stretching_against_a_plain_loop():
    """Every window, every place and every sample, one after the other."""
    rate, factor = 2000, 1.3
    wave = (np.sin(np.arange(400) * 0.3) + 0.3 * rng(1).standard_normal(400)).astype(np.float32)
    half, reach = round(_HALF_S * rate), round(_REACH_S * rate)

    def at(place):
        return float(wave[place]) if 0 <= place < len(wave) else 0.0

    length = round(factor * len(wave))
    expected, before = np.zeros(length + 2 * half), None
    for k in range(length // half + 2):
        unmoved = min(round(k * half / factor), len(wave))
        middle = unmoved
        if before is not None:
            follows = [at(before + i) for i in range(half)]

            def likeness(move, unmoved=unmoved, follows=follows):
                there = [at(unmoved + move - half + i) for i in range(half)]
                size = math.sqrt(sum(v * v for v in there) * sum(v * v for v in follows) + 1e-12)
                return sum(a * b for a, b in zip(there, follows, strict=True)) / size - (
                    _NEAREST * abs(move) / reach
                )

            middle = unmoved + max(range(-reach, reach + 1), key=likeness)
        before = middle
        for i in range(-half, half):
            if 0 <= k * half + i < len(expected):
                expected[k * half + i] += at(middle + i) * (
                    0.5 + 0.5 * math.cos(math.pi * i / half)
                )
    assert np.allclose(stretch(wave, factor, rate), expected[:length], atol=1e-5)


def test_the_range_of_the_settings_keeps_within_half_a_frame_of_40_ms():
    worst = 2 ** (MOST_SEMITONES / 12)
    assert _REACH_S + _HALF_S * (worst - 1) < 0.020
