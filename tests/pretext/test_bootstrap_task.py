"""Bootstrapped targets: BYOL's projections of another view, and data2vec's layers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from speechssl.model.ema import EMAConfig
from speechssl.pretext.bootstrap import BootstrapConfig
from speechssl.pretext.projection import (
    StandardizedLinear,
    constant_loss,
    cosine_loss,
    mean_similarity,
    spread,
)
from speechssl.pretext.task import Resources, View, combine
from speechssl.pretext.teacher_layers import layer_targets, normalized_over_time
from tests.pretext.noise import train_on_noise
from tests.pretext.speech import GivenInputs, a_model, gradient, model_and_task, waves

SMALL = BootstrapConfig(hidden_dim=12, target_dim=6)
BOTH = replace(SMALL, level="both")
LAYERS = BootstrapConfig(targets="layers", top_layers=2)


def inputs(model, task, rows=(0, 1, 2, 3)):
    """Rows of the batch, without padding that no row needs; each view of it is another wave."""
    wave, lengths = waves()
    rows = list(rows)
    wave, lengths = wave[rows, : int(lengths[rows].max())], lengths[rows]
    again = 0.5 * wave
    again[:, 1:] += 0.1 * wave[:, :-1]
    return GivenInputs(model, wave, lengths, distorted=0.7 * wave, again=again, task=task)


# ---- the oracle: numpy, one utterance at a time --------------------------------------------------


def head(module, values):
    """An MLP with standardized weights and LayerNorm, in numpy."""
    first, norm, _, last = module

    def linear(layer, x):
        weight = layer.weight.detach().double().numpy()
        weight = weight - weight.mean(1, keepdims=True)
        weight /= np.sqrt((weight**2).mean(1, keepdims=True) * weight.shape[1] + 1e-6)
        return x @ weight.T + layer.bias.detach().double().numpy()

    x = linear(first, values)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + norm.eps)
    x = x * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()
    return linear(last, np.maximum(x, 0))


def byol(task, x, level):
    """The loss of each frame or utterance, the mean of both directions."""
    average = task.average.average[level]
    found = []
    for online, target in (("distorted", "distorted2"), ("distorted2", "distorted")):
        errors = []
        seen = x.encode(View(online)).context.detach().double().numpy()
        other = x.encode(View(target, None, "ema")).context.double().numpy()
        for row, num in enumerate(x.frames.tolist()):
            a, b = seen[row, :num], other[row, :num]
            if level == "utterance":
                a, b = a.mean(0, keepdims=True), b.mean(0, keepdims=True)
            q = head(task.predictors[level], head(task.projectors[level], a))
            z = head(average, b)
            q /= np.linalg.norm(q, axis=1, keepdims=True)
            z /= np.linalg.norm(z, axis=1, keepdims=True)
            errors += list(((q - z) ** 2).sum(1))
        found.append(errors)
    return np.mean(found, 0)


def far_from_online(task, model):
    """Weights of the online heads that are not those of their average."""
    with torch.no_grad():
        for parameter in task.projectors.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return task, model


@pytest.mark.parametrize("kind", ["conv", "filterbank"])
def test_the_loss_is_that_of_the_paper(kind):
    torch.manual_seed(0)
    model, task = model_and_task(BOTH, kind)
    far_from_online(task, model)
    x = inputs(model, task)
    result = task(x)
    for name, level in (("bootstrap", "frame"), ("bootstrap_utterance", "utterance")):
        term, expected = result.terms[name], byol(task, x, level)
        assert float(term.total.detach()) == pytest.approx(expected.sum(), rel=1e-5)
        assert task.counts(x)[term.count] == len(expected)


def test_one_direction_is_the_first_view_predicting_the_second():
    model, task = model_and_task(replace(SMALL, symmetric=False))
    x = inputs(model, task)
    assert task.needs.views == (View(), View("distorted2", None, "ema"))
    both = model_and_task(SMALL)[1]
    assert set(both.needs.views) == {
        View(),
        View("distorted2"),
        View("distorted", None, "ema"),
        View("distorted2", None, "ema"),
    }
    one = float(task(x).terms["bootstrap"].total.detach())
    other = replace_views(task, both.pairs[1], x)
    mean = float(both(inputs(model, both)).terms["bootstrap"].total.detach())
    assert mean == pytest.approx((one + other) / 2, rel=1e-5)


def replace_views(task, pair, x):
    task.pairs = (pair,)
    return float(task(x).terms["bootstrap"].total.detach())


@pytest.mark.parametrize("level", ["frame", "utterance"])
def test_a_level_alone_has_the_plain_name(level):
    model, task = model_and_task(replace(SMALL, level=level))
    x = inputs(model, task)
    (name, term), *more = task(x).terms.items()
    assert (name, term.count, more) == ("bootstrap", f"bootstrap_{level}s", [])
    assert task.counts(x) == {term.count: 4 if level == "utterance" else int(x.frames.sum())}


# ---- targets of layers ---------------------------------------------------------------------------


def test_layers_are_normalised_over_valid_frames():
    values, frames = torch.randn(3, 9, 5) * 4 + 7, torch.tensor([9, 4, 1])
    found = normalized_over_time(values, frames)
    for row, num in enumerate(frames.tolist()):
        own = values[row, :num].double().numpy()
        expected = (own - own.mean(0)) / np.sqrt(own.var(0) + 1e-5)
        np.testing.assert_allclose(found[row, :num], expected, atol=2e-6)
        assert not found[row, num:].any()
    whole = nn.functional.instance_norm(values[:1].mT).mT
    torch.testing.assert_close(found[:1], whole, atol=1e-5, rtol=1e-5)
    changed = values.clone()
    changed[1, 4:] = torch.inf
    assert torch.equal(normalized_over_time(changed, frames), found)


def test_targets_are_the_mean_of_the_layers():
    layers, frames = [torch.randn(2, 6, 3) for _ in range(3)], torch.tensor([6, 2])
    targets = layer_targets(layers, frames)
    each = torch.stack([normalized_over_time(one, frames) for one in layers])
    torch.testing.assert_close(targets, each.mean(0))


def test_the_loss_on_layers_is_that_of_the_paper():
    torch.manual_seed(0)
    model, task = model_and_task(LAYERS)
    x = inputs(model, task)
    hidden = [h.numpy() for h in x.encode(View("clean", None, "ema")).hidden[-2:]]
    context, mask = x.encode().context.detach(), x.mask().numpy()
    errors, nothing = [], []
    for row, num in enumerate(x.frames.tolist()):
        own = [h[row, :num] for h in hidden]
        target = np.mean([(h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5) for h in own], 0)
        predicted = task.predictor(context[row, :num]).detach().numpy()
        chosen = mask[row, :num]
        errors += list(((predicted - target) ** 2).sum(1)[chosen] / 4)  # sqrt(16)
        nothing += list((target**2).sum(1)[chosen] / 4)
    result = task(x)
    assert float(result.terms["bootstrap"].total.detach()) == pytest.approx(sum(errors), rel=1e-5)
    assert float(result.metrics["bootstrap/chance"]) == pytest.approx(np.mean(nothing), rel=1e-5)
    spread = np.sqrt(np.mean(nothing) / 4)
    assert float(result.metrics["bootstrap/spread"]) == pytest.approx(spread, rel=1e-5)
    assert 0.7 < spread < 1  # of two unrelated layers, and of the same
    assert task.counts(x) == {"bootstrap_masked": len(errors)}


def test_a_single_frame_has_no_layers_to_predict():
    model, task = model_and_task(LAYERS)
    wave, lengths = waves((300,))
    x = GivenInputs(model, wave, lengths, task=task)
    assert x.frames.tolist() == [1]
    term = task(x).terms["bootstrap"]
    assert task.counts(x) == {"bootstrap_masked": 0}
    assert float(term.total.detach()) == 0
    term.total.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# ---- every variant -------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [BOTH, LAYERS, replace(SMALL, level="utterance")])
def test_micro_batches_add_up_whatever_the_variant(config):
    model, task = model_and_task(config)
    whole = inputs(model, task)
    counts = task.counts(whole)
    combine(task(whole).terms, counts).backward()
    expected = gradient(model, task)
    for rows in ([3], [1], [0, 2]):
        x = inputs(model, task, rows)
        combine(task(x).terms, counts).backward()
    found = gradient(model, task)
    assert found.keys() == expected.keys()
    gap = torch.cat([(found[name] - expected[name]).flatten() for name in found])
    assert float(gap.norm()) < 1e-6 * sum(float(g.norm()) for g in expected.values())


@pytest.mark.parametrize("config", [BOTH, LAYERS, replace(LAYERS, stop_gradient=False)])
def test_shortest_utterances_have_a_finite_loss(config):
    model, task = model_and_task(config)
    wave, lengths = waves((300, 900))
    x = GivenInputs(model, wave, lengths, distorted=0.5 * wave, task=task)
    result = task(x)
    loss = combine(result.terms, task.counts(x))
    loss.backward()
    assert loss.isfinite()
    assert all(value.isfinite() for value in result.metrics.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("config", [BOTH, LAYERS])
def test_the_loss_of_every_variant_is_float32_under_autocast(config):
    model, task = model_and_task(config)
    exact = task(inputs(model, task))
    with torch.autocast("cpu", torch.bfloat16):
        result = task(inputs(model, task))
    for name, term in result.terms.items():
        assert term.total.dtype == torch.float32
        assert float(term.total.detach()) == pytest.approx(
            float(exact.terms[name].total.detach()), rel=0.2
        )


# ---- what keeps it from collapse -----------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, LAYERS])
def test_only_the_online_network_learns(config):
    model, task = model_and_task(config)
    combine(
        task(inputs(model, task)).terms, {"bootstrap_frames": 9, "bootstrap_masked": 9}
    ).backward()
    learns = {name for name, p in task.named_parameters() if p.requires_grad}
    assert not any(name.startswith("average") for name in learns)
    assert all(p.grad is not None for n, p in task.named_parameters() if n in learns)


def test_without_stop_gradient_both_passes_learn():
    """Then the loss does not change when the two views change places."""
    model, task = model_and_task(replace(SMALL, stop_gradient=False, predictor=False))
    x = inputs(model, task)
    assert all(view.network == "student" for view in task.needs.views)
    assert not list(task.predictors.parameters())
    grads = [x.encode(view).context for view in task.needs.views]
    for context in grads:
        context.retain_grad()
    task(x).terms["bootstrap"].total.backward()
    assert all(context.grad.any() for context in grads)


def test_the_target_heads_follow_slowly():
    model = a_model("conv")
    task = SMALL.build(model, Resources(ema=EMAConfig(start=0.75, end=0.75)))
    before = {n: p.clone() for n, p in task.average.average.named_parameters()}
    far_from_online(task, model)
    task.before_update(3, 10, model)
    online = dict(task.projectors.named_parameters())
    for name, value in task.average.average.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * online[name])


def test_what_all_inputs_have_in_common_is_not_passed_on():
    layer = StandardizedLinear(50, 8)
    with torch.no_grad():
        layer.bias.zero_()
    values = torch.randn(20, 50)
    torch.testing.assert_close(layer(values + 5), layer(values), atol=1e-4, rtol=1e-4)
    assert float(layer(values).detach().std()) == pytest.approx(1, abs=0.2)


TRAINED = BootstrapConfig(hidden_dim=64, target_dim=32)


def test_with_predictor_and_stop_gradient_it_does_not_collapse(tmp_path):
    verdict, valid = train_on_noise(TRAINED, tmp_path)
    assert verdict.name == "healthy"
    assert valid["valid/bootstrap/spread"] > 0.25
    assert valid["valid/bootstrap"] < 0.8 * valid["valid/bootstrap/chance"]


@pytest.mark.parametrize(
    ("task", "missing"),
    [(TRAINED, "predictor"), (TRAINED, "stop_gradient"), (LAYERS, "stop_gradient")],
)
def test_without_either_it_collapses_and_the_doctor_says_so(task, missing, tmp_path):
    updates = 220 if task is LAYERS else 120
    verdict, valid = train_on_noise(replace(task, **{missing: False}), tmp_path, updates)
    assert verdict.name == "representation collapse"
    assert valid["valid/bootstrap/spread"] < (0.35 if task is LAYERS else 0.1)
    assert valid["valid/bootstrap"] < 0.2  # and yet the loss is low
    assert f"bootstrap.{missing} (now False)" in verdict.findings[0].advice


# ---- chance and collapse -------------------------------------------------------------------------


def test_chance_is_the_best_constant():
    torch.manual_seed(0)
    targets = torch.randn(400, 5) + torch.tensor([1.0, 0.5, 0, 0, 0])
    best = min(
        float(cosine_loss(guess.expand_as(targets), targets).mean())
        for guess in (
            *torch.randn(300, 5),
            targets.mean(0),
            nn.functional.normalize(targets).mean(0),
        )
    )
    assert float(constant_loss(targets)) == pytest.approx(best, abs=0.01)
    assert float(constant_loss(torch.randn(4000, 30))) == pytest.approx(2, abs=0.1)
    assert float(constant_loss(targets[:1].expand(9, 5))) == pytest.approx(0, abs=1e-3)
    assert float(constant_loss(targets[:1])) == 2


def test_the_spread_is_the_deviation_of_unit_vectors():
    torch.manual_seed(0)
    values = torch.randn(500, 8) + 1
    unit = nn.functional.normalize(values).double()
    deviation = unit.std(0, correction=0).square().mean().sqrt() * 8**0.5
    assert float(spread(values)) == pytest.approx(float(deviation), abs=2e-3)
    pairs = (unit @ unit.T).fill_diagonal_(0).sum() / (500 * 499)
    assert float(mean_similarity(values)) == pytest.approx(float(pairs), abs=1e-5)
    assert float(spread(values[:1].expand(7, 8) * torch.rand(7, 1))) == pytest.approx(0, abs=2e-3)
    assert float(spread(values[:1])) == 1
    assert float(spread(values[:0])) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"targets": "layers", "level": "utterance"},
            "level must be 'frame' with bootstrap.targets",
        ),
        ({"targets": "tokens"}, "bootstrap.targets must be"),
        ({"level": "phone"}, "bootstrap.level must be"),
        ({"top_layers": 0}, "bootstrap.top_layers must be at least 1"),
        ({"hidden_dim": 0}, "bootstrap.hidden_dim must be at least 1"),
    ],
)
def test_a_bad_setting_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **changes)


def test_more_layers_than_the_model_has_are_refused():
    with pytest.raises(ValueError, match="top_layers must be at most 2, the layers of the model"):
        replace(LAYERS, top_layers=3).build(a_model("conv"), Resources())
