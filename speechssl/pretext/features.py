"""Features of a wave: what is reconstructed, and what units are made of.

Shapes: B batch, S samples, T frames of the model, H hops of 10 ms (H = T * hops per frame), M mel
bands. All float32. Features come at 100 Hz and are stacked to the model's frame rate, so that
nothing of the time between two frames is lost.
"""

import functools
import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from speechssl import shapes
from speechssl.device import send

FeatureName = Literal["logmel", "mfcc", "prosody", "wave"]
HOP_S = 0.01
WINDOW_S = 0.025
"""Of the power spectrum."""
NUM_MELS = 80
NUM_MFCC = 13
FEATURE_DIMS: dict[str, int] = {"logmel": NUM_MELS, "mfcc": 3 * NUM_MFCC, "prosody": 3, "wave": 160}
"""Width of each feature per 10 ms; the wave's is that of a 16 kHz recording."""
FEATURE_VERSIONS: dict[str, int] = {"logmel": 1, "mfcc": 1, "prosody": 1}
"""Of those that are kept on disk: to be raised with any change of the numbers below."""


class SpeechFeatures:
    """The waves of a batch on the device, and their features, each computed when first asked for.

    Args:
        wave: (B, S), zero behind each utterance's end.
        lengths: (B,) its valid samples.
        frames: (B,) valid frames of the model, best on the host.
        hop_samples: hop of the model, a multiple of 10 ms.
        sample_rate: of the wave, Hz.
        num_frames: T, where it is more than the most of `frames`.
    """

    def __init__(
        self,
        wave: Tensor,
        lengths: Tensor,
        frames: Tensor,
        hop_samples: int,
        sample_rate: int,
        num_frames: int = 0,
    ) -> None:
        self.wave, self.lengths, self.frames = wave, lengths, frames
        self.sample_rate = sample_rate
        self._hop = round(HOP_S * sample_rate)
        if hop_samples % self._hop:
            raise ValueError(
                f"The model's hop of {hop_samples} samples is not a multiple of 10 ms."
            )
        self._per_frame = hop_samples // self._hop
        self._hops = send(frames * self._per_frame, wave.device)  # (B,)
        self._num = max(int(frames.max()), num_frames) * self._per_frame  # H
        self._made: dict[str, Tensor] = {}

    def features(self, name: FeatureName) -> Tensor:
        """(B, T, dim * hops per frame), float32; made once.

        Each dimension at 100 Hz has zero mean and unit variance over the utterance (the wave: unit
        variance only); zero in the padding.
        """
        if name not in self._made:
            with torch.autocast(self.wave.device.type, enabled=False):
                self._made[name] = self._make(name)
        return self._made[name]

    @torch.no_grad()
    def _make(self, name: FeatureName) -> Tensor:
        if name == "wave":
            values = _fit(self.wave, self._num * self._hop).unflatten(1, (self._num, self._hop))
            level = shapes.zero_padding(values.square().mean(2), self._hops)
            level = level.sum(1) / self._hops.clamp_min(1)
            values = values / (level.sqrt() + 1e-3)[:, None, None]
        elif name == "prosody":
            values = prosody(self.wave, self._power, self._hops, self.sample_rate)
        else:
            values = self._log_mel if name == "logmel" else mfcc(self._log_mel, self._hops)
        if name != "wave":
            values = _normalize(values, self._hops)
        values = shapes.zero_padding(values, self._hops)
        return values.unflatten(1, (-1, self._per_frame)).flatten(2)

    @functools.cached_property
    def _power(self) -> Tensor:
        """(B, H, bins)."""
        return power_spectrum(self.wave, self._num, self.sample_rate)

    @functools.cached_property
    def _log_mel(self) -> Tensor:
        """(B, H, M)."""
        return log_mel(self._power, self.sample_rate)


