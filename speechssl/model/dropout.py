"""Dropout (arXiv:1207.0580) whose random numbers cost little on a CPU.

PyTorch draws one Bernoulli number per entry there, which takes longer than the matrix product that
the entries came from. Here 16 random bits of its generator decide on an entry.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 1 << 16


def dropout(values: Tensor, p: float, training: bool) -> Tensor:
    """Each entry is zero with probability `p`, the others are scaled by 1 / (1 - p).

    On a CPU `p` is rounded to a multiple of 2**-16, and the scale is that of the rounded one.
    """
    if not training or p == 0:
        return values
    if not values.is_cpu or p >= 1 or torch.compiler.is_compiling():
        return F.dropout(values, p)
    dropped: Tensor = _Dropout.apply(values, draw_keep(values.shape, p), keep_scale(p))
    return dropped


class _Dropout(torch.autograd.Function):
    """Keeps one byte an entry for the backward."""

    @staticmethod
    def forward(ctx, values, keep, scale):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return keep.to(values.dtype).mul_(scale).mul_(values)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (keep,) = ctx.saved_tensors
        return keep.to(grad.dtype).mul_(ctx.scale).mul_(grad), None, None


def draw_keep(shape: torch.Size, p: float) -> Tensor:
    """Random bool of `shape` on the CPU, False with probability `p` < 1."""
    num = shape.numel()
    lowest = torch.iinfo(torch.int64).min
    bits = torch.empty((num + 3) // 4, dtype=torch.int64).random_(lowest, None)
    return bits.view(torch.int16)[:num].view(shape) >= _dropped(p) - _STEPS // 2


def keep_scale(p: float) -> float:
    """What makes up for the entries that :func:`draw_keep` drops."""
    return _STEPS / (_STEPS - _dropped(p))


def _dropped(p: float) -> int:
    return min(round(p * _STEPS), _STEPS - 1)
