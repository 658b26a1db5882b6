"""Pretraining on your own recordings: a beginning to copy and change."""

from dataclasses import replace

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """One hour on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=60.0))


def small() -> PretrainConfig:
    """For tens of hours of speech and more, on a GPU or with patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=480.0))
