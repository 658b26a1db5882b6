"""The contrastive task: negatives, logits, and the terms of its loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechssl import shapes
from speechssl.pretext import contrastive
from speechssl.pretext.contrastive import ContrastiveConfig, mean_square
from speechssl.pretext.info_nce import accuracy, chance, contrastive_logits, draw_negatives
from speechssl.rng import rng
from tests.pretext.speech import GivenInputs, model_and_task, negatives_by_utterance, run, waves

GUMBEL = ContrastiveConfig(
    target_dim=8, num_negatives=5, entries=6, diversity_weight=0.0, feature_penalty=0.0
)


# --- negatives ------------------------------------------------------------------------------------


def random_mask(seed=0, rows=6, frames=40):
    mask = np.random.default_rng(seed).random((rows, frames)) < 0.4
    mask[2] = False  # nothing masked
    mask[3] = False
    mask[3, 7] = True  # one alone
    mask[4] = False
    mask[4, [1, 30]] = True  # a pair
    return mask


@pytest.mark.parametrize("seed", range(5))
def test_negatives_are_others_of_the_same_utterance(seed):
    mask = random_mask(seed)
    negatives = draw_negatives(mask, 50, rng(0, seed))
    row_of = np.repeat(np.arange(len(mask)), mask.sum(1))
    assert negatives.shape == (mask.sum(), 50)
    for index, row in enumerate(row_of):
        if mask[row].sum() == 1:
            assert (negatives[index] == -1).all()
            continue
        assert index not in negatives[index]
        assert (row_of[negatives[index]] == row).all()
    pair = np.flatnonzero(row_of == 4)
    assert (negatives[pair[0]] == pair[1]).all()
    assert (negatives[pair[1]] == pair[0]).all()


def test_negatives_are_uniform():
    mask = np.zeros((2, 9), dtype=bool)
    mask[1] = True
    negatives = draw_negatives(mask, 40_000, rng(0, "uniform"))
    for index, row in enumerate(negatives):
        share = np.bincount(row, minlength=9) / len(row)
        expected = np.where(np.arange(9) == index, 0, 1 / 8)
        assert np.abs(share - expected).max() < 0.01


def test_negatives_are_a_function_of_the_generator():
    mask = random_mask()
    one, two, other = (draw_negatives(mask, 10, rng(0, key)) for key in ("a", "a", "b"))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_no_masked_frame_no_negatives():
    assert draw_negatives(np.zeros((2, 5), dtype=bool), 10, rng(0)).shape == (0, 10)


# --- logits ---------------------------------------------------------------------------------------


def logit_inputs(num=30, width=8):
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(2, num, width, generator=generator)
    codes = torch.randint(0, 3, (num, 2), generator=generator)
    negatives = torch.randint(0, num, (num, 11), generator=generator)
    return predictions, targets, codes, negatives


def test_logits_against_the_gathered_vectors():
    predictions, targets, codes, negatives = logit_inputs()
    logits = contrastive_logits(predictions, targets, codes, negatives)
    for i in range(30):
        expected = [F.cosine_similarity(predictions[i], targets[i], dim=0)]
        for j in negatives[i].tolist():
            equal = codes[i].tolist() == codes[j].tolist()
            similar = F.cosine_similarity(predictions[i], targets[j], dim=0)
            expected.append(torch.tensor(float("-inf")) if equal else similar)
        torch.testing.assert_close(logits[i], torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert torch.isinf(logits).any()
    assert not torch.isinf(logits).all(1).any()


def test_a_negative_that_shares_one_group_only_still_counts():
    predictions, targets, _, _ = logit_inputs(2)
    codes = torch.tensor([[1, 2], [1, 3]])
    logits = contrastive_logits(predictions, targets, codes, torch.tensor([[1], [0]]))
    assert logits.isfinite().all()
    same = contrastive_logits(predictions, targets, codes[[0, 0]], torch.tensor([[1], [0]]))
    assert torch.isinf(same[:, 1]).all()


def test_a_frame_without_negatives_costs_nothing_and_has_a_finite_gradient():
    predictions, targets, codes, negatives = logit_inputs()
    predictions.requires_grad_()
    negatives[4] = -1
    logits = contrastive_logits(predictions, targets, codes, negatives) / 0.1
    loss = F.cross_entropy(logits, torch.zeros(30, dtype=torch.long), reduction="none")
    assert loss[4].item() == 0
    loss.sum().backward()
    assert predictions.grad.isfinite().all()
    assert not predictions.grad[4].any()


def test_a_zero_vector_has_a_finite_gradient():
    predictions, targets, codes, negatives = logit_inputs()
    predictions[3] = 0
    predictions.requires_grad_()
    logits = contrastive_logits(predictions, targets, codes, negatives)
    logits[logits.isfinite()].sum().backward()
    assert predictions.grad.isfinite().all()


def test_accuracy_counts_rows_won_and_leaves_out_rows_without_a_rival():
    none = float("-inf")
    logits = torch.tensor(
        [
            [0.9, 0.1, 0.2],  # right
            [0.1, 0.9, 0.2],  # wrong
            [0.5, 0.5, 0.5],  # all equal, a collapse: wrong
            [0.5, 0.5, none],  # the same, beside a missing one: wrong
            [0.9, none, 0.2],  # right
            [0.9, none, none],  # nothing to tell it from: left out
        ]
    )
    assert float(accuracy(logits)) == pytest.approx(2 / 5)
    assert float(accuracy(logits[5:])) == 0
    assert float(accuracy(logits[:0])) == 0


def test_mean_square_is_over_valid_frames():
    latents = torch.full((2, 4, 3), 2.0)
    latents[1, 2:] = 100.0
    assert float(mean_square(latents, torch.tensor([4, 2]))) == 4.0


# --- the task -------------------------------------------------------------------------------------


def test_terms_and_their_weights(monkeypatch):
    monkeypatch.setattr(contrastive, "draw_negatives", negatives_by_utterance)
    config = replace(GUMBEL, weight=3.0, diversity_weight=0.1, feature_penalty=10.0)
    model, task = model_and_task(config)
    wave, lengths = waves()
    result = run(model, task)
    x = GivenInputs(model, wave, lengths)
    mask, output = x.mask(), x.encode()
    num, most = int(mask.sum()), task.quantizer.max_perplexity
    terms = result.terms
    assert {name: term.weight for name, term in terms.items()} == {
        "contrastive": 3.0,
        "contrastive_diversity": 3.0 * 0.1,
        "contrastive_feature_penalty": 30.0,
    }
    perplexity = result.metrics["contrastive/perplexity"]
    torch.testing.assert_close(
        terms["contrastive_diversity"].total.detach(),
        num * (most - perplexity) / most,
        rtol=1e-5,
        atol=0,
    )
    raw = output.raw_latents[shapes.length_mask(output.lengths, mask.shape[1])]
    penalty = terms["contrastive_feature_penalty"].total
    torch.testing.assert_close(penalty, num * raw.square().mean())
    assert all(m.dim() == 0 and not m.requires_grad for m in result.metrics.values())
    assert 1 <= float(result.metrics["contrastive/codes_used"]) <= 6
    assert result.tallies.keys() == {"contrastive/group_0", "contrastive/group_1"}
    assert all(int(tally.sum()) == num for tally in result.tallies.values())
    assert 0 < float(result.metrics["contrastive/chance"]) <= math.log(1 + config.num_negatives)
    assert set(run(*model_and_task(GUMBEL)).terms) == {"contrastive", "contrastive_diversity"}


def test_the_loss_is_info_nce_of_the_quantized_latents(monkeypatch):
    monkeypatch.setattr(contrastive, "draw_negatives", negatives_by_utterance)
    model, task = model_and_task(GUMBEL)
    model.requires_grad_(False)
    task.requires_grad_(False)
    x = GivenInputs(model, *waves())
    mask, output = x.mask(), x.encode()
    quantized = task.quantizer(output.latents[mask])
    targets = F.normalize(task.project_target(quantized.vectors), dim=1)
    predictions = F.normalize(task.project_context(output.context[mask]), dim=1)
    negatives = negatives_by_utterance(mask.numpy(), 5, None)
    total = 0.0
    for i in range(len(targets)):
        others = [
            j for j in negatives[i] if j >= 0 and (quantized.codes[i] != quantized.codes[j]).any()
        ]
        scores = torch.stack([predictions[i] @ targets[j] for j in [i, *others]]) / 0.1
        total += float(scores.logsumexp(0) - scores[0])
    assert float(run(model, task).terms["contrastive"].total) == pytest.approx(total, rel=1e-4)


def test_only_masked_frames_count(monkeypatch):
    model, task = model_and_task(GUMBEL)
    x, other = GivenInputs(model, *waves()), GivenInputs(model, *waves())
    output = x.encode()
    moved = torch.where(x.mask()[:, :, None], output.context, torch.tensor(77.0))
    monkeypatch.setattr(other, "encode", lambda: replace(output, context=moved))
    one, two = (task(inputs).terms["contrastive"].total for inputs in (x, other))
    assert torch.equal(one, two)


def test_the_gumbel_temperature_follows_the_updates():
    model, task = model_and_task(
        replace(GUMBEL, gumbel_start=2.0, gumbel_end=0.5, gumbel_decay=0.5)
    )
    temperatures = []
    for update in range(4):
        task.before_update(update, 4, model)
        temperatures.append(task.quantizer.temperature)
    assert temperatures == [2.0, 1.0, 0.5, 0.5]
    assert task.saved_fields()["gumbel_start"] == 0.5


def test_the_usage_of_codes_over_a_validation():
    _, task = model_and_task(GUMBEL)
    tallies = {
        "contrastive/group_0": torch.tensor([4, 4, 0, 0, 0, 0]),
        "contrastive/group_1": torch.tensor([9, 0, 0, 0, 0, 0]),
    }
    found = task.summarize(tallies)
    assert found["contrastive/perplexity_group_0"] == pytest.approx(2)
    assert found["contrastive/used_group_0"] == 2
    assert found["contrastive/perplexity_group_1"] == pytest.approx(1)


def test_codes_are_of_the_clean_wave_without_masks():
    model, task = model_and_task(GUMBEL)
    wave, lengths = waves()
    x = GivenInputs(model, wave, lengths, distorted=torch.zeros_like(wave))
    latents = model(wave, lengths).latents
    expected = task.quantizer(latents.flatten(0, 1)).codes.unflatten(0, latents.shape[:2])
    assert torch.equal(task.codes(x), expected)


def test_the_chance_line_is_the_loss_of_a_model_that_cannot_tell():
    logits = torch.zeros(3, 5)
    logits[1, 3:] = float("-inf")
    logits[2, 1:] = float("-inf")
    loss = F.cross_entropy(logits, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(chance(logits), loss)
    assert float(chance(logits[:0])) == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_negatives": 0}, "contrastive.num_negatives must be at least 1"),
        ({"weight": -1.0}, "contrastive.weight must not be negative"),
        ({"gumbel_end": 0.0}, "contrastive.gumbel_end must be above 0"),
        ({"gumbel_end": 3.0}, "at most contrastive.gumbel_start, got 3.0 and 2.0"),
        ({"temperature": 0.0}, "contrastive.temperature must be above 0"),
        ({"groups": 3}, "contrastive.target_dim must be a multiple of contrastive.groups"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        ContrastiveConfig(**fields)