def frame_features(
    name: FeatureName, wave: Tensor, frames: Tensor, hop_samples: int, sample_rate: int
) -> Tensor:
    """One feature of some waves (B, S), zero behind their ends: see :class:`SpeechFeatures`."""
    lengths = frames * hop_samples
    return SpeechFeatures(wave, lengths, frames, hop_samples, sample_rate).features(name)


def power_spectrum(wave: Tensor, num_hops: int, sample_rate: int) -> Tensor:
    """(B, S) -> (B, H, bins): Hann windows of 25 ms, each centred on its hop of 10 ms."""
    hop, window = round(HOP_S * sample_rate), round(WINDOW_S * sample_rate)
    size = 1 << (window - 1).bit_length()
    left = (window - hop) // 2
    wave = F.pad(wave, (left, 0))
    wave = _fit(wave, (num_hops - 1) * hop + window)
    windows = wave.unfold(1, window, hop) * torch.hann_window(window, device=wave.device)
    return _squared(torch.fft.rfft(windows, size))


def _squared(values: Tensor) -> Tensor:
    """Complex -> squared modulus, without the root that ``abs`` takes: a quarter of a step of
    `tiny` went into it."""
    return values.real.square() + values.imag.square()


def log_mel(power: Tensor, sample_rate: int) -> Tensor:
    """(B, H, bins) -> (B, H, 80) natural log of Slaney mel energies."""
    bands = mel_bands(sample_rate, 2 * (power.shape[2] - 1), power.device)  # (bins, M)
    return (power @ bands + 1e-7).log()


def mfcc(log_mels: Tensor, lengths: Tensor) -> Tensor:
    """(B, H, M), (B,) hops -> (B, H, 39): 13 cepstra, their first and second differences."""
    num = log_mels.shape[2]
    grid = torch.arange(num, device=log_mels.device) + 0.5
    rows = torch.arange(NUM_MFCC, device=log_mels.device)
    basis = torch.cos(math.pi / num * rows[:, None] * grid) * math.sqrt(2 / num)  # DCT-II, (13, M)
    basis[0] /= math.sqrt(2)
    cepstra = log_mels @ basis.T  # (B, H, 13)
    first = _difference(cepstra, lengths)
    return torch.cat([cepstra, first, _difference(first, lengths)], dim=2)


