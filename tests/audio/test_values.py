"""Arrays as waves: nothing is altered without a word."""

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import AudioError, AudioWarning, as_wave
from speechssl.checkpoint import load_model
from speechssl.inference.extract import extract
from speechssl.inference.recordings import as_clip
from speechssl.inference.transcribe import transcribe

RATE = 16000
WAVE = (0.8 * np.sin(np.arange(4000) / 7) * np.sin(np.arange(4000) / 900)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (WAVE, 0),
        (WAVE.astype(np.float64), 0),
        (WAVE.astype(np.float16), 5e-4),
        (np.rint(WAVE * 32768).astype(np.int16), 2e-5),
        (np.rint(WAVE * 2147483648.0).astype(np.int32), 1e-6),
        (np.rint(WAVE * 128).astype(np.int8), 5e-3),
        (np.rint(WAVE * 128 + 128).astype(np.uint8), 5e-3),
        (np.rint(WAVE * 32768).astype(">i2"), 2e-5),
        (np.stack([WAVE, WAVE], axis=0), 0),
        (np.stack([WAVE, WAVE], axis=1), 0),
        (np.stack([WAVE, 0 * WAVE, 2 * WAVE], axis=1), 1e-6),
        (WAVE[:, None], 0),
        (WAVE[None, :], 0),
        (np.rint(np.stack([WAVE, WAVE]) * 32768).astype(np.int16), 2e-5),
    ],
)
def test_an_array_is_a_wave_whatever_its_type_and_shape(values, error):
    wave, notes = as_wave(values)
    assert wave.dtype == np.float32
    assert wave.shape == WAVE.shape
    assert np.abs(wave - WAVE).max() <= error
    assert not notes


@pytest.mark.parametrize("factor", [1.5, 32768.0, 1e6])
def test_an_array_beyond_full_scale_is_scaled_and_said(factor):
    wave, notes = as_wave(factor * WAVE, "take 1")
    assert np.allclose(wave, WAVE / np.abs(WAVE).max(), atol=1e-6)
    assert len(notes) == 1
    assert notes[0].startswith("take 1 has samples of up to ")


def test_channels_of_an_array_that_cancel_give_the_louder_one():
    wave, notes = as_wave(np.stack([0.9 * WAVE, -WAVE]), "take 1")
    assert np.array_equal(wave, -WAVE)
    assert "take 1: its channels cancel each other" in notes[0]
    assert "channel 2 alone" in notes[0]


@pytest.mark.parametrize("kind", ["i8", "u2", "u4", "u8", "?", "c8", "O", "U4"])
def test_a_type_without_a_full_scale_is_refused(kind):
    values = np.zeros(4000, kind) if kind not in ("O", "U4") else np.array(["a"] * 4000, kind)
    with pytest.raises(AudioError, match="whose full scale nobody can tell: give floats in"):
        as_wave(values)


@pytest.mark.parametrize("shape", [(), (2, 5), (40, 40), (3, 4000, 2), (1000, 200)])
def test_a_shape_that_is_no_wave_is_refused(shape):
    with pytest.raises(AudioError, match=r"must have the shape \(samples,\), got"):
        as_wave(np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("work", [transcribe, extract, lambda _, wave: as_clip(wave)])
def test_impossible_values_are_refused_by_all(bad, kind, work, tiny_models):
    wave = WAVE.astype(kind)
    wave[17] = bad
    checkpoint = load_model(tiny_models["ctc"])
    with pytest.raises(AudioError, match="holds NaN or infinite samples, or impossible ones"):
        work(checkpoint, wave)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float64])
def test_models_are_given_the_same_whatever_the_type(kind, tiny_models):
    checkpoint = load_model(tiny_models["ctc"])
    values = {
        np.int16: np.rint(WAVE * 32768).astype(np.int16),
        np.uint8: np.rint(WAVE * 128 + 128).astype(np.uint8),
        np.float64: WAVE.astype(np.float64),
    }[kind]
    exact = as_wave(values)[0]
    assert np.array_equal(extract(checkpoint, values).frames, extract(checkpoint, exact).frames)
    stereo = np.stack([values, values])
    assert np.array_equal(extract(checkpoint, stereo).frames, extract(checkpoint, exact).frames)
    assert transcribe(checkpoint, stereo.T).text == transcribe(checkpoint, exact).text


