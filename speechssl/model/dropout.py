"""Dropout (arXiv:1207.0580)."""

import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Each entry is zero with probability `p` in training, the others are scaled by 1 / (1 - p).

    A class of its own, so that :func:`.fast.accelerate.accelerate` finds the model's dropout and
    no other (that of LoRA, for example).
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape; draws nothing where `p` is 0."""
        return F.dropout(input, self.p) if self.training and self.p else input
