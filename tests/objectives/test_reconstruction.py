"""Distortion reconstruction: what is summed where, and sums that add up."""

from dataclasses import replace

import pytest
import torch

from speechssl import shapes
from speechssl.model.config import (
    ContextConfig,
    ConvEncoderConfig,
    FilterbankEncoderConfig,
    ModelConfig,
)
from speechssl.model.speech_model import SpeechModel
from speechssl.objectives.features import CleanSpeech, frame_features
from speechssl.objectives.loss import combine
from speechssl.objectives.reconstruction import ReconstructionConfig, ReconstructionTask

CONTEXT = ContextConfig(
    dim=16,
    num_layers=2,
    num_heads=2,
    ffn_dim=24,
    norm_order="pre",
    pos_kernel=8,
    pos_groups=2,
    dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
)
MODELS = {
    "conv": ModelConfig(encoder=ConvEncoderConfig((8,) * 7), context=CONTEXT),
    "filterbank": ModelConfig(encoder=FilterbankEncoderConfig(num_filters=10), context=CONTEXT),
}
ALL = ReconstructionConfig(features=("logmel", "mfcc", "prosody", "wave"), hidden_dim=12)
LENGTHS = (9000, 4000, 7000, 2500)


def waves() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(4, 9000, generator=generator)
    return shapes.zero_padding(wave, torch.tensor(LENGTHS)), torch.tensor(LENGTHS)


def model_and_task(config: ReconstructionConfig = ALL, kind: str = "conv"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SpeechModel(MODELS[kind])
        return model, ReconstructionTask(config, model)


def terms_of(task, output, mask, wave):
    lengths = output.lengths * task.hop_samples
    clean = CleanSpeech(wave, lengths, output.lengths, task.hop_samples, task.sample_rate)
    return task(output, mask, clean).terms


def some_mask(frames: torch.Tensor) -> torch.Tensor:
    """Three of five frames of each utterance."""
    valid = shapes.length_mask(frames, int(frames.max()))
    return valid & (torch.arange(valid.shape[1]) % 5 < 3)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("parts", [[[0, 1], [2, 3]], [[0], [1], [2], [3]]])
def test_micro_batches_have_the_gradient_of_one_batch(kind, parts):
    model, task = model_and_task(kind=kind)
    wave, lengths = waves()
    frames = model.frame_lengths(lengths)
    mask = some_mask(frames)
    counts = {"masked": float(mask.sum()), "unmasked": float(frames.sum() - mask.sum())}
    grads = []
    for rows_of_part in ([[0, 1, 2, 3]], parts):
        for rows in rows_of_part:
            samples, num = int(lengths[rows].max()), int(frames[rows].max())
            part = wave[rows, :samples]
            output = model(0.5 * part, lengths[rows], mask=mask[rows, :num])
            combine(terms_of(task, output, mask[rows, :num], part), counts).backward()
        named = [*model.named_parameters(), *task.named_parameters()]
        grads.append(torch.cat([p.grad.flatten() for _, p in named]))
        model.zero_grad(set_to_none=True)
        task.zero_grad(set_to_none=True)
    whole, split = grads
    assert float((whole - split).norm()) < 1e-6 * float(whole.norm())


def test_terms_against_the_formula():
    model, task = model_and_task()
    wave, lengths = waves()
    mask = some_mask(model.frame_lengths(lengths))
    output = model(wave, lengths, mask=mask)
    terms = terms_of(task, output, mask, wave)
    assert len(terms) == 8
    valid = shapes.length_mask(output.lengths, mask.shape[1])
    for name in ALL.features:
        target = frame_features(name, wave, output.lengths, 320, 16000)
        error = (task.heads[name](output.context) - target).abs().mean(2)  # (B, T)
        for where, chosen, weight in (("masked", mask, 1.0), ("unmasked", valid & ~mask, 0.2)):
            term = terms[f"reconstruction_{name}_{where}"]
            assert (term.count, term.weight) == (where, weight)
            torch.testing.assert_close(term.total, error[chosen].sum(), rtol=1e-4, atol=1e-3)


def test_a_weight_of_zero_leaves_the_term_out():
    wave, lengths = waves()
    for name, left in (("masked_weight", "unmasked"), ("unmasked_weight", "masked")):
        config = replace(ALL, features=("logmel",), **{name: 0.0})
        model, task = model_and_task(config)
        mask = some_mask(model.frame_lengths(lengths))
        terms = terms_of(task, model(wave, lengths), mask, wave)
        assert set(terms) == {f"reconstruction_logmel_{left}"}


def test_the_padding_is_not_rebuilt():
    model, task = model_and_task()
    wave, lengths = waves()
    mask = some_mask(model.frame_lengths(lengths))
    output = model(wave, lengths, mask=mask)
    padding = shapes.padding_mask(output.lengths, mask.shape[1])
    other = replace(output, context=output.context.masked_fill(padding[:, :, None], 99.0))
    one, two = (terms_of(task, o, mask, wave) for o in (output, other))
    assert all(torch.equal(one[name].total, two[name].total) for name in one)


def test_targets_are_of_the_clean_wave():
    model, task = model_and_task()
    wave, lengths = waves()
    mask = some_mask(model.frame_lengths(lengths))
    output = model(wave, lengths, mask=mask)
    one = terms_of(task, output, mask, wave)
    two = terms_of(task, output, mask, wave.flip(0).contiguous())
    assert all(not torch.equal(one[name].total, two[name].total) for name in one)


def test_it_learns():
    model, task = model_and_task(replace(ALL, features=("logmel",)), "filterbank")
    wave, lengths = waves()
    wave = wave * (torch.arange(9000) // 1000 % 2)  # bursts, which can be guessed
    mask = some_mask(model.frame_lengths(lengths))
    counts = {"masked": float(mask.sum()), "unmasked": 1.0 + float((~mask).sum())}
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = combine(terms_of(task, model(wave, lengths, mask=mask), mask, wave), counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_rebuilt_features_have_the_shape_of_the_targets():
    model, task = model_and_task()
    wave, lengths = waves()
    output = model(wave, lengths)
    for name in ALL.features:
        target = frame_features(name, wave, output.lengths, 320, 16000)
        assert task.rebuild(name, output.context).shape == target.shape


def test_the_wave_is_rebuilt_at_16_khz_only():
    model = SpeechModel(replace(MODELS["conv"], sample_rate=8000))
    with pytest.raises(ValueError, match="16000 Hz only, this model hears 8000 Hz"):
        ReconstructionTask(ALL, model)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": ("cqt",)}, "each one of logmel, mfcc, prosody, wave, got \\('cqt',\\)"),
        ({"features": ()}, "at least one feature, each once"),
        ({"features": ("logmel", "logmel")}, "at least one feature, each once"),
        ({"masked_weight": -1.0}, "reconstruction.masked_weight must not be negative"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        ReconstructionConfig(**fields)
