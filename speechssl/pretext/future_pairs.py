"""Which frames predict which later frames of their utterance, and what those are told from.

Shapes: F valid frames of a batch, K steps, M frames that are targets, R rows, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechssl import shapes
from speechssl.device import send
from speechssl.model.config import FilterbankEncoderConfig, ModelConfig
from speechssl.pretext.info_nce import draw_negatives
from speechssl.pretext.inputs import Inputs


def overlap_free_step(model: ModelConfig) -> int:
    """The least number of frames between two latents that share no sample: their receptive field
    over the hop, rounded up (statistics that are normalised by left aside)."""
    encoder = model.encoder
    if isinstance(encoder, FilterbankEncoderConfig):
        field = model.hop_samples + encoder.kernel_samples
    else:
        field, _ = shapes.receptive_field(encoder.kernels, encoder.strides)
    return -(-field // model.hop_samples)


def future_pairs(
    frames: Sequence[int], first_step: int, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The frames that are targets, and from which frames each is predicted.

    Args:
        frames: valid ones of each utterance; they are numbered one utterance after the other.
        first_step: frames between a context and its first target.
        num_steps: K.

    Returns:
        ``(places, contexts)``, (M,) and (M, K) int64: ``contexts[m, k]`` is the frame from which
        ``places[m]`` is predicted as step k, ``first_step + k`` frames before, -1 where that is
        before the utterance.
    """
    ahead = first_step + np.arange(num_steps)  # (K,)
    starts = np.cumsum([0, *frames])
    places = [np.arange(first_step, max(num, first_step)) for num in frames]  # in the utterance
    contexts = [np.where(own[:, None] >= ahead, own[:, None] - ahead, -1) for own in places]
    numbered = [own + start for own, start in zip(places, starts, strict=False)]
    before = [np.where(c >= 0, c + start, -1) for c, start in zip(contexts, starts, strict=False)]
    return np.concatenate(numbered), np.concatenate(before)


def distractors(x: Inputs, num: int, purpose: str) -> np.ndarray:
    """For each valid frame `num` others of its utterance, uniform with replacement.

    (F, num) int64, numbered as in :func:`future_pairs`; never the frame itself, -1 where it is
    alone. An utterance's draws are a function of the seed, `purpose`, the micro-batch and its row.
    """
    parts, start = [], 0
    for row, frames in enumerate(x.frames.tolist()):
        own = draw_negatives(np.ones((1, frames), bool), num, x.rng_of(purpose, row))
        parts.append(np.where(own < 0, -1, own + start))
        start += frames
    return np.concatenate(parts)


def rows_of(values: Tensor, index: np.ndarray) -> Tensor:
    """(R, C), (M, X) int64 -> (M, X, C)."""
    flat = send(torch.from_numpy(index.reshape(-1)), values.device)
    return values.index_select(0, flat).unflatten(0, index.shape)
