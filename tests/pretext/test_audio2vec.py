"""`cbow` and `skip_gram`: slices of a spectrogram from the embeddings of others."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from speechssl.pretext.cbow import CBOWConfig
from speechssl.pretext.features import log_mel, power_spectrum
from speechssl.pretext.segments import segment_samples
from speechssl.pretext.skip_gram import SkipGramConfig
from tests.pretext.speech import GivenInputs, model_and_task, run, waves

CONFIGS = {
    "cbow": CBOWConfig(segment_s=0.04, gap_s=0.02, neighbours=1, hidden_dim=12),
    "skip_gram": SkipGramConfig(segment_s=0.04, gap_s=0.02, neighbours=1, hidden_dim=12),
}
GIVEN = {"cbow": ([0, 2], [1]), "skip_gram": ([1], [0, 2])}
KINDS = ("conv", "filterbank")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_against_the_formula(name, kind):
    """A window at a time, each slice by itself through the model, all places by hand."""
    model, task = model_and_task(CONFIGS[name], kind)
    wave, lengths = waves()
    x = GivenInputs(model, wave, lengths)
    hop = model.config.hop_samples
    num = {"conv": 2, "filterbank": 1}[kind]  # frames of 20 and of 40 ms
    drawn = task.shape.draw(x.frames, partial(x.rng_of, f"{name} windows"))
    assert drawn.length == num
    assert len(drawn) == task.counts(x)[f"{name}_windows"] >= 5
    given, wanted = GIVEN[name]
    samples = segment_samples(num, model)
    total = chance = 0.0
    with torch.no_grad():
        for row, starts in zip(drawn.rows.tolist(), drawn.starts.tolist(), strict=True):
            assert starts == [starts[0] + i * (num + 1) for i in range(3)]
            parts = [wave[row, starts[i] * hop :][:samples][None] for i in given]
            means = [model(p, torch.tensor([samples])).context[0].mean(0) for p in parts]
            # Log-mel of the whole utterance, normalised over it, without the features' own code.
            hops = int(x.frames[row]) * hop // 160
            mel = log_mel(power_spectrum(wave[row : row + 1], hops, 16000), 16000)[0].numpy()
            mel = (mel - mel.mean(0)) / (mel.std(0) + 1e-2)
            per_frame = hop // 160
            target = np.concatenate(
                [mel[starts[i] * per_frame : (starts[i] + num) * per_frame].ravel() for i in wanted]
            )
            decoded = task.decoder(torch.cat(means)[None])[0].numpy()
            total += float(np.square(decoded - target).mean())
            chance += float(np.square(target).mean())
    result = task(x)
    assert result.terms[name].total.item() == pytest.approx(total, rel=1e-3)
    assert result.terms[name].count == f"{name}_windows"
    found = task.summarize(result.tallies)
    assert found[f"{name}/chance"] == pytest.approx(chance / len(drawn), rel=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_mean_of_each_band_is_the_chance_line(name):
    """A decoder that says zero, the mean over the utterance, is there; that is about 1."""
    model, task = model_and_task(CONFIGS[name])
    for parameter in task.decoder.layers[-1].parameters():
        parameter.data.zero_()
    result = run(model, task)
    chance = task.summarize(result.tallies)[f"{name}/chance"]
    num = result.tallies[f"{name}/chance"][1].item()
    assert result.terms[name].total.item() / num == pytest.approx(chance, rel=1e-5)
    assert 0.8 < chance < 1.2


@pytest.mark.parametrize(("name", "neighbours"), [("cbow", 2), ("cbow", 3), ("skip_gram", 2)])
def test_several_neighbours(name, neighbours):
    model, task = model_and_task(replace(CONFIGS[name], neighbours=neighbours))
    sizes = task.decoder.layers[0].in_features // 16, task.decoder.layers[-1].out_features // 320
    around, middle = 2 * neighbours, 1  # slices of two frames of 20 ms and 160 values
    assert sizes == ((around, middle) if name == "cbow" else (middle, around))
    assert task.shape.span == (2 * neighbours + 1) * 3 - 1
    result = run(model, task)
    assert result.terms[name].total.item() > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_the_target_is_clean_and_the_input_distorted(name):
    model, task = model_and_task(CONFIGS[name])
    wave, lengths = waves()
    other = 0.3 * wave.flip(0).contiguous()
    losses = [
        run(model, task, clean, lengths, distorted=given).terms[name].total.item()
        for clean, given in ((wave, wave), (other, wave), (wave, other))
    ]
    assert len(set(losses)) == 3
    chances = [
        run(model, task, wave, lengths, distorted=given).tallies[f"{name}/chance"]
        for given in (wave, other)
    ]
    assert torch.equal(*chances)


@pytest.mark.parametrize("name", CONFIGS)
def test_short_utterances_give_nothing(name):
    model, task = model_and_task(CONFIGS[name])
    wave, lengths = waves([900, 2500, 300])
    x = GivenInputs(model, wave, lengths)
    assert x.frames.tolist() == [2, 7, 1]
    assert task.counts(x) == {f"{name}_windows": 0}
    result = task(x)
    total = result.terms[name].total
    assert total.item() == 0
    total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())
    assert model.project.weight.grad is not None
    assert task.summarize(result.tallies) == {f"{name}/chance": 0, f"{name}/too_short": 1}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_micro_batch_has_the_same_loss(name):
    model, task = model_and_task(CONFIGS[name])
    one, two = (run(model, task).terms[name].total for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gap_s": 0.0}, "gap_s must be at least 0.02, got 0.0"),
        ({"neighbours": 0}, "neighbours must be in \\[1, 8\\], got 0"),
        ({"segment_s": -1.0}, "segment_s must be above 0, got -1.0"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
    ],
)
def test_an_impossible_config_is_refused_by_name(name, fields, said):
    with pytest.raises(ValueError, match=f"{name}.{said}"):
        type(CONFIGS[name])(**fields)
