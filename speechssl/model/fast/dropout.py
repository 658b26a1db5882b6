"""Dropout (arXiv:1207.0580) whose random numbers cost little on a CPU.

PyTorch draws one Bernoulli number per entry there, which takes longer than the matrix product that
the entries came from, and keeps a mask for the backward. Here its generator gives a key for each
row, from which a compiled loop (:mod:`.dropout_loops`) makes the numbers, and makes them again in
the backward. Where numba does not load, PyTorch's form takes over.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from speechssl.model.dropout import Dropout, draw_rows, drop_plainly
from speechssl.model.fast import loops

_STEPS = 1 << 16


class FastDropout(Dropout):
    """:class:`Dropout` with :func:`dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """The same shape; draws nothing where `p` is 0."""
        return dropout(input, self.p, self.training)


def dropout(values: Tensor, p: float, training: bool) -> Tensor:
    """Each entry is zero with probability `p`, the others are scaled by 1 / (1 - p).

    In the compiled form `p` is rounded to a multiple of 2**-16, and the scale is that of the
    rounded one.
    """
    if not training or p == 0:
        return values
    if compiled_loops(values, p) is None:
        return drop_plainly(values, p)
    dropped: Tensor = _Dropout.apply(values, draw_keys(values.shape[:-1]), p)
    return dropped


def compiled_loops(values: Tensor, p: float) -> ModuleType | None:
    """The loops, or None where they are not for such values or numba does not load."""
    if not values.is_cpu or p >= 1 or torch.compiler.is_compiling():
        return None
    if values.dtype not in (torch.float32, torch.bfloat16) or not values.dim():
        return None
    return loops.load("dropout_loops")


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, keys, p):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(keys)
        ctx.p = p
        return _drop(values, keys, p)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (keys,) = ctx.saved_tensors
        return _drop(grad, keys, ctx.p), None, None


def _drop(values: Tensor, keys: Tensor, p: float) -> Tensor:
    """(..., D), (...) -> (..., D)."""
    found = compiled_loops(values, p)
    assert found is not None
    out = torch.empty(values.shape, dtype=values.dtype)
    rows = [loops.array(v.reshape(-1, v.shape[-1])) for v in (values, out)]
    loops.over_rows(found.drop, len(rows[0]), rows[0], keys.flatten().numpy(), *odds(p), rows[1])
    return out


def draw_keys(shape: torch.Size) -> Tensor:
    """Random uint32 on the CPU, one for each row that is to have its own numbers; of the frames
    (B, ..., T) of a part of a micro-batch those that the whole has there."""
    lowest = torch.iinfo(torch.int32).min

    def draw(shape: Sequence[int]) -> Tensor:
        return torch.empty(tuple(shape), dtype=torch.int32).random_(lowest, None)

    drawn = draw(shape) if len(shape) < 2 else draw_rows(shape, len(shape) - 1, draw)
    return drawn.view(torch.uint32)


def odds(p: float) -> tuple[int, float]:
    """Of 65,536 numbers how many drop an entry, and what makes up for it."""
    dropped = min(round(p * _STEPS), _STEPS - 1)
    return dropped, _STEPS / (_STEPS - dropped)
