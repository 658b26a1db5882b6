"""Lengths that come back: batches are padded to one of few lengths, so that what a GPU's libraries
choose or compile for a shape is used again.

S is a number of samples, B of utterances.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

GridUse = Literal["auto", "on", "off"]
RATIO = 1.04
"""Of neighbouring lengths: at most 4 % more padding, 1 to 2 % on average."""


@dataclass(frozen=True)
class LengthGrid:
    """The lengths to which batches are padded: 1, 2, 3, ... 50, 52, 54, ... 100, 104, ... hops,
    each about 4 % longer than the one before.

    No batch gets larger than its budget: where the next length would make it so, the batch fills
    its budget; and none gets longer than the longest crop.
    """

    hop_samples: int
    """Lengths are its multiples."""
    most_samples: int
    """Samples in a batch, padding included."""
    longest: int | None = None
    """Samples of the longest crop."""

    def fitting(self, longest: int, num_utterances: int) -> int:
        """S to which a batch of this many utterances is padded, the longest of them of `longest`
        samples."""
        hops = -(-longest // self.hop_samples)
        lengths = _lengths(1 << hops.bit_length())
        lowest = lengths[bisect_left(lengths, hops)] * self.hop_samples
        for limit in (self.longest, self.most_samples // max(num_utterances, 1)):
            if limit is not None and longest <= limit < lowest:
                lowest = limit
        return lowest


@cache
def _lengths(most: int) -> list[int]:
    """The lengths in hops, up to the first of at least `most`."""
    lengths = [0, 1]
    while lengths[-1] < most:
        lengths.append(max(lengths[-1] + 1, int(lengths[-1] * RATIO)))
    return lengths


def length_grid(
    use: GridUse,
    device: torch.device,
    *,
    sample_rate: int,
    hop_samples: int,
    batch_s: float,
    max_crop_s: float | None = None,
) -> LengthGrid | None:
    """The grid of a run; None: each batch is as long as its longest utterance. ``auto``: on a
    GPU."""
    if use == "off" or (use == "auto" and device.type != "cuda"):
        return None
    longest = None if max_crop_s is None else round(max_crop_s * sample_rate)
    return LengthGrid(hop_samples, round(batch_s * sample_rate), longest)
