"""Normalisation over time: of a whole utterance, or causal by running statistics.

Shapes: B batch, T frames, C channels. Padding takes no part.
"""

import math

import torch
from torch import Tensor, nn

from speechssl import shapes


def normalize_over_time(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C): zero mean, unit variance per channel over the valid frames; zeros elsewhere."""
    count = lengths.clamp_min(1)[:, None, None]
    mean = shapes.zero_padding(values, lengths).sum(1, keepdim=True) / count  # (B, 1, C)
    centred = shapes.zero_padding(values - mean, lengths)
    deviation = (centred.square().sum(1, keepdim=True) / count + 1e-6).sqrt()
    # A constant channel (silence) stays near zero instead of blowing up its rounding noise.
    return centred / (deviation + 1e-2)


def normalize_wave(wave: Tensor, lengths: Tensor) -> Tensor:
    """(B, S) with zeros in the padding, (B,) samples -> zero mean and unit variance over each
    utterance's samples, zeros elsewhere (LARGE)."""
    count = lengths.clamp_min(1)[:, None]
    mean = wave.sum(1, keepdim=True) / count
    centred = shapes.zero_padding(wave - mean, lengths)
    return centred / (centred.square().sum(1, keepdim=True) / count + 1e-7).sqrt()


class MaskedGroupNorm(nn.Module):
    """Group norm with one group per channel, over the valid frames only.

    The published form takes its statistics over the padding too, so that an utterance's features
    depend on what it is batched with; without padding both are the same.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, C, T), (B,) frames -> (B, C, T) in the input's dtype; padding is left as it falls."""
        valid = shapes.length_mask(lengths, values.shape[2])[:, None, :]  # (B, 1, T)
        count = lengths.clamp_min(1)[:, None, None]  # (B, 1, 1)
        x = values.float().masked_fill(~valid, 0)
        mean = x.sum(2, keepdim=True) / count  # (B, C, 1)
        variance = ((x - mean).masked_fill(~valid, 0) ** 2).sum(2, keepdim=True) / count
        x = (x - mean) * torch.rsqrt(variance + self.eps)
        return (x * self.weight[:, None] + self.bias[:, None]).to(values.dtype)


class RunningNorm(nn.Module):
    """Each channel normalised by the mean and variance of the frames up to each frame.

    Cumulative statistics, as in the causal norm of Conv-TasNet (arXiv:1809.07454, section II-B)
    and the online normalisation of cepstra; a function of the input alone, so that training,
    inference and streaming agree and nothing depends on the batch. Where we differ: the sums begin
    with `prior_frames` frames of a learned mean and variance, since the first frames alone tell
    neither.
    """

    def __init__(
        self, dim: int, *, prior_frames: int, mean: float, variance: float, eps: float = 1e-5
    ) -> None:
        """`mean` and `variance` are the prior's at the start of training."""
        super().__init__()
        self.prior_frames, self.eps = prior_frames, eps
        self.prior_mean = nn.Parameter(torch.full((dim,), mean))
        self.prior_log_variance = nn.Parameter(torch.full((dim,), math.log(variance)))

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C) float32; no frame depends on a later one."""
        with torch.autocast(values.device.type, enabled=False):
            x = values.float() - self.prior_mean
            seen = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]  # (T, 1)
            count = self.prior_frames + seen
            mean = x.cumsum(1) / count  # (B, T, C)
            prior = self.prior_frames * self.prior_log_variance.exp()  # (C,)
            variance = (prior + x.square().cumsum(1)) / count - mean.square()
            return (x - mean) * torch.rsqrt(variance.clamp_min(0) + self.eps)


class RunningGroupNorm(RunningNorm):
    """The causal form of :class:`MaskedGroupNorm`, for frames laid out (B, T, C)."""

    def __init__(self, dim: int, *, prior_frames: int) -> None:
        super().__init__(dim, prior_frames=prior_frames, mean=0.0, variance=0.01)
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C) in the input's dtype."""
        return (super().forward(values) * self.weight + self.bias).to(values.dtype)
