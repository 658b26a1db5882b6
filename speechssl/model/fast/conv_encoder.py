"""The convolutional encoder as matrix products, twice to several times as fast.

Frames are laid out (B, T, C), as in :mod:`.strided_conv`; a layer's GELU is taken inside the
product of the next one. Shapes: B batch, S samples, T frames, C channels, K kernel, W = 16 numbers
of a padded window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.device import double
from speechssl.model.encoder import ConvEncoder, ConvLayer
from speechssl.model.fast.strided_conv import gelu_conv, product_dtype, windows_gelu_conv
from speechssl.model.normalization import MaskedGroupNorm


class FastConvEncoder(ConvEncoder):
    """:class:`ConvEncoder` by matrix products."""

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float, (B,) samples -> latents (B, T, C), (B,) frames."""
        if torch.compiler.is_compiling():
            return super().forward(wave, lengths)
        first, *others = self.layers
        windows, taps, lengths = first_products(first, wave, lengths)
        norm = unfolded_norm(first)
        if others and norm is None:
            second, *others = others
            weight = second.conv.weight.to(windows.dtype)
            frames = windows_gelu_conv(windows, taps, weight, second.stride)
            frames, lengths = _finish(second, frames, lengths)
        else:
            frames = windows @ taps.transpose(1, 2)  # (B, T, C), before GELU
            frames = frames if norm is None else norm(frames)
        for layer in others:
            dtype = product_dtype(frames)
            frames = gelu_conv(frames.to(dtype), layer.conv.weight.to(dtype), layer.stride)
            frames, lengths = _finish(layer, frames, lengths)
        return shapes.zero_padding(F.gelu(frames), lengths), lengths


def unfolded_norm(layer: ConvLayer) -> nn.Module | None:
    """The first layer's norm where :func:`first_products` has not taken it into the taps."""
    return None if isinstance(layer.norm, MaskedGroupNorm) else layer.norm


def first_products(
    layer: ConvLayer, wave: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first layer up to its GELU, or up to a norm that is no group norm, as a product.

    (B, S), (B,) samples -> windows (B, T, W), taps (B, C, W) with which they are to be multiplied,
    and (B,) frames. A group norm is never computed: over the windows x of an utterance, w x has the
    mean w mean(x) and the variance w cov(x) w', so that the norm goes into w.
    """
    lengths = shapes.conv_output_lengths(lengths, layer.kernel, layer.stride)
    windows = wave.unfold(1, layer.kernel, layer.stride)  # (B, T, K)
    weight = layer.conv.weight[:, 0].expand(len(wave), -1, -1)  # (B, C, K)
    bias = weight.new_zeros(len(wave), weight.shape[1])  # (B, C)
    if layer.conv.bias is not None:
        bias = bias + layer.conv.bias
    if isinstance(layer.norm, MaskedGroupNorm):
        weight, folded = _fold(layer.norm, windows, lengths, weight)
        bias = folded + 0 * bias  # the norm takes it away; a gradient of zero is left
    dtype = product_dtype(wave)
    one = windows.new_ones(*windows.shape[:2], 1)  # the bias is one more tap
    pad = windows.new_zeros(*windows.shape[:2], -(layer.kernel + 1) % 16)
    windows = torch.cat([windows, one, pad], dim=2).to(dtype)  # (B, T, W)
    taps = torch.cat([weight, bias[:, :, None]], dim=2)
    return windows, F.pad(taps, (0, pad.shape[2])).to(dtype), lengths


def _fold(
    norm: MaskedGroupNorm, windows: Tensor, lengths: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The norm of a linear map's output, as another linear map for each utterance.

    Args:
        norm: over the valid frames.
        windows: (B, T, K) the map's input.
        lengths: (B,) valid windows.
        weight: (B, C, K); a bias of the map would be taken away again by the norm.

    Returns:
        weight (B, C, K) and bias (B, C), float32.
    """
    with torch.autocast(windows.device.type, enabled=False):
        count = lengths.clamp_min(1)[:, None, None]
        x = shapes.zero_padding(double(windows), lengths)
        mean = x.sum(1, keepdim=True) / count  # (B, 1, K)
        x = shapes.zero_padding(x - mean, lengths)
        covariance = (x.transpose(1, 2) @ x / count).to(weight.dtype)  # (B, K, K)
        variance = ((weight @ covariance) * weight).sum(2)  # (B, C)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        middle = (weight @ mean.to(weight.dtype).transpose(1, 2))[:, :, 0]  # (B, C)
        return weight * scale[:, :, None], norm.bias - middle * scale


def _finish(layer: ConvLayer, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """What is behind a layer's product, (B, T, C), before its GELU: bias and norm."""
    if layer.conv.bias is not None:
        frames = frames + layer.conv.bias.to(frames.dtype)
    lengths = shapes.conv_output_lengths(lengths, layer.kernel, layer.stride)
    return (frames if layer.norm is None else layer.norm(frames)), lengths
