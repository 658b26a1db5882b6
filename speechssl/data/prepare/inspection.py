"""Decoding a recording once, and what that says of it. Shapes: S samples, C channels, F frames."""

from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from speechssl.audio import AudioError, Envelope, HighBand, cut_times, stream
from speechssl.data.layouts import Recording
from speechssl.data.prepare.config import PrepareConfig

FULL_SCALE = 0.99
"""Samples at or beyond this count as clipped; the largest 8-bit sample is 0.992. Those of files
that go beyond full scale are divided by their peak before (:class:`speechssl.audio.Blocks`)."""

QUIET_PEAK = 0.01
"""A recording whose largest sample is below this (-40 dBFS) is quiet: the summary says so."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What decoding a recording once tells, enough to decide about it later."""

    error: str | None = None
    sample_rate: int = 0
    duration_s: float = 0.0
    peak: float = 0.0
    """The largest absolute sample of any channel, before any scaling."""
    clipped_share: float = 0.0
    beyond_full_scale: bool = False
    """Whether its samples are divided by their peak, which is beyond full scale."""
    spread_db: float = 0.0
    """Of a quiet recording: by how much its loud frames are above its quiet ones."""
    cancels: bool = False
    """Whether its channels cancel each other in their mean, so that one of them is taken."""
    missing: str = ""
    """A sentence where sound is missing that the header states."""
    high_share: float = 0.0
    """Share of the energy above 4 kHz (:class:`speechssl.audio.HighBand`)."""
    digest: str = ""
    """Of the mono samples at the source rate: equal for equal sound in any lossless format."""
    cuts: list[tuple[float, float, bool]] = field(default_factory=list)
    """(start_s, duration_s, silent) of each part of a long recording, in the file."""


def inspect(record: Recording, config: PrepareConfig) -> Inspection:
    """Decode `record` once, block by block; trouble with the file becomes `error`."""
    try:
        return _decode(record, config)
    except FileNotFoundError:
        return Inspection(error="missing: there is no such file")
    except (AudioError, OSError, ValueError) as error:
        return Inspection(error=f"unreadable: {error}")


def _decode(record: Recording, config: PrepareConfig) -> Inspection:
    info, blocks = stream(record.audio, start_s=record.start_s, duration_s=record.duration_s)
    expected_s = record.duration_s or info.duration_s - record.start_s
    hop = max(info.sample_rate // 100, 1)  # 10 ms
    envelope = Envelope(hop) if not record.text and expected_s > config.max_duration_s else None
    digest = blake2b(str(info.sample_rate).encode(), digest_size=16)
    num_samples, clipped, high = 0, 0, HighBand(info.sample_rate)
    quiet = _Levels(hop)
    for block in blocks:  # (S, C)
        if blocks.peak >= FULL_SCALE:
            clipped += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
        mono = blocks.mix(block)  # (S,)
        if blocks.peak < QUIET_PEAK:
            quiet.add(mono)
        high.add(mono)
        digest.update(mono.data)
        if envelope is not None:
            envelope.add(mono)
        num_samples += len(block)
    duration_s, peak = num_samples / info.sample_rate, blocks.peak
    cuts: list[tuple[float, float, bool]] = []
    if envelope is not None and duration_s > config.max_duration_s:
        rms = envelope.values()
        floor = 10 ** (config.silence_dbfs / 20)
        if peak < QUIET_PEAK:  # quiet is not silent
            floor = min(floor, 0.01 * peak)
        cuts = _cut_parts(rms, hop / info.sample_rate, duration_s, record.start_s, floor, config)
    return Inspection(
        None,
        info.sample_rate,
        round(duration_s, 6),
        round(peak, 6),
        round(clipped / max(num_samples * info.channels, 1), 6),
        blocks.divisor() > 1,
        round(quiet.spread_db(), 1) if peak < QUIET_PEAK else 0.0,
        blocks.has_cancelled,
        blocks.missing,
        float(f"{high.share:.3g}"),
        digest.hexdigest(),
        cuts,
    )


class _Levels:
    """How far the level of a recording moves: the RMS of frames of `hop` samples."""

    def __init__(self, hop: int) -> None:
        self._hop = hop
        self._parts = [np.zeros(0, np.float32)]

    def add(self, mono: np.ndarray) -> None:
        """The next block (S,) float32; a frame that goes on in the next one is left out."""
        frames = mono[: len(mono) // self._hop * self._hop].reshape(-1, self._hop)
        self._parts.append(np.sqrt(np.square(frames).mean(axis=1)))

    def spread_db(self) -> float:
        """From the 10th to the 95th percentile of the frames that are not zero; 0 where they are
        less than 0.2 s."""
        rms = np.concatenate(self._parts).astype(np.float64)  # (F,)
        rms = rms[rms > 0]
        if len(rms) < 20:
            return 0.0
        low, high = np.percentile(rms, (10, 95))
        return float(20 * np.log10(high / low))


def _cut_parts(
    rms: np.ndarray,
    hop_s: float,
    duration_s: float,
    start_s: float,
    floor: float,
    config: PrepareConfig,
) -> list[tuple[float, float, bool]]:
    """(start_s, duration_s, silent) of each part; one whose frames are all below `floor` is
    silent."""
    edges = [0.0, *cut_times(rms, hop_s, duration_s, config.max_duration_s), duration_s]
    parts = []
    for begin, end in pairwise(edges):
        level = rms[round(begin / hop_s) : max(round(end / hop_s), round(begin / hop_s) + 1)]
        silent = bool(level.max(initial=0.0) < floor)
        parts.append((round(start_s + begin, 6), round(end - begin, 6), silent))
    return parts
