"""A long grouped convolution over time, as products of spectra (overlap-save).

Over K taps a convolution costs K products a frame and channel; of the spectra of blocks of 2 K
frames it is one product a frequency. Spectra and their inverse are matrix products with cosines and
sines: at these lengths a CPU does those faster than an FFT and a change of layout.

Shapes: B batch, T frames, D channels, G groups, C = D / G, K taps, N = 2 K frames of a block, F = K
+ 1 frequencies, M blocks of the batch.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from speechssl.device import has_bf16_units
from speechssl.model.fast.strided_conv import product_dtype
from speechssl.model.position import PositionalConv

_SHORTEST = 64
_GROUPS_AT_ONCE = 2
"""On a CPU: the spectra of their filters are still in the cache when they are multiplied, and take
a part of the memory (BASE: 5 of 38 MB)."""


class FastPositionalConv(PositionalConv):
    """:class:`PositionalConv` by :func:`spectral_conv` where that is quicker."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        (kernel,), (before,) = self.conv.kernel_size, self.conv.padding
        if not is_quicker(x, kernel):
            return super().forward(x)
        return F.gelu(spectral_conv(x, self.conv.weight, self.conv.bias, before))


def is_quicker(x: Tensor, taps: int) -> bool:
    """Whether this form suits (B, T, D), of many taps and at least a block of frames: on a GPU, and
    on a CPU in float32 or without units for bfloat16 matrices."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    if x.dtype == torch.float64 or taps < _SHORTEST or x.shape[0] * x.shape[1] < 2 * taps:
        return False
    if not x.is_cpu:
        return x.is_cuda
    return product_dtype(x) == torch.float32 or not has_bf16_units(x.device)


def spectral_conv(x: Tensor, weight: Tensor, bias: Tensor, before: int) -> Tensor:
    """``conv1d`` over the frames of `x`, with `before` zeros before them and as many outputs as
    inputs, in float32 whatever the autocast.

    Args:
        x: (B, T, D).
        weight: (D, C, K); D / C is the number of groups.
        bias: (D,).
        before: at most K - 1, the causal form's; K // 2 in the usual one.

    Returns:
        (B, T, D) float32.
    """
    width = weight.shape[1] * _GROUPS_AT_ONCE if x.is_cpu else len(weight)
    with torch.autocast(x.device.type, enabled=False):
        parts = zip(x.float().split(width, 2), weight.float().split(width), strict=True)
        convolve = _remade if torch.is_grad_enabled() else _convolve
        done: list[Tensor] = [convolve(part, filters, before) for part, filters in parts]
        return torch.cat(done, dim=2) + bias


def _remade(x: Tensor, weight: Tensor, before: int) -> Tensor:
    """:func:`_convolve`, for its gradient once more: the spectra of the filters are larger than all
    else here. (The first call imports torch's compiler: a second, and 60 MB.)"""
    out: Tensor = checkpoint(
        _convolve, x, weight, before, use_reentrant=False, preserve_rng_state=False
    )
    return out


def _convolve(x: Tensor, weight: Tensor, before: int) -> Tensor:
    batch, num_frames, dim = x.shape
    _, width, taps = weight.shape
    groups, block, hop = dim // width, 2 * taps, taps + 1  # a block has `hop` frames to give
    forward, inverse = _cosines(block, x.device)  # (2 F, N), (hop, 2 F)
    freqs = len(forward) // 2
    count = -(-num_frames // hop)
    x = F.pad(x, (0, 0, before, count * hop + block - hop - num_frames - before))
    blocks = x.unfold(1, block, hop).flatten(0, 1).transpose(1, 2)  # (M, N, D)
    spectra = (forward @ blocks).unflatten(1, (2, freqs)).unflatten(3, (groups, width))
    spectra = spectra.permute(2, 3, 1, 0, 4).reshape(freqs * groups, -1, width)  # (F G, 2 M, C)
    filters = forward[:, :taps] @ weight.reshape(-1, taps).T  # (2 F, D C)
    filters = filters.view(2, freqs * groups, width, width).transpose(2, 3)
    real, imaginary = filters.unbind(0)  # (F G, C in, C out) each
    # The filter's conjugate: a convolution of networks is a correlation.
    real_by, imaginary_by = (spectra @ real).chunk(2, dim=1)
    real_with, imaginary_with = (spectra @ imaginary).chunk(2, dim=1)
    products = torch.stack([real_by + imaginary_with, imaginary_by - real_with])  # (2, F G, M, C)
    products = (
        products.unflatten(1, (freqs, groups)).permute(3, 0, 1, 2, 4).reshape(-1, 2 * freqs, dim)
    )
    return (inverse @ products).view(batch, count * hop, dim)[:, :num_frames]


@functools.cache
def _cosines(block: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Frames of a block to its spectrum, (2 F, N), real parts before imaginary ones; the spectrum
    to the first N / 2 + 1 frames, (N / 2 + 1, 2 F)."""
    with torch.inference_mode(False):  # they outlive the first call
        k = torch.arange(block // 2 + 1)
        angles = 2 * math.pi * (k[:, None] * torch.arange(block) % block).double() / block  # (F, N)
        forward = torch.cat([angles.cos(), -angles.sin()])
        twice = torch.full((len(k), 1), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1  # the others stand for their negative frequencies too
        inverse = (forward * twice.repeat(2, 1) / block)[:, : len(k)].T
        return forward.float().to(device), inverse.float().contiguous().to(device)
