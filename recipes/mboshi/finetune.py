"""Fine-tuning on Mboshi's transcripts."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Twenty minutes on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=20.0))


def small() -> FinetuneConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=60.0))
