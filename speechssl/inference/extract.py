"""Representations of recordings: the frames of a layer or of a sum of layers, and when they are.

Layer 0 is the input of the first layer, layer K the output of the K-th. Recordings are read in
batches of about equal length; what one gives does not depend on what it is batched with, but for
the rounding of float32.

Shapes: B batch, S samples, T frames, D width, L layers + 1.
"""

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from speechssl.audio import AudioWarning
from speechssl.checkpoint import Checkpoint
from speechssl.device import Precision, autocast, pick_device
from speechssl.inference.batching import (
    BATCH_S,
    End,
    Unreadable,
    batches,
    pad_chunks,
    runs_alone,
    windows,
)
from speechssl.inference.precision import fitting_precision
from speechssl.inference.recordings import MAX_CHUNK_S, Chunk, Clip, as_clip
from speechssl.inference.stitching import context_samples, own_rows
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import SpeechModel

Weights = Sequence[float] | Literal["mean"]


@dataclass(frozen=True)
class Features:
    """Frames that follow each other."""

    frames: np.ndarray
    """(T, D) float32."""
    times_s: np.ndarray
    """(T,) float64, the middle of each frame in seconds of the recording: ``(k + 0.5) * hop`` for
    frame k of the recording, however long it is."""
    layer: int | None
    """None: a sum of layers."""


@dataclass(frozen=True)
class Layers:
    """What is taken of a model's layers: one of them, a weighted sum, or with neither all of them
    side by side."""

    layer: int | None = None
    weights: tuple[float, ...] | None = None
    """(L,)."""

    def __call__(self, hidden: Sequence[Tensor]) -> Tensor:
        """L outputs of (B, T, D) -> (B, T, D), or (B, T, L D) for all of them."""
        if self.layer is not None:
            return hidden[self.layer]
        if self.weights is not None:
            return weighted_sum(hidden, torch.tensor(self.weights, device=hidden[0].device))
        return torch.cat(list(hidden), dim=2)


def choose_layers(
    checkpoint: Checkpoint, layer: int = -1, weights: Weights | None = None
) -> Layers:
    """`layer` (-1: the last), or the sum of all layers with `weights`.

    Args:
        checkpoint: the model that has the layers.
        layer: not looked at where there are weights.
        weights: a finite number for each layer from 0 on, taken as they are; ``mean``: the same for
            each, with the sum 1.

    Raises ValueError for a layer that the model does not have, and other numbers of weights.
    """
    num_layers = checkpoint.speech.config.context.num_layers
    if weights == "mean":
        return Layers(weights=(1 / (num_layers + 1),) * (num_layers + 1))
    if weights is not None:
        given = tuple(float(weight) for weight in weights)
        if len(given) != num_layers + 1 or not all(map(math.isfinite, given)):
            raise ValueError(
                f"The model has layers 0 (the input of the first) to {num_layers}, so that a sum "
                f"needs {num_layers + 1} finite weights; got {', '.join(map(str, given))}."
            )
        return Layers(weights=given)
    if layer == -1:
        return Layers(num_layers)
    if not 0 <= layer <= num_layers:
        raise ValueError(
            f"The model has layers 0 (the input of the first) to {num_layers}, and -1 for the "
            f"last; got {layer}."
        )
    return Layers(layer)


def extract(
    checkpoint: Checkpoint,
    source: str | Path | np.ndarray,
    layer: int = -1,
    *,
    weights: Weights | None = None,
    precision: Precision = "fp32",
) -> Features:
    """The frames of a whole file, or of a wave at the model's rate (:func:`audio.as_wave`).

    Frame k begins at ``k * hop`` and there are as many as the model makes of the whole wave, also
    where a long one is read in chunks. `layer` and `weights` are those of :func:`choose_layers`,
    which see for what is refused. Raises FileNotFoundError or AudioError for what cannot be read;
    what is missing or changed of a recording is warned of (AudioWarning).
    """
    layers = choose_layers(checkpoint, layer, weights)
    parts = list(next(extract_all(checkpoint, [as_clip(source)], layers, precision=precision)))
    return Features(
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.times_s for part in parts]),
        layers.layer,
    )


