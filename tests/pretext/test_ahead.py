"""Which targets are new to a causal model: by changing samples, and by gradients."""

import pytest
import torch

from speechssl.model import config as sizes
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.ahead import (
    checked_ahead,
    least_ahead,
    num_pairs,
    pairs,
    received_samples,
    samples_before,
)
from speechssl.pretext.features import log_mel, mfcc, power_spectrum
from tests.pretext.causal import CAUSAL, causal_form, changed

FEATURES = ("logmel", "mfcc")
SAMPLES = 9600
AT = 4
"""The frame that is looked at."""


def raw_features(feature: str, wave: torch.Tensor, hops: int) -> torch.Tensor:
    """(1, S) -> (T, F) without the norm over the utterance, which every sample changes."""
    num = wave.shape[1] // 160
    values = log_mel(power_spectrum(wave, num, 16000), 16000)
    if feature == "mfcc":
        values = mfcc(values, torch.tensor([num]))
    return values[0].unflatten(0, (-1, hops)).flatten(1)


def a_wave() -> torch.Tensor:
    return 0.1 * torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", CAUSAL)
@torch.no_grad()
def test_a_frame_depends_on_the_samples_that_are_received(kind):
    model = SpeechModel(CAUSAL[kind]).eval()
    wave, lengths = a_wave(), torch.tensor([SAMPLES])
    end = AT * model.config.hop_samples + received_samples(model.config)
    before = model(wave, lengths).context[0, AT]
    torch.testing.assert_close(model(changed(wave, end), lengths).context[0, AT], before)
    inside = model(changed(wave, end - 150), lengths).context[0, AT]
    assert float((inside - before).abs().max()) > 1e-3


@pytest.mark.parametrize("hop", [320, 640])
@pytest.mark.parametrize("feature", FEATURES)
def test_a_target_depends_on_the_samples_from_its_first_window_on(feature, hop):
    wave = a_wave()
    start = AT * hop - samples_before(feature, 16000)
    target = raw_features(feature, wave, hop // 160)[AT]
    torch.testing.assert_close(
        raw_features(feature, changed(wave, 0, start), hop // 160)[AT], target
    )
    inside = raw_features(feature, changed(wave, 0, start + 20), hop // 160)[AT]
    assert float((inside - target).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("feature", FEATURES)
def test_the_least_ahead_by_gradients(feature, kind):
    """The first frame ahead none of whose samples has a gradient to the context."""
    model = SpeechModel(CAUSAL[kind]).eval()
    hop = model.config.hop_samples
    wave = a_wave().requires_grad_()
    context = model(wave, torch.tensor([SAMPLES])).context[0, AT]
    weights = torch.linspace(-1, 2, len(context))  # the sum alone is constant behind a norm
    (own,) = torch.autograd.grad(context @ weights, wave)
    last = int(own[0].nonzero().max())
    targets = raw_features(feature, wave, hop // 160)
    for ahead in range(1, 6):
        (of_target,) = torch.autograd.grad(targets[AT + ahead].sum(), wave, retain_graph=True)
        if int(of_target[0].nonzero().min()) > last:
            break
    assert least_ahead(model.config, feature) == ahead


@pytest.mark.parametrize(
    ("size", "logmel", "cepstra"),
    [("tiny", 2, 2), ("small", 2, 2), ("tiny-conv", 2, 3), ("base", 2, 3), ("large", 2, 3)],
)
def test_the_least_ahead_of_every_size(size, logmel, cepstra):
    config = causal_form(sizes.size(size))
    assert least_ahead(config, "logmel") == logmel
    assert least_ahead(config, "mfcc") == cepstra
    assert least_ahead(config, "logmel", "mfcc") == cepstra
    assert checked_ahead("x", None, config, "mfcc") == cepstra
    assert checked_ahead("x", 7, config, "mfcc") == 7


@pytest.mark.parametrize(
    ("size", "feature", "ahead", "said"),
    [
        ("tiny", "logmel", 1, r"at least 2 with this model \(frames of 40 ms\), got 1"),
        ("tiny-conv", "mfcc", 2, r"at least 3 with this model \(frames of 20 ms\), got 2"),
        ("base", "logmel", 1, "Leave --future-frames.ahead out for 2"),
    ],
)
def test_a_nearer_target_is_refused(size, feature, ahead, said):
    with pytest.raises(ValueError, match=said):
        checked_ahead("future_frames", ahead, sizes.size(size), feature)


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("frames", [[7, 3, 1], [4], [1], [2, 9, 2, 5]])
def test_pairs_by_brute_force(frames, ahead):
    now, then = pairs(torch.tensor(frames), ahead, max(frames))
    expected = [
        (row, t) for row, length in enumerate(frames) for t in range(length) if t + ahead < length
    ]
    assert now.shape == then.shape == (len(frames), max(frames))
    assert now.nonzero().tolist() == [[row, t] for row, t in expected]
    assert then.nonzero().tolist() == [[row, t + ahead] for row, t in expected]
    assert num_pairs(torch.tensor(frames), ahead) == len(expected)
