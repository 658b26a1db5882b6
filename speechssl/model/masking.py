"""Span masks: which frames the network must predict.

A mask is a function of the lengths and a generator, so it can be drawn again. Total for any length:
an utterance of at least one frame always has at least one masked frame.
"""

from collections.abc import Sequence

import numpy as np


def span_mask(
    lengths: Sequence[int],
    num_frames: int,
    *,
    share: float,
    span: int,
    generator: np.random.Generator,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """(B, num_frames) bool, True = masked, never in the padding.

    Each utterance of T frames gets ``int(share * T / span + U[0, 1))`` spans, at least one, whose
    starts are drawn without replacement and which may overlap (arXiv:2006.11477, section 4.2:
    share 0.65 and span 10 leave 49 % masked). Every utterance keeps its own number of masked
    frames: masks are not cut to the batch's smallest. `share` is in [0, 1], `span` in frames.

    `allowed` (B, num_frames) bool: spans are drawn as if all other frames were cut out; an
    utterance without an allowed frame has all of its own.
    """
    mask = np.zeros((len(lengths), num_frames), dtype=bool)
    if allowed is not None:
        places = [
            np.flatnonzero(allowed[row, :length])
            if allowed[row, :length].any()
            else np.arange(length)
            for row, length in enumerate(lengths)
        ]
        counts = [len(own) for own in places]
        drawn = span_mask(counts, max(counts), share=share, span=span, generator=generator)
        for row, own in enumerate(places):
            mask[row, own] = drawn[row, : len(own)]
        return mask
    for row, length in enumerate(lengths):
        if length < 1:
            continue
        width = min(span, max(length // 2, 1))  # a short utterance keeps some unmasked frames
        num_starts = length - width + 1
        num_spans = max(int(share * length / span + generator.random()), 1)
        starts = generator.choice(num_starts, min(num_spans, num_starts), replace=False)
        frames = (starts[:, None] + np.arange(width)).ravel()
        mask[row, frames] = True
    return mask


def channel_mask(
    num_utterances: int,
    num_channels: int,
    *,
    share: float,
    span: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """(B, C) bool, True = the channel is set to zero over the whole utterance; may be all False."""
    mask = np.zeros((num_utterances, num_channels), dtype=bool)
    width = min(span, num_channels)
    for row in range(num_utterances):
        num_spans = int(share * num_channels / span + generator.random())
        for start in generator.integers(0, num_channels - width + 1, num_spans):
            mask[row, start : start + width] = True
    return mask
