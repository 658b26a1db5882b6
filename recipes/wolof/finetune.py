"""Fine-tuning on Wolof transcripts."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """A quarter of an hour on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=15.0))


def small() -> FinetuneConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=60.0))
