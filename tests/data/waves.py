"""Waves to distort, and how they are measured."""

import math
from dataclasses import replace

import numpy as np

from speechssl.data import distortion
from speechssl.data.distortion import (
    DistortionConfig,
    DistortionPool,
)
from speechssl.rng import rng

RATE = 16_000


def noise_wave(num_samples: int = RATE, seed: int = 0) -> np.ndarray:
    return (0.1 * rng(seed, "wave").standard_normal(num_samples)).astype(np.float32)


def tone(hertz: float, num_samples: int = RATE) -> np.ndarray:
    times = np.arange(num_samples) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def decibels(signal: np.ndarray, noise: np.ndarray) -> float:
    signal, noise = signal.astype(np.float64), noise.astype(np.float64)
    return 10 * math.log10(float(np.mean(signal**2)) / float(np.mean(noise**2)))


def only(name: str, **changes: object) -> DistortionConfig:
    part = replace(getattr(distortion.full(), name), p=1.0, **changes)
    return replace(distortion.none(), **{name: part})


def speech_pool() -> DistortionPool:
    return DistortionPool(speech=lambda item: noise_wave(5000 + item, seed=item), num_speech=3)
