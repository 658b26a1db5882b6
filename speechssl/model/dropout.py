"""Dropout (arXiv:1207.0580).

Shapes: B utterances of a micro-batch, of which a process may have a part; T frames, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Each entry is zero with probability `p` in training, the others are scaled by 1 / (1 - p).

    A class of its own, so that :func:`.fast.accelerate.accelerate` finds the model's dropout and
    no other (that of LoRA, for example).
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape; draws nothing where `p` is 0."""
        return drop_plainly(input, self.p) if self.training and self.p else input


def drop_plainly(values: Tensor, p: float) -> Tensor:
    """Dropout by PyTorch's own numbers: (B, T, ...), or any shape where a process has the whole of
    its micro-batches."""
    if _State.part is None or values.dim() < 2:
        return F.dropout(values, p)
    kept = draw_rows(values.shape, 1, lambda shape: F.dropout(torch.ones(tuple(shape)), p))
    return values * kept.to(values)


@dataclass(frozen=True)
class _Part:
    rows: tuple[int, ...]
    num_rows: int
    num_frames: int


class _State:
    part: _Part | None = None


@contextmanager
def part_of_batch(rows: Sequence[int], num_rows: int, num_frames: int) -> Iterator[None]:
    """In here the inputs of dropout are `rows` of a micro-batch of `num_rows` utterances with
    `num_frames` frames: what is drawn is what would be drawn for all of it."""
    before, _State.part = _State.part, _Part(tuple(rows), num_rows, num_frames)
    try:
        yield
    finally:
        _State.part = before


def draw_rows(
    shape: Sequence[int], frames_at: int, draw: Callable[[Sequence[int]], Tensor]
) -> Tensor:
    """What `draw` gives for a shape; within :func:`part_of_batch` the part's rows of what it gives
    for the whole micro-batch.

    Args:
        shape: of (B, ...), or (V * B, ...) for V views of each utterance one after the other.
        frames_at: the dimension of the frames.
        draw: ``shape -> tensor``.
    """
    part = _State.part
    if part is None or shape[0] % len(part.rows):
        return draw(shape)
    whole, views = list(shape), shape[0] // len(part.rows)
    whole[0], whole[frames_at] = views * part.num_rows, part.num_frames
    rows = [view * part.num_rows + row for view in range(views) for row in part.rows]
    return draw(whole)[rows].narrow(frames_at, 0, shape[frames_at]).contiguous()
