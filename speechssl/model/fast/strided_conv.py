"""Strided convolution over frames laid out (B, T, C), as matrix products on views of the input.

A window of K frames is K * C numbers in a row of memory, so a convolution is a product with a
matrix of (K * C, C_out). Taps are taken in groups of `stride`: the windows of a group do not
overlap, so that the product reads the input in place. On a CPU this is several times as fast as a
convolution in the (B, C, T) layout, forward and backward. On a GPU, which does all utterances at
once, it is twice as fast, and nothing is prepared for each new length.

Shapes: B batch, T frames, T' frames out, C channels, K kernel, O channels out.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_AT_ONCE = 2048
"""Outputs that are computed at a time."""


def product_dtype(values: Tensor) -> torch.dtype:
    """The dtype that autocast would multiply `values` in."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


def gelu_conv(frames: Tensor, weight: Tensor, stride: int) -> Tensor:
    """``conv1d(gelu(frames), weight, stride)`` with only `frames` kept for the backward.

    GELU is computed again there: it costs less than the memory traffic of its output (not on a GPU,
    where it is kept). The backward overwrites `frames` with their gradient, so that nothing else
    may need them by then, and it can be done once (autograd says so otherwise).

    Args:
        frames: (B, T, C), T >= K.
        weight: (O, C, K), in the dtype of `frames`.

    Returns:
        (B, T', O), T' = (T - K) // stride + 1.
    """
    if not frames.is_cpu:
        return convolve_at_once(F.gelu(frames), weight, stride)
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


def windows_gelu_conv(windows: Tensor, taps: Tensor, weight: Tensor, stride: int) -> Tensor:
    """:func:`gelu_conv` of ``windows @ taps.transpose(1, 2)``, which is never held as a whole: of
    all that a model computes it is the largest and the cheapest to make again.

    Args:
        windows: (B, T, W), T >= K.
        taps: (B, C, W).
        weight: (O, C, K), all in one dtype.

    Returns:
        (B, T', O).
    """
    if not windows.is_cpu:
        return gelu_conv(windows @ taps.transpose(1, 2), weight, stride)
    out: Tensor = _WindowsGeluConv.apply(windows, taps, weight, stride)
    return out


def convolve_at_once(frames: Tensor, weight: Tensor, stride: int) -> Tensor:
    """``conv1d`` of all utterances at once, (B, T, C), (O, C, K) -> (B, T', O).

    One product for the first `stride` taps, one for each tap behind them.
    """
    num, (_, channels, kernel) = _count(frames, weight, stride), weight.shape
    matrix = _matrix(weight).expand(len(frames), -1, -1)  # (B, K C, O)
    whole = stride if kernel >= stride else 0
    parts = [] if not whole else [frames[:, : num * stride].reshape(len(frames), num, -1)]
    parts += [frames[:, tap : tap + num * stride : stride] for tap in range(whole, kernel)]
    taps = matrix.split([channels * stride] * bool(whole) + [channels] * (kernel - whole), dim=1)
    out = torch.bmm(parts[0], taps[0])
    for part, its in zip(parts[1:], taps[1:], strict=True):
        out = torch.baddbmm(out, part, its)
    return out


FramesOf = Callable[[slice], Tensor]
"""Some frames (T, C) of one utterance, before GELU."""


class _GeluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, frames, weight, stride):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(frames, weight)
        ctx.stride = stride
        out = frames.new_empty(len(frames), _count(frames, weight, stride), weight.shape[0])
        matrix = _matrix(weight)
        for row, utterance in zip(out, frames, strict=True):
            _convolve(row, utterance.__getitem__, matrix, weight.shape[2], stride)
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        frames, weight = ctx.saved_tensors
        matrix, kernel = _matrix(weight), weight.shape[2]
        by_weight = _WeightGradient(weight, grad.dtype) if ctx.needs_input_grad[1] else None
        for row, utterance in zip(grad.contiguous(), frames, strict=True):
            frames_of = utterance.__getitem__
            if by_weight is not None:
                by_weight.add(row, frames_of, ctx.stride)
            if ctx.needs_input_grad[0]:
                num = frames.shape[1]
                # Nobody needs the frames any more: from now on their memory has the gradient.
                for _ in _frame_gradients(row, frames_of, num, matrix, kernel, ctx.stride):
                    pass
        return (
            frames.detach() if ctx.needs_input_grad[0] else None,
            None if by_weight is None else by_weight.total(),
            None,
        )


