"""The chain's promises for every preset and length."""

import math
import pickle
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from speechssl import audio
from speechssl.data import distortion
from speechssl.data.distortion import (
    BandLimitConfig,
    ClipConfig,
    CodecConfig,
    DistortionConfig,
    DistortionPool,
    DropConfig,
    GainConfig,
    NoiseConfig,
    OverlapConfig,
    PitchConfig,
    ResampleConfig,
    ReverbConfig,
    WaveFolder,
    distort,
    distort_named,
)
from speechssl.rng import rng
from tests.data.waves import RATE, decibels, noise_wave, only, speech_pool, tone

NAMES = [part.name for part in fields(DistortionConfig)]


@pytest.mark.parametrize("preset", [distortion.none, distortion.light, distortion.full])
@pytest.mark.parametrize("num_samples", [1, 2, 3, 17, 399, 4001])
@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
def test_total_for_every_length_and_silence(preset, num_samples, level):
    config = preset()
    for item in range(20):
        wave = (level * np.sign(noise_wave(num_samples, seed=item))).astype(np.float32)
        before = wave.copy()
        result = distort(wave, RATE, config, rng(0, item), speech_pool())
        assert result.shape == wave.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert not np.shares_memory(result, wave)
        assert np.array_equal(wave, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_samples", [1, 2, 500])
def test_each_distortion_is_total(name, num_samples):
    for item in range(20):
        for wave in (noise_wave(num_samples, item), np.zeros(num_samples, np.float32)):
            wave.setflags(write=False)
            result = distort(wave, RATE, only(name), rng(0, item), speech_pool())
            assert result.shape == wave.shape
            assert result.dtype == np.float32
            assert np.isfinite(result).all()


@pytest.mark.parametrize("name", NAMES)
def test_each_distortion_changes_the_wave_and_is_named(name):
    wave = noise_wave()
    done = distort_named(wave, RATE, only(name), rng(3), speech_pool())
    assert done.applied == (name,)
    assert not np.allclose(done.wave, wave)


def test_no_distortion_is_identity():
    wave = noise_wave()
    done = distort_named(wave, RATE, distortion.none(), rng(0), speech_pool())
    assert np.array_equal(done.wave, wave)
    assert done.applied == ()
    assert done.wave is not wave


def test_a_function_of_the_generator():
    wave, config = noise_wave(), distortion.full()
    first = [distort(wave, RATE, config, rng(0, i), speech_pool()) for i in range(10)]
    again = [distort(wave, RATE, config, rng(0, i), speech_pool()) for i in range(10)]
    other = [distort(wave, RATE, config, rng(1, i), speech_pool()) for i in range(10)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_switching_one_off_leaves_the_others_as_they_were():
    wave, config = noise_wave(), distortion.full()
    without = replace(config, noise=replace(config.noise, p=0.0))
    num_checked = 0
    for item in range(100):
        done = distort_named(wave, RATE, config, rng(0, item), speech_pool())
        less = distort_named(wave, RATE, without, rng(0, item), speech_pool())
        assert less.applied == tuple(name for name in done.applied if name != "noise")
        if "noise" not in done.applied:
            assert np.array_equal(done.wave, less.wave)
            num_checked += 1
    assert 20 < num_checked < 100


def test_what_came_later_leaves_the_streams_of_the_others_as_they_were():
    """The draws of version 0.1: a coin for each of nine distortions, then a seed for each."""
    first = [name for name in NAMES if name != "pitch"]
    for item in range(30):
        generator = rng(0, item)
        coins = generator.random(9)
        seeds = generator.integers(2**63, size=9)
        expected = dict(zip(first, zip(coins, seeds, strict=True), strict=True))
        found = distortion._draws(rng(0, item))
        assert {name: found[name] for name in first} == expected
        assert found.keys() == set(NAMES)
        assert found["pitch"][1] not in set(seeds)
    wave, config = noise_wave(), distortion.full()
    shifted = replace(config, pitch=replace(config.pitch, p=1.0))
    for item in range(10):
        one = distort_named(wave, RATE, config, rng(0, item), speech_pool())
        two = distort_named(wave, RATE, shifted, rng(0, item), speech_pool())
        assert two.applied == ("pitch", *one.applied)


def test_the_chain_shifts_the_pitch_within_its_range():
    wave, config = tone(400), only("pitch", semitones=(1.0, 2.0))
    shifts = []
    for item in range(20):
        power = np.abs(np.fft.rfft(distort(wave, RATE, config, rng(0, item)), 1 << 17))
        shifts.append(12 * math.log2(np.argmax(power) * RATE / (1 << 17) / 400))
    assert 0.99 < min(shifts) < 1.3
    assert 1.7 < max(shifts) < 2.01


def test_probabilities_are_kept():
    wave, num_trials = noise_wave(50), 2000
    config = replace(distortion.full(), pitch=PitchConfig(p=0.3))
    count = dict.fromkeys(NAMES, 0)
    for item in range(num_trials):
        for name in distort_named(wave, RATE, config, rng(0, item), speech_pool()).applied:
            count[name] += 1
    for name in NAMES:
        p = getattr(config, name).p
        spread = math.sqrt(p * (1 - p) / num_trials)
        assert abs(count[name] / num_trials - p) < 4 * spread, name


def test_applied_in_the_order_of_the_config():
    everything = DistortionConfig(
        **{name: replace(getattr(distortion.full(), name), p=1.0) for name in NAMES}
    )
    done = distort_named(noise_wave(), RATE, everything, rng(0), speech_pool())
    assert done.applied == tuple(NAMES)


def test_overlap_needs_speech():
    assert distort_named(noise_wave(), RATE, only("overlap"), rng(0)).applied == ()


@pytest.mark.parametrize("shape", [(0,), (2, 5)])
def test_refuses_what_is_no_wave(shape):
    with pytest.raises(ValueError, match="shape"):
        distort(np.zeros(shape, np.float32), RATE, distortion.full(), rng(0))


def test_the_chain_draws_noise_within_its_range():
    wave, config = noise_wave(), only("noise", snr_db=(5.0, 7.0))
    measured = [decibels(wave, distort(wave, RATE, config, rng(0, i)) - wave) for i in range(50)]
    assert min(measured) >= 4.95
    assert max(measured) <= 7.05
    assert max(measured) - min(measured) > 1


def test_overlap_covers_at_most_half():
    wave, pool = noise_wave(1001), speech_pool()
    shares = []
    for item in range(300):
        changed = np.flatnonzero(distort(wave, RATE, only("overlap"), rng(0, item), pool) != wave)
        shares.append((changed[-1] - changed[0] + 1) / len(wave))
    assert max(shares) <= 0.5
    assert max(shares) > 0.45
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)


FILTERS = {
    "low_pass": (lambda wave: distortion.low_pass(wave, 2000, RATE), (500, 1800), (2200, 5000)),
    "high_pass": (lambda wave: distortion.high_pass(wave, 500, RATE), (560, 3000), (50, 440)),
    "band_stop": (
        lambda wave: distortion.band_stop(wave, 1000, 2000, RATE),
        (900, 2200),
        (1100, 1500, 1850),
    ),
    "down_up": (lambda wave: distortion.down_up(wave, 8000, RATE), (300, 3500), (4000, 7000)),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_keep_their_band_in_place_and_remove_the_rest(name):
    apply, kept, removed = FILTERS[name]
    middle = slice(RATE // 10, -RATE // 10)  # a tone's ends are not a tone
    for hertz in kept:
        assert np.allclose(apply(tone(hertz))[middle], tone(hertz)[middle], atol=2e-3), hertz
    for hertz in removed:
        assert np.abs(apply(tone(hertz))[middle]).max() < 2e-3, hertz


def test_resample_ignores_rates_that_are_not_lower():
    assert distort_named(noise_wave(), RATE, only("resample", rates=(16000,)), rng(0)).applied == ()


def test_drop_share_is_within_its_range():
    wave = np.ones(RATE, np.float32)
    shares = [
        np.mean(distort(wave, RATE, only("drop", share=(0.1, 0.2)), rng(0, i)) == 0)
        for i in range(100)
    ]
    assert min(shares) >= 0.0999
    assert max(shares) <= 0.2001
    assert np.mean(shares) == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (PitchConfig, {"p": 1.1}),
        (PitchConfig, {"semitones": (-12.0, 0.0)}),
        (PitchConfig, {"semitones": (2.0, 1.0)}),
        (OverlapConfig, {"p": 1.1}),
        (OverlapConfig, {"max_share": 0.6}),
        (OverlapConfig, {"max_share": 0.0}),
        (ReverbConfig, {"rt60_s": (0.0, 0.3)}),
        (ReverbConfig, {"direct_db": (3.0, 1.0)}),
        (ReverbConfig, {"files_p": 2.0}),
        (NoiseConfig, {"p": -0.1}),
        (NoiseConfig, {"snr_db": (5.0,)}),
        (NoiseConfig, {"snr_db": (0.0, math.nan)}),
        (NoiseConfig, {"kinds": ("grey",)}),
        (NoiseConfig, {"kinds": ()}),
        (NoiseConfig, {"files_p": math.nan}),
        (GainConfig, {"gain_db": (0.0, 90.0)}),
        (ClipConfig, {"level": (0.0, 0.5)}),
        (BandLimitConfig, {"low_pass_hz": (0.0, 100.0)}),
        (BandLimitConfig, {"high_pass_hz": (200.0, 100.0)}),
        (BandLimitConfig, {"stop_hz": (1.0, 100.0)}),
        (BandLimitConfig, {"stop_octaves": (0.0, 1.0)}),
        (ResampleConfig, {"rates": ()}),
        (ResampleConfig, {"rates": (8000, 10)}),
        (ResampleConfig, {"alias_p": 7.0}),
        (CodecConfig, {"bits": (1, 8)}),
        (DropConfig, {"share": (0.0, 1.0)}),
        (DropConfig, {"chunk_s": (0.0, 0.1)}),
    ],
)
def test_impossible_severities_are_named(config, changes):
    part = re.sub(r"(?<!^)([A-Z])", r"_\1", config.__name__.removesuffix("Config")).lower()
    with pytest.raises(ValueError, match=rf"^distortion\.{part}\.{next(iter(changes))} must be "):
        config(**changes)


def test_defaults_distort_nothing():
    assert all(getattr(DistortionConfig(), name).p == 0 for name in NAMES)
    assert distortion.none() == DistortionConfig()


@pytest.fixture
def noise_dir(tmp_path):
    folder = tmp_path / "noise"
    for i, duration_s in enumerate((0.5, 2.5)):
        audio.write(folder / f"{i}.wav", tone(440 * (i + 1), int(duration_s * 8000)), 8000)
    return folder


def test_folder_is_cut_into_windows_and_resampled(noise_dir):
    folder = WaveFolder(noise_dir, RATE, window_s=1.0, max_bytes=2**20)
    assert [len(folder[i]) for i in range(len(folder))] == [8000, 16000, 16000, 8000]
    assert np.array_equal(folder[1], folder[1])


def test_folder_keeps_within_its_memory(noise_dir, monkeypatch):
    folder = WaveFolder(noise_dir, RATE, window_s=1.0, max_bytes=2 * 4 * RATE)
    num_reads = 0
    read = audio.read

    def counting_read(*args, **kwargs):
        nonlocal num_reads
        num_reads += 1
        return read(*args, **kwargs)

    monkeypatch.setattr(audio, "read", counting_read)
    for i in (1, 2, 1, 2, 1):
        folder[i]
    assert num_reads == 2
    folder[0]  # 2 is dropped: it was used before 1
    folder[1]
    assert num_reads == 3
    folder[2]
    assert num_reads == 4
    assert folder._num_bytes == sum(wave.nbytes for wave in folder._kept.values()) <= 2 * 4 * RATE


def test_folders_without_sound_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        DistortionPool.open(noise_dir=tmp_path / "none")
    with pytest.raises(ValueError, match="no sound"):
        DistortionPool.open(rir_dir=tmp_path)


def test_noise_and_rooms_come_from_the_folders(noise_dir, tmp_path):
    rooms = tmp_path / "rooms"
    audio.write(rooms / "echo.wav", np.eye(1, 200, 3, dtype=np.float32)[0], RATE)
    pool = DistortionPool.open(noise_dir=noise_dir, rir_dir=rooms)
    wave = noise_wave(3 * RATE)
    mixed = distort(wave, RATE, only("noise", files_p=1.0), rng(0), pool)
    power = np.abs(np.fft.rfft(mixed - wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)[np.argmax(power)]
    assert min(abs(hertz - 440), abs(hertz - 880)) < 2
    # The only room is a direct path, three samples late: aligned, it changes nothing.
    room = distort(wave, RATE, only("reverb", files_p=1.0), rng(0), pool)
    assert np.allclose(room, wave, atol=1e-5)


def test_pool_travels_to_workers(noise_dir):
    pool = DistortionPool.open(noise_dir=noise_dir)
    config, wave = only("noise", files_p=1.0), noise_wave()
    here = distort(wave, RATE, config, rng(0), pool)
    there = distort(wave, RATE, config, rng(0), pickle.loads(pickle.dumps(pool)))
    assert np.array_equal(here, there)
