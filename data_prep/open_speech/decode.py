"""The sound of a clip at 16 kHz, and what is wrong with it. Shapes: S samples, C channels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.open_speech.clip import Clip
from speechssl.audio import AudioError, HighBand, resampled, stream, stream_bytes

SAMPLE_RATE = 16_000
PYAV_SUFFIXES = frozenset((".g722", ".gsm"))
"""Codings of telephones without a header, which soundfile does not open."""
FULL_SCALE = 0.99
"""Samples at or beyond this count as clipped."""
MAX_CLIPPED_SHARE = 0.05
MIN_DURATION_S = 0.1
SILENT_PEAK = 0.001
"""A recording whose largest sample is below this (-60 dBFS) holds nothing."""
NARROW_BAND_HZ = 4000


@dataclass(frozen=True, slots=True)
class Sound:
    wave: np.ndarray
    """(S,) float32 in [-1, 1], mono, at SAMPLE_RATE."""
    band_hz: int
    """What the recording can hold: half of its own rate, 4000 where nothing lies above the band of
    a telephone, and at most half of SAMPLE_RATE."""


class UnusableError(ValueError):
    """The reason why a clip is dropped."""


def decode(clip: Clip) -> Sound:
    """Raises UnusableError with the reason, where the clip cannot be used."""
    try:
        wave, rate, clipped_share, peak = _read(clip)
    except FileNotFoundError:
        raise UnusableError("missing: there is no such file") from None
    except (AudioError, OSError, EOFError) as error:
        reason = str(error).replace(str(clip.audio), clip.audio.name)
        raise UnusableError(f"unreadable: {reason}") from None
    duration_s = len(wave) / rate
    if duration_s < MIN_DURATION_S:
        raise UnusableError(f"empty: {duration_s:.2f} s")
    if peak < SILENT_PEAK:
        raise UnusableError(f"silent: no sample is above {peak:.5f} of full scale")
    if clipped_share > MAX_CLIPPED_SHARE:
        raise UnusableError(f"clipped: {clipped_share:.0%} of its samples are at full scale")
    high = HighBand(rate)
    high.add(wave)
    band_hz = min(NARROW_BAND_HZ if high.is_narrow else rate // 2, SAMPLE_RATE // 2)
    if rate != SAMPLE_RATE:
        parts = list(resampled([wave], rate, SAMPLE_RATE))
        wave = np.concatenate(parts)
    return Sound(np.clip(wave, -1.0, 1.0), band_hz)


def _read(clip: Clip) -> tuple[np.ndarray, int, float, float]:
    """(wave (S,) float32 mono at its own rate, that rate, clipped share, peak)"""
    if clip.audio.suffix.lower() in PYAV_SUFFIXES:
        blocks, rate = _pyav(clip.audio)
        wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        clipped = int(np.count_nonzero(np.abs(wave) >= FULL_SCALE))
        return wave, rate, clipped / max(len(wave), 1), float(np.abs(wave).max(initial=0.0))
    if clip.span is None:
        info, stretches = stream(clip.audio)
    else:
        info, stretches = stream_bytes(_member(clip.audio, clip.span), clip.name)
    parts, clipped, count = [np.zeros(0, np.float32)], 0, 0
    for block in stretches:  # (S, C)
        clipped += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
        count += block.size
        parts.append(stretches.mix(block))
    return np.concatenate(parts), info.sample_rate, clipped / max(count, 1), stretches.peak


def _member(archive: Path, span: tuple[int, int]) -> bytes:
    with archive.open("rb") as file:
        file.seek(span[0])
        return file.read(span[1])


def _pyav(path: Path) -> tuple[list[np.ndarray], int]:
    """(blocks (S,) float32 of the mono mean, sample rate)"""
    av = import_av()
    if not path.is_file():
        raise FileNotFoundError(path)
    blocks: list[np.ndarray] = []
    try:
        with av.open(str(path), format=path.suffix.lower()[1:]) as container:
            rate = int(container.streams.audio[0].rate)
            for frame in container.decode(audio=0):
                samples = frame.to_ndarray()  # (C, S) planar, or (1, C * S)
                if not frame.format.is_planar:
                    samples = samples.reshape(-1, frame.layout.nb_channels).T  # (C, S)
                scale = 32768.0 if samples.dtype == np.int16 else 1.0
                blocks.append((samples.astype(np.float64) / scale).mean(axis=0).astype(np.float32))
    except av.FFmpegError as error:
        raise AudioError(f"{path} does not decode ({error.strerror}).") from error
    return blocks, rate


def import_av() -> Any:
    """PyAV, which decodes what soundfile does not."""
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "G.722 and GSM recordings need the package av; install it with: "
            "pip install 'speechssl[media]'"
        ) from error
    return av
