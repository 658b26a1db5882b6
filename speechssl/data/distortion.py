"""Distortions of a wave: another pitch, noise, rooms, other speakers, cheap channels. Time-aligned.

``distort`` sends a wave through one fixed chain, in the order in which the world does it: the
speaker's voice, another speaker, the room, the noise, the microphone's gain and clipping, the
channel's band, rate and coding, and lost packets. Each distortion is switched on with its own
probability and draws from its own random stream, so changing one leaves the others as they were.
The samples keep their places (filters are zero-phase, a room's direct path stays at 0, a shift of
pitch by 3 semitones moves them by less than 9 ms): targets taken from the clean wave fit.

The distortions themselves are in :mod:`speechssl.data.effects`, their settings in
:mod:`speechssl.data.distortion_config`. S is a number of samples; waves are float32 in about
[-1, 1].
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechssl import audio
from speechssl.data.distortion_config import (
    BandLimitConfig,
    ClipConfig,
    CodecConfig,
    DistortionConfig,
    DropConfig,
    GainConfig,
    NoiseConfig,
    OverlapConfig,
    PitchConfig,
    ResampleConfig,
    ReverbConfig,
    full,
    light,
    none,
)
from speechssl.data.effects import (
    NOISE_KINDS,
    add_noise,
    align_rir,
    amplify,
    band_stop,
    choose_chunks,
    clip,
    compand,
    down_up,
    drop,
    high_pass,
    hold,
    low_pass,
    make_noise,
    make_rir,
    overlap,
    reverberate,
)

__all__ = [
    "NOISE_KINDS",
    "BandLimitConfig",
    "ClipConfig",
    "CodecConfig",
    "Distorted",
    "DistortionConfig",
    "DistortionPool",
    "DropConfig",
    "GainConfig",
    "NoiseConfig",
    "OverlapConfig",
    "PitchConfig",
    "ResampleConfig",
    "ReverbConfig",
    "WaveFolder",
    "add_noise",
    "align_rir",
    "amplify",
    "band_stop",
    "choose_chunks",
    "clip",
    "compand",
    "distort",
    "distort_named",
    "down_up",
    "drop",
    "full",
    "high_pass",
    "hold",
    "light",
    "low_pass",
    "make_noise",
    "make_rir",
    "none",
    "overlap",
    "reverberate",
]


class WaveFolder:
    """The recordings of a folder, cut into windows, decoded when first asked for.

    Keeps at most `max_bytes` of decoded waves, dropping those not used for longest.
    """

    def __init__(
        self, folder: str | Path, sample_rate: int, *, window_s: float = 20.0, max_bytes: int
    ) -> None:
        """FileNotFoundError without such a folder, ValueError if it holds no sound."""
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        self._sample_rate, self._max_bytes = sample_rate, max_bytes
        self._windows: list[tuple[Path, float, float]] = []  # path, start_s, duration_s
        for path in audio.list_audio(Path(folder)):
            left_s, start_s = audio.probe(path).duration_s, 0.0
            while left_s > 0.01:  # a rest of less than 10 ms is no window
                self._windows.append((path, start_s, min(left_s, window_s)))
                left_s, start_s = left_s - window_s, start_s + window_s
        if not self._windows:
            raise ValueError(f"the folder {folder} holds no sound file")
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> np.ndarray:
        """Window `index` as (S,) float32; not to be written to."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        path, start_s, duration_s = self._windows[index]
        wave = audio.read(
            path, sample_rate=self._sample_rate, start_s=start_s, duration_s=duration_s
        )
        wave.setflags(write=False)
        self._kept[index] = wave
        self._num_bytes += wave.nbytes
        while self._num_bytes > self._max_bytes and len(self._kept) > 1:
            self._num_bytes -= self._kept.popitem(last=False)[1].nbytes
        return wave


