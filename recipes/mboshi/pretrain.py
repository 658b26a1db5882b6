"""Pretraining on the four hours of Mboshi's train; the transcripts are not looked at."""

from dataclasses import replace

from speechssl.objectives.contrastive import ContrastiveConfig
from speechssl.objectives.reconstruction import ReconstructionConfig
from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Two hours on a CPU. Nearly half of Mboshi's letters are vowels, each with its tone: pitch is
    predicted and rebuilt beside the spectrum."""
    config = preset("tiny")
    return replace(
        config,
        contrastive=ContrastiveConfig(
            quantizer="kmeans", entries=256, features=("mfcc", "prosody")
        ),
        reconstruction=ReconstructionConfig(features=("logmel", "prosody")),
        loop=replace(config.loop, budget_minutes=120.0),
    )


def small() -> PretrainConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=480.0))
