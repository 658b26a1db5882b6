"""Segments of utterances: where they are cut, their samples, and their embeddings.

Tasks over segments compare short stretches of an utterance that the model sees one by one. All
segments of a micro-batch have the same length, so that they are one batch without padding. They lie
on the model's frame grid and within the valid frames of their utterance, and between two segments
of a window there are at least `gap` frames, so that they have no sample in common: neither those
under the filters of the last frame, nor those in the feature windows of a target.

A window is a group of segments that belong together. As many windows are drawn as fit side by side
into an utterance, so that its count is known from its length, and one pass over all segments costs
about one pass over the utterance; an utterance shorter than one window gives none.

Shapes: B batch, S samples, T frames, W windows, N segments of a window, L frames of a segment, F
width of a feature, D width of the model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import shapes
from speechssl.device import double, send
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs, Wave
from speechssl.pretext.signal import Signal

MIN_GAP_S = 0.02
"""The windows of log-mel features reach 7.5 ms beyond their frame, the filters of a convolutional
encoder 5 ms."""


RngOf = Callable[[int], np.random.Generator]
"""The randomness of an utterance, by its row: where it is cut depends on nothing else."""


@dataclass(frozen=True)
class Windows:
    """Groups of segments, each of one utterance."""

    rows: np.ndarray
    """(W,) int64, the utterance of each window."""
    starts: np.ndarray
    """(W, N) int64, the first frame of each of its segments."""
    length: int
    """L, frames of a segment."""

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, segments: np.ndarray) -> "Windows":
        """With these segments alone: columns (M,), or columns of each window (W, M)."""
        columns = np.broadcast_to(segments, (len(self), segments.shape[-1]))
        return Windows(self.rows, np.take_along_axis(self.starts, columns, axis=1), self.length)

    def or_first(self) -> "Windows":
        """Itself; where it is empty, one window of segments at the start of the first utterance: a
        loss from it, times zero, has the same graph as any other."""
        if len(self):
            return self
        num = self.starts.shape[1]
        return Windows(np.zeros(1, np.int64), np.zeros((1, num), np.int64), self.length)


def frames_of(seconds: float, config: ModelConfig) -> int:
    """Frames of a duration, rounded; at least one."""
    return max(round(seconds * config.sample_rate / config.hop_samples), 1)


def gap_frames(seconds: float, config: ModelConfig) -> int:
    """The fewest frames that last at least so long."""
    return math.ceil(round(seconds * config.sample_rate / config.hop_samples, 6))


def spread(total: int, num: int, length: int, gap: int, rng: np.random.Generator) -> np.ndarray:
    """(num,) int64, ascending: random starts of `num` stretches of `length` within `total`, at
    least `gap` apart. They must fit: ``num * (length + gap) - gap <= total``."""
    slack = total + gap - num * (length + gap)
    moved = np.sort(rng.integers(0, slack + 1, num))
    return np.asarray(moved + (length + gap) * np.arange(num), dtype=np.int64)


@dataclass(frozen=True)
class WindowShape:
    """Windows of `num` segments of `length` frames with random gaps of `gaps` frames (least, most)
    between them."""

    num: int
    length: int
    gaps: tuple[int, int]

    @property
    def span(self) -> int:
        """Frames that are set aside for a window: those of the longest one."""
        return self.num * self.length + (self.num - 1) * self.gaps[1]

    def count(self, frames: Tensor) -> int:
        """How many windows utterances of (B,) frames give together."""
        return int((frames // self.span).sum())

    def draw(self, frames: Tensor, rng_of: RngOf) -> Windows:
        """Windows of utterances of (B,) frames, which never overlap; each gap is uniform, and so is
        the place of a window within the frames that are set aside for it."""
        rows: list[int] = []
        starts = [np.zeros((0, self.num), np.int64)]
        for row, total in enumerate(frames.tolist()):
            num = total // self.span
            if not num:
                continue
            rng = rng_of(row)
            gaps = rng.integers(self.gaps[0], self.gaps[1] + 1, (num, self.num - 1))
            inner = np.concatenate(
                [np.zeros((num, 1), np.int64), (self.length + gaps).cumsum(1)], axis=1
            )  # (num, N)
            left = self.span - self.length - inner[:, -1:]
            first = spread(total, num, self.span, 0, rng)[:, None] + rng.integers(0, left + 1)
            rows += [row] * num
            starts.append(first + inner)
        return Windows(np.array(rows, np.int64), np.concatenate(starts), self.length)


def segment_samples(length: int, model: SpeechModel) -> int:
    """Samples from which the model computes exactly `length` frames."""
    return (length - 1) * model.config.hop_samples + model.encoder.min_samples


def cut_waves(
    wave: Tensor, windows: Windows, hop_samples: int, num_samples: int, fade: int = 0
) -> Tensor:
    """(B, S), zero behind each end -> (W * N, `num_samples`): the samples of each segment.

    `fade`: samples over which each end rises from and falls to zero along a raised cosine, so that
    nothing can be read from the samples at the cuts.
    """
    firsts = windows.starts * hop_samples  # (W, N)
    missing = int(firsts.max(initial=0)) + num_samples - wave.shape[1]
    wave = F.pad(wave, (0, max(missing, 0)))
    first = send(torch.from_numpy(firsts), wave.device)[:, :, None]  # (W, N, 1)
    rows = send(torch.from_numpy(windows.rows), wave.device)[:, None, None]
    cut = wave[rows, first + torch.arange(num_samples, device=wave.device)]  # (W, N, samples)
    if fade:
        steps = torch.arange(fade, device=wave.device) + 0.5
        ramp = (torch.sin(math.pi / 2 * steps / fade)).square()  # (fade,)
        flat = torch.ones(num_samples - 2 * fade, device=wave.device)
        cut = cut * torch.cat([ramp, flat, ramp.flip(0)])
    return cut.flatten(0, 1)


def embed(x: Inputs, windows: Windows, *, wave: Wave = "distorted", fade: int = 0) -> Tensor:
    """(W, N, D) float32: the mean over time of the model's output for each segment alone, all of
    them in one forward pass. `fade` as in :func:`cut_waves`."""
    model = x.model
    samples = segment_samples(windows.length, model)
    cut = cut_waves(x.wave(wave), windows, model.config.hop_samples, samples, fade)
    output = x.encode_waves(cut, torch.full((len(cut),), samples))
    context = shapes.zero_padding(output.context.float(), output.lengths)  # (W * N, L, D)
    pooled = context.sum(1) / output.lengths[:, None]
    return pooled.unflatten(0, windows.starts.shape)


def slices(features: Tensor, windows: Windows) -> Tensor:
    """(B, T, F) -> (W, N, L, F): the frames of each segment; past the end the last frame."""
    device = features.device
    frames = windows.starts[:, :, None] + np.arange(windows.length)  # (W, N, L)
    index = send(torch.from_numpy(frames.clip(max=features.shape[1] - 1)), device)
    return features[send(torch.from_numpy(windows.rows), device)[:, None, None], index]


# ---- what a validation adds up ------------------------------------------------------------------


def tally_mean(values: Tensor, num: int) -> Tensor:
    """(num or more,) -> (2,) float64, float32 on mps: the sum of the first `num` values, and
    `num`."""
    total = double(values.detach()[:num]).sum()
    return torch.stack([total, torch.full_like(total, num)])


def mean_of(tally: Tensor) -> float:
    """Of a :func:`tally_mean`, added up over batches; 0 where there was nothing."""
    return float(tally[0] / tally[1].clamp_min(1))


def tally_short(frames: Tensor, least: int) -> Tensor:
    """(B,) frames -> (2,) float64: how many utterances have fewer than `least`, and how many there
    are."""
    return tally_mean((frames < least).float(), len(frames))


def short_signal(name: str) -> Signal:
    """The share of utterances that are too short for a task, and give it nothing: it would else
    look as if the task were solved."""
    metric = f"{name}/too_short"
    return Signal(
        metric,
        f"utterances too short for {name}",
        "Share of the utterances in validation that are shorter than one window of segments.",
        "share",
        alarm_from=0.5,
        finding="utterances too short",
        evidence=f"{{{metric}:%}} of the utterances in validation are too short for the task "
        f"{name}, which learns nothing from them.",
        advice=f"Lower --{name.replace('_', '-')}.segment-s (now {{{name}.segment_s}}), or leave "
        f"{name} out of --tasks.",
        in_overview=False,
    )
