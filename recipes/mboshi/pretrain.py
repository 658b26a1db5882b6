"""Pretraining on the four hours of Mboshi's train; the transcripts are not looked at."""

from dataclasses import replace

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Two hours on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=120.0))


def small() -> PretrainConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=480.0))