@pytest.mark.parametrize("work", [transcribe, extract])
def test_what_was_done_to_an_array_is_warned_of(work, tiny_models):
    with pytest.warns(AudioWarning, match="samples of up to .* times full scale: divided by it"):
        work(load_model(tiny_models["ctc"]), 5 * WAVE)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("peak", [1.01, 3.0, 32767.0])
@pytest.mark.parametrize("rate", [8000, RATE])
def test_floats_beyond_full_scale_are_scaled_by_the_peak_of_the_file(tmp_path, subtype, peak, rate):
    path = tmp_path / "x.wav"
    wave = WAVE * (peak / np.abs(WAVE).max())
    soundfile.write(path, wave, rate, subtype=subtype)
    with pytest.warns(AudioWarning, match=r"x\.wav has samples of up to [\d.]+ times"):
        whole = audio.read(path, sample_rate=rate)
    assert np.allclose(whole, wave / peak, atol=1e-6)
    with pytest.warns(AudioWarning, match="times full scale"):  # a quiet part by the same factor
        part = audio.read(path, sample_rate=rate, duration_s=0.01)
    assert np.array_equal(part, whole[: len(part)])
    assert np.abs(part).max() < 0.2
    blocks = np.concatenate(list(audio.stream(path)[1].mono()))
    assert np.array_equal(blocks, whole)


def test_an_overshoot_of_a_lossy_decoder_is_limited(tmp_path):
    path = tmp_path / "x.ogg"
    soundfile.write(path, 1.2 * WAVE / np.abs(WAVE).max(), RATE, format="OGG", subtype="VORBIS")
    with pytest.warns(
        AudioWarning, match=r"x\.ogg has \d+ samples beyond full scale, of up to 1\.2"
    ):
        wave = audio.read(path)
    assert np.abs(wave).max() == 1


def test_what_was_too_loud_before_it_was_coded_is_scaled(tmp_path):
    path = tmp_path / "x.ogg"
    soundfile.write(path, 4 * WAVE, RATE, format="OGG", subtype="VORBIS")
    with pytest.warns(AudioWarning, match="times full scale: divided by it"):
        wave = audio.read(path)
    assert np.abs(wave).max() == 1
    assert np.corrcoef(wave, WAVE)[0, 1] > 0.99
    with pytest.warns(AudioWarning, match="times full scale: divided by it"):
        part = audio.read(path, start_s=0.05, duration_s=0.1)
    assert np.allclose(part, wave[800:2400], atol=1e-3)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ((WAVE, -WAVE), WAVE),
        ((0.5 * WAVE, -0.55 * WAVE), -0.55 * WAVE),
        ((0.3 * WAVE, -0.6 * WAVE, 0.3 * WAVE), -0.6 * WAVE),
        ((WAVE, -WAVE, WAVE, -WAVE), WAVE),
    ],
)
def test_channels_that_cancel_are_not_silence(tmp_path, channels, expected):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="FLOAT")
    with pytest.warns(AudioWarning, match=r"x\.wav: its channels cancel each other") as said:
        wave = audio.read(path)
    assert np.allclose(wave, expected, atol=1e-6)
    assert len(said) == 1


@pytest.mark.parametrize("num", [2, 3, 8, 64])
def test_channels_that_have_nothing_in_common_are_averaged(tmp_path, num):
    path = tmp_path / "x.wav"
    waves = 0.1 * np.random.default_rng(0).standard_normal((4000, num))
    soundfile.write(path, waves, RATE, subtype="DOUBLE")
    assert np.allclose(audio.read(path), waves.mean(axis=1), atol=1e-6)
    waves[:, 1:] = 0  # one of them alone
    soundfile.write(path, waves, RATE, subtype="DOUBLE")
    assert np.allclose(audio.read(path), waves[:, 0] / num, atol=1e-6)
    soundfile.write(path, 0 * waves, RATE, subtype="DOUBLE")
    assert not audio.read(path).any()


def test_a_few_samples_do_not_cancel_by_chance(tmp_path):
    """The end of a recording is taken from the channel that the rest is taken from."""
    path = tmp_path / "x.wav"
    pair = np.array([[0.5, -0.5], [0.2, -0.2]], np.float32)
    soundfile.write(path, pair, RATE, subtype="FLOAT")
    assert not audio.read(path).any()
    soundfile.write(path, np.stack([WAVE, -0.9 * WAVE], axis=1), RATE, subtype="FLOAT")
    _, blocks = audio.stream(path)
    block = next(blocks)
    found = np.concatenate([blocks.mix(block[:3900]), blocks.mix(block[3900:])])
    assert np.array_equal(found, WAVE)
    assert len(blocks.notes) == 1
