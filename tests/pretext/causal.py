"""Causal forms of the small models, and what a change of some samples changes."""

from dataclasses import replace

import torch
from torch import Tensor

from speechssl.model.config import ModelConfig
from tests.pretext.speech import MODELS


def causal_form(config: ModelConfig) -> ModelConfig:
    """The same model that sees no future."""
    return replace(config, context=replace(config.context, causal=True), running_norm=True)


CAUSAL = {kind: causal_form(config) for kind, config in MODELS.items()}


def changed(wave: Tensor, first: int = 0, stop: int | None = None) -> Tensor:
    """(B, S) -> a copy with other, loud samples from `first` to `stop`."""
    other = wave.clone()
    generator = torch.Generator().manual_seed(2)
    part = other[:, max(first, 0) : stop]
    part += 3 * torch.randn(part.shape, generator=generator)
    return other
