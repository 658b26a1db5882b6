"""A change of voice of whole samples: the clean wave has it too, and says so."""

import pickle
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.distortion import light
from speechssl.data.manifest import Utterance
from speechssl.data.voice import VoiceConfig, change_voice
from speechssl.rng import rng
from tests.data.waves import RATE, noise_wave, only, tone

BOTH = VoiceConfig(speed_p=0.5, pitch_p=0.5)


class Memory(list):
    """In the place of a cache."""

    faults: ClassVar[dict[int, str]] = {}

    def get(self, item):
        return self[item]


@pytest.fixture
def waves() -> Waves:
    made = Memory(noise_wave(3000 + 1000 * i, seed=i) for i in range(12))
    utterances = [
        Utterance(str(i), "x.wav", 0.0, len(wave) / RATE, RATE, None, f"t{i}")
        for i, wave in enumerate(made)
    ]
    return Waves(utterances, made, RATE)


def dataset(waves, **changes) -> PlannedBatches:
    plan = BatchPlan(waves.lengths_s(), batch_s=2.0, seed=0)
    return PlannedBatches(waves, plan, seed=0, **changes)


def rows(data, num):
    """(epoch-wise) each utterance of `num` batches: id, clean, distorted, altered."""
    for index in range(num):
        batch = data[index]
        for row, length in enumerate(batch.lengths.tolist()):
            yield (
                batch.ids[row],
                batch.clean[row, :length].numpy(),
                batch.distorted[row, :length].numpy(),
                batch.altered[row],
            )


def test_the_default_changes_nothing(waves):
    assert not VoiceConfig().changes
    assert VoiceConfig().longest == 1
    wave = noise_wave()
    assert change_voice(wave, RATE, VoiceConfig(), 0, 0, 0) is wave
    plain, other = dataset(waves), dataset(waves, voice=VoiceConfig())
    for index in range(4):
        assert torch.equal(plain[index].clean, other[index].clean)
        assert other[index].altered == (False,) * len(other[index].ids)


def test_altered_says_which_have_another_voice(waves):
    data = dataset(waves, voice=BOTH)
    found = list(rows(data, 3 * data.plan.num_batches))
    for name, clean, distorted, altered in found:
        original = waves.cache.get(int(name))
        same = len(clean) == len(original) and np.array_equal(clean, original)
        assert same is not altered
        assert np.array_equal(clean, distorted)
    assert {altered for *_, altered in found} == {True, False}


def test_speeds_of_fine_tuning_are_told_too(waves):
    data = dataset(waves, speeds=(0.9, 1.0))
    for name, clean, _, altered in rows(data, 8):
        assert altered is (len(clean) != len(waves.cache.get(int(name))))


def test_what_is_distorted_is_the_new_voice(waves):
    clean_gain = replace(only("gain"), gain=replace(light().gain, p=1.0, gain_db=(-6.0, -6.0)))
    data = dataset(waves, voice=BOTH, distortion=clean_gain)
    for _, clean, distorted, _ in rows(data, 4):
        assert np.allclose(distorted, clean * 10 ** (-6 / 20), atol=1e-6)


def test_a_shift_of_the_input_alone_leaves_the_clean_wave(waves):
    data = dataset(waves, distortion=only("pitch"))
    for name, clean, distorted, altered in rows(data, 4):
        assert np.array_equal(clean, waves.cache.get(int(name)))
        assert not altered
        assert not np.allclose(distorted, clean, atol=1e-3)


