"""Distortion reconstruction: what is summed where, and what its diagnosis measures."""

from dataclasses import replace

import pytest
import torch

from speechssl import shapes
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import frame_features
from speechssl.pretext.reconstruction import ReconstructionConfig, copying
from speechssl.pretext.task import Resources, combine
from tests.pretext.speech import MODELS, GivenInputs, model_and_task, run, waves

ALL = ReconstructionConfig(features=("logmel", "mfcc", "prosody", "wave"), hidden_dim=12)


def some_mask(frames: torch.Tensor) -> torch.Tensor:
    """Three of five frames of each utterance."""
    valid = shapes.length_mask(frames, int(frames.max()))
    return valid & (torch.arange(valid.shape[1]) % 5 < 3)


def test_terms_against_the_formula():
    model, task = model_and_task(replace(ALL, weight=2.0))
    wave, lengths = waves()
    mask = some_mask(model.frame_lengths(lengths))
    output = model(wave, lengths, mask=mask)
    terms = run(model, task, mask=mask).terms
    assert len(terms) == 8
    valid = shapes.length_mask(output.lengths, mask.shape[1])
    for name in ALL.features:
        target = frame_features(name, wave, output.lengths, 320, 16000)
        error = (task.heads[name](output.context) - target).abs().mean(2)  # (B, T)
        for where, chosen, weight in (("masked", mask, 2.0), ("unmasked", valid & ~mask, 0.4)):
            term = terms[f"reconstruction_{name}_{where}"]
            assert (term.count, term.weight) == (where, weight)
            torch.testing.assert_close(term.total, error[chosen].sum(), rtol=1e-4, atol=1e-3)
    counts = task.counts(GivenInputs(model, wave, lengths, mask=mask))
    assert counts == {"masked": int(mask.sum()), "unmasked": int((valid & ~mask).sum())}


def test_a_weight_of_zero_leaves_the_term_out():
    for name, left in (("masked_weight", "unmasked"), ("unmasked_weight", "masked")):
        config = replace(ALL, features=("logmel",), **{name: 0.0})
        assert set(run(*model_and_task(config)).terms) == {f"reconstruction_logmel_{left}"}


def test_the_padding_is_not_rebuilt(monkeypatch):
    model, task = model_and_task(ALL)
    x, other = GivenInputs(model, *waves()), GivenInputs(model, *waves())
    output = x.encode()
    padding = shapes.padding_mask(output.lengths, x.mask().shape[1])
    moved = replace(output, context=output.context.masked_fill(padding[:, :, None], 99.0))
    monkeypatch.setattr(other, "encode", lambda: moved)
    one, two = task(x).terms, task(other).terms
    assert all(torch.equal(one[name].total, two[name].total) for name in one)


def test_targets_are_of_the_clean_wave():
    model, task = model_and_task(ALL)
    wave, lengths = waves()
    one = run(model, task, wave, lengths, distorted=wave).terms
    two = run(model, task, wave.flip(0).contiguous(), lengths, distorted=wave).terms
    assert all(not torch.equal(one[name].total, two[name].total) for name in one)


def test_it_learns():
    model, task = model_and_task(replace(ALL, features=("logmel",)), "filterbank")
    wave, lengths = waves()
    wave = wave * (torch.arange(9000) // 1000 % 2)  # bursts, which can be predicted
    mask = some_mask(model.frame_lengths(lengths))
    counts = {"masked": float(mask.sum()), "unmasked": 1.0 + float((~mask).sum())}
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = combine(run(model, task, wave, lengths, mask=mask).terms, counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_rebuilt_features_have_the_shape_of_the_targets():
    model, task = model_and_task(ALL)
    wave, lengths = waves()
    output = model(wave, lengths)
    for name in ALL.features:
        target = frame_features(name, wave, output.lengths, 320, 16000)
        assert task.rebuild(name, output.context).shape == target.shape


def test_distances_of_the_diagnosis():
    model, task = model_and_task(replace(ALL, features=("logmel",)))
    wave, lengths = waves()
    x = GivenInputs(model, wave, lengths, distorted=0.3 * wave.flip(1))
    found = task.diagnose(x)
    mask, clean, given = x.mask(), x.features("logmel"), x.features("logmel", "distorted")
    rebuilt = task.rebuild("logmel", x.encode().context)
    assert found["reconstruction/logmel_masked"] == pytest.approx(
        float((rebuilt - clean)[mask].abs().mean())
    )
    unmasked = shapes.length_mask(x.frames, mask.shape[1]) & ~mask
    for name, values in (("copy", given - clean), ("to_input", rebuilt - given)):
        expected = float(values[unmasked].abs().mean())
        assert found[f"reconstruction/logmel_{name}"] == pytest.approx(expected)


def test_whose_output_is_a_copy():
    level = {"unmasked_mean": 1.0, "masked_mean": 1.0}
    copies = {**level, "unmasked": 0.2, "masked": 0.95, "to_input": 0.1, "copy": 0.2}
    assert copying(copies) == pytest.approx(1 - 0.05 / 0.8)
    assert copying({**copies, "masked": 0.5}) == pytest.approx(1 - 0.5 / 0.8)
    assert copying({**copies, "to_input": 0.23}) == 0  # a part of the distortion is removed
    assert copying({**copies, "to_input": 0.21}) > 0.5
    assert copying({**copies, "unmasked": 0.95}) == 0  # nothing is gained at all
    assert copying({**copies, "masked": 1.2}) == 1


def test_the_wave_is_rebuilt_at_16_khz_only():
    model = SpeechModel(replace(MODELS["conv"], sample_rate=8000))
    with pytest.raises(ValueError, match="16000 Hz only, this model's input has 8000 Hz"):
        ALL.build(model, Resources())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": ("cqt",)}, "each one of logmel, mfcc, prosody, wave, got \\('cqt',\\)"),
        ({"features": ()}, "reconstruction.features must be one or more, each once"),
        ({"features": ("logmel", "logmel")}, "must be one or more, each once"),
        ({"masked_weight": -1.0}, "reconstruction.masked_weight must not be negative"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        ReconstructionConfig(**fields)
