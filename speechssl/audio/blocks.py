"""Decoding a recording in blocks. Shapes: S samples, C channels."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Self

import numpy as np
import soundfile

from speechssl.audio import opening
from speechssl.audio.containers import Source, flac
from speechssl.audio.info import AudioError, AudioInfo
from speechssl.audio.opening import (
    AnyDecoder,
    Decoder,
    Opened,
    State,
    Stretch,
    missing,
    open_recording,
)
from speechssl.audio.resample import resampled

LOUDEST = float(1 << 31)
"""No sample is beyond it, not even 32-bit integers written as floats; 1e38 is a damaged file, and
turns to NaN in a filter."""

OVERSHOOT = 1.5
"""A lossy decoder may go a little beyond full scale where what it was given did not. Up to here
that is limited, as every player does; a sample beyond it was too loud before it was coded."""

NOTED_SHARE = 5e-3
"""So many samples beyond full scale are worth a note."""

PREROLL_S = 1.0
"""Lossy decoders carry a state; after a seek they start this much earlier and throw it away."""

CANCELLED = 0.02
"""Channels cancel in their mean where its energy times their number is less than this share of
their own: it is the whole of it where they have nothing in common, and more where they do."""

MIN_MIXED = 256
"""In fewer samples channels cancel by chance."""

_FLOATS = {"FLOAT", "DOUBLE"}


class Blocks(Iterator[np.ndarray]):
    """The blocks (S, C) float32 of a recording or a part of it, at its own rate.

    Samples that a file of floats has beyond full scale are divided by the largest of the whole
    file. Raises AudioError on the way for NaN, infinite or impossible samples (:data:`LOUDEST`),
    for a part that is not there, and where nothing decodes.
    """

    def __init__(
        self, opened: Opened, first: int = 0, wanted: int | None = None, *, scale: bool = True
    ) -> None:
        """`first` and `wanted` are samples of a channel, None: to the end. `scale` False: the
        caller divides by :meth:`divisor` at the end."""
        self.info: AudioInfo = opened.info
        problem = opened.info.problem if wanted is None else ""  # a part is there, or an error
        self.notes: list[str] = [problem] if problem else []
        """Sentences about what is missing or was changed; complete when all blocks are read."""
        self.missing = problem
        """The one about what is missing; empty where nothing is."""
        self.has_cancelled = False
        """Whether channels cancelled each other in :meth:`mix`, so that one was taken."""
        self.peak = 0.0
        """The largest absolute sample so far, before any scaling."""
        self.scales = scale
        self._opened, self._first, self._wanted = opened, first, wanted
        self._channel = 0
        self._beyond = self._count = self._lost = 0
        self._blocks = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> np.ndarray:
        return next(self._blocks)

    def mono(self) -> Iterator[np.ndarray]:
        """The blocks as (S,) float32, mixed by :meth:`mix`."""
        for block in self:
            yield self.mix(block)

    def channel(self, number: int) -> Iterator[np.ndarray]:
        """One channel of the blocks, counted from 0, as (S,) float32; AudioError where there are
        fewer."""
        if not 0 <= number < self.info.channels:
            raise AudioError(
                f"{self._opened.name} has {self.info.channels} channels, and no channel "
                f"{number + 1}."
            )
        for block in self:
            yield np.ascontiguousarray(block[:, number])

    def close(self) -> None:
        """Close the file before all blocks are read."""
        self._opened.decoder.close()

    def mix(self, block: np.ndarray) -> np.ndarray:
        """:func:`mix`, with a note where channels cancel."""
        if self.has_cancelled and len(block) < MIN_MIXED:
            return np.ascontiguousarray(block[:, self._channel])
        mono, notes, self._channel = mix_channels(block, self._opened.name)
        if notes and not self.has_cancelled:
            self.has_cancelled = True
            self.notes += notes
        return mono

    def divisor(self) -> float:
        """What the samples so far are to be divided by: 1 within full scale."""
        limit = 1.0 if self.info.subtype in _FLOATS else OVERSHOOT
        return self.peak if self.peak > limit else 1.0

    def _read(self) -> Iterator[np.ndarray]:
        opened, info = self._opened, self.info
        with opened.decoder:
            left = self._check_part()
            is_float, divisor = info.subtype in _FLOATS, 1.0
            # one block of the whole file has its peak
            single = left == info.num_samples <= opening.BLOCK_SAMPLES // info.channels
            if self.scales and is_float and left > 0 and not single:
                divisor = self._file_divisor()
            for block in self._decoded(left):
                peak = max(float(block.max()), -float(block.min()))
                if not peak < LOUDEST:  # NaN compares as False
                    raise AudioError(
                        f"{opened.name} holds NaN or infinite samples, or impossible ones."
                    )
                self.peak = max(self.peak, peak)
                if self.scales and divisor == 1:
                    if is_float and single:
                        divisor = self.divisor()
                    elif not is_float and peak > OVERSHOOT:
                        divisor = self._file_divisor()
                self._count += block.size
                if peak > 1 and divisor == 1:
                    self._beyond += int(np.count_nonzero(np.abs(block) > 1))
                yield block if divisor == 1 else block / np.float32(divisor)
        self._note_level()

    def _check_part(self) -> int:
        """The samples to be read."""
        info, name, first, wanted = self.info, self._opened.name, self._first, self._wanted
        if not 1000 <= info.sample_rate <= 1_000_000:
            raise AudioError(
                f"{name} claims {info.sample_rate} samples a second: its header is wrong."
            )
        available = max(info.num_samples - first, 0)
        if available == 0 and (wanted is None or wanted > 0):
            if first == 0:
                raise AudioError(f"{name} holds no samples.")
            raise _ends_early(name, info.duration_s, first / info.sample_rate)
        if wanted is not None and wanted - available > _tolerance(self._opened):
            raise _ends_early(name, info.duration_s, (first + wanted) / info.sample_rate)
        return available if wanted is None else min(wanted, available)

    def _decoded(self, left: int) -> Iterator[np.ndarray]:
        """Blocks of `left` samples together, or fewer, with a note, where no more decode."""
        opened, first, asked, got_all, why = self._opened, self._first, left, 0, ""
        for number, stretch in enumerate(opened.stretches):
            if left <= 0:
                break
            if first >= stretch.num_samples:
                first -= stretch.num_samples
                continue
            wanted = min(left, stretch.num_samples - first)
            decoder = opened.decoder if number == 0 else Decoder(opened.place, stretch.part)
            with decoder:
                got = 0
                again = partial(_behind_damage, opened, stretch, decoder)
                if decoder.samplerate == self.info.sample_rate:
                    found = _direct(decoder, first, wanted, self.info.channels, again)
                else:
                    found = _converted(decoder, stretch, first, wanted, self.info, again)
                for block, reason, num_lost in found:
                    why, self._lost = why or reason, self._lost + num_lost
                    got += len(block)
                    if len(block):
                        yield block
            left, first = left - wanted, 0
            got_all += got
        self._note_missing(asked, got_all, why)

    def _note_missing(self, asked: int, got: int, why: str) -> None:
        """The decoder came to its end before `asked` samples, or left some out."""
        info, name = self.info, self._opened.name
        if self._lost:
            self.missing = (
                f"{name} is damaged: {self._lost / info.sample_rate:.3f} s of its "
                f"{info.duration_s:.3f} s do not decode and are silence."
            )
            self.notes.append(self.missing)
        if asked - got <= _tolerance(self._opened):
            return
        there_s = (self._first + got) / info.sample_rate
        if got == 0 or self._wanted is not None:
            raise AudioError(
                f"{name} cannot be decoded behind {there_s:.3f} s of its {info.duration_s:.3f} s"
                + (f" ({why})." if why else ".")
            )
        self.missing = missing(name, there_s, info.duration_s)
        self.notes.append(self.missing)

    def _file_divisor(self) -> float:
        """By the peak of the whole file, so that its parts fit together."""
        opened = self._opened
        if opened.state is None:
            peak = _peak(opened.place, opened.name)
        else:
            peak = _peak_once(opened.name, opened.state)
        self.peak = max(self.peak, peak)
        return self.divisor()

    def _note_level(self) -> None:
        name = self._opened.name
        if (divisor := self.divisor()) > 1:
            self.notes.append(scaled(name, divisor))
        elif self._beyond > NOTED_SHARE * self._count:
            self.notes.append(
                f"{name} has {self._beyond} samples beyond full scale, of up to {self.peak:.3g} "
                "times that: they are limited to it."
            )


def scaled(name: str, peak: float) -> str:
    """The sentence for samples beyond full scale."""
    times = f"{peak:.3f}".rstrip("0").rstrip(".")
    return f"{name} has samples of up to {times} times full scale: divided by it."


def mix(block: np.ndarray) -> np.ndarray:
    """Channels (S, C) float32 -> mono (S,) float32.

    The mean of the channels; where they cancel in it, as when one of them is inverted, the loudest
    channel alone.
    """
    return mix_channels(block, "")[0]


def mix_channels(block: np.ndarray, name: str) -> tuple[np.ndarray, list[str], int]:
    """:func:`mix`; where channels cancel, a sentence about `name`, and the channel taken."""
    if len(block) < MIN_MIXED or block.shape[1] == 1:
        return _mean(block), [], 0
    if (channel := _louder_channel(block)) is None:
        return _mean(block), [], 0
    note = (
        f"{name}: its channels cancel each other in their mean (one is inverted?), so that channel "
        f"{channel + 1} alone is used."
    )
    return np.ascontiguousarray(block[:, channel]), [note], channel


def _mean(block: np.ndarray) -> np.ndarray:
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    return np.asarray(block.mean(axis=1, dtype=np.float32))


def _louder_channel(block: np.ndarray) -> int | None:
    """The loudest channel of (S, C) where the channels cancel in their mean."""
    channels = [block[:, channel] for channel in range(block.shape[1])]
    energies = np.array([float(channel @ channel) for channel in channels])  # (C,)
    mean = _mean(block)
    mixed = float(mean @ mean) * block.shape[1]
    if mixed < CANCELLED * float(energies.mean()):
        return int(np.argmax(energies))
    return None


_Found = tuple[np.ndarray, str, int]
"""A block, why no more decode (empty: they do), and samples of the block that are silence in the
place of such that do not decode."""

_Again = Callable[[int], tuple[AnyDecoder, int] | None]
"""From a sample on that does not decode to a decoder of what follows, and where that begins."""


def _direct(
    decoder: AnyDecoder, first: int, wanted: int, channels: int, again: _Again
) -> Iterator[_Found]:
    """Blocks of `wanted` samples from `first` on, as far as they decode."""
    most = max(opening.BLOCK_SAMPLES // decoder.channels, 1)
    place, end, why = first, first + wanted, ""
    least = first  # where it may go on behind damage
    try:
        decoder.go_to(first, PREROLL_S)
    except soundfile.SoundFileError as error:
        why = opening.reason(error)
    while place < end:
        block = np.zeros((0, decoder.channels), np.float32)
        if not why:
            block, why = decoder.next_block(min(end - place, most))
            place += len(block)
            yield _with_channels(block, channels), "", 0
        if why and place < end and (found := again(max(place, least))) is not None:
            decoder, start = found
            why, least = "", start + 1
            while place < min(start, end):
                silence = np.zeros((min(start, end, place + most) - place, channels), np.float32)
                place += len(silence)
                yield silence, "", len(silence)
        elif why or len(block) == 0:
            yield np.zeros((0, channels), np.float32), why, 0
            return


def _behind_damage(
    opened: Opened, stretch: Stretch, damaged: AnyDecoder, sample: int
) -> tuple[AnyDecoder, int] | None:
    """:data:`_Again`; other coders find the next packet or frame themselves."""
    if not isinstance(damaged, Decoder) or damaged.container != "FLAC":
        return None
    with Source(opened.place) as source:
        found = flac.resume(source, stretch.part, sample)
    if found is None or found[1] >= stretch.own_samples:
        return None
    return damaged.goes_on_with(opened.place, found[0]), found[1]


def _converted(
    decoder: AnyDecoder, stretch: Stretch, first: int, wanted: int, info: AudioInfo, again: _Again
) -> Iterator[_Found]:
    """:func:`_direct` for a stretch at another rate, as mono in all channels."""
    reasons: list[str] = []

    def mono() -> Iterator[np.ndarray]:
        for block, why, _ in _direct(decoder, 0, stretch.own_samples, decoder.channels, again):
            reasons.append(why)
            yield mix(block)

    for block in resampled(mono(), decoder.samplerate, info.sample_rate):
        skipped = min(first, len(block))
        part = block[skipped : skipped + wanted]
        first, wanted = first - skipped, wanted - len(part)
        yield _with_channels(part[:, None], info.channels), reasons[-1] if reasons else "", 0


def _with_channels(block: np.ndarray, channels: int) -> np.ndarray:
    """(S, C) with another number of channels: all of them its mix."""
    if block.shape[1] == channels:
        return block
    return np.repeat(mix(block)[:, None], channels, axis=1)


def _ends_early(name: str, duration_s: float, wanted_s: float) -> AudioError:
    return AudioError(f"{name} ends at {duration_s:.3f} s, before {wanted_s:.3f} s.")


def _tolerance(opened: Opened) -> float:
    """Samples that may be missing at the end: headers of lossy files are off by a frame or two."""
    info = opened.info
    if info.format in opening.LOSSY or info.subtype in opening.LOSSY:
        return 0.1 * info.sample_rate
    return min(0.1 * info.sample_rate, 0.01 * info.num_samples)


@lru_cache(maxsize=1 << 14)
def _peak_once(name: str, _state: State) -> float:
    return _peak(Path(name), name)


def _peak(place: Path | bytes, name: str) -> float:
    """The largest absolute sample of a file, but for those that are none."""
    blocks = Blocks(open_recording(place, name), scale=False)
    return max((_largest(block) for block in blocks._decoded(blocks.info.num_samples)), default=0.0)


def _largest(block: np.ndarray) -> float:
    largest = max(float(block.max()), -float(block.min()))
    if math.isfinite(largest) and largest < LOUDEST:
        return largest
    level = np.abs(block)
    return float(level[level < LOUDEST].max(initial=0.0))


def mono_at(blocks: Blocks, sample_rate: int) -> np.ndarray:
    """The wave (S,) float32 in [-1, 1] of all blocks, at `sample_rate`."""
    if sample_rate <= 0:
        raise ValueError(f"sample_rate must be positive, got {sample_rate}.")
    mono: Iterable[np.ndarray] = blocks.mono()
    if blocks.info.sample_rate != sample_rate:
        mono = resampled(mono, blocks.info.sample_rate, sample_rate)
    parts = list(mono)
    wave = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.float32)])
    if not blocks.scales and (divisor := blocks.divisor()) > 1:
        wave = wave / np.float32(divisor)
    return np.clip(wave, -1.0, 1.0, out=wave)
