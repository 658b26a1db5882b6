"""Dropout (arXiv:1207.0580) whose random numbers cost little on a CPU.

PyTorch draws one Bernoulli number per entry there, which takes longer than the matrix product that
the entries came from. Here 15 random bits of its generator decide on an entry, and the mask is a
number of all ones or all zeros that is laid over the entry's bits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 1 << 15
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def dropout(values: Tensor, p: float, training: bool) -> Tensor:
    """Each entry is zero with probability `p`, the others are scaled by 1 / (1 - p).

    On a CPU `p` is rounded to a multiple of 2**-15, and the scale is that of the rounded one.
    """
    if not training or p == 0:
        return values
    if not values.is_cpu or p >= 1 or torch.compiler.is_compiling():
        return F.dropout(values, p)
    dropped: Tensor = _Dropout.apply(values, draw_keep(values.shape, p), keep_scale(p))
    return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, keep, scale):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return keep_(values * scale, keep)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (keep,) = ctx.saved_tensors
        return keep_(grad * ctx.scale, keep), None, None


def draw_keep(shape: torch.Size, p: float) -> Tensor:
    """Random int16 of `shape` on the CPU: 0 with probability `p` < 1, else -1, all ones."""
    num = shape.numel()
    lowest = torch.iinfo(torch.int64).min
    bits = torch.empty((num + 3) // 4, dtype=torch.int64).random_(lowest, None)
    drawn = bits.view(torch.int16)[:num].view(shape).bitwise_and_(_STEPS - 1)  # 0 to 2**15 - 1
    return drawn.neg_().add_(_dropped(p) - 1).bitwise_right_shift_(15)  # -1 where drawn >= dropped


def keep_(values: Tensor, keep: Tensor) -> Tensor:
    """Set the entries of `values` to zero, in place, that `keep` from :func:`draw_keep` drops."""
    bits = _BITS[values.element_size()]
    values.view(bits).bitwise_and_(keep.to(bits))
    return values


def keep_scale(p: float) -> float:
    """What makes up for the entries that :func:`draw_keep` drops."""
    return _STEPS / (_STEPS - _dropped(p))


def _dropped(p: float) -> int:
    return min(round(p * _STEPS), _STEPS - 1)
