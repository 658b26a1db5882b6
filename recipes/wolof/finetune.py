"""Fine-tuning on Wolof (ALFFA)."""

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Characters, the encoder frozen, the best model by validation CER."""
    return preset("tiny")


def small() -> FinetuneConfig:
    """The same for the larger model."""
    return preset("small")
