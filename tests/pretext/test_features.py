"""Features against librosa, alignment with the model's frames, independence of padding."""

import librosa
import numpy as np
import pytest
import torch

from speechssl import shapes
from speechssl.pretext.features import (
    FEATURE_DIMS,
    frame_features,
    log_mel,
    mfcc,
    power_spectrum,
    prosody,
)

EVERY = pytest.mark.parametrize("name", FEATURE_DIMS)
LENGTHS = (9000, 4000, 7001, 641)
HOP = 320


def waves(lengths=LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    wave += 0.3 * torch.sin(torch.arange(max(lengths)) * 0.05)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


def pulses(hertz=120.0, seconds=1.0, rate=16000) -> torch.Tensor:
    """(1, S): a train of pulses without what lies above 3 kHz."""
    times = np.arange(int(seconds * rate)) / rate
    harmonics = np.arange(1, int(3000 / hertz) + 1)
    wave = np.cos(2 * np.pi * hertz * harmonics[:, None] * times).mean(0)
    return torch.from_numpy(wave.astype(np.float32))[None]


def librosa_log_mel(wave: np.ndarray, num: int) -> np.ndarray:
    """(num, 80): the same windows, each centred on its hop of 160 samples."""
    padded = np.pad(wave, (120 + 56, 1000))  # librosa centres a window of 400 in 512
    power = librosa.feature.melspectrogram(
        y=padded, sr=16000, n_fft=512, win_length=400, hop_length=160, center=False, n_mels=80
    )
    return np.log(power.T + 1e-7)[:num]


def test_log_mel_against_librosa():
    wave, _ = waves((8000,))
    ours = log_mel(power_spectrum(wave, 50, 16000), 16000)[0].numpy()
    theirs = librosa_log_mel(wave[0].numpy(), 50)
    assert ours.shape == theirs.shape == (50, 80)
    assert np.abs(ours - theirs).max() < 1e-3


def test_mfcc_against_librosa():
    wave, _ = waves((8000,))
    theirs_mel = librosa_log_mel(wave[0].numpy(), 50)
    ours = mfcc(torch.from_numpy(theirs_mel)[None], torch.tensor([50]))[0].numpy()
    cepstra = librosa.feature.mfcc(S=theirs_mel.T, n_mfcc=13, dct_type=2, norm="ortho").T
    assert ours.shape == (50, 39)
    assert np.abs(ours[:, :13] - cepstra).max() < 1e-3
    # librosa's differences of width 3 are the central ones, the ends repeated
    first = librosa.feature.delta(cepstra, width=3, axis=0, mode="nearest")
    assert np.abs(ours[:, 13:26] - first).max() < 1e-3
    second = librosa.feature.delta(first, width=3, axis=0, mode="nearest")
    assert np.abs(ours[:, 26:] - second).max() < 1e-3


def prosody_of(wave: torch.Tensor) -> torch.Tensor:
    return prosody(wave, power_spectrum(wave, 100, 16000), torch.tensor([100]), 16000)


@pytest.mark.parametrize("hertz", [65.0, 80.0, 120.0, 150.0, 200.0, 330.0, 390.0])
def test_the_pitch_of_pulses(hertz):
    wave = pulses(hertz)
    values = prosody_of(wave)[0, 5:-5]
    assert np.abs(np.exp(values[:, 0].numpy()) / hertz - 1).max() < 0.03
    assert float(values[:, 2].min()) > 0.8


def test_noise_is_less_voiced_than_pulses_and_silence_is_not_voiced():
    noise, _ = waves((16000,))
    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    silence = torch.zeros(1, 16000)
    voicing = [float(prosody_of(w)[0, 5:-5, 2].mean()) for w in (pulses(), noise, silence)]
    assert voicing[0] > 0.9
    assert voicing[1] < 0.6
    assert voicing[2] == 0


def test_pitch_goes_on_where_there_is_no_voice():
    wave = pulses(150.0)
    gap = wave.clone()
    gap[:, 6400:9600] = 0  # hops 40 to 59
    pitch = prosody_of(gap)[0, :, 0].exp()
    assert (pitch[5:95] / 150 - 1).abs().max() < 0.03
    rising = torch.cat([pulses(120.0)[:, :8000], pulses(180.0)[:, :8000]], dim=1)
    pitch = prosody_of(rising)[0, :, 0].exp()
    assert (pitch[5:42] / 120 - 1).abs().max() < 0.05
    assert (pitch[58:95] / 180 - 1).abs().max() < 0.05


def test_energy_rises_with_loudness():
    wave = pulses()
    quiet, loud = (prosody_of(w)[0, 50, 1] for w in (wave, 10 * wave))
    assert float(loud - quiet) == pytest.approx(2 * np.log(10), abs=0.01)


@EVERY
@pytest.mark.parametrize("hop", [160, 320, 640])
def test_shapes_and_padding(name, hop):
    wave, lengths = waves()
    frames = lengths // hop
    out = frame_features(name, wave, frames, hop, 16000)
    assert out.shape == (4, int(frames.max()), FEATURE_DIMS[name] * hop // 160)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    for row, num in enumerate(frames.tolist()):
        assert not out[row, num:].any()
        assert out[row, :num].any(1).all()


@EVERY
@pytest.mark.parametrize("hop", [160, 640])
def test_features_do_not_depend_on_the_batch(name, hop):
    wave, lengths = waves()
    frames = (lengths - 80) // hop  # some samples are left over, as with a convolution
    frames = frames.clamp_min(1)
    batch = frame_features(name, wave, frames, hop, 16000)
    for row, length in enumerate(LENGTHS):
        num = int(frames[row])
        alone = frame_features(
            name, wave[row : row + 1, :length], frames[row : row + 1], hop, 16000
        )
        torch.testing.assert_close(batch[row, :num], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["logmel", "mfcc", "prosody"])
def test_features_are_normalised_over_the_utterance(name):
    wave, lengths = waves((9000, 5000))
    frames = lengths // HOP
    out = frame_features(name, wave, frames, HOP, 16000)
    for row, num in enumerate(frames.tolist()):
        hops = out[row, :num].unflatten(1, (2, -1)).flatten(0, 1)  # (H, dim) at 100 Hz
        assert float(hops.mean(0).abs().max()) < 1e-3
        assert float(hops.std(0, correction=0).max()) < 1.001
        if name == "logmel":
            torch.testing.assert_close(hops.std(0, correction=0), torch.ones(80), rtol=0.1, atol=0)


@pytest.mark.parametrize("hop", [320, 640])
def test_an_event_is_in_the_frame_where_it_happens(hop):
    wave = torch.zeros(1, 20 * hop)
    at = 7
    wave[0, at * hop + hop // 2 - 40 : at * hop + hop // 2 + 40] = 0.5
    frames = torch.tensor([20])
    for name in ("logmel", "wave"):
        out = frame_features(name, wave, frames, hop, 16000)[0]
        energy = out.abs().sum(1) if name == "wave" else out.sum(1)
        assert int(energy.argmax()) == at
    exact = frame_features("wave", wave, frames, hop, 16000)[0]
    assert exact.abs().sum(1).nonzero().flatten().tolist() == [at]


def test_the_wave_feature_is_the_wave_at_unit_level():
    wave, lengths = waves((6400, 3200))
    out = frame_features("wave", wave, lengths // HOP, HOP, 16000)
    for row, length in enumerate(lengths.tolist()):
        own = wave[row, :length]
        expected = own / (own.square().mean().sqrt() + 1e-3)
        torch.testing.assert_close(out[row].flatten()[:length], expected, rtol=1e-4, atol=1e-5)


@EVERY
def test_silence_is_finite(name):
    out = frame_features(name, torch.zeros(1, 3200), torch.tensor([10]), HOP, 16000)
    assert out.isfinite().all()
    assert float(out.abs().max()) < 1e-2  # rounding


@EVERY
def test_there_is_no_gradient_into_targets(name):
    wave, lengths = waves()
    out = frame_features(name, wave.requires_grad_(), lengths // HOP, HOP, 16000)
    assert not out.requires_grad


def test_a_hop_that_is_no_multiple_of_10_ms_is_a_sentence():
    with pytest.raises(ValueError, match="hop of 240 samples is not a multiple of 10 ms"):
        frame_features("logmel", *waves(), 240, 16000)


@EVERY
def test_features_are_float32_whatever_the_autocast(name):
    wave, lengths = waves()
    frames = lengths // HOP
    plain = frame_features(name, wave, frames, HOP, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        found = frame_features(name, wave, frames, HOP, 16000)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)
