"""Where speech is in a recording, and the recording without long pauses.

Shapes: S samples, F frames of 10 ms, N stretches.
"""

from itertools import pairwise

import numpy as np

from data_prep.open_speech.decode import SAMPLE_RATE
from speechssl.audio import Envelope, cut_times

HOP = SAMPLE_RATE // 100
HOP_S = 0.01
RANGE_DB = 30.0
"""Frames within so much of the loud level are speech; where the noise is higher than that, those
well above the noise are."""
ABOVE_NOISE_DB, LEAST_RANGE_DB = 6.0, 18.0
SMOOTHING = 5
"""Frames over which the level is averaged: the closures of plosives are no pauses."""
LEAST_SPEECH = 5
"""Stretches of fewer frames graze the level and are noise: a burst of one is SMOOTHING long."""
MARGIN = 12
"""Frames that are kept before and after speech: a plosive begins quietly, and so a cut is no
click."""
LONGEST_PAUSE = 50
"""Frames of a pause that is kept as it is; of a longer one both margins are."""
FADE = SAMPLE_RATE // 200
"""Samples over which two parts are blended: 5 ms."""


def levels(wave: np.ndarray) -> np.ndarray:
    """(S,) at 16 kHz -> RMS of each whole frame (F,) float32."""
    envelope = Envelope(HOP)
    envelope.add(np.ascontiguousarray(wave, dtype=np.float32))
    return envelope.values() if envelope.parts else np.zeros(0, np.float32)


def active_frames(wave: np.ndarray) -> np.ndarray:
    """(F,) bool: frames within RANGE_DB of the loud level (the 95th percentile), above digital
    silence."""
    rms = levels(wave)
    if not len(rms):
        return np.zeros(0, bool)
    loud = max(float(np.percentile(rms, 95)), 1e-5)
    return rms > loud * 10 ** (-RANGE_DB / 20)


def speech_frames(wave: np.ndarray) -> np.ndarray:
    """(F,) bool: where speech is, judged against the loud level and against the noise."""
    rms = levels(wave)
    if not len(rms):
        return np.zeros(0, bool)
    energy = np.convolve(
        np.square(rms, dtype=np.float64), np.full(SMOOTHING, 1 / SMOOTHING), "same"
    )
    level = 10 * np.log10(np.maximum(energy, 1e-12))  # (F,) dB
    loud, noise = np.percentile(level, 95), np.percentile(level, 5)
    least = min(max(noise + ABOVE_NOISE_DB, loud - RANGE_DB), loud - LEAST_RANGE_DB)
    speech = level > max(least, -80.0)
    for first, last in stretches(speech):
        if last - first < LEAST_SPEECH:
            speech[first:last] = False
    return speech


def stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """The runs of True of (F,) as [first, last) pairs."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def without_pauses(wave: np.ndarray) -> tuple[np.ndarray, float]:
    """``(wave (S',) float32, seconds of speech)``: pauses at the ends cut to MARGIN frames, those
    inside that are longer than LONGEST_PAUSE frames to two margins. Empty where there is no
    speech."""
    speech = speech_frames(wave)
    runs = stretches(speech)
    if not runs:
        return wave[:0], 0.0
    kept: list[list[int]] = []
    for first, last in runs:
        begin, end = max(first - MARGIN, 0), min(last + MARGIN, len(speech))
        if kept and first - (kept[-1][1] - MARGIN) <= LONGEST_PAUSE:
            kept[-1][1] = end
        else:
            kept.append([begin, end])
    parts = [wave[begin * HOP : end * HOP] for begin, end in kept]
    return blended(parts), float(np.count_nonzero(speech)) * HOP_S


def blended(parts: list[np.ndarray]) -> np.ndarray:
    """The parts (S_n,) one after the other, each blended into the next over FADE samples, so that
    no cut is a click. -> (sum of S_n - FADE each,) float32"""
    whole = parts[0]
    for part in parts[1:]:
        num = min(FADE, len(whole), len(part))
        ramp = (np.arange(1, num + 1, dtype=np.float32) / np.float32(num + 1)).astype(np.float32)
        middle = whole[len(whole) - num :] * (1 - ramp) + part[:num] * ramp
        whole = np.concatenate([whole[: len(whole) - num], middle, part[num:]])
    return whole


def cut(wave: np.ndarray, longest_s: float) -> list[np.ndarray]:
    """(S,) -> parts no longer than `longest_s`, cut at quiet places; as views."""
    duration_s = len(wave) / SAMPLE_RATE
    if duration_s <= longest_s:
        return [wave]
    places = [round(t * SAMPLE_RATE) for t in cut_times(levels(wave), HOP_S, duration_s, longest_s)]
    edges = [0, *places, len(wave)]
    return [wave[a:b] for a, b in pairwise(edges)]
