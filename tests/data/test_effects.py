"""Each effect against an oracle."""

import math
from itertools import pairwise

import numpy as np
import pytest

from speechssl.data import effects
from speechssl.rng import rng
from tests.data.waves import RATE, decibels, noise_wave, tone


@pytest.mark.parametrize("snr_db", [-20.0, -3.0, 0.0, 12.5, 40.0])
@pytest.mark.parametrize("kind", effects.NOISE_KINDS)
def test_noise_has_the_asked_snr(kind, snr_db):
    wave = noise_wave()
    noise = effects.make_noise(kind, len(wave), RATE, rng(0, "noise"))
    mixed = effects.add_noise(wave, noise, snr_db)
    assert decibels(wave, mixed.astype(np.float64) - wave) == pytest.approx(snr_db, abs=0.05)


@pytest.mark.parametrize(("kind", "slope_db"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_falls_with_frequency_as_its_colour_says(kind, slope_db):
    noise = effects.make_noise(kind, 20 * RATE, RATE, rng(0, kind))
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].mean() for low in (250, 500, 1000, 2000)]
    slopes = 10 * np.diff(np.log10(octaves))
    assert slopes == pytest.approx(slope_db, abs=0.25)


def test_hum_has_lines_at_multiples_of_the_mains():
    hum = effects.make_noise("hum", RATE, RATE, rng(0))
    power = np.abs(np.fft.rfft(hum)) ** 2  # bins of 1 Hz
    lines = {50 * k for k in range(1, 11)} | {60 * k for k in range(1, 11)}
    assert set(np.argsort(power)[-4:].tolist()) <= lines
    assert power[sorted(lines)].sum() > 0.99 * power.sum()


