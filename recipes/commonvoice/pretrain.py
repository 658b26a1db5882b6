"""Pretraining on one language of Common Voice."""

from dataclasses import replace

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Ten hours on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=600.0))


def small() -> PretrainConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=1440.0))
