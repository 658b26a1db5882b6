"""A pretrained model as a module to build on: waves in, features out.

Shapes: B batch, S samples, T frames, D width, L layers + 1.
"""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.checkpoint import Checkpoint
from speechssl.inference.extract import weighted_sum
from speechssl.model.fast.accelerate import accelerate


class FrontEnd(nn.Module):
    """Waves -> a sum of all layers, with weights that are learned.

    The weights are a softmax over the layers, equal at first (arXiv:1802.05365, equation 1, without
    its scale; arXiv:2105.01051 judges speech representations so). The model is a copy, so that the
    checkpoint stays as it is; frozen (the default), it gets no gradient and runs without dropout
    in training too. The state_dict holds both, for a FrontEnd of the same checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, *, trainable: bool = False) -> None:
        super().__init__()
        self.speech = accelerate(copy.deepcopy(checkpoint.speech))
        self.trainable = trainable
        self.speech.requires_grad_(trainable)
        context = self.speech.config.context
        self.layer_logits = nn.Parameter(torch.zeros(context.num_layers + 1))  # (L,)
        self.dim = context.dim
        """D."""
        self.sample_rate = self.speech.config.sample_rate
        """Of the waves, Hz."""
        self.train(self.training)

    @property
    def layer_weights(self) -> list[float]:
        """What each layer counts from 0 on, with the sum 1: the `weights` of `extract`."""
        return self.layer_logits.detach().softmax(0).tolist()

    def train(self, mode: bool = True) -> Self:
        """As in every module, but a frozen model stays in evaluation."""
        super().train(mode)
        if not self.trainable:
            self.speech.eval()
        return self

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float32 in [-1, 1], (B,) valid samples -> features (B, T, D), zero behind each
        end, and (B,) valid frames."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            out = self.speech(wave, lengths, keep_hidden=True)
        features = weighted_sum(out.hidden, self.layer_logits.softmax(0))  # (B, T, D)
        return shapes.zero_padding(features, out.lengths), out.lengths
