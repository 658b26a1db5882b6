"""What the loop trains, as an interface: pretraining and fine-tuning both are one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from speechssl.data.dataset import Batch, PlannedBatches


class Work(Protocol):
    """What is trained: a loss, a validation, a model to write."""

    @property
    def modules(self) -> nn.Module:
        """Everything with parameters or buffers, the heads of tasks too."""
        ...

    @property
    def valid_batches(self) -> PlannedBatches:
        """What it validates on."""
        ...

    def backward(
        self, step: int, max_steps: int, batches: Sequence[Batch]
    ) -> dict[str, torch.Tensor]:
        """Accumulate the gradients of update `step` of `max_steps`; the named scalars to log.

        What it draws at random depends on the step and on each batch's number, not on the process.
        """
        ...

    def validate(self, step: int) -> tuple[float, dict[str, float]]:
        """``(score, metrics)``; a lower score is better."""
        ...

    @property
    def higher_is_better(self) -> frozenset[str]:
        """Metrics of the validation of which a higher value is better."""
        ...

    def counts(self) -> dict[str, list[int]]:
        """How often each code was seen in the last validation, by kind; may be empty."""
        ...

    def sample(self) -> str:
        """Something of the last validation for a person to look at; may be empty."""
        ...

    def save(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the model folder; called by every process, the first one writes."""
        ...