class _WindowsGeluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, windows, taps, weight, stride):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(windows, taps, weight)
        ctx.stride = stride
        out = windows.new_empty(len(windows), _count(windows, weight, stride), weight.shape[0])
        matrix = _matrix(weight)
        for row, own, by in zip(out, windows, taps, strict=True):
            _convolve(row, _product_of(own, by), matrix, weight.shape[2], stride)
        return out

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        windows, taps, weight = ctx.saved_tensors
        needs_windows, needs_taps, needs_weight, _ = ctx.needs_input_grad
        by_windows = torch.empty_like(windows) if needs_windows else None
        by_taps = torch.zeros_like(taps, dtype=torch.promote_types(taps.dtype, torch.float32))
        matrix, kernel = _matrix(weight), weight.shape[2]
        by_weight = _WeightGradient(weight, grad.dtype) if needs_weight else None
        for index, (row, own, by) in enumerate(zip(grad.contiguous(), windows, taps, strict=True)):
            frames_of = _product_of(own, by)
            if by_weight is not None:
                by_weight.add(row, frames_of, ctx.stride)
            if not (needs_windows or needs_taps):
                continue
            num = len(own)
            for span, by_frames in _frame_gradients(
                row, frames_of, num, matrix, kernel, ctx.stride
            ):
                by_taps[index] += by_frames.T @ own[span]
                if by_windows is not None:
                    by_windows[index, span] = by_frames @ by
        return (
            by_windows,
            by_taps.to(taps.dtype) if needs_taps else None,
            None if by_weight is None else by_weight.total(),
            None,
        )


def _product_of(windows: Tensor, taps: Tensor) -> FramesOf:
    """Frames of an utterance from (T, W) and (C, W)."""
    return lambda span: windows[span] @ taps.T


def _count(frames: Tensor, weight: Tensor, stride: int) -> int:
    return (frames.shape[1] - weight.shape[2]) // stride + 1


def _convolve(out: Tensor, frames_of: FramesOf, matrix: Tensor, kernel: int, stride: int) -> None:
    """Fill `out` (T', O) by a matrix (K C, O), a piece at a time: what GELU makes is still in the
    cache when it is multiplied."""
    for rows, span in _pieces(len(out), kernel, stride):
        piece = out[rows]
        for part, taps in _groups(F.gelu(frames_of(span)), matrix, len(piece), stride):
            if taps.start == 0:
                torch.mm(part, matrix[taps], out=piece)
            else:
                piece.addmm_(part, matrix[taps])


def _pieces(num: int, kernel: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Outputs of one utterance, some at a time, and the frames that they depend on."""
    for start in range(0, num, _AT_ONCE):
        end = min(start + _AT_ONCE, num)
        yield slice(start, end), slice(start * stride, (end - 1) * stride + kernel)


class _WeightGradient:
    """The gradient by a weight, summed over utterances in at least 32 bits."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight
        self.exact = torch.promote_types(dtype, torch.float32)
        out, channels, kernel = weight.shape
        size = (out, kernel * channels)
        self.by_rows = torch.empty(size, dtype=self.exact, device=weight.device)
        self.empty = True

    def add(self, grad: Tensor, frames_of: FramesOf, stride: int) -> None:
        """Add what one utterance's `grad` (T', O) gives."""
        matrix = self.by_rows.T
        for rows, span in _pieces(len(grad), self.weight.shape[2], stride):
            left = grad[rows].T  # (O, rows)
            if left.dtype != self.exact:
                left = left.contiguous()  # in bfloat16 a product is faster from the left
            for part, taps in _groups(F.gelu(frames_of(span)), matrix, left.shape[1], stride):
                into = self.by_rows[:, taps]
                if left.dtype == self.exact:
                    torch.addmm(into, left, part, beta=0 if self.empty else 1, out=into)
                elif self.empty:
                    into.copy_(left @ part)
                else:
                    into.add_(left @ part)
            self.empty = False

    def total(self) -> Tensor:
        """(O, C, K) in the dtype of the weight."""
        out, channels, kernel = self.weight.shape
        rows = self.by_rows.view(out, kernel, channels)
        return rows.transpose(1, 2).to(self.weight.dtype)


def _frame_gradients(
    grad: Tensor, frames_of: FramesOf, num_frames: int, matrix: Tensor, kernel: int, stride: int
) -> Iterator[tuple[slice, Tensor]]:
    """One utterance's gradient (T', O) -> that by its frames before GELU, a piece at a time, in
    the memory of what `frames_of` gives."""
    channels, step = len(matrix) // kernel, _AT_ONCE * stride
    for start in range(0, num_frames, step):
        span = slice(start, min(start + step, num_frames))
        inputs = frames_of(span)
        # The outputs that depend on any of these frames, and all frames that those depend on.
        first = max((start - kernel) // stride + 1, 0)
        rows = grad[first : (span.stop - 1) // stride + 1]
        own = slice(start - first * stride, span.stop - first * stride)
        into = inputs.new_empty(max(own.stop, (len(rows) - 1) * stride + kernel), channels)
        _spread(into, rows, matrix, stride)
        torch.ops.aten.gelu_backward.grad_input(into[own], inputs, grad_input=inputs)
        yield span, inputs


def _spread(into: Tensor, grad: Tensor, matrix: Tensor, stride: int) -> None:
    """Fill `into` (T, C) with the gradient by frames, from that by the products of outputs (T', O),
    of which the first depends on the first frame."""
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
