"""The distortions of the test set: as hard as they say, and the same each time."""

import numpy as np
import pytest

from speechssl import audio
from speechssl.compare.config import CONDITIONS
from speechssl.compare.robustness import TITLES, clips, distort
from speechssl.data.manifest import Utterance
from tests.data.waves import RATE, decibels, noise_wave, tone


@pytest.mark.parametrize("snr", [20, 10, 5, 0])
def test_noise_has_the_power_that_is_asked_for(snr):
    wave = 0.1 * tone(440)
    noisy = distort(wave, RATE, f"snr-{snr}", "u1")
    assert decibels(wave, noisy - wave) == pytest.approx(snr, abs=0.05)


def test_the_noise_is_the_same_at_each_snr_and_another_for_each_utterance():
    wave = 0.1 * tone(440)
    first, second = (distort(wave, RATE, c, "u1") - wave for c in ("snr-20", "snr-10"))
    assert np.allclose(first * 10**0.5, second, atol=1e-5)
    assert not np.allclose(second, distort(wave, RATE, "snr-10", "u2") - wave, atol=1e-3)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_is_repeatable_in_place_and_within_bounds(condition):
    wave = noise_wave() * 8
    wave = np.clip(wave, -1, 1)
    kept = wave.copy()
    found = distort(wave, RATE, condition, "u1")
    assert np.array_equal(wave, kept)
    assert np.array_equal(found, distort(wave, RATE, condition, "u1"))
    assert found.shape == wave.shape
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1
    assert (condition == "clean") == np.array_equal(found, wave)
    assert condition in TITLES


def test_8_khz_keeps_nothing_above_4():
    assert np.abs(distort(tone(5000), RATE, "8khz", "u")[400:-400]).max() < 1e-3
    assert decibels(tone(1000), distort(tone(1000), RATE, "8khz", "u") - tone(1000)) > 40
    assert np.array_equal(distort(tone(1000), 8000, "8khz", "u"), tone(1000))


def test_clipping_leaves_a_tenth_of_the_peak():
    assert np.abs(distort(tone(300), RATE, "clipping", "u")).max() == pytest.approx(0.05)


def test_a_room_keeps_the_power_and_smears():
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    found = distort(click, RATE, "reverb", "u")
    assert np.sum(found**2) == pytest.approx(0.25, rel=1e-3)
    assert np.abs(found[1000:]).max() > 0
    assert np.argmax(np.abs(found)) == 100


@pytest.mark.parametrize("condition", CONDITIONS)
def test_silence_and_no_samples_are_borne(condition):
    for num in (0, 1, 400):
        assert not distort(np.zeros(num, np.float32), RATE, condition, "u").any()


def test_parts_of_a_recording_are_read_where_they_lie(tmp_path):
    wave = np.concatenate([tone(300), 0.1 * tone(300)])
    audio.write(tmp_path / "a.wav", wave, RATE)
    u = Utterance("u", tmp_path / "a.wav", 1.0, 0.5, RATE)
    (clean,) = clips([u], RATE, "clean")
    assert (clean.source, clean.start_s, clean.duration_s) == (u.audio, 1.0, 0.5)
    (clipped,) = clips([u], RATE, "clipping")
    assert len(clipped.source) == RATE // 2
    assert np.abs(clipped.source).max() == pytest.approx(0.005, rel=0.01)
