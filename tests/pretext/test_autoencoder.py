"""The autoencoder: the loss against the formula, the bottleneck and no way around it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from speechssl import shapes
from speechssl.pretext.autoencoder import AutoencoderConfig
from speechssl.pretext.task import View, combine
from tests.pretext.speech import LENGTHS, MODELS, GivenInputs, model_and_task, run, waves

KINDS = pytest.mark.parametrize("kind", MODELS)
TARGETS = ("logmel", "wave")
SMALL = AutoencoderConfig(bottleneck_dim=4, hidden_dim=12)
CLEAN = View("clean", None)


@KINDS
def test_the_loss_against_the_formula(kind):
    config = replace(SMALL, weight=2.0, feature_weight=3.0, wave_weight=0.5)
    model, task = model_and_task(config, kind)
    x = GivenInputs(model, *waves(), distorted=-0.3 * waves()[0])
    output, hop = model(*waves()), model.config.hop_samples
    valid = shapes.length_mask(output.lengths, output.context.shape[1])
    result = task(x)
    assert task.counts(x) == {"autoencoder_frames": int(output.lengths.sum())}
    for target, weight in (("logmel", 6.0), ("wave", 1.0)):
        first, last = (task.decoders[target].layers[i] for i in (0, 2))
        codes = F.linear(output.context, task.bottleneck.weight, task.bottleneck.bias)
        hidden = F.gelu(F.linear(codes, first.weight, first.bias))
        rebuilt = F.linear(hidden, last.weight, last.bias)
        if target == "logmel":
            wanted = x.features("logmel")
        else:  # samples of the clean wave over its level
            samples = F.pad(waves()[0], (0, hop))[:, : output.context.shape[1] * hop]
            wanted = samples.unflatten(1, (-1, hop)) * valid[:, :, None]
            level = (wanted.square().sum((1, 2)) / (output.lengths * hop)).sqrt() + 1e-3
            wanted = wanted / level[:, None, None]
        error = (rebuilt - wanted).square().mean(2)[valid].sum()
        term = result.terms[f"autoencoder_{target}"]
        assert (term.count, term.weight) == ("autoencoder_frames", weight)
        torch.testing.assert_close(term.total, error, rtol=1e-4, atol=1e-3)
        chance = wanted[valid].square().mean()
        torch.testing.assert_close(result.metrics[f"autoencoder/{target}_chance"], chance)


@pytest.mark.parametrize("target", TARGETS)
def test_a_rebuilt_frame_depends_on_its_numbers_in_the_bottleneck_alone(target):
    """The gradient to the context lies in the rows of the bottleneck's weights, of its own
    frame."""
    _, task = model_and_task(SMALL)
    context = torch.randn(5, 16, requires_grad=True)
    rebuilt = task.rebuild(target, context)
    rows = [torch.autograd.grad(v, context, retain_graph=True)[0] for v in rebuilt[2, ::7]]
    gradients = torch.stack(rows)  # (F / 7, T, D)
    assert float(gradients[:, [0, 1, 3, 4]].abs().max()) == 0
    assert int(torch.linalg.matrix_rank(gradients[:, 2])) == 4
    basis = torch.linalg.qr(task.bottleneck.weight.detach().T)[0]  # (D, K)
    outside = gradients[:, 2] - gradients[:, 2] @ basis @ basis.T
    assert float(outside.abs().max()) < 1e-5 * float(gradients.abs().max())


@KINDS
def test_nothing_goes_around_the_bottleneck(kind, monkeypatch):
    """The same numbers in the bottleneck are the same loss, whatever else of the model changes."""
    model, task = model_and_task(SMALL, kind)
    x, other = (GivenInputs(model, *waves()) for _ in range(2))
    output = x.encode(CLEAN)
    across = torch.linalg.svd(task.bottleneck.weight)[2][4:]  # (D - K, D), W a = 0
    context = output.context + 10 * torch.randn(len(across)) @ across
    moved = replace(
        output,
        context=context,
        latents=torch.randn_like(output.latents),
        raw_latents=torch.randn_like(output.raw_latents),
    )
    monkeypatch.setattr(other, "encode", lambda _view: moved)
    one, two = task(x).terms, task(other).terms
    for name in one:
        torch.testing.assert_close(one[name].total, two[name].total, rtol=1e-4, atol=1e-4)
    seen = replace(output, context=output.context + task.bottleneck.weight[0])
    monkeypatch.setattr(other, "encode", lambda _view: seen)
    assert all(
        abs((term.total - one[name].total).item()) > 1e-3
        for name, term in task(other).terms.items()
    )


@torch.no_grad()
def test_a_closed_bottleneck_rebuilds_the_same_whatever_the_input():
    model, task = model_and_task(SMALL)
    task.bottleneck.weight.zero_()
    for target in TARGETS:
        rebuilt = task.rebuild(target, model(*waves()).context)
        assert float(rebuilt.std((0, 1)).max()) < 1e-6


def test_a_narrower_bottleneck_has_a_larger_error():
    """After the same training, of frames that are all different."""
    errors = []
    for dim in (1, 4, 16):
        model, task = model_and_task(
            AutoencoderConfig(bottleneck_dim=dim, hidden_dim=64), "filterbank"
        )
        optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=5e-3)
        wave, lengths = waves((32000, 20000))
        wave = wave * torch.sin(torch.arange(32000) / 900).abs()
        for _ in range(80):
            x = GivenInputs(model, wave, lengths)
            result = task(x)
            optimizer.zero_grad()
            combine(result.terms, task.counts(x)).backward()
            optimizer.step()
        num = task.counts(x)["autoencoder_frames"]
        errors.append(result.terms["autoencoder_logmel"].total.item() / num)
    assert errors[0] > 1.05 * errors[1] > 1.05**2 * errors[2], errors
    assert errors[2] < 0.9 * float(result.metrics["autoencoder/logmel_chance"])


def test_convolutions_keep_the_wave():
    """A rising tone is rebuilt sample by sample."""
    config = AutoencoderConfig(bottleneck_dim=8, hidden_dim=32, feature_weight=0.0)
    model, task = model_and_task(config)
    times = torch.arange(16000) / 16000
    wave = 0.3 * torch.sin(2 * torch.pi * (80 * times + 40 * times**2))[None]
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=5e-3)
    for _ in range(40):
        x = GivenInputs(model, wave, torch.tensor([16000]))
        result = task(x)
        loss = combine(result.terms, task.counts(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * float(result.metrics["autoencoder/wave_chance"])


@KINDS
def test_both_errors_begin_near_one_and_a_decoder_of_nothing_is_at_chance(kind):
    model, task = model_and_task(SMALL, kind)
    with torch.no_grad():
        for decoder in task.decoders.values():
            decoder.layers[2].weight.zero_()
            decoder.layers[2].bias.zero_()
    result = run(model, task)
    num = int(model.frame_lengths(waves()[1]).sum())
    for target in TARGETS:
        chance = float(result.metrics[f"autoencoder/{target}_chance"])
        assert result.terms[f"autoencoder_{target}"].total.item() / num == pytest.approx(chance)
        assert chance == pytest.approx(1, abs=0.05)


def test_the_input_is_the_clean_wave_or_the_distorted_one_and_the_target_always_clean():
    wave, lengths = waves()
    other = wave.flip(1).contiguous()
    for given, same in (("clean", True), ("distorted", False)):
        model, task = model_and_task(replace(SMALL, wave=given))
        assert task.needs.views == (View(given, None),)
        one, two = (
            run(model, task, wave, lengths, distorted=distorted) for distorted in (wave, other)
        )
        for target in TARGETS:
            name = f"autoencoder_{target}"
            assert torch.equal(one.terms[name].total, two.terms[name].total) is same
            name = f"autoencoder/{target}_chance"
            assert torch.equal(one.metrics[name], two.metrics[name])


@KINDS
@pytest.mark.parametrize("samples", [1, 300, 641])
def test_the_shortest_utterances(kind, samples):
    model, task = model_and_task(SMALL, kind)
    x = GivenInputs(model, *waves((samples,)))
    loss = combine(task(x).terms, task.counts(x))
    loss.backward()
    assert task.counts(x) == {"autoencoder_frames": int(x.frames)}
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in task.parameters())


@KINDS
def test_an_utterance_has_the_same_loss_in_any_batch(kind):
    model, task = model_and_task(SMALL, kind)
    wave, lengths = waves()
    whole = run(model, task).terms
    alone = [
        run(model, task, wave[i : i + 1, :n], lengths[i : i + 1]).terms
        for i, n in enumerate(LENGTHS)
    ]
    for name, term in whole.items():
        total = sum(terms[name].total for terms in alone)
        torch.testing.assert_close(term.total, total, rtol=1e-4, atol=1e-3)


def test_it_is_float32_under_autocast():
    model, task = model_and_task(SMALL)
    plain = run(model, task).terms
    with torch.autocast("cpu", torch.bfloat16):
        terms = run(model, task).terms
    for name, term in terms.items():
        assert term.total.dtype == torch.float32
        assert term.total.item() == pytest.approx(plain[name].total.item(), rel=0.05)


def test_a_weight_of_zero_leaves_the_target_out():
    for name, left in (("feature_weight", "wave"), ("wave_weight", "logmel")):
        config = replace(SMALL, **{name: 0.0})
        _, task = model_and_task(config)
        assert set(task.decoders) == {left}
        assert set(run(*model_and_task(config)).terms) == {f"autoencoder_{left}"}
        assert [signal.metric for signal in config.signals] == [f"autoencoder_{left}"]
    both = replace(SMALL, feature_weight=0.0, wave_weight=0.0)
    assert both.learns_nothing() == "autoencoder.feature_weight and autoencoder.wave_weight"
    assert replace(SMALL, weight=0.0).learns_nothing() == "autoencoder.weight"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"bottleneck_dim": 0}, "autoencoder.bottleneck_dim must be at least 1, got 0"),
        ({"wave": "noisy"}, "autoencoder.wave must be one of clean, distorted, got 'noisy'"),
        ({"wave_weight": -1.0}, "autoencoder.wave_weight must not be negative"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        AutoencoderConfig(**fields)


def test_the_report_shows_the_rebuilt_spectrogram():
    model, task = model_and_task(SMALL, "filterbank")
    x = GivenInputs(model, *waves((9000,)))
    (panel,) = task.panels(x)
    assert panel.log_mels.shape == (int(x.frames) * 4, 80)
    assert "4 numbers" in panel.note
