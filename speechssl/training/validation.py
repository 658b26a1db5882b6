"""The losses of a whole validation, added up from those of its batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from speechssl.pretext.task import TaskLoss


@dataclass(frozen=True)
class BatchScores:
    """What a validation keeps of a batch."""

    terms: dict[str, tuple[float, float, float, str]]
    """Sum, count, weight and task of each term of the loss."""
    metrics: dict[str, Tensor]
    tallies: dict[str, Tensor]
    gathered: dict[str, Tensor]

    @classmethod
    def of(cls, result: TaskLoss, counts: dict[str, float]) -> "BatchScores":
        """Of the tasks' result, and the counts that divide its terms."""
        terms = {
            name: (float(term.total), counts[term.count], term.weight, term.task)
            for name, term in result.terms.items()
        }
        return cls(terms, result.metrics, result.tallies, result.gathered)


@dataclass(frozen=True)
class ValidScores:
    """What a validation makes of all batches, in their order."""

    means: dict[str, float]
    """Of each term of the loss."""
    weighted: dict[str, float]
    """The same times its weight."""
    tasks: dict[str, str]
    """Of which each term is."""
    metrics: dict[str, float]
    """Means over the batches."""
    tallies: dict[str, Tensor]
    gathered: dict[str, Tensor]


def add_up(batches: Sequence[BatchScores]) -> ValidScores:
    """The scores of all batches of a validation."""
    sums: dict[str, tuple[float, float, float]] = {}
    tasks: dict[str, str] = {}
    metrics: dict[str, Tensor] = {}
    tallies: dict[str, Tensor] = {}
    gathered: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, (own, num, weight, task) in batch.terms.items():
            total, count, _ = sums.get(name, (0.0, 0.0, 0.0))
            sums[name], tasks[name] = (total + own, count + num, weight), task
        accumulate(metrics, batch.metrics, 1 / len(batches))
        for name, tally in batch.tallies.items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
        for name, values in batch.gathered.items():
            gathered.setdefault(name, []).append(values)
    means = {name: total / max(count, 1) for name, (total, count, _) in sums.items()}
    return ValidScores(
        means,
        {name: means[name] * weight for name, (_, _, weight) in sums.items()},
        tasks,
        {name: float(value) for name, value in metrics.items()},
        tallies,
        {name: torch.cat(values) for name, values in gathered.items()},
    )


def accumulate(into: dict[str, Tensor], values: dict[str, Tensor], scale: float) -> None:
    """Add scalars times `scale` to those of their names, in place."""
    for name, value in values.items():
        part = value.detach().float() * scale
        into[name] = into[name] + part if name in into else part
