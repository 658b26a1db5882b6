"""Masked unit prediction: the loss against the formula, where its units come from."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from speechssl.model.config import FilterbankEncoderConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.code_usage import perplexity
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.task import Resources
from speechssl.pretext.teacher import Teacher
from tests.pretext.speech import LENGTHS, MODELS, GivenInputs, a_model, model_and_task, run, waves

KMEANS = MaskedUnitsConfig(target_dim=8, num_units=9)


@pytest.mark.parametrize("number", [0, 1])
def test_kmeans_against_the_formula(number):
    model, task = model_and_task(replace(KMEANS, features=("mfcc", "prosody")))
    x = GivenInputs(model, *waves())
    mask, output = x.mask(), x.encode()
    result = run(model, task)
    name = ("mfcc", "prosody")[number]
    features = x.features(name)[mask]
    codebook, suffix = task.codebooks[number], ("", "_prosody")[number]
    scaled = (features - codebook.quantizer.mean) / codebook.quantizer.scale
    units = torch.cdist(scaled, codebook.quantizer.centroids).argmin(1)
    assert torch.equal(task.offline_units(x)[f"masked_units/{name}"][mask], units)
    predictions = codebook.project_context(output.context[mask])
    similar = F.cosine_similarity(predictions[:, None], codebook.codebook[None], dim=2) / 0.1
    expected = -similar.log_softmax(1)[torch.arange(len(units)), units].sum()
    found = result.terms[f"masked_units{suffix}"].total
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    guesses = similar.argmax(1)
    right = (guesses == units).float().mean()
    assert float(result.metrics[f"masked_units/accuracy{suffix}"]) == float(right)
    targets = result.tallies[f"masked_units/targets{suffix}"]
    assert torch.equal(targets, torch.bincount(units, minlength=9))
    predicted = result.tallies[f"masked_units/predicted{suffix}"]
    assert torch.equal(predicted, torch.bincount(guesses, minlength=9))
    share = torch.bincount(guesses, minlength=9) / len(guesses)
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    found = result.metrics[f"masked_units/predicted_perplexity{suffix}"]
    torch.testing.assert_close(found, entropy.exp(), rtol=1e-4, atol=0)


def test_the_chance_line_is_the_entropy_of_the_units():
    model, task = model_and_task(replace(KMEANS, features=("mfcc", "prosody")))
    tallies = run(model, task).tallies
    found = task.summarize(tallies)
    for suffix in ("", "_prosody"):
        share = tallies[f"masked_units/targets{suffix}"] / tallies["masked_units/targets"].sum()
        entropy = -(share[share > 0] * share[share > 0].log()).sum()
        assert found[f"masked_units/chance{suffix}"] == pytest.approx(float(entropy), rel=1e-5)


@pytest.mark.parametrize(
    ("tally", "expected"), [([4, 4, 4, 4], 4), ([9, 0, 0], 1), ([0, 0], 1), ([1, 1, 0], 2)]
)
def test_perplexity_counts_the_codes_in_use(tally, expected):
    assert float(perplexity(torch.tensor(tally))) == pytest.approx(expected, rel=1e-5)


def test_random_units_need_no_fitting_and_are_learned():
    """The loss of units of noise-like bursts falls: predictions reach what is to be predicted."""
    model, task = model_and_task(replace(KMEANS, quantizer="random", num_units=16), "filterbank")
    name = "codebooks.0.quantizer.codebook"
    before = task.state_dict()[name].clone()
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    for _ in range(20):
        loss = run(model, task).terms["masked_units"].total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(before, task.state_dict()[name])


@pytest.mark.parametrize("kind", MODELS)
def test_a_teachers_layer_gives_the_units(kind):
    model, task = model_and_task(KMEANS, kind, teacher_layer=1)
    x = GivenInputs(model, *waves())
    teacher = a_model(kind, 7)
    hidden = teacher(*waves(), keep_hidden=True).hidden[1]
    torch.testing.assert_close(task.source_features(x), [hidden])
    assert not any("teacher" in name for name in task.state_dict())
    assert any("teacher" in name for name in task.state_of_units())
    assert list(task.offline_units(x)) == ["masked_units/teacher"]
    before = [p.clone() for p in teacher.parameters()]
    run(model, task).terms["masked_units"].total.backward()
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def test_a_teacher_that_does_not_fit_is_refused():
    model = SpeechModel(MODELS["conv"])
    slower = SpeechModel(replace(MODELS["filterbank"], encoder=FilterbankEncoderConfig(stack=8)))
    with pytest.raises(ValueError, match="its frames are 1280 samples"):
        KMEANS.build(model, Resources(Teacher(slower, 1)))
    with pytest.raises(ValueError, match="teacher_layer must be between 0 and the teacher's"):
        Teacher(slower, 99)


@pytest.mark.parametrize("teacher_layer", [None, 1])
@pytest.mark.parametrize("kind", MODELS)
def test_the_units_of_an_utterance_do_not_depend_on_its_batch(kind, teacher_layer):
    model, task = model_and_task(KMEANS, kind, teacher_layer)
    wave, lengths = waves()
    whole = GivenInputs(model, wave, lengths)
    (features,) = task.source_features(whole)
    for row, length in enumerate(LENGTHS):
        x = GivenInputs(model, wave[row : row + 1, :length], lengths[row : row + 1])
        (alone,) = task.source_features(x)
        num = int(whole.frames[row])
        torch.testing.assert_close(features[row, :num], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quantizer": "vq"}, "masked_units.quantizer must be one of kmeans, random, got 'vq'"),
        ({"num_units": 0}, r"masked_units.num_units must be in \[1, 65536\]"),
        ({"weight": -1.0}, "masked_units.weight must not be negative"),
        ({"temperature": 0.0}, "masked_units.temperature must be above 0"),
        ({"features": ()}, "masked_units.features must be one or more, each once"),
        ({"features": ("mfcc", "mfcc")}, "masked_units.features must be one or more, each once"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        MaskedUnitsConfig(**fields)


def test_the_feature_penalty_is_the_mean_square_of_the_valid_latents():
    """(10 in HuBERT's code.) Micro-batches add up, as it is a sum over frames."""
    assert "masked_units_feature_penalty" not in run(*model_and_task(KMEANS)).terms
    model, task = model_and_task(replace(KMEANS, feature_penalty=10.0, weight=0.5))
    wave, lengths = waves()
    raw = model(wave, lengths).raw_latents
    frames = model.frame_lengths(lengths).tolist()
    expected = [raw[row, :num].square().mean(1).sum() for row, num in enumerate(frames)]
    x = GivenInputs(model, wave, lengths, task=task)
    term = task(x).terms["masked_units_feature_penalty"]
    torch.testing.assert_close(term.total, torch.stack(expected).sum())
    assert task.counts(x)[term.count] == sum(frames)
    assert term.weight == 5.0
