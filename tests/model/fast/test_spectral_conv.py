"""The long grouped convolution as products of spectra, against torch's."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from speechssl.model.config import ContextConfig
from speechssl.model.fast import spectral_conv as module
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.fast.spectral_conv import is_quicker, spectral_conv
from speechssl.model.position import PositionalConv


def plain(x, weight, bias, before):
    groups = x.shape[2] // weight.shape[1]
    after = max(weight.shape[2] - 1 - before, 0)
    padded = F.pad(x.transpose(1, 2), (before, after))
    y = F.conv1d(padded, weight, bias, groups=groups)
    return y.transpose(1, 2)[:, : x.shape[1]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("taps", [1, 5, 8, 64])
@pytest.mark.parametrize("num_frames", [1, 9, 65, 66, 200])
def test_values_and_gradients_are_those_of_a_convolution(groups, taps, num_frames, causal):
    torch.manual_seed(0)
    before = taps - 1 if causal else taps // 2
    leaves = [
        tensor.requires_grad_()
        for tensor in (
            torch.randn(3, num_frames, 12),
            torch.randn(12, 12 // groups, taps) / taps**0.5,
            torch.randn(12),
        )
    ]
    got, expected = spectral_conv(*leaves, before), plain(*leaves, before)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
    grad = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)


def test_it_is_taken_for_long_filters_and_enough_frames_only():
    assert is_quicker(torch.empty(2, 128, 4), 128)
    assert not is_quicker(torch.empty(2, 127, 4), 128)
    assert not is_quicker(torch.empty(2, 500, 4), 19)
    assert not is_quicker(torch.empty(2, 500, 4, dtype=torch.float64), 128)
    assert not is_quicker(torch.empty(2, 500, 4, device="meta"), 128)


@pytest.mark.parametrize("fast", [True, False])
def test_under_autocast_it_is_taken_where_bfloat16_is_not_fast(fast, monkeypatch):
    monkeypatch.setattr(module, "has_bf16_units", lambda _: fast)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_quicker(torch.empty(2, 500, 4), 128) is not fast
    assert is_quicker(torch.empty(2, 500, 4), 128)


def test_positions_are_the_same_in_both_forms(monkeypatch):
    torch.manual_seed(1)
    layer = PositionalConv(ContextConfig(dim=32, num_heads=2, pos_kernel=128, pos_groups=4))
    accelerate(layer)
    x = torch.randn(2, 300, 32)
    with torch.inference_mode():
        got = layer(x)
    grad = torch.autograd.grad(layer(x).sum(), layer.conv.bias)  # after what inference left behind
    monkeypatch.setattr(module, "is_quicker", lambda *_: False)
    torch.testing.assert_close(got, layer(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        grad, torch.autograd.grad(layer(x).sum(), layer.conv.bias), rtol=1e-4, atol=1e-3
    )


def test_without_gradients_the_same_values_come_and_torchs_compiler_is_not_imported():
    """Its import takes a second and 60 MB in each worker."""
    code = """
import sys, torch
from speechssl.model.fast.spectral_conv import spectral_conv
torch.manual_seed(0)
given = torch.randn(2, 300, 8), torch.randn(8, 4, 64), torch.randn(8)
with torch.inference_mode():
    plain = spectral_conv(*given, 32)
assert "torch._dynamo" not in sys.modules, "torch's compiler was imported"
learning = [each.clone().requires_grad_() for each in given]
assert torch.equal(plain, spectral_conv(*learning, 32))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