@dataclass(frozen=True)
class DistortionPool:
    """The recordings that distortions may draw from. Without one, noise and rooms are generated."""

    noises: WaveFolder | None = None
    """Noise at the rate of the waves to distort."""
    rirs: WaveFolder | None = None
    """Room impulse responses at that rate."""
    speech: Callable[[int], np.ndarray] | None = None
    """Item -> (S,) float32, another utterance; called with 0 to `num_speech` - 1."""
    num_speech: int = 0
    """How many items `speech` knows."""

    @classmethod
    def open(
        cls,
        *,
        noise_dir: str | Path | None = None,
        rir_dir: str | Path | None = None,
        speech: Callable[[int], np.ndarray] | None = None,
        num_speech: int = 0,
        sample_rate: int = 16_000,
        max_bytes: int = 128 * 2**20,
    ) -> "DistortionPool":
        """A pool over folders. `max_bytes` of memory bound the decoded noise, as much the rooms."""
        noises, rirs = (
            None if folder is None else WaveFolder(folder, sample_rate, max_bytes=max_bytes)
            for folder in (noise_dir, rir_dir)
        )
        return cls(noises, rirs, speech, num_speech)


@dataclass(frozen=True)
class Distorted:
    """A distorted wave and what was done to it."""

    wave: np.ndarray
    """(S,) float32."""
    applied: tuple[str, ...]
    """Names of `DistortionConfig`'s fields, in the order in which they were applied."""


def distort(
    wave: np.ndarray,
    sample_rate: int,
    config: DistortionConfig,
    generator: np.random.Generator,
    pool: DistortionPool | None = None,
) -> np.ndarray:
    """(S,) float32 -> a new (S,) float32; see :func:`distort_named`."""
    return distort_named(wave, sample_rate, config, generator, pool).wave


def distort_named(
    wave: np.ndarray,
    sample_rate: int,
    config: DistortionConfig,
    generator: np.random.Generator,
    pool: DistortionPool | None = None,
) -> Distorted:
    """Draw distortions by their probabilities and apply them to a copy of `wave` (S,) float32.

    A pure function of its arguments and the state of `generator`. The result has the length of
    `wave` and is finite where `wave` is, for any S >= 1 and for silence.
    """
    if wave.ndim != 1 or len(wave) == 0:
        raise ValueError(f"the wave has shape {wave.shape}; give (S,) with at least one sample")
    draws = _draws(generator)
    result, applied = np.array(wave, dtype=np.float32), []
    for name, step in _CHAIN.items():
        coin, seed = draws[name]
        chosen = getattr(config, name)
        if coin < chosen.p:
            own_stream = np.random.Generator(np.random.SFC64(seed))
            changed = step(result, chosen, _Draw(sample_rate, own_stream, pool or DistortionPool()))
            if changed is not None:
                result = changed
                applied.append(name)
    return Distorted(result, tuple(applied))


def _draws(generator: np.random.Generator) -> dict[str, tuple[float, int]]:
    """A coin and the seed of a stream for each distortion. Those of version 0.1 draw first, so that
    what came later leaves them as they were."""
    found: dict[str, tuple[float, int]] = {}
    for names in ([name for name in _CHAIN if name not in _LATER], _LATER):
        coins = generator.random(len(names)).tolist()
        seeds = generator.integers(2**63, size=len(names)).tolist()
        found |= dict(zip(names, zip(coins, seeds, strict=True), strict=True))
    return found


@dataclass(frozen=True)
class _Draw:
    """What a step of the chain draws its severity from."""

    sample_rate: int
    generator: np.random.Generator
    pool: DistortionPool

    def uniform(self, limits: tuple[float, float]) -> float:
        return float(self.generator.uniform(*limits))

    def log_uniform(self, limits: tuple[float, float]) -> float:
        return math.exp(self.uniform((math.log(limits[0]), math.log(limits[1]))))

    def below(self, stop: int) -> int:
        return int(self.generator.integers(stop))


def _pitch(wave: np.ndarray, config: PitchConfig, draw: _Draw) -> np.ndarray:
    return audio.shift_pitch(wave, draw.uniform(config.semitones), draw.sample_rate)


