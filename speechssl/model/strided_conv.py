"""Strided convolution over frames laid out (B, T, C), as matrix products on views of the input.

A window of K frames is K * C numbers in a row of memory, so a convolution is a product with a
matrix of (K * C, C_out). Taps are taken in groups of `stride`: the windows of a group do not
overlap, so that the product reads the input in place. On a CPU this is several times as fast as a
convolution in the (B, C, T) layout, forward and backward.

Shapes: B batch, T frames, T' frames out, C channels, K kernel, O channels out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def product_dtype(values: Tensor) -> torch.dtype:
    """The dtype that autocast would multiply `values` in."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


def gelu_conv(frames: Tensor, weight: Tensor, stride: int) -> Tensor:
    """``conv1d(gelu(frames), weight, stride)`` with only `frames` kept for the backward.

    GELU is computed again there: it costs less than the memory traffic of its output.

    Args:
        frames: (B, T, C), T >= K.
        weight: (O, C, K), in the dtype of `frames`.

    Returns:
        (B, T', O), T' = (T - K) // stride + 1.
    """
    out: Tensor = _GeluConv.apply(frames.contiguous(), weight, stride)
    return out


def gelu_linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``linear(gelu(values), weight, bias)`` in autocast's dtype, with only `values` kept.

    (B, T, C), (O, C), (O,) -> (B, T, O).
    """
    dtype = product_dtype(values)
    rows = values.to(dtype).reshape(1, -1, values.shape[2])  # (1, B T, C)
    out = gelu_conv(rows, weight.to(dtype)[:, :, None], 1)
    return out.view(*values.shape[:2], -1) + bias.to(dtype)


class _GeluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, frames, weight, stride):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(frames, weight)
        ctx.stride = stride
        matrix = _matrix(weight)  # (K C, O)
        num = (frames.shape[1] - weight.shape[2]) // stride + 1
        out = frames.new_empty(len(frames), num, weight.shape[0])  # (B, T', O)
        for row, utterance in zip(out, frames, strict=True):
            for part, taps in _groups(F.gelu(utterance), matrix, num, stride):
                if taps.start == 0:
                    torch.mm(part, matrix[taps], out=row)
                else:
                    row.addmm_(part, matrix[taps])
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        frames, weight = ctx.saved_tensors
        stride, num = ctx.stride, grad.shape[1]
        matrix = _matrix(weight)  # (K C, O)
        by_frames = torch.empty_like(frames) if ctx.needs_input_grad[0] else None
        by_rows = torch.zeros(
            matrix.shape[::-1],
            dtype=torch.promote_types(grad.dtype, torch.float32),
            device=grad.device,
        )  # (O, K C)
        for index, row in enumerate(grad.contiguous()):
            if ctx.needs_input_grad[1]:
                turned = row.T.contiguous()  # (O, T'): a product is faster from the left
                for part, taps in _groups(F.gelu(frames[index]), matrix, num, stride):
                    by_rows[:, taps] += turned @ part
            if by_frames is not None:
                into = by_frames[index]
                _spread(into, row, matrix, stride)
                torch.ops.aten.gelu_backward.grad_input(into, frames[index], grad_input=into)
        out, channels, kernel = weight.shape
        by_weight = by_rows.view(out, kernel, channels).transpose(1, 2).to(weight.dtype)
        return by_frames, by_weight, None


def _spread(into: Tensor, grad: Tensor, matrix: Tensor, stride: int) -> None:
    """Fill `into` (T, C) with the gradient by one utterance's frames, from that by the products
    (T', O)."""
    num = len(grad)
    into[stride * num :] = 0
    for part, taps in _groups(into, matrix, num, stride):
        if taps.start > 0:
            part.addmm_(grad, matrix[taps].T)
        elif part.shape[1] == stride * into.shape[1]:
            torch.mm(grad, matrix[taps].T, out=part)
        else:  # a kernel shorter than its stride leaves gaps
            into.zero_()
            part.addmm_(grad, matrix[taps].T)


def _matrix(weight: Tensor) -> Tensor:
    """(O, C, K) -> (K C, O)."""
    return weight.permute(2, 1, 0).reshape(-1, weight.shape[0])


def _groups(frames: Tensor, matrix: Tensor, num: int, stride: int) -> list[tuple[Tensor, slice]]:
    """Views (T', taps * C) of one utterance's frames (T, C), and the rows of the matrix they meet.

    The first has the first `stride` taps of each window, and so on.
    """
    channels = frames.shape[1]
    step = stride * channels
    groups = []
    for start in range(0, len(matrix), step):
        width = min(step, len(matrix) - start)
        view = frames.as_strided((num, width), (step, 1), frames.storage_offset() + start)
        groups.append((view, slice(start, start + width)))
    return groups
