"""Pretraining on the train part of the Wolof sample (0.5 h) or of all of ALFFA Wolof (16.8 h)."""

from dataclasses import replace

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Forty-five minutes on a CPU: enough for the sample, give all of ALFFA more."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=45.0))


def small() -> PretrainConfig:
    """For all of ALFFA, on a GPU or with patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=480.0))