def _overlap(wave: np.ndarray, config: OverlapConfig, draw: _Draw) -> np.ndarray | None:
    if draw.pool.speech is None or draw.pool.num_speech == 0:
        return None
    other = draw.pool.speech(draw.below(draw.pool.num_speech))
    longest = min(int(config.max_share * len(wave)), len(other))
    if longest == 0:
        return None
    length = 1 + draw.below(longest)
    start, other_start = draw.below(len(wave) - length + 1), draw.below(len(other) - length + 1)
    return overlap(
        wave,
        other,
        draw.uniform(config.snr_db),
        start=start,
        other_start=other_start,
        length=length,
    )


def _reverb(wave: np.ndarray, config: ReverbConfig, draw: _Draw) -> np.ndarray:
    rirs = draw.pool.rirs
    if rirs is not None and draw.generator.random() < config.files_p:
        return reverberate(wave, align_rir(rirs[draw.below(len(rirs))]))
    rt60_s, direct_db = draw.uniform(config.rt60_s), draw.uniform(config.direct_db)
    return reverberate(wave, make_rir(rt60_s, direct_db, draw.sample_rate, draw.generator))


def _noise(wave: np.ndarray, config: NoiseConfig, draw: _Draw) -> np.ndarray:
    snr_db, noises = draw.uniform(config.snr_db), draw.pool.noises
    if noises is not None and draw.generator.random() < config.files_p:
        source = noises[draw.below(len(noises))]
        first = draw.below(max(len(source) - len(wave), 0) + 1)
        noise = np.resize(source[first : first + len(wave)], len(wave))  # short ones are repeated
    else:
        kind = config.kinds[draw.below(len(config.kinds))]
        noise = make_noise(kind, len(wave), draw.sample_rate, draw.generator)
    return add_noise(wave, noise, snr_db)


def _gain(wave: np.ndarray, config: GainConfig, draw: _Draw) -> np.ndarray:
    return amplify(wave, draw.uniform(config.gain_db))


def _clip(wave: np.ndarray, config: ClipConfig, draw: _Draw) -> np.ndarray:
    return clip(wave, draw.uniform(config.level))


def _band_limit(wave: np.ndarray, config: BandLimitConfig, draw: _Draw) -> np.ndarray:
    kind, rate = draw.below(3), draw.sample_rate
    if kind == 0:
        return low_pass(wave, draw.log_uniform(config.low_pass_hz), rate)
    if kind == 1:
        return high_pass(wave, draw.log_uniform(config.high_pass_hz), rate)
    centre_hz, half = draw.log_uniform(config.stop_hz), 2 ** (draw.uniform(config.stop_octaves) / 2)
    return band_stop(wave, centre_hz / half, centre_hz * half, rate)


def _resample(wave: np.ndarray, config: ResampleConfig, draw: _Draw) -> np.ndarray | None:
    rate = config.rates[draw.below(len(config.rates))]
    if rate >= draw.sample_rate:
        return None
    aliased = draw.generator.random() < config.alias_p
    return hold(wave, rate, draw.sample_rate) if aliased else down_up(wave, rate, draw.sample_rate)


def _codec(wave: np.ndarray, config: CodecConfig, draw: _Draw) -> np.ndarray:
    return compand(wave, config.bits[0] + draw.below(config.bits[1] - config.bits[0] + 1))


def _drop(wave: np.ndarray, config: DropConfig, draw: _Draw) -> np.ndarray:
    low, high = (max(round(limit * draw.sample_rate), 1) for limit in config.chunk_s)
    num_lost = round(draw.uniform(config.share) * len(wave))
    return drop(wave, choose_chunks(len(wave), num_lost, (low, high), draw.generator))


_CHAIN: dict[str, Callable[[np.ndarray, Any, _Draw], np.ndarray | None]] = {
    "pitch": _pitch,
    "overlap": _overlap,
    "reverb": _reverb,
    "noise": _noise,
    "gain": _gain,
    "clip": _clip,
    "band_limit": _band_limit,
    "resample": _resample,
    "codec": _codec,
    "drop": _drop,
}

_LATER = ("pitch",)
"""Which came after version 0.1."""
