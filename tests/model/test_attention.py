"""Attention with dropout, against the steps as autograd takes them."""

import math

import pytest
import torch

from speechssl.model.attention import attend
from speechssl.model.dropout import draw_keep, dropout, keep_scale

B, H, T, E = 2, 3, 7, 4
P = 0.3


def inputs():
    torch.manual_seed(0)
    return [torch.randn(B, H, T, E, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def plain(query, key, value, mask, keep):
    scores = query @ key.transpose(2, 3) / math.sqrt(E)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    return (scores.softmax(3) * -keep * keep_scale(P)) @ value


@pytest.mark.parametrize("kind", ["none", "lengths", "bias"])
def test_values_and_gradients_are_those_of_the_plain_form(kind):
    leaves = inputs()
    mask = None
    if kind == "lengths":
        mask = (torch.arange(T) < torch.tensor([[T], [4]]))[:, None, None, :]
    if kind == "bias":
        mask = torch.randn(B, H, T, T, dtype=torch.float64, requires_grad=True)
        leaves.append(mask)
    torch.manual_seed(1)
    got = attend(*leaves[:3], mask, P)
    torch.manual_seed(1)
    expected = plain(*leaves[:3], mask, draw_keep(torch.Size((B, H, T, T)), P))
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_without_dropout_it_is_the_fused_form():
    leaves = inputs()
    fused = torch.nn.functional.scaled_dot_product_attention(*leaves)
    torch.testing.assert_close(attend(*leaves, None, 0.0), fused)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_mean(p, dtype):
    torch.manual_seed(2)
    values = torch.ones(1000, 401, dtype=dtype, requires_grad=True)
    out = dropout(values, p, training=True)
    share = float((out == 0).float().mean())
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / values.numel())
    assert out.unique().tolist() == [0.0, pytest.approx(1 / (1 - p), rel=4e-3)]
    (grad,) = torch.autograd.grad(out.sum(), values)
    assert torch.equal(grad, out.detach())


def test_neighbouring_entries_are_dropped_independently():
    torch.manual_seed(3)
    keep = -draw_keep(torch.Size((400_000,)), 0.5).float() - 0.5
    for lag in range(1, 9):  # four decisions share a random number
        assert abs(float((keep[:-lag] * keep[lag:]).mean())) < 4 * 0.25 / math.sqrt(len(keep))


def test_dropout_repeats_with_the_seed_and_does_nothing_outside_training():
    values = torch.randn(5, 6)
    assert dropout(values, 0.5, training=False) is values
    torch.manual_seed(4)
    first = dropout(values, 0.5, training=True)
    torch.manual_seed(4)
    assert torch.equal(first, dropout(values, 0.5, training=True))
    assert not dropout(values, 1.0, training=True).any()
