"""Convolutions by matrix products, against torch's convolution."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from speechssl.model.config import ConvEncoderConfig
from speechssl.model.encoder import ConvEncoder
from speechssl.model.fast import strided_conv
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.fast.accelerate import plain as plain_form
from speechssl.model.fast.strided_conv import (
    convolve_at_once,
    gelu_conv,
    gelu_linear,
    windows_gelu_conv,
)

CASES = [(37, 3, 2), (36, 2, 2), (40, 10, 5), (33, 3, 4), (50, 5, 1), (3, 3, 2)]


def plain(frames, weight, stride):
    return F.conv1d(F.gelu(frames).transpose(1, 2), weight, stride=stride).transpose(1, 2)


def assert_same_gradients(got, expected, leaves):
    """Ours last: it overwrites its input."""
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(got)
    others = torch.autograd.grad(expected, leaves, grad)
    for one, other in zip(torch.autograd.grad(got, leaves, grad), others, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("at_once", [1, 4, 2048])
@pytest.mark.parametrize(("num_frames", "kernel", "stride"), CASES)
def test_values_and_gradients_are_those_of_a_convolution(
    num_frames, kernel, stride, at_once, monkeypatch
):
    monkeypatch.setattr(strided_conv, "_AT_ONCE", at_once)
    torch.manual_seed(0)
    frames = torch.randn(3, num_frames, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, kernel, dtype=torch.float64, requires_grad=True)
    leaves = (frames, weight)
    got = gelu_conv(frames * 1, weight, stride)
    assert_same_gradients(got, plain(*leaves, stride), leaves)


@pytest.mark.parametrize("at_once", [1, 4, 2048])
@pytest.mark.parametrize(("num_frames", "kernel", "stride"), CASES)
def test_of_windows_it_is_that_of_their_product(num_frames, kernel, stride, at_once, monkeypatch):
    monkeypatch.setattr(strided_conv, "_AT_ONCE", at_once)
    torch.manual_seed(0)
    shapes = ((3, num_frames, 6), (3, 5, 6), (4, 5, kernel))
    leaves = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    windows, taps, weight = leaves
    expected = plain(windows @ taps.transpose(1, 2), weight, stride)
    assert_same_gradients(windows_gelu_conv(*leaves, stride), expected, leaves)


@pytest.mark.parametrize(("num_frames", "kernel", "stride"), CASES)
def test_what_a_gpu_does_is_the_same_convolution(num_frames, kernel, stride):
    torch.manual_seed(0)
    frames = torch.randn(3, num_frames, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, kernel, dtype=torch.float64, requires_grad=True)
    got = convolve_at_once(F.gelu(frames), weight, stride)
    assert_same_gradients(got, plain(frames, weight, stride), (frames, weight))


def test_bfloat16_sums_its_gradients_in_float32():
    torch.manual_seed(0)
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((2, 5000, 8), (4, 8, 3))]
    halves = [leaf.detach().bfloat16().requires_grad_() for leaf in leaves]
    got, expected = gelu_conv(halves[0] * 1, halves[1], 2), plain(*leaves, 2)
    grad = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(got, halves, grad.bfloat16()),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        assert float((one.float() - other).norm() / other.norm()) < 0.01


def test_a_second_backward_is_refused():
    frames, weight = torch.randn(1, 9, 2, requires_grad=True), torch.randn(2, 2, 3)
    out = gelu_conv(frames * 1, weight, 2).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_the_linear_form_is_gelu_and_a_linear_map():
    torch.manual_seed(1)
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((2, 5, 6), (3, 6), (3,))]
    got, expected = (
        gelu_linear(leaves[0] * 1, *leaves[1:]),
        F.linear(F.gelu(leaves[0]), *leaves[1:]),
    )
    assert_same_gradients(got, expected, leaves)


@pytest.mark.parametrize("norm", ["group", "layer", "running"])
@pytest.mark.parametrize("bias", [False, True])
def test_both_forms_of_the_encoder_agree(norm, bias):
    torch.manual_seed(2)
    kind = "layer" if norm == "layer" else "group"
    config = replace(ConvEncoderConfig(norm=kind, bias=bias), dims=(16,) * 7)
    encoder = ConvEncoder(config, running_norm=norm == "running")
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    lengths = torch.tensor([4000, 2600])
    wave = torch.randn(2, 4000) + 0.5  # a direct current, which the norm takes away
    wave[1, 2600:] = 0
    grad = torch.randn(2, int(encoder.output_lengths(lengths).max()), 16)
    results = []
    for form in (accelerate, plain_form):
        latents, frames = form(encoder)(wave, lengths)
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


def test_the_first_200_losses_are_those_of_the_plain_form():
    def losses(form):
        torch.manual_seed(3)
        encoder = form(ConvEncoder(replace(ConvEncoderConfig(), dims=(8,) * 7)))
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

    fast, plain = losses(accelerate), losses(plain_form)
    torch.testing.assert_close(fast, plain, rtol=2e-3, atol=1e-5)
