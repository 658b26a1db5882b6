"""Scaled dot-product attention (arXiv:1706.03762, eq. 1) with dropout on its weights.

PyTorch's fused form has no dropout on a CPU and falls back to one that is ten times as slow; there
the steps are written out, and the weights are computed again in the backward instead of kept.

Shapes: B batch, H heads, T frames, E width of a head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.model.dropout import draw_keep, keep_, keep_scale


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float
) -> Tensor:
    """What each query hears.

    Args:
        query, key, value: (B, H, T, E).
        mask: broadcasts to (B, H, T, T); bool, True = may be looked at, or a bias that is added.
        dropout_p: probability of a weight to be dropped.

    Returns:
        (B, H, T, E).
    """
    if not 0 < dropout_p < 1 or query.device.type != "cpu" or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p)
    keep = draw_keep(torch.Size((*query.shape[:3], key.shape[2])), dropout_p)  # (B, H, T, T)
    heard: Tensor = _Attend.apply(query, key, value, mask, keep, keep_scale(dropout_p))
    return heard


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, keep, scale):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(query, key, value, mask, keep)
        ctx.scale = scale
        weights = _weights(query, key, mask)
        return keep_(weights, keep) @ (value * scale)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        query, key, value, mask, keep = ctx.saved_tensors
        weights = _weights(query, key, mask)  # (B, H, T, T)
        grad = grad * ctx.scale
        by_weights = keep_(grad @ value.transpose(2, 3), keep)
        by_scores = torch._softmax_backward_data(by_weights, weights, 3, weights.dtype)
        by_value = keep_(weights, keep).transpose(2, 3) @ grad  # (B, H, T, E)
        by_mask = None
        if ctx.needs_input_grad[3]:
            by_mask = by_scores.sum_to_size(mask.shape)
        root = math.sqrt(query.shape[3])
        by_query = (by_scores @ key).div_(root)
        by_key = (by_scores.transpose(2, 3) @ query).div_(root)
        return by_query, by_key, by_value, by_mask, None, None


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """(B, H, T, T), each row a distribution, in the dtype of `query`."""
    with torch.autocast("cpu", enabled=False):
        scores = (query / math.sqrt(query.shape[3])) @ key.transpose(2, 3)
        if mask is not None and mask.dtype == torch.bool:
            scores.masked_fill_(~mask, -torch.inf)
        elif mask is not None:
            scores += mask
        return scores.softmax(3)
