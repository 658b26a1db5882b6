"""How many frames ahead a target must lie, so that none of its samples is in the input.

Frames overlap. With H samples from frame to frame, what a causal model computes for frame t depends
on the samples before ``t * H + received_samples(config)``: those of its filters, which go beyond
the frame's end. The features of frame u are made of windows that begin ``samples_before(feature)``
samples before the frame. The target u = t + ahead is new to the model where::

    (t + ahead) * H - samples_before >= t * H + received_samples

This is 2 frames for log-mel (of 40 ms and of 20 ms), and for cepstra, whose differences reach 20 ms
further, 2 frames of 40 ms or 3 of 20 ms. Of a target that is nearer a part can be copied.

Shapes: B batch, T frames.
"""

from typing import Literal

import torch
from torch import Tensor

from speechssl import shapes
from speechssl.model.config import FilterbankEncoderConfig, ModelConfig
from speechssl.pretext.features import HOP_S, WINDOW_S

LocalFeature = Literal["logmel", "mfcc"]
"""Features of windows of bounded length. Pitch is smoothed over more than half a second, so that
``prosody`` is not among them."""
_DIFFERENCE_HOPS: dict[LocalFeature, int] = {"logmel": 0, "mfcc": 2}
"""Hops of 10 ms that differences of the feature reach to each side."""


def received_samples(config: ModelConfig) -> int:
    """Samples from the start of a frame to the end of what a causal model's output depends on."""
    encoder = config.encoder
    if isinstance(
        encoder, FilterbankEncoderConfig
    ):  # the last filter is centred on the frame's end
        return config.hop_samples + encoder.kernel_samples - encoder.kernel_samples // 2
    return shapes.receptive_field(encoder.kernels, encoder.strides)[0]


def samples_before(feature: LocalFeature, sample_rate: int) -> int:
    """Samples from the start of a feature's first window to the start of its frame."""
    hop, window = round(HOP_S * sample_rate), round(WINDOW_S * sample_rate)
    return (window - hop) // 2 + _DIFFERENCE_HOPS[feature] * hop


def least_ahead(config: ModelConfig, *features: LocalFeature) -> int:
    """The least number of frames ahead for which no sample of the features is in the input."""
    before = max(samples_before(feature, config.sample_rate) for feature in features)
    return -(-(received_samples(config) + before) // config.hop_samples)


def checked_ahead(
    task: str, ahead: int | None, config: ModelConfig, *features: LocalFeature
) -> int:
    """`ahead`, or the least one where it is None; ValueError where it is less than that."""
    least = least_ahead(config, *features)
    if ahead is not None and ahead < least:
        frame_ms = 1000 * config.hop_samples / config.sample_rate
        raise ValueError(
            f"{task}.ahead must be at least {least} with this model (frames of {frame_ms:g} ms), "
            f"got {ahead}: the input already holds a part of the samples of a nearer target. "
            f"Leave --{task.replace('_', '-')}.ahead out for {least}."
        )
    return least if ahead is None else ahead


def pairs(frames: Tensor, ahead: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """``(now, then)``, both (B, T) bool on the host with as many true entries in each row: the
    frames that predict, and in the same order those that lie `ahead` frames later.

    `frames` (B,) are the valid ones of `num_frames` (T); an utterance of at most `ahead` frames has
    no pair.
    """
    place = torch.arange(num_frames)[None]  # (1, T)
    now = place < (frames - ahead)[:, None]
    then = (place >= ahead) & shapes.length_mask(frames, num_frames)
    return now, then


def num_pairs(frames: Tensor, ahead: int) -> int:
    """How many pairs :func:`pairs` has."""
    return int((frames - ahead).clamp_min(0).sum())
