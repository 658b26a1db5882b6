"""Distortions of a wave: noise, rooms, other speakers, cheap channels. Pure numpy, time-aligned.

``distort`` sends a wave through one fixed chain, in the order in which the world does it: another
speaker, the room, the noise, the microphone's gain and clipping, the channel's band, rate and
coding, and lost packets. Each distortion is switched on with its own probability and draws from its
own random stream, so changing one leaves the others as they were. The samples keep their places
(filters are zero-phase, a room's direct path stays at 0): targets taken from the clean wave fit.

The functions below `distort` apply one distortion with one stated severity each.

Where the severities come from: PASE+ (arXiv:2001.09239, its speech contamination: reverberation,
additive noise, frequency mask, temporal mask, clipping, overlapping speech; numbers from its
released ``cfg/distortions/pase+.cfg``) and WavLM (arXiv:2110.13900, its utterance mixing).
S is a number of samples, F of frequency bins; waves are float32 in about [-1, 1].
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import scipy.fft

from speechssl import audio
from speechssl.config.bounds import AtLeast, Between, Interval, NotEmpty, check_fields

NoiseKind = Literal["white", "pink", "brown", "babble", "hum"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("white", "pink", "brown", "babble", "hum")

P = Annotated[float, Between(0, 1)]
"""A probability: 1 is always."""
Decibels = Annotated[tuple[float, float], Interval(-60, 100)]
Hertz = Annotated[tuple[float, float], Interval(10, 96_000)]


@dataclass(frozen=True)
class OverlapConfig:
    """Another speaker over a part of the utterance (WavLM, arXiv:2110.13900, utterance mixing)."""

    p: P = 0.0
    """Probability; nothing happens without a pool that has speech."""
    snr_db: Decibels = (-5.0, 5.0)
    """This utterance over the other, both measured whole; WavLM draws from (-5, 5) dB."""
    max_share: Annotated[float, Between(0, 0.5, "(]")] = 0.5
    """The longest part that is covered. Above one half the model cannot tell who is the speaker."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.overlap")


@dataclass(frozen=True)
class ReverbConfig:
    """A room: convolution with an impulse response, from the pool's folder or generated."""

    p: P = 0.0
    """Probability."""
    rt60_s: Annotated[tuple[float, float], Interval(0.01, 5)] = (0.1, 0.7)
    """Generated rooms: seconds until the sound has fallen by 60 dB. Above 1 s is a church."""
    direct_db: Annotated[tuple[float, float], Interval(-40, 60)] = (-6.0, 12.0)
    """Generated rooms: energy of the direct path over that of all reflections."""
    files_p: P = 0.5
    """Share of rooms taken from the pool's folder where it has any."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.reverb")


@dataclass(frozen=True)
class NoiseConfig:
    """Additive noise over the whole utterance, from the pool's folder or generated."""

    p: P = 0.0
    """Probability."""
    snr_db: Decibels = (0.0, 20.0)
    """Power of the utterance over that of the noise. PASE+ draws from 0, 5, 10 dB."""
    kinds: Annotated[tuple[NoiseKind, ...], NotEmpty()] = NOISE_KINDS
    """Generated noises, one is drawn: white, pink, brown, babble (speech-shaped, with the rhythm of
    syllables), hum (mains and its harmonics)."""
    files_p: P = 0.7
    """Share of noises taken from the pool's folder where it has any."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.noise")


@dataclass(frozen=True)
class GainConfig:
    """Loudness of the whole utterance."""

    p: P = 0.0
    """Probability."""
    gain_db: Annotated[tuple[float, float], Interval(-80, 40)] = (-12.0, 6.0)
    """Positive gains may leave [-1, 1]; nothing is clipped here."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.gain")


@dataclass(frozen=True)
class ClipConfig:
    """An overdriven microphone."""

    p: P = 0.0
    """Probability."""
    level: Annotated[tuple[float, float], Interval(0.001, 1)] = (0.1, 0.5)
    """What is left of the highest peak; PASE+ draws from 0.1, 0.3, 0.5."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.clip")


@dataclass(frozen=True)
class BandLimitConfig:
    """A channel that loses a part of the spectrum: low-pass, high-pass or band-stop."""

    p: P = 0.0
    """Probability."""
    low_pass_hz: Hertz = (2000.0, 6000.0)
    """Cut-off of the low-pass; consonants are lost below 3 kHz."""
    high_pass_hz: Hertz = (100.0, 600.0)
    """Cut-off of the high-pass."""
    stop_hz: Hertz = (300.0, 6000.0)
    """Where the centre of the band-stop may lie."""
    stop_octaves: Annotated[tuple[float, float], Interval(0.05, 4)] = (0.3, 1.0)
    """Width of the band-stop."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.band_limit")


