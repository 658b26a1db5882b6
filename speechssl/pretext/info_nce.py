"""InfoNCE: the true target among distractors, and which these are.

Shapes: M masked frames of the batch, N negatives, E width of a target, G groups of codes.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(logits: Tensor) -> Tensor:
    """InfoNCE: (M, 1 + N), the true target first -> the cross-entropy, summed (arXiv:2006.11477,
    equation 3)."""
    first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    return F.cross_entropy(logits, first, reduction="sum")


def draw_negatives(mask: np.ndarray, num: int, generator: np.random.Generator) -> np.ndarray:
    """For each masked frame, `num` others of the same utterance, uniform with replacement.

    `mask` is (B, T) bool with M true entries; returns (M, num) int64, indices into those M in row
    order, never the frame itself. A frame alone in its utterance gets -1: it has no negatives.
    """
    parts, offset = [np.zeros((0, num), dtype=np.int64)], 0
    for count in mask.sum(1).tolist():
        if count == 1:
            parts.append(np.full((1, num), -1, dtype=np.int64))
        elif count > 1:
            drawn = generator.integers(0, count - 1, (count, num))
            drawn += drawn >= np.arange(count)[:, None]  # skip the frame itself
            parts.append(drawn + offset)
        offset += count
    return np.concatenate(parts)


def contrastive_logits(
    predictions: Tensor, targets: Tensor, codes: Tensor, negatives: Tensor
) -> Tensor:
    """Cosine similarities of each prediction with its target and its negatives.

    One (M, M) product and a gather of its entries: the same numbers as gathering N target vectors
    per frame, without the (M, N, E) tensor. A negative that carries the positive's code counts as
    -inf (as in wav2vec 2.0's code), and so does a missing one.

    Args:
        predictions, targets: (M, E) float32.
        codes: (M, G) int64 of the targets.
        negatives: (M, N) int64, -1 = none.

    Returns:
        (M, 1 + N) float32, the true target first.
    """
    predictions, targets = F.normalize(predictions, dim=1), F.normalize(targets, dim=1)
    scores = predictions @ targets.T  # (M, M)
    index = negatives.clamp_min(0)
    same = (codes[index] == codes[:, None]).all(2)  # (M, N)
    wrong = scores.gather(1, index).masked_fill(same | (negatives < 0), float("-inf"))
    return torch.cat([scores.diagonal()[:, None], wrong], dim=1)


def accuracy(logits: Tensor) -> Tensor:
    """Share of rows whose first logit is above all others; equal logits are wrong (collapse)."""
    if not len(logits):
        return logits.new_zeros(())
    best = logits[:, 0] > logits[:, 1:].amax(1)
    alone = torch.isinf(logits[:, 1:]).all(1)  # nothing to tell it from
    return (best & ~alone).float().sum() / (~alone).sum().clamp_min(1)


def chance(logits: Tensor) -> Tensor:
    """The loss of a model that cannot tell the target from its negatives, nats: the mean over rows
    of the log of how many finite logits there are."""
    return torch.isfinite(logits).sum(1).float().log().mean() if len(logits) else logits.sum()
