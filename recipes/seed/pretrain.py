"""Pretraining of the seed on open speech of many languages, and of own speech from it."""

from dataclasses import replace

from speechssl.data.rehearsal import PACK
from speechssl.data.voice import VoiceConfig
from speechssl.pretext.ctc_distillation import CTCDistillationConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.phones import PhonesConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.supervised import CTCConfig
from speechssl.pretext.task import TaskConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.pretrain import PretrainConfig, preset

_UNITS = MaskedUnitsConfig(features=("mfcc", "prosody"))
_SOUND = ReconstructionConfig(features=("logmel", "prosody"))
_TRANSCRIPTS = (CTCConfig(), PhonesConfig(weight=0.5, layers=(4,)))


def tiny() -> PretrainConfig:
    """Hours on a CPU: every utterance teaches units, at the third layer too, and its sound; one
    with a transcript its romanised letters at the top and its phones two layers below. Languages
    are sampled by the root of their hours: give each its own manifest."""
    config = preset("tiny")
    return replace(
        config,
        tasks=TaskConfigs(
            (
                replace(_UNITS, layers=(3, -1)),
                _SOUND,
                *_TRANSCRIPTS,
            )
        ),
        mix_temperature=0.5,
        voice=VoiceConfig(speed_p=0.3, pitch_p=0.2),
        keep_heads=True,
        loop=replace(config.loop, budget_minutes=480.0, select_by="ctc/cer"),
    )


def without_ctc() -> PretrainConfig:
    """The seed with no transcript: units and sound alone."""
    return _with_tasks(replace(_UNITS, layers=(3, -1)), _SOUND, select_by="loss")


def without_reconstruction() -> PretrainConfig:
    """The seed without the sound of what is masked."""
    return _with_tasks(replace(_UNITS, layers=(3, -1)), *_TRANSCRIPTS)


def ctc_alone() -> PretrainConfig:
    """The seed of transcripts alone."""
    return _with_tasks(*_TRANSCRIPTS)


def _with_tasks(*tasks: TaskConfig, select_by: str = "ctc/cer") -> PretrainConfig:
    config = tiny()
    loop = replace(config.loop, select_by=select_by)
    return replace(config, tasks=TaskConfigs(tasks), loop=loop)


def own() -> PretrainConfig:
    """A person's own speech, which has no transcripts, from the seed on (`--init`): units, sound,
    and what the seed would transcribe stays as it is (learning without forgetting)."""
    return _own(CTCDistillationConfig())


def own_rehearsed() -> PretrainConfig:
    """The same with the rehearsal pack in the place of the frozen seed: half of the micro-batches
    are transcribed speech of the seed's languages."""
    return replace(_own(CTCConfig()), rehearsal=PACK)


def own_both() -> PretrainConfig:
    """The same with both."""
    return replace(_own(CTCDistillationConfig(), CTCConfig()), rehearsal=PACK)


def _own(*kept: TaskConfig) -> PretrainConfig:
    config = preset("tiny")
    return replace(
        config,
        tasks=TaskConfigs((_UNITS, _SOUND, *kept)),
        optim=replace(config.optim, lr=6e-4),
        loop=replace(config.loop, budget_minutes=20.0),
    )