@dataclass(frozen=True)
class ResampleConfig:
    """Down to a lower sampling rate and up again."""

    p: P = 0.0
    """Probability."""
    rates: Annotated[tuple[Annotated[int, AtLeast(1000)], ...], NotEmpty()] = (8000,)
    """Hertz, one is drawn; those not below the wave's own rate do nothing. PASE+ has 8000."""
    alias_p: P = 0.3
    """Share that is done without a filter, as cheap devices do: higher tones fold down."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.resample")


@dataclass(frozen=True)
class CodecConfig:
    """Coarse companding quantisation, the sound of a telephone line (mu-law, ITU-T G.711)."""

    p: P = 0.0
    """Probability."""
    bits: Annotated[tuple[int, int], Interval(2, 16)] = (4, 8)
    """Bits a sample, (fewest, most). 8 is hardly heard, 4 is harsh."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.codec")


@dataclass(frozen=True)
class DropConfig:
    """Lost packets: chunks of zeros."""

    p: P = 0.0
    """Probability."""
    share: Annotated[tuple[float, float], Interval(0, 0.9)] = (0.02, 0.1)
    """Part of the utterance that is lost, all chunks together."""
    chunk_s: Annotated[tuple[float, float], Interval(0.001, 10)] = (0.02, 0.1)
    """Length of a chunk; PASE+ draws from 25 and 50 ms around 50 and 100 ms. Chunks well above
    0.1 s take whole phones, which CTC is then asked to guess."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.drop")


@dataclass(frozen=True)
class DistortionConfig:
    """The whole chain, in its order. The default distorts nothing."""

    overlap: OverlapConfig = field(default_factory=OverlapConfig)
    """Another speaker."""
    reverb: ReverbConfig = field(default_factory=ReverbConfig)
    """The room, which both speakers share."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Additive noise."""
    gain: GainConfig = field(default_factory=GainConfig)
    """Loudness."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Clipping."""
    band_limit: BandLimitConfig = field(default_factory=BandLimitConfig)
    """Lost parts of the spectrum."""
    resample: ResampleConfig = field(default_factory=ResampleConfig)
    """A lower sampling rate."""
    codec: CodecConfig = field(default_factory=CodecConfig)
    """Coarse quantisation."""
    drop: DropConfig = field(default_factory=DropConfig)
    """Lost chunks."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion")


def none() -> DistortionConfig:
    """No distortion."""
    return DistortionConfig()


def light() -> DistortionConfig:
    """Clean recordings by another microphone in another room: for fine-tuning and small models."""
    return DistortionConfig(
        reverb=ReverbConfig(p=0.15, rt60_s=(0.1, 0.4), direct_db=(3.0, 15.0)),
        noise=NoiseConfig(p=0.3, snr_db=(10.0, 30.0)),
        gain=GainConfig(p=0.5),
        band_limit=BandLimitConfig(p=0.1, low_pass_hz=(3400.0, 7000.0)),
    )


def full() -> DistortionConfig:
    """The probabilities of PASE+ (``cfg/distortions/pase+.cfg``), ranges for its values.

    Overlap follows WavLM instead, whose signal-to-noise ratios are lower (p 0.2; PASE+ 0.1 at 5 to
    10 dB): a masked prediction task learns from it which speaker is meant.
    """
    return DistortionConfig(
        overlap=OverlapConfig(p=0.2),
        reverb=ReverbConfig(p=0.5),
        noise=NoiseConfig(p=0.4),
        gain=GainConfig(p=0.5),
        clip=ClipConfig(p=0.2),
        band_limit=BandLimitConfig(p=0.35),
        resample=ResampleConfig(p=0.25),
        codec=CodecConfig(p=0.1),
        drop=DropConfig(p=0.2),
    )


# -- what waves are taken from ------------------------------------------------------------------


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


# -- the chain ----------------------------------------------------------------------------------


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
    coins = generator.random(len(_CHAIN))
    seeds = generator.integers(2**63, size=len(_CHAIN))
    result, applied = np.array(wave, dtype=np.float32), []
    for (name, step), coin, seed in zip(_CHAIN.items(), coins, seeds, strict=True):
        chosen = getattr(config, name)
        if coin < chosen.p:
            own_stream = np.random.Generator(np.random.SFC64(int(seed)))
            changed = step(result, chosen, _Draw(sample_rate, own_stream, pool or DistortionPool()))
            if changed is not None:
                result = changed
                applied.append(name)
    return Distorted(result, tuple(applied))


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


# -- one distortion each, with its severity given; none changes its input -------------------------


def overlap(
    wave: np.ndarray,
    other: np.ndarray,
    snr_db: float,
    *,
    start: int,
    other_start: int,
    length: int,
) -> np.ndarray:
    """Add `length` samples of `other` from `other_start` on to `wave` from `start` on.

    `snr_db` compares the whole utterances, as in WavLM's utterance mixing (arXiv:2110.13900):
    a pause that is cut out of `other` stays quiet.
    """
    result = wave.copy()
    scale = _scale_to(wave, other, snr_db)
    result[start : start + length] += scale * other[other_start : other_start + length]
    return result


def add_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`wave` + `noise`, both (S,), with the powers ``snr_db`` apart; silence stays silence."""
    return np.asarray(wave + _scale_to(wave, noise, snr_db) * noise, dtype=np.float32)


