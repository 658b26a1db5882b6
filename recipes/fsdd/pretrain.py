"""Pretraining on Free Spoken Digit Dataset."""

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """For a CPU: fixed targets, short masks, light distortion."""
    return preset("tiny")


def small() -> PretrainConfig:
    """For more hours of speech and a GPU, or patience."""
    return preset("small")
