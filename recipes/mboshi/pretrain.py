"""Pretraining on the four hours of Mboshi's train; the transcripts are not looked at."""

from dataclasses import replace

from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Two hours on a CPU. Nearly half of Mboshi's letters are vowels, each with its tone: pitch is
    predicted and rebuilt beside the spectrum."""
    config = preset("tiny")
    return replace(
        config,
        tasks=TaskConfigs(
            (
                MaskedUnitsConfig(quantizer="kmeans", num_units=256, features=("mfcc", "prosody")),
                ReconstructionConfig(features=("logmel", "prosody")),
            )
        ),
        loop=replace(config.loop, budget_minutes=120.0),
    )


def small() -> PretrainConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=480.0))