def test_a_function_of_seed_epoch_and_utterance(waves):
    one = dataset(waves, voice=BOTH, max_crop_s=0.4, distortion=light())
    two = pickle.loads(pickle.dumps(one))
    for index in (5, 0, 3, 5):
        a, b = one[index], two[index]
        assert torch.equal(a.clean, b.clean)
        assert torch.equal(a.distorted, b.distorted)
        assert (a.altered, a.starts) == (b.altered, b.starts)
    wave = noise_wave()
    always = replace(BOTH, speed_p=1.0)
    first = change_voice(wave, RATE, always, 0, 0, 0)
    assert np.array_equal(first, change_voice(wave, RATE, always, 0, 0, 0))
    lengths = {
        len(change_voice(wave, RATE, always, *key)) for key in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    assert len(lengths | {len(first)}) == 4


def test_speed_and_pitch_have_their_own_streams():
    wave = tone(200)
    for item in range(20):
        both = change_voice(wave, RATE, BOTH, 0, 0, item)
        slow = change_voice(wave, RATE, replace(BOTH, pitch_p=0.0), 0, 0, item)
        high = change_voice(wave, RATE, replace(BOTH, speed_p=0.0), 0, 0, item)
        assert len(both) == len(slow)
        assert len(high) == len(wave)
        if len(slow) == len(wave):
            assert np.array_equal(both, high)


def test_speed_and_pitch_are_within_their_ranges():
    wave = tone(400)
    config = VoiceConfig(speed_p=1.0, speed=(0.8, 0.9), pitch_p=1.0, semitones=(2.0, 3.0))
    for item in range(20):
        changed = change_voice(wave, RATE, config, 0, 0, item)
        speed = len(wave) / len(changed)
        assert 0.799 < speed < 0.901
        power = np.abs(np.fft.rfft(changed * np.hanning(len(changed)), 1 << 18))
        ratio = np.argmax(power) * RATE / (1 << 18) / 400 / speed
        assert 1.99 < 12 * np.log2(ratio) < 3.01


def test_slower_speech_is_longer_up_to_the_crop(waves):
    slow = VoiceConfig(speed_p=1.0, speed=(0.8, 0.8))
    assert slow.longest == 1.25
    assert VoiceConfig(speed_p=1.0, speed=(1.1, 1.2)).longest == 1
    data = dataset(waves, voice=slow, max_crop_s=0.5, hop_samples=640)
    for index in range(4):
        batch = data[index]
        assert int(batch.lengths.max()) <= 8000
        assert all(start % 640 == 0 for start in batch.starts)
        for row, name in enumerate(batch.ids):
            full = audio.play_at(waves.cache.get(int(name)), 0.8)
            start, length = batch.starts[row], int(batch.lengths[row])
            assert length == min(len(full) - start, 8000)
            assert np.array_equal(batch.clean[row, :length], full[start : start + length])


def test_loaders_make_the_same(waves):
    """Of the voice of an utterance that stands in for a broken one, too."""
    whole = dataset(waves, voice=BOTH)
    waves.cache[3] = None

    class Broken(Memory):
        def get(self, item):
            if self[item] is None:
                raise OSError("gone")
            return self[item]

    broken = dataset(Waves(waves.utterances, Broken(waves.cache), RATE), voice=BOTH)
    for index in range(whole.plan.num_batches):
        batch, again = broken[index], broken[index]
        assert "3" not in batch.ids
        assert len(batch.altered) == len(batch.ids)
        assert torch.equal(batch.clean, again.clean)


@pytest.mark.parametrize(
    "changes",
    [
        {"speed_p": 1.1},
        {"pitch_p": -0.1},
        {"pitch_p": float("nan")},
        {"speed": (0.4, 1.0)},
        {"speed": (1.1, 0.9)},
        {"speed": (0.9,)},
        {"semitones": (-10.0, 0.0)},
        {"semitones": (3.0, -3.0)},
    ],
)
def test_impossible_settings_are_named(changes):
    with pytest.raises(ValueError, match=rf"^voice\.{next(iter(changes))} must be "):
        VoiceConfig(**changes)


def test_draws_are_even():
    changed = [
        change_voice(tone(300, 2000), RATE, replace(BOTH, speed_p=0.25, pitch_p=0.0), 0, 0, i)
        for i in range(400)
    ]
    share = np.mean([len(wave) != 2000 for wave in changed])
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    assert rng(0, "voice speed", 0, 0).random() == rng(0, "voice speed", 0, 0).random()
