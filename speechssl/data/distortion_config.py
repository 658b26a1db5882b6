"""How likely and how severe each distortion is, and the named settings of all of them.

Where the severities come from: PASE+ (arXiv:2001.09239, its speech contamination: reverberation,
additive noise, frequency mask, temporal mask, clipping, overlapping speech; numbers from its
released ``cfg/distortions/pase+.cfg``) and WavLM (arXiv:2110.13900, its utterance mixing).
"""

from dataclasses import dataclass, field
from typing import Annotated

from speechssl.audio.pitch import MOST_SEMITONES
from speechssl.config.bounds import AtLeast, Between, Interval, NotEmpty, check_fields
from speechssl.data.effects import NOISE_KINDS, NoiseKind

P = Annotated[float, Between(0, 1)]
"""A probability: 1 is always."""

Decibels = Annotated[tuple[float, float], Interval(-60, 100)]

Hertz = Annotated[tuple[float, float], Interval(10, 96_000)]


@dataclass(frozen=True)
class PitchConfig:
    """Another pitch of the input alone: the targets stay those of the unchanged voice, as where
    only the past is changed in contrastive predictive coding (arXiv:2007.00991)."""

    p: P = 0.0
    """Probability."""
    semitones: Annotated[tuple[float, float], Interval(-MOST_SEMITONES, MOST_SEMITONES)] = (
        -3.0,
        3.0,
    )
    """How far it is shifted, formants with it; arXiv:2007.00991 draws from (-3, 3)."""

    def __post_init__(self) -> None:
        check_fields(self, "distortion.pitch")


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
    """Bits a sample, (fewest, most). 8 is hardly audible, 4 is harsh."""

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

    pitch: PitchConfig = field(default_factory=PitchConfig)
    """The speaker's pitch."""
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
