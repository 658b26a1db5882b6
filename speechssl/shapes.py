"""Length arithmetic: convolutions, padding, and the step from lengths to masks.

Shapes: B batch, S samples, T frames, C channels. Lengths travel through interfaces; masks are made
here, where they are used.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def conv_output_length(length: int, kernel: int, stride: int) -> int:
    """Frames of an unpadded convolution over `length` positions; 0 where the kernel does not
    fit."""
    return max((length - kernel) // stride + 1, 0)


def conv_output_lengths(lengths: Tensor, kernel: int, stride: int) -> Tensor:
    """:func:`conv_output_length` for an integer tensor of any shape."""
    return (torch.div(lengths - kernel, stride, rounding_mode="floor") + 1).clamp_min(0)


def receptive_field(kernels: Iterable[int], strides: Iterable[int]) -> tuple[int, int]:
    """``(field, hop)`` in input positions of a stack of unpadded convolutions.

    The seven layers of wav2vec 2.0 (arXiv:2006.11477, section 4.2) give ``(400, 320)``.
    """
    field, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return field, hop


def length_mask(lengths: Tensor, max_length: int) -> Tensor:
    """(B,) int lengths -> (B, max_length) bool, True at valid positions."""
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]


def padding_mask(lengths: Tensor, max_length: int) -> Tensor:
    """(B,) int lengths -> (B, max_length) bool, True at padding."""
    return ~length_mask(lengths, max_length)


def zero_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...) -> the same with zeros (never NaN) at and after each utterance's length."""
    mask = padding_mask(lengths, values.shape[1])  # (B, T)
    return values.masked_fill(mask.view(*mask.shape, *[1] * (values.dim() - 2)), 0)


def reverse(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...), (B,) -> the same with the valid positions of each row in reverse order, zeros
    behind them."""
    places = lengths[:, None] - 1 - torch.arange(values.shape[1], device=values.device)  # (B, T)
    rows = torch.arange(len(values), device=values.device)[:, None]
    return zero_padding(values[rows, places.clamp_min(0)], lengths)


def pad_waves(waves: Sequence[np.ndarray], num_samples: int = 0) -> tuple[Tensor, Tensor]:
    """Waves of (S_i,) float32 -> ``wave`` (B, S) float32 padded with zeros, ``lengths`` (B,). S is
    that of the longest, or `num_samples` where that is more."""
    lengths = torch.tensor([len(wave) for wave in waves], dtype=torch.long)
    batch = torch.zeros(len(waves), max([num_samples, *lengths.tolist()]))
    for row, wave in enumerate(waves):
        batch[row, : len(wave)] = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
    return batch, lengths
