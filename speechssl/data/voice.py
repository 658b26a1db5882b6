"""A change of voice of whole training samples: speed and pitch.

It is made before everything else, so that the clean wave, from which targets are made, has the new
voice like the distorted one: targets follow. Where only the model's input is to have another voice,
:class:`~speechssl.data.distortion_config.PitchConfig` is meant. S is a number of samples.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from speechssl.audio import play_at, shift_pitch
from speechssl.audio.pitch import MOST_SEMITONES
from speechssl.config.bounds import Between, Interval, check_fields
from speechssl.rng import rng


@dataclass(frozen=True)
class VoiceConfig:
    """A change of voice of whole samples, targets included, drawn anew in each epoch. The default
    changes nothing."""

    speed_p: Annotated[float, Between(0, 1)] = 0.0
    """Probability that a sample is played at another speed, which changes its pitch with it (speed
    perturbation, Ko et al., Interspeech 2015)."""
    speed: Annotated[tuple[float, float], Interval(0.5, 2)] = (0.9, 1.1)
    """The slowest and the fastest speed."""
    pitch_p: Annotated[float, Between(0, 1)] = 0.0
    """Probability that a sample's pitch is shifted, its formants with it, at the same duration."""
    semitones: Annotated[tuple[float, float], Interval(-MOST_SEMITONES, MOST_SEMITONES)] = (
        -3.0,
        3.0,
    )
    """The lowest and the highest shift; arXiv:2007.00991 draws from (-3, 3)."""

    def __post_init__(self) -> None:
        check_fields(self, "voice")

    @property
    def changes(self) -> bool:
        """Whether anything is ever changed."""
        return self.speed_p > 0 or self.pitch_p > 0

    @property
    def longest(self) -> float:
        """The most by which a sample's duration can be multiplied, at least 1."""
        return max(1 / self.speed[0], 1.0) if self.speed_p > 0 else 1.0


def change_voice(
    wave: np.ndarray, sample_rate: int, config: VoiceConfig, seed: int, epoch: int, item: int
) -> np.ndarray:
    """(S,) float32 -> (S / speed,) float32; `wave` itself where nothing is changed.

    A function of its arguments. Speed and pitch draw from streams of their own: to change the
    settings of one leaves the other as it was.
    """
    draw = rng(seed, "voice pitch", epoch, item)
    if draw.random() < config.pitch_p and (shift := draw.uniform(*config.semitones)):
        wave = shift_pitch(wave, shift, sample_rate)
    draw = rng(seed, "voice speed", epoch, item)
    if draw.random() < config.speed_p and (speed := draw.uniform(*config.speed)) != 1:
        wave = play_at(wave, speed)
    return wave
