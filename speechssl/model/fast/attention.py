"""Scaled dot-product attention (arXiv:1706.03762, eq. 1) with dropout on its weights.

PyTorch's fused form has no dropout on a CPU and falls back to one that is ten times as slow; there
the products are written out, a compiled loop (:mod:`.dropout_loops`) does what is between them, and
the weights are computed again in the backward instead of kept.

Shapes: B batch, H heads, T frames, E width of a head.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from speechssl.model.attention import SelfAttention
from speechssl.model.fast import loops
from speechssl.model.fast.dropout import compiled_loops, draw_keys, odds
from speechssl.model.fast.strided_conv import product_dtype

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""What a GPU may use: not cuDNN's form, which is built anew for each number of utterances and
frames, and took 0.1 to 2 s to be built where that was measured (docs/log)."""

_AT_ONCE = 1 << 22
"""Weights of so many pairs of frames are held at a time, unless an utterance has more."""


class FastSelfAttention(SelfAttention):
    """:class:`SelfAttention` with :func:`attend`."""

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """(B, T, D) -> query, key, value, each (B, T, D)."""
        return super().project(x.to(product_dtype(x)))  # autocast would do it for each of them

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As in the plain form."""
        return attend(query, key, value, mask, self.dropout if self.training else 0.0)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float
) -> Tensor:
    """Weighted sums of the values.

    Args:
        query, key, value: (B, H, T, E).
        mask: bool, True = the key is attended to, or a bias that is added; broadcasts to
            (B, H, T, T).
        dropout_p: probability of a weight to be dropped.

    Returns:
        (B, H, T, E).
    """
    if query.is_cuda:
        with sdpa_kernel(_FUSED):
            return F.scaled_dot_product_attention(query, key, value, mask, dropout_p)
    if not dropout_p or compiled_loops(query, dropout_p) is None:
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p)
    if mask is not None and mask.dtype == torch.bool and mask.shape[2] > 1:
        # Of a mask for each query the loop knows the additive form.
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    keys = draw_keys(query.shape[:3])  # (B, H, T)
    attended: Tensor = _Attend.apply(query, key, value, mask, keys, dropout_p)
    return attended


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, keys, p):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(query, key, value, mask, keys)
        ctx.p = p
        batch, heads, num, width = query.shape
        out = query.new_empty(batch, num, heads, width).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            for part in _parts(batch, heads * num * num):
                weights = _scores(query[part], key[part], mask, part)
                _run("weights", (weights,), mask, keys, part, p)
                out[part] = weights @ value[part]
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        query, key, value, mask, keys = ctx.saved_tensors
        batch, heads, num, width = query.shape
        root = math.sqrt(width)
        grads = [query.new_empty(batch, num, heads, width).transpose(1, 2) for _ in range(3)]
        masks: list[Tensor] = []
        for part in _parts(batch, heads * num * num):
            weights = _scores(query[part], key[part], mask, part)  # (B', H, T, T)
            by_scores = grad[part] @ value[part].transpose(2, 3)
            _run("gradients", (weights, by_scores), mask, keys, part, ctx.p)
            grads[0][part] = (by_scores @ key[part]).div_(root)
            grads[1][part] = by_scores.transpose(2, 3) @ (query[part] / root)
            grads[2][part] = weights.transpose(2, 3) @ grad[part]
            if ctx.needs_input_grad[3]:
                masks.append(by_scores)
        by_mask = torch.cat(masks).sum_to_size(mask.shape) if masks else None
        return *grads, by_mask, None, None


def _parts(batch: int, pairs: int) -> Iterator[slice]:
    """Utterances that are done together, each with so many pairs of frames in all heads."""
    step = max(_AT_ONCE // max(pairs, 1), 1)
    return (slice(start, start + step) for start in range(0, batch, step))


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, part: slice) -> Tensor:
    """(B', H, T, T), with a bias added, in the dtype of `query`."""
    scores = (query / math.sqrt(query.shape[3])) @ key.transpose(2, 3)
    if mask is not None and mask.dtype != torch.bool:
        scores += mask if mask.shape[0] == 1 or mask.dim() < 4 else mask[part]
    return scores


def _run(
    loop: str, values: tuple[Tensor, ...], mask: Tensor | None, keys: Tensor, part: slice, p: float
) -> None:
    """One of the loops over all rows of `values` (B', H, T, T), in place."""
    num = values[0].shape[3]
    valid = torch.empty(0, num, dtype=torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        valid = mask[part].reshape(-1, num)
    rows = [loops.array(v.view(-1, num)) for v in values]
    own = keys[part].flatten().numpy()
    found = loops.load("dropout_loops")
    loops.over_rows(getattr(found, loop), len(rows[0]), *rows, valid.numpy(), own, *odds(p))
