"""Fine-tuning on one language of Common Voice, its sentences as they are written."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Two hours on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=120.0))


def small() -> FinetuneConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=240.0))
