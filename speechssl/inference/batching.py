"""Many recordings at a time: their chunks in windows of bounded memory, batched by length.

What a recording gives does not depend on what it is batched with. In bfloat16 sums are rounded
differently for each shape of a batch, and 8 bits are scaled by all that is in it, so that on a CPU
each chunk is a batch there. So it is for a model of some size in float32, for which that is
quicker.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.audio import AudioError, HighBand
from speechssl.data.batching import BatchPlan
from speechssl.device import autocast
from speechssl.inference.recordings import Chunk, Clip, chunks

InferencePrecision = Literal["auto", "bf16", "fp32", "int8"]

LARGE = 20_000_000
"""Parameters of a model from which on one chunk keeps a CPU busy."""
BATCH_S = 60.0
"""Seconds of sound in a batch, padding included."""

BATCHES_AHEAD = 8
"""Batches for which chunks are collected and sorted by length; this bounds the memory."""


@dataclass(frozen=True)
class Unreadable:
    """A recording that could not be read to its end."""

    audio: str
    error: AudioError | OSError

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True)
class End:
    """The end of a clip that was read to its end."""

    name: str
    num_samples: int
    narrow_band: bool
    peak: float
    """The largest absolute sample."""
    notes: tuple[str, ...]
    """What is missing of it, or was changed: sentences."""


Event = Chunk | End | Unreadable


def windows(
    clips: Iterable[Clip],
    sample_rate: int,
    *,
    grid: int,
    batch_s: float,
    max_chunk_s: float,
    ahead: int = 0,
    context: int = 0,
) -> Iterator[list[Event]]:
    """The chunks of each clip and then its End, or an Unreadable in its place, in order and in
    lists of about eight batches. `grid`, `max_chunk_s`, `ahead` and `context` are those of
    :func:`chunks`."""
    if not (batch_s > 0 and max_chunk_s > 0):
        raise ValueError(
            f"batch_s and max_chunk_s must be above 0, got {batch_s} and {max_chunk_s}."
        )
    most = int(batch_s * BATCHES_AHEAD * sample_rate)
    window: list[Event] = []
    held = 0
    read = partial(
        chunks,
        sample_rate=sample_rate,
        grid=grid,
        max_chunk_s=max_chunk_s,
        ahead=ahead,
        context=context,
    )
    for event in _events(clips, sample_rate, read):
        window.append(event)
        held += len(event.wave) if isinstance(event, Chunk) else 0
        if held >= most:
            yield window
            window, held = [], 0
    if window:
        yield window


def fills_the_cpu(model: nn.Module) -> bool:
    """Whether the model is on a CPU and so large that a chunk alone is work enough for it."""
    weights = list(model.parameters())
    return weights[0].device.type == "cpu" and sum(w.numel() for w in weights) >= LARGE


def runs_alone(model: nn.Module, precision: InferencePrecision) -> bool:
    """Whether every chunk is a batch: on a CPU, where rough products would otherwise depend on what
    is in a batch, and where a batch of a large model costs more than its chunks one by one."""
    device = next(model.parameters()).device
    return device.type == "cpu" and (precision != "fp32" or fills_the_cpu(model))


def batches(
    given: Sequence[Chunk],
    sample_rate: int,
    *,
    batch_s: float,
    alone: bool,
) -> Iterator[list[int]]:
    """The numbers of the chunks in each batch: about equal lengths, `batch_s` seconds with padding;
    a longer chunk is a batch alone, and each is where `alone` says so (:func:`runs_alone`)."""
    if not given:
        return
    lengths_s = np.array([len(chunk.wave) / sample_rate for chunk in given])
    plan = BatchPlan(lengths_s, batch_s=1e-9 if alone else batch_s, seed=0, shuffle=False)
    for index in range(plan.num_batches):
        yield plan.batch(index).tolist()


def products(device: torch.device, precision: InferencePrecision) -> AbstractContextManager[object]:
    """Autocast; what a model in 8 bits computes besides is float32."""
    return autocast(device, "fp32" if precision == "int8" else precision)


def pad_chunks(waves: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Waves of (S_i,) float32, one batch -> (B, S) and (B,) lengths, on the device.

    On a CPU the products of each new shape are compiled, and what that made is kept: there S is
    one of 16 lengths an octave, at most 6 % more than the longest.
    """
    padded, lengths = shapes.pad_waves(waves)
    if device.type == "cpu":
        grid = 1 << max(padded.shape[1].bit_length() - 5, 0)
        padded = F.pad(padded, (0, -padded.shape[1] % grid))
    return padded.to(device), lengths.to(device)


def _events(
    clips: Iterable[Clip], sample_rate: int, read: Callable[..., Iterator[Chunk]]
) -> Iterator[Event]:
    for clip in clips:
        end, peak, high = 0, 0.0, HighBand(sample_rate)
        notes: list[str] = []
        try:
            for chunk in read(clip, notes=notes):
                high.add(chunk.own)
                peak = max(peak, float(np.abs(chunk.own).max(initial=0)))
                end = chunk.end
                yield chunk
        except (AudioError, OSError) as error:
            yield Unreadable(clip.name, error)
        else:
            yield End(clip.name, end, high.is_narrow, peak, tuple(notes))