def test_babble_is_speech_shaped_and_modulated():
    babble = effects.make_noise("babble", 20 * RATE, RATE, rng(0))
    power = np.abs(np.fft.rfft(babble)) ** 2
    hertz = np.fft.rfftfreq(len(babble), 1 / RATE)
    assert power[(hertz > 100) & (hertz < 1000)].sum() > 0.7 * power.sum()
    loudness = 10 * np.log10((babble.reshape(-1, RATE // 8) ** 2).mean(axis=1))
    assert loudness.std() > 3  # stationary noise would stay under 1 dB


def test_noise_keeps_silence_silent():
    silence = np.zeros(100, np.float32)
    assert not effects.add_noise(silence, noise_wave(100), 0.0).any()
    wave = noise_wave(100)
    assert np.array_equal(effects.add_noise(wave, silence, 0.0), wave)


def test_overlap_covers_what_it_says_at_the_asked_snr():
    wave, other = noise_wave(1000), noise_wave(1000, seed=1)
    mixed = effects.overlap(wave, other, 3.0, start=200, other_start=50, length=300)
    added = mixed - wave
    assert not added[:200].any()
    assert not added[500:].any()
    scale = float(np.dot(added[200:500], other[50:350]) / np.dot(other[50:350], other[50:350]))
    assert np.allclose(added[200:500], scale * other[50:350], atol=1e-6)
    assert decibels(wave, scale * other) == pytest.approx(3.0, abs=0.05)


def test_reverberation_is_convolution_with_the_power_kept():
    wave, rir = noise_wave(3000), effects.make_rir(0.1, 0.0, RATE, rng(0))
    result = effects.reverberate(wave, rir)
    expected = np.convolve(wave.astype(np.float64), rir)[: len(wave)]
    expected *= math.sqrt(float(np.mean(wave.astype(np.float64) ** 2) / np.mean(expected**2)))
    assert np.allclose(result, expected, atol=1e-5)
    assert decibels(result, wave) == pytest.approx(0, abs=0.01)


def test_reverberation_keeps_the_onset_in_place():
    wave = np.zeros(4000, np.float32)
    wave[1000] = 1
    result = effects.reverberate(wave, effects.make_rir(0.3, -6.0, RATE, rng(0)))
    assert np.abs(result[:1000]).max() < 1e-6
    assert np.argmax(np.abs(result)) == 1000
    assert np.abs(result[1100:]).max() > 1e-3


def test_a_recorded_room_is_cut_at_its_direct_path():
    rir = np.array([0.0, 0.01, -0.8, 0.3, -0.1], np.float32)
    assert np.allclose(effects.align_rir(rir), [0.8, -0.3, 0.1])
    wave = noise_wave(100)
    assert np.allclose(effects.reverberate(wave, effects.align_rir(-rir[:3])), wave, atol=1e-6)


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("direct_db", [-6.0, 10.0])
def test_a_made_room_has_its_reverberation_time(rt60_s, direct_db):
    rir = effects.make_rir(rt60_s, direct_db, RATE, rng(0)).astype(np.float64)
    assert rir[0] == 1
    assert decibels(rir[:1], rir[1:]) - 10 * math.log10(len(rir) - 1) == pytest.approx(
        direct_db, abs=0.01
    )
    # Schroeder's backward integration, fitted from -5 to -25 dB of the reflections.
    decay = 10 * np.log10(np.cumsum(rir[:0:-1] ** 2)[::-1])
    decay -= decay[0]
    fit = (decay < -5) & (decay > -25)
    slope = np.polyfit(np.flatnonzero(fit) / RATE, decay[fit], 1)[0]
    assert -60 / slope == pytest.approx(rt60_s, rel=0.1)


def test_silent_room_and_silent_wave():
    wave = noise_wave(50)
    assert np.array_equal(effects.reverberate(wave, np.zeros(9, np.float32)), wave)
    assert not effects.reverberate(np.zeros(50, np.float32), wave).any()


def test_gain_is_in_decibels():
    wave = noise_wave()
    assert decibels(effects.amplify(wave, -6.5), wave) == pytest.approx(-6.5, abs=1e-3)


def test_clip_bounds_the_peak_and_leaves_the_rest():
    wave = noise_wave()
    result, limit = effects.clip(wave, 0.3), 0.3 * float(np.abs(wave).max())
    assert np.abs(result).max() == pytest.approx(limit)
    inside = np.abs(wave) < limit
    assert 0 < inside.mean() < 1
    assert np.array_equal(result[inside], wave[inside])


def test_filters_do_not_wrap_around():
    wave = np.zeros(2000, np.float32)
    wave[-1] = 1
    assert np.abs(effects.low_pass(wave, 1000, RATE)[:500]).max() < 1e-3


def test_hold_repeats_the_latest_sample():
    ramp = np.arange(12, dtype=np.float32)
    assert effects.hold(ramp, 8000, RATE).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]
    uneven = effects.hold(ramp, 6000, RATE)  # samples are taken at 0, 2.67, 5.33, 8, 10.67
    assert uneven.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 8, 8, 8, 11]


def test_hold_folds_high_tones_down():
    power = np.abs(np.fft.rfft(effects.hold(tone(5000), 8000, RATE))) ** 2  # bins of 1 Hz
    assert power[3000] > 0.3 * power.sum()


@pytest.mark.parametrize("bits", [2, 4, 6, 8, 9])
def test_codec_has_the_levels_and_the_noise_of_its_bits(bits):
    wave = np.linspace(-1, 1, 50_001).astype(np.float32)
    result = effects.compand(wave, bits)
    assert len(np.unique(np.abs(result))) == 2 ** (bits - 1)
    assert np.abs(result).max() == pytest.approx(1)
    # A level is ln(256) / top wide in log(1 + 255 x), so half of that is the largest error.
    top = 2 ** (bits - 1) - 1
    error = np.abs(np.log1p(255 * np.abs(result)) - np.log1p(255 * np.abs(wave)))
    assert error.max() <= 0.5 * math.log(256) / top * 1.01 + 1e-4


def test_codec_of_eight_bits_is_telephone_quality():
    wave = noise_wave()
    assert 33 < decibels(wave, effects.compand(wave, 8) - wave) < 42
    assert 9 < decibels(wave, effects.compand(wave, 4) - wave) < 18
    assert not effects.compand(np.zeros(9, np.float32), 4).any()


@pytest.mark.parametrize(("num_samples", "num_lost"), [(1000, 200), (1000, 900), (5, 5), (9, 0)])
def test_chunks_hold_exactly_what_is_lost(num_samples, num_lost):
    for item in range(20):
        chunks = effects.choose_chunks(num_samples, num_lost, (10, 40), rng(0, item))
        kept = effects.drop(np.ones(num_samples, np.float32), chunks)
        assert np.count_nonzero(kept == 0) == num_lost
        assert all(0 <= first < stop <= num_samples for first, stop in chunks)
        assert all(a[1] <= b[0] for a, b in pairwise(chunks))
        assert all(10 <= stop - first <= 40 for first, stop in chunks[:-1])
