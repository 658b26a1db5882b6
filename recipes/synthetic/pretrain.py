"""Pretraining on an hour of synthetic English without transcripts."""

from dataclasses import replace

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Twenty minutes on a CPU, four times what the demo takes."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=20.0))
