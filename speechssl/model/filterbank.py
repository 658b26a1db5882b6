"""A learnable time-domain filterbank: wave (B, S) -> latents (B, T, C).

Shapes: B batch, S samples, T frames, F filters, K samples of a filter, C = F * stack channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.model.config import FilterbankEncoderConfig
from speechssl.model.normalization import RunningNorm, normalize_over_time


class FilterbankEncoder(nn.Module):
    """A learnable time-domain filterbank: FIR pairs, squared modulus, low-pass, log, normalised.

    80 complex Gabor filters at mel-spaced centres, learned with everything else (arXiv:1711.01161,
    section 2; LEAF, arXiv:2101.08596, section 3). Where we differ: the filters are free after their
    Gabor start, compression is a logarithm, and each channel is normalised to zero mean and unit
    variance over the utterance's valid frames (`running_norm`: over the frames up to each one).
    Computed in float32 whatever the autocast, since the weak high bands of speech lie below the
    rounding noise of a bfloat16 wave.
    """

    pool: Tensor
    gain: Tensor

    def __init__(
        self, config: FilterbankEncoderConfig, sample_rate: int, running_norm: bool = False
    ) -> None:
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
        self.norm: RunningNorm | None = None
        if running_norm:  # the prior is that of a tenth of a second of speech at a usual level
            prior_frames = max(sample_rate // 10 // config.hop_samples, 1)
            self.norm = RunningNorm(
                config.num_filters, prior_frames=prior_frames, mean=-9.0, variance=9.0
            )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Samples -> frames, (B,) int64: whole hops only."""
        return torch.div(lengths, self.hop_samples, rounding_mode="floor")

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float, (B,) samples -> latents (B, T, F * stack), (B,) frames."""
        with torch.autocast(wave.device.type, enabled=False):
            energies = self.energies(wave.float())  # (B, T * stack, F)
        frames = self.output_lengths(lengths)
        hops = frames * self.config.stack
        if self.norm is None:
            energies = normalize_over_time(energies, hops)
        else:
            energies = shapes.zero_padding(self.norm(energies), hops)
        return energies.unflatten(1, (-1, self.config.stack)).flatten(2), frames

    def energies(self, wave: Tensor) -> Tensor:
        """(B, S) -> log energies (B, max T * stack, F) every ``hop_samples``, float32.

        Windows overlap, and their products take many times the memory of the waves: on a CPU, where
        nothing is kept for gradients, each wave is done by itself, with the same numbers.
        """
        is_traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        if wave.device.type != "cpu" or torch.is_grad_enabled() or is_traced:
            return self._energies(wave)
        return torch.cat([self._energies(each) for each in wave.split(1)])

    def _energies(self, wave: Tensor) -> Tensor:
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
