"""Pretraining of the seed on open speech of many languages."""

from dataclasses import replace

from speechssl.data.voice import VoiceConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Hours on a CPU: every utterance teaches units and its sound. `--tasks` adds ctc, by which one
    with a transcript teaches its romanised letters."""
    config = preset("tiny")
    return replace(
        config,
        tasks=TaskConfigs(
            (
                MaskedUnitsConfig(features=("mfcc", "prosody")),
                ReconstructionConfig(features=("logmel", "prosody")),
            )
        ),
        voice=VoiceConfig(speed_p=0.3, pitch_p=0.2),
        loop=replace(config.loop, budget_minutes=480.0),
    )