def extract_all(
    checkpoint: Checkpoint,
    clips: Iterable[Clip],
    layers: Layers,
    *,
    precision: Precision = "fp32",
    batch_s: float = BATCH_S,
    max_chunk_s: float = MAX_CHUNK_S,
) -> Iterator[Iterator[Features]]:
    """For each clip, in their order, its frames in parts that follow each other.

    The parts of a clip are to be used up before the next clip is asked for. They end with an
    AudioError or OSError where the clip cannot be read (on). Memory does not grow with the length
    or number of clips, which are asked for as they are needed. A clip up to `max_chunk_s` is one
    input, a longer one in chunks cut at pauses, each without the others as context, and where there
    is no pause in windows that overlap (:mod:`speechssl.inference.stitching`); the first frame of a
    chunk follows the last of the one before at the usual distance.
    """
    events = _infer_all(checkpoint.speech, clips, layers, precision, batch_s, max_chunk_s)
    for first in events:
        yield _until_end(itertools.chain([first], events))


def _until_end(events: Iterator[Features | End | Unreadable]) -> Iterator[Features]:
    for event in events:
        if isinstance(event, End):
            for note in event.notes:
                warnings.warn(note, AudioWarning, stacklevel=2)
            return
        if isinstance(event, Unreadable):
            raise event.error
        yield event


def _infer_all(
    speech: SpeechModel,
    clips: Iterable[Clip],
    layers: Layers,
    precision: Precision,
    batch_s: float,
    max_chunk_s: float,
) -> Iterator[Features | End | Unreadable]:
    accelerate(speech.to(pick_device()).eval())
    if precision == "auto":
        precision = cast(Precision, fitting_precision(speech, with_int8=False))
    rate, hop = speech.config.sample_rate, speech.config.hop_samples
    beyond = speech.encoder.min_samples - hop  # of a frame, what lies behind its hop
    for window in windows(
        clips,
        rate,
        grid=hop,
        batch_s=batch_s,
        max_chunk_s=max_chunk_s,
        ahead=max(beyond, 0),
        context=context_samples(speech),
    ):
        given = [event for event in window if isinstance(event, Chunk)]
        frames = iter(_infer(speech, given, layers, precision, batch_s))
        for event in window:
            if not isinstance(event, Chunk):
                yield event
                continue
            values = next(frames)  # (T, D)
            times_s = (event.start + hop * (np.arange(len(values)) + 0.5)) / rate
            yield Features(values, times_s, layers.layer)


def _infer(
    speech: SpeechModel,
    chunks: Sequence[Chunk],
    layers: Layers,
    precision: Precision,
    batch_s: float,
) -> list[np.ndarray]:
    """(T, D) float32 for each chunk."""
    found: dict[int, np.ndarray] = {}
    device = next(speech.parameters()).device
    rate = speech.config.sample_rate
    plan = batches(chunks, rate, batch_s=batch_s, alone=runs_alone(speech, precision))
    with torch.no_grad(), autocast(device, precision):  # weights are cast once for all
        for members in plan:
            wave, lengths = pad_chunks([chunks[i].wave for i in members], device)  # (B, S), (B,)
            out = speech(wave, lengths, keep_hidden=True)
            values = layers(out.hidden).float().cpu().numpy()  # (B, T, D)
            for row, i in enumerate(members):
                own = own_rows(chunks[i], int(out.lengths[row]), speech.config.hop_samples)
                found[i] = values[row, own].copy()
    return [found[i] for i in range(len(chunks))]


def weighted_sum(hidden: Sequence[Tensor], weights: Tensor) -> Tensor:
    """L outputs of (B, T, D), weights (L,) -> (B, T, D)."""
    total = weights[0] * hidden[0]
    for weight, output in zip(weights[1:], hidden[1:], strict=True):
        total = total + weight * output
    return total
