"""Peaks at several zooms, the copy to seek in, and tiles of the spectrogram."""

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.caches import VARIABLE
from speechssl.rng import rng
from speechssl.service import peaks, spectrum
from speechssl.service.peaks import LEVELS, Preparer, is_exact, kept, media_type


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))


def noise(rate: int, seconds: float, channels: int = 1) -> np.ndarray:
    size = (round(rate * seconds), channels)
    return rng(0, "noise", rate).uniform(-0.9, 0.9, size).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "channels"), [(16000, 1), (11025, 2), (44100, 1), (22050, 3), (8000, 1), (1000, 1)]
)
def test_peaks_are_the_largest_of_their_stretch(tmp_path, rate, channels):
    wave = noise(rate, 3.3, channels)
    path = tmp_path / "a.wav"
    audio.write(path, wave, rate)
    wave = soundfile.read(path, dtype="float32", always_2d=True)[0]
    made = Preparer()(path)
    for level, values in zip(LEVELS, made.peaks, strict=True):
        assert values.shape == (2, int(np.ceil(len(wave) * level / rate)))
        places = np.arange(len(wave)) * level // rate
        for row, extreme in zip(values, (wave.max(1), -wave.min(1)), strict=True):
            expected = np.zeros(len(row))
            np.maximum.at(expected, places, extreme)
            assert np.abs(row - np.rint(255 * expected.clip(0, 1))).max() <= 1


def test_what_was_made_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    audio.write(path, noise(8000, 1)[:, 0], 8000)
    made = Preparer()(path)
    monkeypatch.setattr(peaks, "_make", lambda *_: pytest.fail("made again"))
    again = Preparer()(path)
    assert all(np.array_equal(a, b) for a, b in zip(made.peaks, again.peaks, strict=True))
    audio.write(path, noise(8000, 2)[:, 0], 8000)
    assert kept(path) is None


def test_a_damaged_cache_is_made_anew(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, noise(8000, 1)[:, 0], 8000)
    Preparer()(path)
    (file,) = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert kept(path) is None
    assert Preparer()(path).peaks[0].shape == (2, 10)


def test_without_a_cache_folder_there_are_peaks_and_no_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(peaks, "cache_subfolder", lambda _name: None)
    path = tmp_path / "a.flac"
    audio.write(path, noise(8000, 1)[:, 0], 8000)
    made = Preparer()(path)
    assert made.copy is None
    assert made.peaks[2].shape == (2, 200)


@pytest.mark.parametrize(
    ("name", "subtype", "exact", "kind"),
    [
        ("a.wav", "PCM_16", True, "audio/wav"),
        ("a.wav", "PCM_24", True, "audio/wav"),
        ("a.wav", "MS_ADPCM", False, "audio/wav"),
        ("a.mp3", None, False, "audio/mpeg"),
        ("a.ogg", None, False, "audio/ogg"),
        ("a.aiff", "PCM_16", False, None),
    ],
)
def test_what_a_browser_can_seek_in_is_left_as_it_is(tmp_path, name, subtype, exact, kind):
    path = tmp_path / name
    audio.write(path, 0.3 * noise(16000, 1.5)[:, 0], 16000, subtype=subtype)
    assert is_exact(audio.probe(path)) is exact
    assert media_type(path) == kind
    copy = Preparer()(path).copy
    assert (copy is None) is exact
    if copy is not None:  # the same samples as everything else here reads
        assert is_exact(audio.probe(copy))
        difference = audio.read(copy) - audio.read(path)
        assert np.abs(difference).max() < 2 / 32768


def test_a_copy_keeps_two_channels(tmp_path):
    path = tmp_path / "a.flac"
    audio.write(path, noise(8000, 1, 2), 8000)
    assert audio.probe(Preparer()(path).copy).channels == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file: .*a\.wav"):
        Preparer()(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"No such file: .*a\.wav"):
        spectrum.tile(tmp_path / "a.wav", 0)


@pytest.mark.parametrize("hertz", [500.0, 1000.0, 4000.0])
def test_a_tone_is_in_its_row(hertz):
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)
    image = spectrum.spectrogram(wave, 0, 100)
    assert image.shape == (128, 100)
    assert set(np.argmax(image[:, 5:-5], axis=0)) <= {int(hertz / 62.5), int(hertz / 62.5) - 1}


def test_tiles_are_those_of_the_whole(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, noise(16000, 23.4)[:, 0], 16000)
    whole = spectrum.spectrogram(audio.read(path), 0, 2340)
    tiles = [spectrum.tile(path, number) for number in range(4)]
    assert [tile.shape for tile in tiles] == [(128, 1000), (128, 1000), (128, 340), (128, 0)]
    joined = np.concatenate(tiles, axis=1).astype(int)
    assert np.abs(joined - whole)[:, 1:-2].max() <= 1  # the ends of the recording may differ


def test_gain_makes_quiet_recordings_visible(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, 0.01 * noise(16000, 1)[:, 0], 16000)
    assert spectrum.tile(path, 0, 30.0).mean() > spectrum.tile(path, 0).mean() + 50
