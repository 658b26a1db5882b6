"""Encoders: wave (B, S) -> latents (B, T, C).

Shapes: B batch, S samples, T frames, C channels, K samples of a filter, F filters. Frames at and
after an utterance's length are zero, and no valid frame depends on them.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.model.config import (
    ConvEncoderConfig,
    EncoderConfig,
    FilterbankEncoderConfig,
)
from speechssl.model.strided_conv import gelu_conv, product_dtype, windows_gelu_conv


class ConvEncoder(nn.Module):
    """The convolutional feature encoder of wav2vec 2.0, in both published forms.

    (arXiv:2006.11477, section 2 and 4.2; BASE: group norm in the first layer, LARGE: layer norm in
    every layer and biases.)
    """

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__()
        self.config = config
        layers = []
        in_dim = 1
        for index, dim in enumerate(config.dims):
            norm = "layer" if config.norm == "layer" else "group" if index == 0 else "none"
            kernel, stride = config.kernels[index], config.strides[index]
            layers.append(ConvLayer(in_dim, dim, kernel, stride, config.bias, norm))
            in_dim = dim
        self.layers: Sequence[ConvLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.int8: nn.Module | None = None
        """All layers but the first, in a model from :func:`.int8.quantized`."""
        self.min_samples, self.hop_samples = shapes.receptive_field(config.kernels, config.strides)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Samples -> frames, (B,) int64."""
        for kernel, stride in zip(self.config.kernels, self.config.strides, strict=True):
            lengths = shapes.conv_output_lengths(lengths, kernel, stride)
        return lengths

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float, (B,) samples -> latents (B, T, C), (B,) frames."""
        if self.int8 is not None:
            return self.in_8_bits(wave, lengths)
        if torch.compiler.is_compiling():
            return self.by_convolutions(wave, lengths)
        return self.by_products(wave, lengths)

    def by_convolutions(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The plain form of :meth:`forward`, in the (B, C, T) layout."""
        latents = wave[:, None, :]  # (B, 1, S)
        for layer in self.layers:
            latents, lengths = layer(latents, lengths)  # (B, C, T)
        return shapes.zero_padding(latents.transpose(1, 2), lengths), lengths  # (B, T, C)

    def by_products(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The same in the (B, T, C) layout, by matrix products: twice to several times as fast."""
        first, *others = self.layers
        windows, taps, lengths = first.by_windows(wave, lengths)
        norm = first.norm if isinstance(first.norm, nn.LayerNorm) else None
        if others and norm is None:
            second, *others = others
            frames, lengths = second.by_products_of_windows(windows, taps, lengths)
        else:
            frames = windows @ taps.transpose(1, 2)  # (B, T, C), before GELU
            frames = frames if norm is None else norm(frames)
        for layer in others:
            frames, lengths = layer.by_products(frames, lengths)
        return shapes.zero_padding(F.gelu(frames), lengths), lengths

    def in_8_bits(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """About the same by 8-bit products, in a model from :func:`.int8.quantized`."""
        assert self.int8 is not None
        first = self.layers[0]
        windows, taps, _ = first.by_windows(wave, lengths)
        if isinstance(first.norm, nn.LayerNorm):
            latents = self.int8(first.norm(windows @ taps.transpose(1, 2)))  # (B, T, C)
        else:
            latents = self.int8(windows, taps)
        lengths = self.output_lengths(lengths)
        return shapes.zero_padding(latents, lengths), lengths


class ConvLayer(nn.Module):
    """One strided convolution, its norm, GELU."""

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

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C_in, T_in), (B,) -> (B, C_out, T_out), (B,)."""
        values = self.conv(values)  # (B, C_out, T_out)
        lengths = shapes.conv_output_lengths(lengths, self.kernel, self.stride)
        if isinstance(self.norm, MaskedGroupNorm):
            values = self.norm(values, lengths)
        elif self.norm is not None:
            values = self.norm(values.transpose(1, 2)).transpose(1, 2)
        return F.gelu(values), lengths

    def by_products(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """GELU, then this layer without its own: (B, T_in, C_in), (B,) -> (B, T, C), (B,).

        Not for a group norm, which only the first layer has (:meth:`by_windows`).
        """
        dtype = product_dtype(frames)
        frames = gelu_conv(frames.to(dtype), self.conv.weight.to(dtype), self.stride)
        return self._after(self._with_bias(frames), lengths)

    def by_products_of_windows(
        self, windows: Tensor, taps: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same, of frames (B, T, C) that are ``windows @ taps.transpose(1, 2)``."""
        weight = self.conv.weight.to(windows.dtype)
        frames = windows_gelu_conv(windows, taps, weight, self.stride)
        return self._after(self._with_bias(frames), lengths)

    def _with_bias(self, frames: Tensor) -> Tensor:
        return frames if self.conv.bias is None else frames + self.conv.bias.to(frames.dtype)

    def _after(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        lengths = shapes.conv_output_lengths(lengths, self.kernel, self.stride)
        return (frames if self.norm is None else self.norm(frames)), lengths

    def by_windows(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer up to its GELU, or up to a layer norm: (B, S), (B,) -> windows (B, T,
        16), taps (B, C, 16), whose product it is, and (B,).

        A group norm is never computed: over the windows x of an utterance, w x has the mean
        w mean(x) and the variance w cov(x) w', so that the norm goes into w.
        """
        lengths = shapes.conv_output_lengths(lengths, self.kernel, self.stride)
        windows = wave.unfold(1, self.kernel, self.stride)  # (B, T, K)
        weight = self.conv.weight[:, 0].expand(len(wave), -1, -1)  # (B, C, K)
        bias = weight.new_zeros(len(wave), weight.shape[1])  # (B, C)
        if self.conv.bias is not None:
            bias = bias + self.conv.bias
        if isinstance(self.norm, MaskedGroupNorm):
            weight, folded = self.norm.fold(windows, lengths, weight)
            bias = folded + 0 * bias  # the norm takes it away; a gradient of zero is left
        dtype = product_dtype(wave)
        one = windows.new_ones(*windows.shape[:2], 1)  # the bias is one more tap
        pad = windows.new_zeros(*windows.shape[:2], -(self.kernel + 1) % 16)
        windows = torch.cat([windows, one, pad], dim=2).to(dtype)  # (B, T, 16)
        taps = torch.cat([weight, bias[:, :, None]], dim=2)
        return windows, F.pad(taps, (0, pad.shape[2])).to(dtype), lengths


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

    def fold(self, windows: Tensor, lengths: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of a linear map's output, as another linear map for each utterance.

        Args:
            windows: (B, T, K) what the map sees.
            lengths: (B,) valid windows.
            weight: (B, C, K); a bias of the map would be taken away again by the norm.

        Returns:
            weight (B, C, K) and bias (B, C), float32.
        """
        with torch.autocast(windows.device.type, enabled=False):
            count = lengths.clamp_min(1)[:, None, None]
            x = shapes.zero_padding(windows.double(), lengths)
            mean = x.sum(1, keepdim=True) / count  # (B, 1, K)
            x = shapes.zero_padding(x - mean, lengths)
            covariance = (x.transpose(1, 2) @ x / count).to(weight.dtype)  # (B, K, K)
            variance = ((weight @ covariance) * weight).sum(2)  # (B, C)
            scale = self.weight * torch.rsqrt(variance + self.eps)
            middle = (weight @ mean.to(weight.dtype).transpose(1, 2))[:, :, 0]  # (B, C)
            return weight * scale[:, :, None], self.bias - middle * scale


class FilterbankEncoder(nn.Module):
    """A learnable time-domain filterbank: FIR pairs, squared modulus, low-pass, log, normalised.

    80 complex Gabor filters at mel-spaced centres, learned with everything else (arXiv:1711.01161,
    section 2; LEAF, arXiv:2101.08596, section 3). Where we differ: the filters are free after their
    Gabor start, compression is a logarithm, and each channel is normalised to zero mean and unit
    variance over the utterance's valid frames. Computed in float32 whatever the autocast, since the
    weak high bands of speech lie below the rounding noise of a bfloat16 wave.
    """

    pool: Tensor
    gain: Tensor

    def __init__(self, config: FilterbankEncoderConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        filters = gabor_filters(config, sample_rate)  # (2F, K)
        # The parameters have a peak of 1 and the filters' size is a constant: Adam moves every
        # number by about the learning rate, which would wipe out filters of size 0.01 in ten steps.
        gain = filters.abs().amax(1, keepdim=True)  # (2F, 1)
        self.filters = nn.Parameter(filters / gain)
        self.register_buffer("gain", gain, persistent=False)
        self.hop_samples = config.hop_samples * config.stack
        self.min_samples = self.hop_samples
        # Low-pass: energies at half the hop, a Hann window over two hops.
        pool = torch.hann_window(5, periodic=False)[1:-1]
        self.register_buffer("pool", pool / pool.sum(), persistent=False)  # (3,)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Samples -> frames, (B,) int64: whole hops only."""
        return torch.div(lengths, self.hop_samples, rounding_mode="floor")

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float, (B,) samples -> latents (B, T, F * stack), (B,) frames."""
        with torch.autocast(wave.device.type, enabled=False):
            energies = self.energies(wave.float())  # (B, T * stack, F)
        frames = self.output_lengths(lengths)
        energies = normalize_over_time(energies, frames * self.config.stack)
        return energies.unflatten(1, (-1, self.config.stack)).flatten(2), frames

    def energies(self, wave: Tensor) -> Tensor:
        """(B, S) -> log energies (B, max T * stack, F) every ``hop_samples``, float32."""
        config = self.config
        num = wave.shape[1] // self.hop_samples * config.stack
        half = config.hop_samples // 2
        # Filter j is centred on sample j * half; the wave is zero outside.
        left = config.kernel_samples // 2
        wave = F.pad(wave, (left, config.kernel_samples - left))
        windows = wave.unfold(1, config.kernel_samples, half)[:, : 2 * num + 1]  # (B, 2N+1, K)
        real, imag = (windows @ (self.gain * self.filters).T).chunk(2, dim=2)  # (B, 2N+1, F)
        power = real.square() + imag.square()
        low = self.pool  # energy i is centred on the middle of hop i, sample (2i + 1) * half
        power = low[0] * power[:, :-1:2] + low[1] * power[:, 1::2] + low[2] * power[:, 2::2]
        return (power + 1e-7).log()  # (B, N, F)


def gabor_filters(config: FilterbankEncoderConfig, sample_rate: int) -> Tensor:
    """(2F, K) float32: cosine parts, then sine parts, of Gabor filters at mel-spaced centres.

    Each has the full width at half maximum of the mel triangle it replaces (arXiv:1711.01161, eq.
    5) and unit gain for a sinusoid at its centre.
    """
    limits = torch.tensor([config.min_hz, min(config.max_hz, sample_rate / 2)], dtype=torch.float64)
    mel = 2595 * torch.log10(1 + limits / 700)  # O'Shaughnessy
    points = torch.linspace(
        float(mel[0]), float(mel[1]), config.num_filters + 2, dtype=torch.float64
    )
    hertz = 700 * (10 ** (points / 2595) - 1)  # (F + 2,)
    centre, width = hertz[1:-1], (hertz[2:] - hertz[:-2]) / 2  # (F,)
    # A Gaussian of width sigma in time has 2 sqrt(2 ln 2) / (2 pi sigma) Hz at half maximum of its
    # amplitude; no wider than a Hann window of the kernel's length, or the ends are cut.
    sigma_s = math.sqrt(2 * math.log(2)) / (math.pi * width)
    sigma_s = sigma_s.clamp_max(config.kernel_samples / sample_rate / 5)
    times = torch.arange(config.kernel_samples, dtype=torch.float64)
    times = (times - (config.kernel_samples - 1) / 2) / sample_rate  # (K,)
    envelope = torch.exp(-0.5 * (times / sigma_s[:, None]) ** 2)  # (F, K)
    envelope = 2 * envelope / envelope.sum(1, keepdim=True)
    phase = 2 * math.pi * centre[:, None] * times
    return torch.cat([envelope * phase.cos(), envelope * phase.sin()]).float()


def normalize_over_time(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C): zero mean, unit variance per channel over the valid frames; zeros elsewhere."""
    count = lengths.clamp_min(1)[:, None, None]
    mean = shapes.zero_padding(values, lengths).sum(1, keepdim=True) / count  # (B, 1, C)
    centred = shapes.zero_padding(values - mean, lengths)
    deviation = (centred.square().sum(1, keepdim=True) / count + 1e-6).sqrt()
    # A constant channel (silence) stays near zero instead of blowing up its rounding noise.
    return centred / (deviation + 1e-2)


def build_encoder(config: EncoderConfig, sample_rate: int) -> ConvEncoder | FilterbankEncoder:
    """The encoder that a config describes."""
    if isinstance(config, ConvEncoderConfig):
        return ConvEncoder(config)
    return FilterbankEncoder(config, sample_rate)
