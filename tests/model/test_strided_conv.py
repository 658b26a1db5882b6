"""Convolutions by matrix products, against torch's convolution."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from speechssl.model.config import ConvEncoderConfig
from speechssl.model.encoder import ConvEncoder
from speechssl.model.strided_conv import gelu_conv, gelu_linear

CASES = [(37, 3, 2), (36, 2, 2), (40, 10, 5), (33, 3, 4), (50, 5, 1), (3, 3, 2)]


@pytest.mark.parametrize(("num_frames", "kernel", "stride"), CASES)
def test_values_and_gradients_are_those_of_a_convolution(num_frames, kernel, stride):
    torch.manual_seed(0)
    frames = torch.randn(3, num_frames, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, kernel, dtype=torch.float64, requires_grad=True)
    got = gelu_conv(frames, weight, stride)
    expected = F.conv1d(F.gelu(frames).transpose(1, 2), weight, stride=stride).transpose(1, 2)
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, (frames, weight), grad),
        torch.autograd.grad(expected, (frames, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_linear_form_is_gelu_and_a_linear_map():
    torch.manual_seed(1)
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((2, 5, 6), (3, 6), (3,))]
    got, expected = gelu_linear(*leaves), F.linear(F.gelu(leaves[0]), *leaves[1:])
    torch.testing.assert_close(got, expected)
    for one, other in zip(
        torch.autograd.grad(got.square().sum(), leaves),
        torch.autograd.grad(expected.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("bias", [False, True])
def test_both_forms_of_the_encoder_agree(norm, bias):
    torch.manual_seed(2)
    config = replace(ConvEncoderConfig(norm=norm, bias=bias), dims=(16,) * 7)
    encoder = ConvEncoder(config)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    lengths = torch.tensor([4000, 2600])
    wave = torch.randn(2, 4000) + 0.5  # a direct current, which the norm takes away
    wave[1, 2600:] = 0
    grad = torch.randn(2, int(encoder.output_lengths(lengths).max()), 16)
    results = []
    for form in (encoder.by_products, encoder.by_convolutions):
        latents, frames = form(wave, lengths)
        encoder.zero_grad()
        latents.backward(grad)
        results.append((latents, frames, [p.grad.clone() for p in encoder.parameters()]))
    (one, its_frames, its_grads), (other, frames, grads) = results
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert torch.equal(its_frames, frames)
    for mine, theirs in zip(its_grads, grads, strict=True):
        torch.testing.assert_close(
            mine, theirs, atol=1e-5 + 2e-5 * float(theirs.abs().max()), rtol=1e-3
        )


def test_the_first_200_losses_are_those_of_the_plain_form(monkeypatch):
    def losses(form):
        monkeypatch.setattr(ConvEncoder, "forward", form)
        torch.manual_seed(3)
        encoder = ConvEncoder(replace(ConvEncoderConfig(), dims=(8,) * 7))
        head = torch.nn.Linear(8, 8)
        parameters = [*encoder.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3)
        curve = []
        for _ in range(200):
            wave = torch.randn(2, 1600)
            latents, _ = encoder(wave, torch.tensor([1600, 1200]))
            loss = (head(latents) - latents.detach().roll(1, dims=1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(float(loss.detach()))
        return torch.tensor(curve)

    fast, plain = losses(ConvEncoder.by_products), losses(ConvEncoder.by_convolutions)
    torch.testing.assert_close(fast, plain, rtol=2e-3, atol=1e-5)
