"""Fine-tuning on five minutes of synthetic English."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Six minutes on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=6.0))
