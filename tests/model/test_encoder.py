"""Encoders: lengths, independence of padding, and a filterbank that starts as log-mel."""

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import nn

from speechssl import shapes
from speechssl.model.config import ConvEncoderConfig, FilterbankEncoderConfig
from speechssl.model.encoder import build_encoder
from speechssl.model.filterbank import FilterbankEncoder, gabor_filters
from speechssl.model.normalization import MaskedGroupNorm, normalize_over_time

SEVEN = (8,) * 7
ENCODERS = {
    "group": ConvEncoderConfig(SEVEN),
    "layer": ConvEncoderConfig(SEVEN, norm="layer", bias=True),
    "uneven": ConvEncoderConfig((4, 12, 8), (10, 4, 3), (5, 4, 2)),
    "filterbank": FilterbankEncoderConfig(num_filters=10),
    "filterbank-2": FilterbankEncoderConfig(num_filters=6, kernel_samples=256, stack=2),
}
EVERY = pytest.mark.parametrize("name", ENCODERS)
LENGTHS = (5000, 1000, 3333)


def encoder(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_encoder(ENCODERS[name], 16000)


def waves(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


@EVERY
def test_lengths_are_what_comes_out(name):
    model = encoder(name)
    for num in range(model.min_samples, model.min_samples + 2 * model.hop_samples, 37):
        wave, lengths = waves((num,))
        latents, frames = model(wave, lengths)
        assert frames.tolist() == model.output_lengths(lengths).tolist() == [latents.shape[1]]


@EVERY
def test_min_samples_is_the_least_that_gives_a_frame(name):
    model = encoder(name)
    at = torch.tensor([model.min_samples - 1, model.min_samples])
    assert model.output_lengths(at).tolist() == [0, 1]


def test_wav2vec_frames():
    model = build_encoder(ConvEncoderConfig(SEVEN), 16000)
    assert (model.min_samples, model.hop_samples) == (400, 320)
    at = torch.tensor([399, 400, 16000, 250_000])
    assert model.output_lengths(at).tolist() == [0, 1, 49, 781]


@EVERY
def test_a_row_of_a_batch_equals_the_row_alone(name):
    model = encoder(name)
    wave, lengths = waves()
    latents, frames = model(wave, lengths)
    for row, length in enumerate(LENGTHS):
        alone, _ = model(wave[row : row + 1, :length], lengths[row : row + 1])
        num = int(frames[row])
        assert alone.shape[1] == num
        torch.testing.assert_close(latents[row, :num], alone[0], rtol=1e-4, atol=1e-5)
        assert not latents[row, num:].any()


@EVERY
def test_every_parameter_has_a_gradient(name):
    model = encoder(name)
    latents, _ = model(*waves())
    latents.square().sum().add(latents.sum()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@EVERY
def test_silence_gives_finite_latents_and_gradients(name):
    model = encoder(name)
    latents, _ = model(torch.zeros(1, 3000), torch.tensor([3000]))
    assert latents.isfinite().all()
    latents.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_masked_group_norm_is_group_norm_without_padding():
    ours, theirs = MaskedGroupNorm(6), nn.GroupNorm(6, 6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.copy_(torch.randn(6, generator=generator))
            other.copy_(own)
    values = torch.randn(3, 6, 50, generator=generator) * 4 + 2
    torch.testing.assert_close(
        ours(values, torch.tensor([50, 50, 50])), theirs(values), rtol=1e-5, atol=1e-5
    )


def test_masked_group_norm_does_not_see_the_padding():
    norm = MaskedGroupNorm(2)
    values = torch.randn(1, 2, 20, generator=torch.Generator().manual_seed(0))
    other = values.clone()
    other[:, :, 12:] = float("nan")
    lengths = torch.tensor([12])
    assert torch.equal(norm(values, lengths)[:, :, :12], norm(other, lengths)[:, :, :12])


# --- the filterbank -------------------------------------------------------------------------------


def vowel(seconds=1.5, rate=16000):
    """A gliding voice through three resonances, with pauses and a little noise."""
    times = np.arange(int(seconds * rate)) / rate
    cycles = np.cumsum(120 + 40 * np.sin(2 * np.pi * 1.3 * times)) / rate
    wave = (np.diff(np.floor(cycles), prepend=0) > 0).astype(float)
    for hertz, width in ((500, 80), (1500, 120), (2500, 200)):
        radius = np.exp(-np.pi * width / rate)
        poles = [1, -2 * radius * np.cos(2 * np.pi * hertz / rate), radius**2]
        wave = lfilter([1 - radius], poles, wave)
    wave *= 0.3 / np.abs(wave).max() * (np.sin(2 * np.pi * 3 * times) > 0)
    return (wave + 0.001 * np.random.default_rng(0).normal(size=len(times))).astype(np.float32)


def test_the_filterbank_starts_as_log_mel():
    wave = vowel()
    model = FilterbankEncoder(FilterbankEncoderConfig(), 16000)
    with torch.no_grad():
        ours = model.energies(torch.from_numpy(wave)[None])[0].numpy()
    mel = librosa.feature.melspectrogram(
        y=np.pad(wave, (176, 456)),  # windows of 400, in 512, centred on hops of 160
        sr=16000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        center=False,
        n_mels=80,
        fmin=50,
        fmax=7800,
        htk=True,
        norm=None,
    )
    theirs = np.log(mel.T / 100**2 + 1e-7)[: len(ours)]  # a Hann window of 400 has a gain of 100
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.97
    over_time = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
    assert np.median(over_time) > 0.95  # the highest bands hold noise alone
    assert abs(np.mean(ours - theirs)) < 0.5  # and at the same level


def test_a_tone_at_a_filters_centre_has_unit_gain_and_is_its_channels_loudest():
    config = FilterbankEncoderConfig(num_filters=20)
    model = FilterbankEncoder(config, 16000)
    mel = np.linspace(*(2595 * np.log10(1 + np.array([50, 7800]) / 700)), 22)
    centres = 700 * (10 ** (mel / 2595) - 1)
    times = torch.arange(6400) / 16000
    for index in (3, 10, 18):
        tone = torch.sin(2 * torch.pi * float(centres[index + 1]) * times)
        energies = model.energies(tone[None])[0, 20].detach()
        assert int(energies.argmax()) == index
        assert float(energies[index]) == pytest.approx(0, abs=0.05)


def test_filters_of_another_rate_stay_below_its_half():
    filters = gabor_filters(FilterbankEncoderConfig(num_filters=20), 8000)
    power = torch.fft.rfft(filters[:20]).abs()
    assert int(power[-1].argmax()) < 200
    assert filters.isfinite().all()


def test_the_filterbank_stays_in_float32_under_autocast():
    model = encoder("filterbank")
    wave, lengths = waves()
    plain, _ = model(wave, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = model(wave, lengths)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)


def test_the_filterbank_gives_the_same_at_another_loudness():
    model = encoder("filterbank")
    wave, lengths = waves()
    one, two = model(wave, lengths)[0], model(wave * 3, lengths)[0]
    torch.testing.assert_close(one, two, rtol=0, atol=5e-3)


def test_normalize_over_time_is_zero_mean_and_unit_variance():
    values = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0)) * 5 + 100
    lengths = torch.tensor([40, 17])
    out = normalize_over_time(values, lengths)
    for row, num in enumerate(lengths.tolist()):
        valid = out[row, :num]
        torch.testing.assert_close(valid.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
        torch.testing.assert_close(valid.std(0, correction=0), torch.ones(3), rtol=0, atol=1e-2)
        assert not out[row, num:].any()


@pytest.mark.parametrize(
    ("num", "samples"), [(1, 4000), (2, 1), (5, 6400), (3, 47_001), (7, 80_000)]
)
def test_waves_one_by_one_have_the_same_energies(num: int, samples: int) -> None:
    """Without gradients each wave of a batch is done by itself."""
    model = FilterbankEncoder(FilterbankEncoderConfig(), 16000)
    waves = torch.randn(num, samples, generator=torch.Generator().manual_seed(0))
    together = model.energies(waves)
    assert together.requires_grad
    with torch.no_grad():
        alone = model.energies(waves)
    assert torch.equal(alone, together.detach())