def prosody(wave: Tensor, power: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """(B, S), (B, H, bins), (B,) hops -> (B, H, 3): log pitch, log energy, voicing.

    Voicing is the height of the highest normalised autocorrelation between 60 and 400 Hz in a
    window of 50 ms. Pitch is first the shortest lag with a peak nearly as high, since whole
    multiples of a period correlate as well as one (McLeod and Wyvill 2005, "A smarter way to find
    pitch", section 5); then the highest within an octave around what the utterance's voiced hops
    agree on. It goes on smoothly where there is no voice, as trackers for tone languages have it
    (Ghahremani et al. 2014, "A pitch extraction algorithm tuned for automatic speech recognition").
    """
    hop, window = round(HOP_S * sample_rate), round(0.05 * sample_rate)
    left = (window - hop) // 2
    padded = _fit(F.pad(wave, (left, 0)), (power.shape[1] - 1) * hop + window)
    taper = torch.hann_window(window, device=wave.device)
    lags = slice(sample_rate // 400, sample_rate // 60 + 1)
    size = next_fast_len(window + lags.stop, real=True)  # what wraps around falls behind the lags
    windows = padded.unfold(1, window, hop) * taper  # (B, H, W)
    correlation = torch.fft.irfft(_squared(torch.fft.rfft(windows, size)), size)
    decay = torch.fft.irfft(_squared(torch.fft.rfft(taper, size)), size)
    # The taper's own autocorrelation is divided out (Boersma 1993, section 2).
    normal = correlation[:, :, lags] / (correlation[:, :, :1] + 1e-5) / (decay[lags] / decay[0])
    voicing = normal.amax(2)  # (B, H)
    energy = torch.log(power.mean(2) + 1e-7)
    # What is within 30 dB of the loudest hop counts, the more the more voice it has.
    valid = shapes.length_mask(lengths, power.shape[1])
    loudest = energy.masked_fill(~valid, -torch.inf).amax(1, keepdim=True)
    trust = voicing.clamp(0, 1) ** 4 * (valid & (energy > loudest - 3 * math.log(10)))  # (B, H)
    pitches = torch.log(sample_rate / torch.arange(lags.start, lags.stop, device=wave.device))
    middle = _weighted_mean(pitches[_first_high_peak(normal)], trust)  # (B, 1)
    near = (pitches - middle[:, :, None]).abs() < _PITCH_RANGE  # (B, 1, lags)
    pitch = pitches[normal.masked_fill(~near, -torch.inf).argmax(2)]  # (B, H)
    pitch = _smooth(pitch, trust, middle)
    return torch.stack([pitch, energy, voicing.clamp(0, 1)], dim=2)


_PITCH_RANGE = 0.6
"""Natural logarithm: pitch is looked for from 0.55 to 1.8 times the utterance's."""


def _first_high_peak(normal: Tensor) -> Tensor:
    """(B, H, lags) -> (B, H): the first lag with a peak of at least 0.85 of the highest."""
    highest = normal.amax(2, keepdim=True)
    inner = normal[:, :, 1:-1]
    peak = (inner >= normal[:, :, :-2]) & (inner >= normal[:, :, 2:]) & (inner >= 0.85 * highest)
    return (F.pad(peak, (1, 1)) | (normal == highest)).to(torch.uint8).argmax(2)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """(B, H) -> (B, 1)."""
    return (values * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1e-9)


def _smooth(values: Tensor, weights: Tensor, middle: Tensor) -> Tensor:
    """(B, H), weights (B, H), (B, 1) -> (B, H): each hop a mean of its neighbours over some 20 ms;
    where those have no weight, over half a second, and where those have none, `middle`."""
    reach = 60
    at = torch.arange(-reach, reach + 1, device=values.device)
    kernel = torch.exp(-0.5 * (at / 2) ** 2) + 1e-2 * torch.exp(-0.5 * (at / 25) ** 2)
    both = torch.stack([weights * (values - middle), weights], dim=1)  # (B, 2, H)
    above, below = (
        F.conv1d(both.flatten(0, 1)[:, None], kernel[None, None], padding=reach)[:, 0]
        .unflatten(0, (-1, 2))
        .unbind(1)
    )
    return middle + above / (below + 1e-2)


def _normalize(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, H, K): zero mean and unit variance over the valid hops."""
    count = lengths.clamp_min(1)[:, None, None]
    mean = shapes.zero_padding(values, lengths).sum(1, keepdim=True) / count
    centred = shapes.zero_padding(values - mean, lengths)
    return centred / ((centred.square().sum(1, keepdim=True) / count).sqrt() + 1e-2)


def _difference(values: Tensor, lengths: Tensor) -> Tensor:
    """Central difference over time, (B, H, K), each utterance's own ends repeated."""
    hops = torch.arange(values.shape[1], device=values.device)
    before = (hops - 1).clamp_min(0).expand(len(lengths), -1)  # (B, H)
    after = torch.minimum(hops + 1, (lengths[:, None] - 1).clamp_min(0))
    before, after = (
        values.gather(1, index[:, :, None].expand_as(values)) for index in (before, after)
    )
    return (after - before) / 2


def _fit(wave: Tensor, num_samples: int) -> Tensor:
    """(B, S) -> (B, num_samples), cut or padded with zeros."""
    return F.pad(wave, (0, max(num_samples - wave.shape[1], 0)))[:, :num_samples]


@functools.cache
def mel_bands(sample_rate: int, fft_size: int, device: torch.device) -> Tensor:
    """(bins, 80) triangular bands."""
    from librosa.filters import mel

    bands = mel(sr=sample_rate, n_fft=fft_size, n_mels=NUM_MELS)
    return torch.from_numpy(np.ascontiguousarray(bands.T)).to(device)
