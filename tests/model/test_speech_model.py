"""The whole model: independence of padding, any length, masks, gradients, the CTC head."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl import shapes
from speechssl.model.config import (
    ContextConfig,
    ConvEncoderConfig,
    FilterbankEncoderConfig,
    ModelConfig,
)
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel, hide_channels

ENCODERS = {
    "group": ConvEncoderConfig((8,) * 7),
    "layer": ConvEncoderConfig((8,) * 7, norm="layer", bias=True),
    "filterbank": FilterbankEncoderConfig(num_filters=10),
}
CONTEXT = ContextConfig(
    dim=16,
    num_layers=2,
    num_heads=2,
    ffn_dim=24,
    pos_kernel=8,
    pos_groups=2,
    dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
)
PUBLISHED = {order: replace(CONTEXT, norm_order=order) for order in ("pre", "post")}
CONTEXTS = {
    **PUBLISHED,
    "local": replace(PUBLISHED["pre"], local_layers=1, pos_norm=True),
    "gru": replace(PUBLISHED["pre"], local_layers=1, upper="gru"),
}
KINDS = [f"{e}-{c}" for e, c in itertools.product(ENCODERS, CONTEXTS)]
EVERY = pytest.mark.parametrize("kind", KINDS)
EVERY_ENCODER = pytest.mark.parametrize("kind", [f"{e}-pre" for e in ENCODERS])
LENGTHS = (6000, 2000, 399, 1)


def config(kind: str, **changes) -> ModelConfig:
    encoder, order = kind.split("-")
    return ModelConfig(encoder=ENCODERS[encoder], context=CONTEXTS[order], **changes)


def speech(kind: str, **changes) -> SpeechModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpeechModel(config(kind, **changes)).eval()


def waves(lengths=LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    wave = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


# --- lengths and padding --------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("normalize", [False, True])
def test_a_row_of_a_batch_equals_the_row_alone(kind, normalize):
    model = speech(kind, normalize_wave=normalize)
    wave, lengths = waves()
    with torch.no_grad():
        batch = model(wave, lengths, keep_hidden=True)
        for row, length in enumerate(LENGTHS):
            alone = model(wave[row : row + 1, :length], lengths[row : row + 1], keep_hidden=True)
            num = int(alone.lengths[0])
            assert int(batch.lengths[row]) == num == alone.context.shape[1]
            pairs = [
                (batch.raw_latents, alone.raw_latents),
                (batch.latents, alone.latents),
                *zip(batch.hidden, alone.hidden, strict=True),
                (batch.context, alone.context),
            ]
            for ours, other in pairs:
                torch.testing.assert_close(ours[row, :num], other[0], rtol=1e-3, atol=2e-5)


@EVERY
def test_the_order_of_a_batch_does_not_matter(kind):
    model = speech(kind)
    wave, lengths = waves()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        one, two = model(wave, lengths).context, model(wave[order], lengths[order]).context
    torch.testing.assert_close(one[order], two, rtol=1e-4, atol=1e-5)


@EVERY
def test_what_lies_behind_an_utterance_changes_nothing(kind):
    model = speech(kind)
    wave, lengths = waves()
    other = wave.clone()
    other[1, 2000:] = float("nan")
    with torch.no_grad():
        one, two = model(wave, lengths), model(other, lengths)
    num = int(one.lengths[1])
    assert torch.equal(one.context[1, :num], two.context[1, :num])


@EVERY
@pytest.mark.parametrize("num", [0, 1, 2, 399, 400, 401, 639, 640])
def test_any_length_gives_at_least_one_finite_frame(kind, num):
    model = speech(kind, normalize_wave=True).train()
    wave, lengths = waves((num,)) if num else (torch.zeros(1, 0), torch.tensor([0]))
    out = model(wave, lengths)
    assert out.lengths.tolist() == model.frame_lengths(lengths).tolist() == [1]
    assert out.context.shape == (1, 1, 16)
    assert out.context.isfinite().all()
    out.context.square().sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads
    assert all(g.isfinite().all() for g in grads)


@EVERY_ENCODER
def test_frame_lengths_are_what_comes_out(kind):
    model = speech(kind)
    wave, lengths = waves()
    assert torch.equal(model(wave, lengths).lengths, model.frame_lengths(lengths))
    assert model.hop_s == model.config.hop_samples / 16000


def test_normalised_waves_make_the_gain_and_the_offset_irrelevant():
    model = speech("layer-pre", normalize_wave=True)
    wave, lengths = waves()
    louder = shapes.zero_padding(5 * wave + 0.3, lengths)
    with torch.no_grad():
        one, two = model(wave, lengths).context, model(louder, lengths).context
        plain = speech("layer-pre")
        assert not torch.allclose(plain(wave, lengths).context, plain(louder, lengths).context)
    torch.testing.assert_close(one[:3], two[:3], rtol=1e-2, atol=2e-3)


# --- masks ----------------------------------------------------------------------------------------


@EVERY
def test_a_masked_frame_is_hidden(kind):
    # with every frame behind the mask nothing of the wave is left
    model = speech(kind)
    wave, lengths = waves((6000, 2000))
    mask = shapes.length_mask(model.frame_lengths(lengths), 18 if kind[0] != "f" else 9)
    with torch.no_grad():
        one = model(wave, lengths, mask=mask)
        two = model(wave.flip(1).roll(2000, 1), lengths, mask=mask)
        without = model(wave, lengths)
    assert torch.equal(one.context, two.context)
    assert not torch.allclose(one.context, without.context)
    assert torch.equal(one.latents, without.latents)  # targets come from the unmasked latents


def test_no_mask_and_an_empty_mask_are_the_same():
    model = speech("group-pre")
    wave, lengths = waves()
    empty = torch.zeros(4, 18, dtype=torch.bool)
    with torch.no_grad():
        one, two = model(wave, lengths), model(wave, lengths, mask=empty)
    assert torch.equal(one.context, two.context)


def test_the_mask_embedding_learns():
    model = speech("layer-post")
    wave, lengths = waves()
    mask = torch.zeros(4, 18, dtype=torch.bool)
    mask[0, 3:6] = True
    model(wave, lengths, mask=mask).context[:, :, ::2].square().sum().backward()
    assert model.mask_embedding.grad.abs().sum() > 0


def test_hidden_channels_are_zero_in_every_repeat():
    latents = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, False, False, False], [False, False, True, True]])
    out = hide_channels(latents, mask)
    expected = latents.numpy().copy()
    for row, channel in np.argwhere(mask.numpy()):
        expected[row, :, channel::4] = 0
    assert np.array_equal(out.numpy(), expected)


@EVERY_ENCODER
def test_a_channel_mask_changes_the_context_and_not_the_targets(kind):
    model = speech(kind)
    wave, lengths = waves((6000, 2000))
    channels = torch.zeros(2, 10 if kind[0] == "f" else 8, dtype=torch.bool)
    channels[0, :4] = True
    with torch.no_grad():
        plain, hidden = model(wave, lengths), model(wave, lengths, channel_mask=channels)
    assert torch.equal(plain.latents, hidden.latents)
    assert not torch.allclose(plain.context[0], hidden.context[0])
    torch.testing.assert_close(plain.context[1], hidden.context[1])


# --- gradients ------------------------------------------------------------------------------------


def gradients(kind: str, scale: float) -> tuple[SpeechModel, torch.Tensor]:
    model = speech(kind)
    out = model(*waves(), encoder_grad_scale=scale)
    out.context[:, :, ::2].square().sum().backward()
    return model, out.context


@EVERY_ENCODER
def test_the_encoders_gradient_is_scaled_and_nothing_else(kind):
    whole, one = gradients(kind, 1.0)
    scaled, two = gradients(kind, 0.1)
    torch.testing.assert_close(one, two)
    for (name, full), tenth in zip(whole.named_parameters(), scaled.parameters(), strict=True):
        if full.grad is None:
            assert name == "mask_embedding"
            continue
        factor = 0.1 if name.startswith("encoder.") else 1.0
        torch.testing.assert_close(tenth.grad, factor * full.grad, rtol=1e-3, atol=1e-5)


@EVERY_ENCODER
def test_a_frozen_encoder_has_no_gradient(kind):
    model, _ = gradients(kind, 0.0)
    assert all(p.grad is None for p in model.encoder.parameters())
    assert model.project.weight.grad.abs().sum() > 0


def test_the_feature_penalty_is_scaled_with_the_encoder():
    # as in wav2vec 2.0's code, which takes it after the scaling
    grads = []
    for scale in (1.0, 0.1):
        model = speech("group-post")
        model(*waves(), encoder_grad_scale=scale).raw_latents.square().sum().backward()
        grads.append(model.encoder.layers[0].conv.weight.grad)
    torch.testing.assert_close(grads[1], 0.1 * grads[0], rtol=1e-3, atol=1e-5)


# --- the CTC head ---------------------------------------------------------------------------------


def ctc(kind="filterbank-pre", upsample=1, vocab=7) -> CTCModel:
    torch.manual_seed(0)
    return CTCModel(speech(kind), CTCHead(16, vocab, upsample)).eval()


@pytest.mark.parametrize("upsample", [1, 2, 3])
def test_rows_of_log_probabilities(upsample):
    model = ctc(upsample=upsample)
    wave, lengths = waves()
    logs, rows = model(wave, lengths)
    assert torch.equal(rows, model.output_lengths(lengths))
    assert logs.shape == (4, int(rows.max()), 7)
    torch.testing.assert_close(logs.exp().sum(2), torch.ones(logs.shape[:2]))
    assert model.hop_s * upsample == pytest.approx(0.04)


def test_upsampled_rows_of_a_frame_stand_side_by_side():
    head = CTCHead(16, 7, upsample=2)
    context = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    logs = head(context)
    logits = head.linear(context[0, 3])
    torch.testing.assert_close(logs[0, 6], logits[:7].log_softmax(0))
    torch.testing.assert_close(logs[0, 7], logits[7:].log_softmax(0))


@pytest.mark.parametrize("upsample", [1, 2])
@torch.no_grad()
def test_a_fresh_head_mostly_emits_blanks_and_passes_gradients_down(upsample):
    torch.manual_seed(0)
    head = CTCHead(256, 40, upsample)
    blanks = head(torch.randn(4, 50, 256))[:, :, 0].exp()
    assert 0.65 < float(blanks.mean()) < 0.85
    silent = head(torch.zeros(1, 1, 256))[:, :, 0].exp()
    torch.testing.assert_close(silent, torch.full((1, upsample), 0.8))
    assert float(head.linear.weight.std()) == pytest.approx((3 * 256) ** -0.5, rel=0.05)


@pytest.mark.parametrize(("dim", "std"), [(48, 0.08), (768, 0.02), (1024, 0.02)])
@torch.no_grad()
def test_layers_narrower_than_base_begin_wider(dim, std):
    torch.manual_seed(0)
    context = ContextConfig(dim=dim, num_layers=1, num_heads=2, ffn_dim=2 * dim, pos_kernel=3)
    model = SpeechModel(ModelConfig(ConvEncoderConfig(dims=(8,) * 7), context))
    for linear in (model.context.layers[0].attention.query, model.context.layers[0].ffn_out):
        assert float(linear.weight.std()) == pytest.approx(std, rel=0.05)
        assert not linear.bias.any()


def test_log_probabilities_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logs, _ = ctc()(*waves())
    assert logs.dtype == torch.float32


@EVERY_ENCODER
def test_log_probabilities_do_not_depend_on_the_batch(kind):
    model = ctc(kind)
    wave, lengths = waves()
    with torch.no_grad():
        logs, rows = model(wave, lengths)
        for row, length in enumerate(LENGTHS):
            alone, _ = model(wave[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(logs[row, : rows[row]], alone[0], rtol=1e-3, atol=1e-5)
