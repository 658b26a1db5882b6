"""Convolutional positions: what a frame's neighbourhood looks like, added to the frame.

Shapes: B batch, T frames, D width. In the causal form the kernels see no later frame.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from speechssl import shapes
from speechssl.model.config import ContextConfig


class PositionalConv(nn.Module):
    """Grouped, weight-normed convolution over time with GELU: a frame's position relative to
    others (arXiv:1904.11660)."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        conv = _grouped_conv(config)
        nn.init.normal_(conv.weight, std=math.sqrt(4 / (config.pos_kernel * config.dim)))
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.conv = weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y = self.conv(x.transpose(1, 2))  # (B, D, T or more)
        return F.gelu(y[:, :, : x.shape[1]]).transpose(1, 2)


class PositionalConvStack(nn.Module):
    """Grouped convolutions over time, each followed by a norm over channels and GELU.

    (data2vec, arXiv:2202.03555.) Between the convolutions the padding is zero again, as it is
    behind the end of an utterance alone.
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_grouped_conv(config) for _ in range(config.pos_stack))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) with zeros in the padding, (B,) frames -> (B, T, D)."""
        num_frames = x.shape[1]
        for conv in self.layers:
            y = conv(x.transpose(1, 2))[:, :, :num_frames].transpose(1, 2)  # (B, T, D)
            x = shapes.zero_padding(F.gelu(F.layer_norm(y, y.shape[2:])), lengths)
        return x


def _grouped_conv(config: ContextConfig) -> nn.Conv1d:
    """Output t is the one that belongs to frame t; those after the T-th are to be cut off."""
    kernel = config.pos_kernel
    padding = kernel - 1 if config.causal else kernel // 2
    return nn.Conv1d(config.dim, config.dim, kernel, padding=padding, groups=config.pos_groups)
