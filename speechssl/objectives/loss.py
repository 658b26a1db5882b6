"""What a pretext task returns: named sums with their counts, so that any split of a batch adds
up."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    """One addend of the loss: ``weight * total / (count over all micro-batches and processes)``."""

    total: Tensor
    """Scalar, the sum over the frames of this micro-batch."""
    count: str
    """Which count divides it: ``masked`` or ``unmasked`` frames."""
    weight: float


@dataclass(frozen=True)
class TaskLoss:
    """Addends by name (``contrastive``, ``diversity``, ...) and numbers to log by full name."""

    terms: dict[str, LossTerm]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    tallies: dict[str, Tensor] = field(default_factory=dict)
    """(V,) int64, how often each of V codes came up, by the name of the codebook; those of several
    batches add up."""


def combine(terms: dict[str, LossTerm], counts: dict[str, float]) -> Tensor:
    """The scalar to differentiate, each term divided by its global count."""
    parts = [term.total * (term.weight / max(counts[term.count], 1)) for term in terms.values()]
    return torch.stack(parts).sum()
