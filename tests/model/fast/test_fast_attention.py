"""Attention with dropout, against the steps as autograd takes them."""

import math

import numpy as np
import pytest
import torch

from speechssl.model.fast import attention, loops
from speechssl.model.fast.attention import attend
from speechssl.model.fast.dropout import draw_keys, dropout
from speechssl.model.fast.dropout_loops import weights

B, H, T, E = 3, 2, 37, 8
P = 0.3


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def inputs(dtype=torch.float32):
    torch.manual_seed(0)
    return [torch.randn(B, H, T, E).to(dtype).requires_grad_() for _ in range(3)]


def plain(query, key, value, mask):
    """Attention in float32, with the dropout that the next keys give."""
    scores = query.float() @ key.float().transpose(2, 3) / math.sqrt(E)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    kept = dropout(torch.ones(B, H, T, T), P, training=True)
    return (scores.softmax(3) * kept) @ value.float()


def masks(kind):
    if kind == "lengths":
        return (torch.arange(T) < torch.tensor([[T], [1], [20]]))[:, None, None, :]
    if kind == "bias":
        return torch.randn(B, H, T, T, requires_grad=True)
    return torch.randn(1, H, T, T, requires_grad=True) if kind == "one bias" else None


@pytest.mark.parametrize("at_once", [1, 1 << 22])
@pytest.mark.parametrize("kind", ["none", "lengths", "bias", "one bias"])
def test_values_and_gradients_are_those_of_the_plain_form(kind, at_once, monkeypatch):
    monkeypatch.setattr(attention, "_AT_ONCE", at_once)
    leaves, mask = inputs(), masks(kind)
    if "bias" in kind:
        leaves.append(mask)
    torch.manual_seed(1)
    got = attend(*leaves[:3], mask, P)
    torch.manual_seed(1)
    expected = plain(*leaves[:3], mask)
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "lengths"])
def test_in_bfloat16_it_is_the_plain_form_but_for_rounding(kind):
    leaves, mask = inputs(torch.bfloat16), masks(kind)
    torch.manual_seed(1)
    got = attend(*leaves, mask, P)
    assert got.dtype == torch.bfloat16
    torch.manual_seed(1)
    expected = plain(*leaves, mask)
    torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.02)
    grad = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(got, leaves, grad.bfloat16()),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(one.float(), other.float(), rtol=0.05, atol=0.05)


def test_a_masked_key_weighs_exactly_nothing():
    query, key, value = inputs()
    mask = masks("lengths")
    torch.manual_seed(1)
    before = attend(query, key, value, mask, P)
    with torch.no_grad():
        key += 1e4 * ~mask[:, :, 0, :, None]
        value += 1e20 * ~mask[:, :, 0, :, None]
    torch.manual_seed(1)
    assert torch.equal(before, attend(query, key, value, mask, P))


@pytest.mark.parametrize("size", [1e-6, 1.0, 60.0])
def test_the_softmax_is_exact_for_small_and_large_scores(size):
    torch.manual_seed(0)
    scores = size * torch.randn(50, T)
    got, keys = scores.clone(), draw_keys(torch.Size((50,)))
    weights(0, 50, got.numpy(), np.empty((0, T), bool), keys.numpy(), 0, 1.0)
    torch.testing.assert_close(got.double(), scores.double().softmax(1), rtol=2e-5, atol=1e-37)


def test_a_bad_score_stays_bad():
    query, key, value = inputs()
    with torch.no_grad():
        query[0, 0, 0, 0] = torch.nan
    assert attend(query, key, value, None, P)[0, 0, 0].isnan().any()


def test_without_dropout_or_loops_it_is_the_fused_form(monkeypatch):
    leaves = inputs()
    fused = torch.nn.functional.scaled_dot_product_attention(*leaves)
    torch.testing.assert_close(attend(*leaves, None, 0.0), fused)
    monkeypatch.setattr(loops, "load", lambda _: None)
    torch.manual_seed(1)
    got = attend(*leaves, None, P)
    torch.manual_seed(1)
    expected = torch.nn.functional.scaled_dot_product_attention(*leaves, dropout_p=P)
    assert torch.equal(got, expected)


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


@pytest.mark.parametrize("dim", [0, 1])
def test_entries_are_dropped_independently_of_others(dim):
    torch.manual_seed(3)
    centred = dropout(torch.ones(2000, 500), 0.5, training=True) - 1  # -1 or 1
    sizes = []
    for lag in (1, 2, 3, 4, 8, 16, 249, 250, 251):
        one = centred.narrow(dim, lag, centred.shape[dim] - lag)
        product = one * centred.narrow(dim, 0, one.shape[dim])
        sizes.append(float(product.mean()) * math.sqrt(product.numel()))
    assert max(map(abs, sizes)) < 4.5


def test_all_columns_and_rows_are_dropped_equally_often():
    torch.manual_seed(4)
    dropped = (dropout(torch.ones(4000, 512), 0.1, training=True) == 0).float()
    for dim in (0, 1):
        share = dropped.mean(dim)
        expected = math.sqrt(0.09 / dropped.shape[dim])
        assert float(share.std()) == pytest.approx(expected, rel=0.15)


def test_dropout_repeats_with_the_seed_and_not_with_the_threads():
    values = torch.randn(5, 7, 6)
    assert dropout(values, 0.5, training=False) is values
    torch.manual_seed(4)
    first = dropout(values, 0.5, training=True)
    torch.set_num_threads(1)
    torch.manual_seed(4)
    assert torch.equal(first, dropout(values, 0.5, training=True))
    assert not dropout(values, 1.0, training=True).any()


def test_dropout_takes_values_of_any_layout():
    torch.manual_seed(5)
    turned = torch.randn(7, 5).T
    empty = dropout(torch.empty(0, 4), 0.5, training=True)
    out = dropout(turned, 0.5, training=True)
    assert empty.shape == (0, 4)
    torch.testing.assert_close(out[out != 0], 2 * turned[out != 0])
    assert dropout(torch.ones(()), 0.5, training=True).shape == ()