def _scale_to(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.float32:
    """The factor for `noise` that puts it `snr_db` under `wave`; 0 where one of them is silent."""
    power, noise_power = _power(wave), _power(noise)
    if noise_power == 0:
        return np.float32(0)
    return np.float32(math.sqrt(power / noise_power) * 10 ** (-snr_db / 20))


def _power(wave: np.ndarray) -> float:
    return float(np.dot(wave, wave)) / max(len(wave), 1)


def make_noise(
    kind: str, num_samples: int, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """(S,) float32 noise of one of `NOISE_KINDS`, at no particular level."""
    if kind == "hum":
        return _hum(num_samples, sample_rate, generator)
    size = scipy.fft.next_fast_len(num_samples, real=True)
    num_bins = size // 2 + 1
    hertz = np.arange(num_bins, dtype=np.float32) * np.float32(sample_rate / size)  # (F,)
    spectrum = generator.standard_normal(2 * num_bins, dtype=np.float32).view(np.complex64)  # (F,)
    if kind == "pink":  # power falls with f; level below 50 Hz, where nothing is heard
        spectrum /= np.sqrt(np.maximum(hertz, 50))
    elif kind == "brown":  # with f squared
        spectrum /= np.maximum(hertz, 50)
    elif kind == "babble":  # the long-term spectrum of speech: level to 500 Hz, then falling
        spectrum *= np.minimum(hertz, 100) / np.maximum(hertz, 500)
    noise = np.asarray(scipy.fft.irfft(spectrum, size)[:num_samples], dtype=np.float32)
    if kind == "babble":
        noise *= _syllables(num_samples, sample_rate, generator)
    return noise


def _hum(num_samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """(S,) mains hum: 50 or 60 Hz with ten harmonics of random strength, read from one period."""
    phase = np.arange(1024, dtype=np.float32) / np.float32(1024)
    period = np.zeros(1024, dtype=np.float32)
    for harmonic in range(1, 11):
        shift, strength = generator.random(2)
        period += np.float32(strength / harmonic) * np.sin(
            np.float32(2 * math.pi) * (harmonic * phase + np.float32(shift))
        )
    step = generator.choice((50, 60)) / sample_rate * 1024
    position = (np.arange(num_samples) * step + generator.uniform(0, 1024)).astype(np.int64)
    return np.asarray(period[position & 1023])


def _syllables(num_samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """(S,) positive envelope that rises and falls about four times a second."""
    every = max(sample_rate // 8, 1)
    points = np.exp(0.6 * generator.standard_normal(num_samples // every + 2))
    times = np.arange(num_samples) / every
    return np.interp(times, np.arange(len(points)), points).astype(np.float32)


def make_rir(
    rt60_s: float, direct_db: float, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """(R,) float32 room impulse response: the direct path, 1 at sample 0, and decaying noise.

    Polack's statistical model: reflections are Gaussian noise that falls by 60 dB in `rt60_s`; they
    set in after 0.5 to 5 ms, and the direct path has `direct_db` more energy than all of them.
    """
    gap = max(round(generator.uniform(0.0005, 0.005) * sample_rate), 1)
    length = max(round(rt60_s * sample_rate), gap + 1)
    rir = generator.standard_normal(length, dtype=np.float32)
    rir *= np.exp(np.linspace(0, -3 * math.log(10), length, dtype=np.float32))
    rir[:gap] = 0
    rir *= np.float32(math.sqrt(10 ** (-direct_db / 10) / float(np.dot(rir, rir))))
    rir[0] = 1
    return rir


def align_rir(rir: np.ndarray) -> np.ndarray:
    """A recorded impulse response from its direct path on, made positive: speech stays in place.

    The direct path is the strongest sample.
    """
    direct = int(np.argmax(np.abs(rir)))
    return np.asarray(np.sign(rir[direct]) * rir[direct:])


def reverberate(wave: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """`wave` (S,) in the room of `rir` (R,), whose direct path is sample 0.

    The result has the power of `wave`; the echo after S is cut off.
    """
    room = rir[: len(wave)]
    size = scipy.fft.next_fast_len(len(wave) + len(room) - 1, real=True)
    spectrum = scipy.fft.rfft(wave, size) * scipy.fft.rfft(room, size)
    result = np.asarray(scipy.fft.irfft(spectrum, size)[: len(wave)], dtype=np.float32)
    power = _power(result)
    if power == 0:
        return wave.copy()
    return result * np.float32(math.sqrt(_power(wave) / power))


def amplify(wave: np.ndarray, gain_db: float) -> np.ndarray:
    """`wave` louder by `gain_db`."""
    return wave * np.float32(10 ** (gain_db / 20))


def clip(wave: np.ndarray, level: float) -> np.ndarray:
    """Cut off what exceeds `level` of the highest peak."""
    limit = np.float32(level) * np.max(np.abs(wave))
    return np.clip(wave, -limit, limit)


def low_pass(wave: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is above `cutoff_hz`."""
    return _filter(wave, sample_rate, lambda hertz: 1 - _step(hertz, cutoff_hz))


def high_pass(wave: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is below `cutoff_hz`."""
    return _filter(wave, sample_rate, lambda hertz: _step(hertz, cutoff_hz))


def band_stop(wave: np.ndarray, low_hz: float, high_hz: float, sample_rate: int) -> np.ndarray:
    """Remove what is between `low_hz` and `high_hz`."""
    return _filter(
        wave, sample_rate, lambda hertz: 1 - _step(hertz, low_hz) + _step(hertz, high_hz)
    )


def _step(hertz: np.ndarray, edge_hz: float) -> np.ndarray:
    """0 below the edge, 1 above it, with a smooth rise a tenth of it wide, at least 40 Hz."""
    width_hz = max(0.1 * edge_hz, 40.0)
    ramp = np.clip((hertz - np.float32(edge_hz)) / np.float32(width_hz) + np.float32(0.5), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))


def _filter(
    wave: np.ndarray, sample_rate: int, gain: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Zero-phase: `gain` maps hertz (F,) to factors (F,). 50 ms of zeros keep the ends apart."""
    size = scipy.fft.next_fast_len(len(wave) + sample_rate // 20, real=True)
    spectrum = scipy.fft.rfft(wave, size)  # (F,)
    spectrum *= gain(np.arange(len(spectrum), dtype=np.float32) * np.float32(sample_rate / size))
    return np.asarray(scipy.fft.irfft(spectrum, size)[: len(wave)], dtype=np.float32)


def down_up(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """To `rate` hertz and back by good converters: nothing is left above half of `rate`."""
    return low_pass(wave, 0.5 * rate / 1.05, sample_rate)  # the slope ends at half the rate


def hold(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """To `rate` hertz and back by bad converters: each sample is held until the next is taken."""
    taken = np.arange(len(wave)) * rate // sample_rate  # number of the latest low-rate sample
    return wave[-(-taken * sample_rate // rate)]


def compand(wave: np.ndarray, bits: int) -> np.ndarray:
    """Quantise to `bits` a sample on the mu-law scale (mu 255, ITU-T G.711).

    Full scale is the highest peak. Zero is a level of its own, so silence stays silent.
    """
    peak = np.abs(wave).max()
    if peak == 0:
        return wave.copy()
    top = 2 ** (bits - 1) - 1
    loudness = np.log1p(np.abs(wave) * np.float32(255 / peak)) * np.float32(top / math.log(256))
    levels = np.expm1(np.arange(top + 1) * (math.log(256) / top)) * (peak / 255)  # (top + 1,)
    return np.copysign(levels.astype(np.float32)[np.rint(loudness).astype(np.int32)], wave)


def choose_chunks(
    num_samples: int, num_lost: int, lengths: tuple[int, int], generator: np.random.Generator
) -> list[tuple[int, int]]:
    """(first, stop) of chunks that do not overlap and hold `num_lost` samples together.

    Their lengths are drawn from ``lengths`` (shortest, longest); the last is cut to fit.
    """
    sizes: list[int] = []
    while (missing := num_lost - sum(sizes)) > 0:
        sizes.append(min(int(generator.integers(lengths[0], lengths[1] + 1)), missing))
    # Places among the samples that are kept, in order, then moved by the chunks before each.
    places = np.sort(generator.integers(num_samples - num_lost + 1, size=len(sizes)))
    firsts = places + np.cumsum([0, *sizes[:-1]])[: len(sizes)]
    return [(int(first), int(first) + size) for first, size in zip(firsts, sizes, strict=True)]


def drop(wave: np.ndarray, chunks: list[tuple[int, int]]) -> np.ndarray:
    """Zeros in each chunk (first, stop)."""
    result = wave.copy()
    for first, stop in chunks:
        result[first:stop] = 0
    return result
