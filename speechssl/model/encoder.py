"""Encoders: wave (B, S) -> latents (B, T, C).

Shapes: B batch, S samples, T frames, C channels. Frames at and after an utterance's length are
zero, and no valid frame depends on them.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.model.config import ConvEncoderConfig, EncoderConfig
from speechssl.model.filterbank import FilterbankEncoder
from speechssl.model.normalization import MaskedGroupNorm, RunningGroupNorm

_PRIOR_SAMPLES = 1600
"""Of the prior of a running norm: a tenth of a second."""


class ConvEncoder(nn.Module):
    """The convolutional feature encoder of wav2vec 2.0, in both published forms.

    (arXiv:2006.11477, section 2 and 4.2; BASE: group norm in the first layer, LARGE: layer norm in
    every layer and biases.) With `running_norm` the group norm is causal, by running statistics.
    """

    def __init__(self, config: ConvEncoderConfig, running_norm: bool = False) -> None:
        super().__init__()
        self.config = config
        group = "running" if running_norm else "group"
        layers = []
        in_dim = 1
        for index, dim in enumerate(config.dims):
            norm = "layer" if config.norm == "layer" else group if index == 0 else "none"
            kernel, stride = config.kernels[index], config.strides[index]
            layers.append(ConvLayer(in_dim, dim, kernel, stride, config.bias, norm))
            in_dim = dim
        self.layers: Sequence[ConvLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.min_samples, self.hop_samples = shapes.receptive_field(config.kernels, config.strides)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Samples -> frames, (B,) int64."""
        for kernel, stride in zip(self.config.kernels, self.config.strides, strict=True):
            lengths = shapes.conv_output_lengths(lengths, kernel, stride)
        return lengths

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float, (B,) samples -> latents (B, T, C), (B,) frames."""
        latents = wave[:, None, :]  # (B, 1, S)
        for layer in self.layers:
            latents, lengths = layer(latents, lengths)  # (B, C, T)
        return shapes.zero_padding(latents.transpose(1, 2), lengths), lengths  # (B, T, C)


class ConvLayer(nn.Module):
    """One strided convolution, its norm, GELU.

    `norm` is ``layer`` (over channels), ``group`` (over time), ``running`` (over the time up to
    each frame) or ``none``.
    """

    def __init__(
        self, in_dim: int, out_dim: int, kernel: int, stride: int, bias: bool, norm: str
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv1d(in_dim, out_dim, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm: nn.Module | None = None
        if norm == "layer":
            self.norm = nn.LayerNorm(out_dim)
        elif norm == "group":
            self.norm = MaskedGroupNorm(out_dim)
        elif norm == "running":
            self.norm = RunningGroupNorm(out_dim, prior_frames=max(_PRIOR_SAMPLES // stride, 1))

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C_in, T_in), (B,) -> (B, C_out, T_out), (B,)."""
        values = self.conv(values)  # (B, C_out, T_out)
        lengths = shapes.conv_output_lengths(lengths, self.kernel, self.stride)
        if isinstance(self.norm, MaskedGroupNorm):
            values = self.norm(values, lengths)
        elif self.norm is not None:
            values = self.norm(values.transpose(1, 2)).transpose(1, 2)
        return F.gelu(values), lengths


def build_encoder(
    config: EncoderConfig, sample_rate: int, running_norm: bool = False
) -> ConvEncoder | FilterbankEncoder:
    """The encoder that a config describes; `running_norm` makes its norms over time causal."""
    if isinstance(config, ConvEncoderConfig):
        return ConvEncoder(config, running_norm)
    return FilterbankEncoder(config, sample_rate, running_norm)
