"""The contrastive task: negatives, logits, both kinds of targets, and sums that add up."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechssl import shapes
from speechssl.model.config import (
    ContextConfig,
    ConvEncoderConfig,
    FilterbankEncoderConfig,
    ModelConfig,
)
from speechssl.model.masking import span_mask
from speechssl.model.speech_model import SpeechModel
from speechssl.objectives.contrastive import (
    ContrastiveConfig,
    FixedCodesContrastive,
    GumbelContrastive,
    Teacher,
    accuracy,
    build_contrastive,
    chance,
    contrastive_logits,
    draw_negatives,
    mean_square,
    perplexity,
)
from speechssl.objectives.features import CleanSpeech
from speechssl.objectives.loss import combine
from speechssl.rng import rng

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
GUMBEL = ContrastiveConfig(
    target_dim=8, num_negatives=5, entries=6, diversity_weight=0.0, feature_penalty=0.0
)
KMEANS = replace(GUMBEL, quantizer="kmeans", entries=9)
LENGTHS = (9000, 4000, 7000, 2500)


def waves(lengths=LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


def a_teacher(kind: str) -> SpeechModel:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return SpeechModel(MODELS[kind]).eval()


def model_and_task(config: ContrastiveConfig, kind: str = "conv", teacher_layer: int | None = None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SpeechModel(MODELS[kind]).eval()
        teacher = None if teacher_layer is None else Teacher(a_teacher(kind), teacher_layer)
        task = build_contrastive(config, model, teacher).eval()
    if isinstance(task, FixedCodesContrastive):
        wave, lengths = waves()
        frames = model.frame_lengths(lengths)
        features = task.features(clean(model, wave, lengths))
        valid = shapes.length_mask(frames, features[0].shape[1])
        task.fit([part[valid] for part in features], seed=0)
    return model, task


def mask_and_negatives(frames: torch.Tensor, num: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    mask = np.zeros((len(frames), int(frames.max())), dtype=bool)
    parts = []
    for row, length in enumerate(frames.tolist()):  # by the utterance, whatever the batch
        mask[row, :length] = span_mask(
            [length], length, share=0.5, span=3, generator=rng(0, "mask", length)
        )[0]
        own = draw_negatives(mask[row : row + 1], num, rng(0, "negatives", length))
        parts.append(np.where(own < 0, -1, own + mask[:row].sum()))
    return torch.from_numpy(mask), torch.from_numpy(np.concatenate(parts))


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


# --- the tasks ------------------------------------------------------------------------------------


def clean(model, wave, lengths) -> CleanSpeech:
    frames, config = model.frame_lengths(lengths), model.config
    return CleanSpeech(wave, lengths, frames, config.hop_samples, config.sample_rate)


def run(model, task, wave, lengths, mask, negatives):
    output = model(wave, lengths, mask=mask)
    if isinstance(task, GumbelContrastive):
        return task(output, mask, negatives)
    return task(output, mask, clean(model, wave, lengths))


def gradient(model, task) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(), *task.named_parameters()]
    grads = {name: p.grad.clone() for name, p in named if p.grad is not None}
    model.zero_grad(set_to_none=True)
    task.zero_grad(set_to_none=True)
    return grads


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("config", [GUMBEL, KMEANS], ids=["gumbel", "kmeans"])
@pytest.mark.parametrize("parts", [[[0, 1], [2, 3]], [[3], [1], [0, 2]], [[0], [1], [2], [3]]])
def test_micro_batches_have_the_gradient_of_one_batch(kind, config, parts):
    model, task = model_and_task(config, kind)
    wave, lengths = waves()
    frames = model.frame_lengths(lengths)
    mask, negatives = mask_and_negatives(frames)
    counts = {"masked": float(mask.sum())}
    combine(run(model, task, wave, lengths, mask, negatives).terms, counts).backward()
    whole = gradient(model, task)
    for rows in parts:
        samples, own = int(lengths[rows].max()), frames[rows]
        part_mask, part_negatives = mask_and_negatives(own)
        assert torch.equal(part_mask, mask[rows][:, : int(own.max())])
        part = run(model, task, wave[rows, :samples], lengths[rows], part_mask, part_negatives)
        combine(part.terms, counts).backward()
    split = gradient(model, task)
    assert whole.keys() == split.keys()
    assert len(whole) > 20
    total = torch.cat([g.flatten() for g in whole.values()])
    gap = torch.cat([(whole[name] - split[name]).flatten() for name in whole])
    assert float(gap.norm()) < 1e-6 * float(total.norm())


@pytest.mark.parametrize("config", [GUMBEL, KMEANS], ids=["gumbel", "kmeans"])
def test_an_untrained_model_is_at_chance_and_learns(config):
    model, task = model_and_task(config)
    model.train()
    task.train()
    wave, lengths = waves()
    mask, negatives = mask_and_negatives(model.frame_lengths(lengths))
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    torch.manual_seed(0)
    for _ in range(25):
        result = run(model, task, wave, lengths, mask, negatives)
        loss = combine(result.terms, {"masked": float(mask.sum())})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert 0.5 < losses[0] < 12
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_gumbel_terms_and_their_weights():
    config = replace(GUMBEL, weight=3.0, diversity_weight=0.1, feature_penalty=10.0)
    model, task = model_and_task(config)
    wave, lengths = waves()
    mask, negatives = mask_and_negatives(model.frame_lengths(lengths))
    result = run(model, task, wave, lengths, mask, negatives)
    num, most = int(mask.sum()), task.quantizer.max_perplexity
    terms = result.terms
    assert {name: term.weight for name, term in terms.items()} == {
        "contrastive": 3.0,
        "diversity": 0.1,
        "feature_penalty": 10.0,
    }
    perplexity = result.metrics["quantizer/perplexity"]
    torch.testing.assert_close(
        terms["diversity"].total.detach(), num * (most - perplexity) / most, rtol=1e-5, atol=0
    )
    output = model(wave, lengths, mask=mask)
    raw = output.raw_latents[shapes.length_mask(output.lengths, mask.shape[1])]
    torch.testing.assert_close(terms["feature_penalty"].total, num * raw.square().mean())
    assert all(m.dim() == 0 and not m.requires_grad for m in result.metrics.values())
    assert 1 <= float(result.metrics["quantizer/codes_used"]) <= 6
    assert result.tallies.keys() == {"group_0", "group_1"}
    assert all(int(tally.sum()) == num for tally in result.tallies.values())
    assert 0 < float(result.metrics["contrastive/chance"]) <= math.log(1 + negatives.shape[1])
    assert set(run(*model_and_task(GUMBEL), wave, lengths, mask, negatives).terms) == {
        "contrastive",
        "diversity",
    }


def test_only_masked_frames_count():
    model, task = model_and_task(GUMBEL)
    wave, lengths = waves()
    mask, negatives = mask_and_negatives(model.frame_lengths(lengths))
    output = model(wave, lengths, mask=mask)
    other = replace(
        output, context=torch.where(mask[:, :, None], output.context, torch.tensor(77.0))
    )
    one, two = (task(o, mask, negatives).terms["contrastive"].total for o in (output, other))
    assert torch.equal(one, two)


def test_the_gumbel_temperature_follows_the_updates():
    _, task = model_and_task(replace(GUMBEL, gumbel_start=2.0, gumbel_end=0.5, gumbel_decay=0.5))
    temperatures = []
    for update in range(4):
        task.set_update(update)
        temperatures.append(task.quantizer.temperature)
    assert temperatures == [2.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("number", [0, 1])
def test_kmeans_against_the_formula(number):
    model, task = model_and_task(replace(KMEANS, features=("mfcc", "prosody")))
    wave, lengths = waves()
    mask, _ = mask_and_negatives(model.frame_lengths(lengths))
    output = model(wave, lengths, mask=mask)
    result = task(output, mask, clean(model, wave, lengths))
    features = clean(model, wave, lengths).features(("mfcc", "prosody")[number])[mask]
    codebook, suffix = task.codebooks[number], ("", "_prosody")[number]
    scaled = (features - codebook.quantizer.mean) / codebook.quantizer.scale
    codes = torch.cdist(scaled, codebook.quantizer.centroids).argmin(1)
    assert torch.equal(task.codes(clean(model, wave, lengths))[mask][:, number], codes)
    predictions = codebook.project_context(output.context[mask])
    similar = F.cosine_similarity(predictions[:, None], codebook.codebook[None], dim=2) / 0.1
    expected = -similar.log_softmax(1)[torch.arange(len(codes)), codes].sum()
    found = result.terms[f"contrastive{suffix}"].total
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    guesses = similar.argmax(1)
    right = (guesses == codes).float().mean()
    assert float(result.metrics[f"contrastive/accuracy{suffix}"]) == float(right)
    if number:  # only the first is counted
        return
    assert torch.equal(result.tallies["targets"], torch.bincount(codes, minlength=9))
    assert torch.equal(result.tallies["predicted"], torch.bincount(guesses, minlength=9))
    share = torch.bincount(guesses, minlength=9) / len(guesses)
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    predicted = result.metrics["quantizer/predicted_perplexity"]
    torch.testing.assert_close(predicted, entropy.exp(), rtol=1e-4, atol=0)


def test_the_chance_line_is_the_loss_of_whoever_cannot_tell():
    logits = torch.zeros(3, 5)
    logits[1, 3:] = float("-inf")
    logits[2, 1:] = float("-inf")
    loss = F.cross_entropy(logits, torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(chance(logits), loss)
    assert float(chance(logits[:0])) == 0


@pytest.mark.parametrize(
    ("tally", "expected"), [([4, 4, 4, 4], 4), ([9, 0, 0], 1), ([0, 0], 1), ([1, 1, 0], 2)]
)
def test_perplexity_counts_the_codes_in_use(tally, expected):
    assert float(perplexity(torch.tensor(tally))) == pytest.approx(expected, rel=1e-5)


def test_random_codes_need_no_fitting_and_are_learned():
    """The loss of codes of noise-like bursts falls: predictions reach what is to be predicted."""
    model, task = model_and_task(replace(GUMBEL, quantizer="random", entries=16), "filterbank")
    name = "codebooks.0.quantizer.codebook"
    before = task.state_dict()[name].clone()
    wave, lengths = waves()
    mask, negatives = mask_and_negatives(model.frame_lengths(lengths))
    task.fit([part[mask] for part in task.features(clean(model, wave, lengths))], 0)
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    for _ in range(20):
        loss = run(model, task, wave, lengths, mask, negatives).terms["contrastive"].total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(before, task.state_dict()[name])


@pytest.mark.parametrize("kind", MODELS)
def test_a_teachers_layer_gives_the_codes(kind):
    model, task = model_and_task(KMEANS, kind, teacher_layer=1)
    wave, lengths = waves()
    teacher = a_teacher(kind)
    hidden = teacher(wave, lengths, keep_hidden=True).hidden[1]
    torch.testing.assert_close(task.features(clean(model, wave, lengths)), [hidden])
    assert not any("teacher" in name for name in task.state_dict())
    mask, negatives = mask_and_negatives(model.frame_lengths(lengths))
    before = [p.clone() for p in teacher.parameters()]
    run(model, task, wave, lengths, mask, negatives).terms["contrastive"].total.backward()
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def test_a_teacher_that_does_not_fit_is_refused():
    model = SpeechModel(MODELS["conv"])
    slower = SpeechModel(replace(MODELS["filterbank"], encoder=FilterbankEncoderConfig(stack=8)))
    with pytest.raises(ValueError, match="its frames are 1280 samples"):
        build_contrastive(KMEANS, model, Teacher(slower, 1))
    with pytest.raises(ValueError, match="teacher_layer must be between 0 and the teacher's"):
        Teacher(slower, 99)


@pytest.mark.parametrize("teacher_layer", [None, 1])
@pytest.mark.parametrize("kind", MODELS)
def test_the_codes_of_an_utterance_do_not_depend_on_its_batch(kind, teacher_layer):
    model, task = model_and_task(KMEANS, kind, teacher_layer)
    wave, lengths = waves()
    frames = model.frame_lengths(lengths)
    (features,) = task.features(clean(model, wave, lengths))
    for row, length in enumerate(LENGTHS):
        num = int(frames[row])
        alone = task.features(clean(model, wave[row : row + 1, :length], lengths[row : row + 1]))
        torch.testing.assert_close(features[row, :num], alone[0][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [GUMBEL, KMEANS], ids=["gumbel", "kmeans"])
def test_the_loss_is_float32_under_autocast(config):
    model, task = model_and_task(config)
    wave, lengths = waves()
    mask, negatives = mask_and_negatives(model.frame_lengths(lengths))
    with torch.autocast("cpu", torch.bfloat16):
        result = run(model, task, wave, lengths, mask, negatives)
    assert all(term.total.dtype == torch.float32 for term in result.terms.values())
    assert result.terms["contrastive"].total.isfinite()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"quantizer": "vq"},
            "contrastive.quantizer must be one of gumbel, kmeans, random, got 'vq'",
        ),
        ({"num_negatives": 0}, "contrastive.num_negatives must be at least 1"),
        ({"weight": -1.0}, "contrastive.weight must not be negative"),
        ({"gumbel_end": 0.0}, "contrastive.gumbel_end must be above 0"),
        ({"gumbel_end": 3.0}, "at most contrastive.gumbel_start, got 3.0 and 2.0"),
        ({"temperature": 0.0}, "contrastive.temperature must be above 0"),
        ({"features": ()}, "contrastive.features must name at least one feature, each once"),
        ({"features": ("mfcc", "mfcc")}, "contrastive.features must name at least one feature"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        ContrastiveConfig(**fields)
