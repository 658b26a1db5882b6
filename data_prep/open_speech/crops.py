"""From the clips of one speaker to crops: pauses cut, long ones parted, short ones joined.

A crop has SHORTEST_S to LONGEST_S where the speaker has said that much. One of a long recording
with a transcript is longer, up to LONGEST_LABELED_S: nothing says which words are in which part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from data_prep.open_speech.clip import Clip
from data_prep.open_speech.decode import SAMPLE_RATE, UnusableError, decode
from data_prep.open_speech.pauses import FADE, blended, cut, without_pauses
from data_prep.open_speech.transcripts import readable
from speechssl.rng import rng

SHORTEST_S, LONGEST_S = 4.0, 15.0
LONGEST_LABELED_S = 30.0
LEAST_SPEECH_S = 0.1
GAP_S = (0.1, 0.3)
"""Between two clips that are joined, beside the margins that each has kept of its own pauses."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Speech without long pauses, and what is said."""

    name: str
    wave: np.ndarray
    """(S,) float32 at SAMPLE_RATE"""
    band_hz: int
    text: str | None = None
    phones: str | None = None

    @property
    def duration_s(self) -> float:
        return len(self.wave) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Crop:
    pieces: tuple[str, ...]
    """Names of the clips, or parts of clips, that are in it."""
    wave: np.ndarray
    band_hz: int
    texts: tuple[str, ...] | None = None
    """Of each piece, as its source writes it; None: a crop without a transcript."""
    phones: tuple[str, ...] | None = None
    """Of each piece, where the source gives them."""


@dataclass(frozen=True, slots=True)
class Drop:
    """A clip, or a part of it, that is in no crop."""

    name: str
    reason: str


def pieces_of(clips: Sequence[Clip]) -> tuple[list[Piece], list[Drop]]:
    """The speech of clips; what is unusable, or sample by sample one before, is dropped."""
    pieces: list[Piece] = []
    drops: list[Drop] = []
    digests: dict[bytes, str] = {}
    for clip in clips:
        try:
            sound = decode(clip)
            samples = np.round(sound.wave * 32767).astype("<i2")
            digest = blake2b(samples.tobytes(), digest_size=16).digest()
            if digest in digests:
                raise UnusableError(f"double: the same sound as {digests[digest]}")
            digests[digest] = clip.name
            wave, speech_s = without_pauses(sound.wave)
            if speech_s < LEAST_SPEECH_S:
                raise UnusableError(f"no speech: {speech_s:.2f} s rise above the noise")
        except UnusableError as error:
            drops.append(Drop(clip.name, str(error)))
            continue
        text = readable(clip.text)
        if text is None and clip.text is not None:
            drops.append(Drop(clip.name, f"transcript only: {clip.text!r} holds digits or no word"))
        phones = clip.phones if text is not None else None
        piece = Piece(clip.name, wave, sound.band_hz, text, phones)
        if piece.text is not None and piece.duration_s > LONGEST_LABELED_S:
            drops.append(
                Drop(
                    clip.name,
                    f"transcript only: {piece.duration_s:.0f} s are too long to be learned whole",
                )
            )
            piece = replace(piece, text=None, phones=None)
        pieces += parted(piece)
    return pieces, drops


def parted(piece: Piece) -> list[Piece]:
    """Parts of LONGEST_S at most of a piece without a transcript; one with a transcript whole."""
    if piece.text is not None or piece.duration_s <= LONGEST_S:
        return [piece]
    waves = cut(piece.wave, LONGEST_S)
    return [replace(piece, name=f"{piece.name}#{i}", wave=w) for i, w in enumerate(waves)]


def single(pieces: Sequence[Piece]) -> Iterator[Crop]:
    """A crop of each piece, where the speakers are not known."""
    for piece in pieces:
        yield _joined([piece], rng(0, "crops"))  # nothing is drawn for one


def crops_of(pieces: Sequence[Piece], seed: int, *key: str) -> Iterator[Crop]:
    """Pieces of one speaker and session, joined. Those with and without a transcript, and those of
    another bandwidth, are not joined with each other; neighbours are drawn, since neighbours in the
    source may all be the same word."""
    kinds: dict[tuple[bool, bool, int], list[Piece]] = {}
    for piece in pieces:
        kind = (piece.text is not None, piece.phones is not None, piece.band_hz)
        kinds.setdefault(kind, []).append(piece)
    for kind in sorted(kinds):
        members = kinds[kind]
        generator = rng(seed, "crops", *key, *map(int, kind))
        order = generator.permutation(len(members))
        batches = _batches([members[i] for i in order], generator)
        yield from (_joined(batch, generator) for batch in batches)


def _batches(pieces: list[Piece], generator: np.random.Generator) -> list[list[Piece]]:
    """Which pieces make a crop: its length is drawn between SHORTEST_S and LONGEST_S, and the last
    one, where it is too short, goes to an earlier one that has room for it."""
    batches: list[list[Piece]] = []
    goal = room = 0.0
    for piece in pieces:
        need = piece.duration_s + GAP_S[1]
        if room < goal and batches and need <= LONGEST_S - room:
            batches[-1].append(piece)
            room += need
        else:
            batches.append([piece])
            room, goal = piece.duration_s, float(generator.uniform(SHORTEST_S, LONGEST_S))
    if len(batches) > 1 and _length(batches[-1]) < SHORTEST_S:
        last = batches.pop()
        host = next((b for b in batches if _length(b) + _length(last) <= LONGEST_S), None)
        batches.append(last) if host is None else host.extend(last)
    return batches


def _length(batch: list[Piece]) -> float:
    """Seconds, with the longest gaps."""
    return sum(piece.duration_s + GAP_S[1] for piece in batch)


def _joined(batch: list[Piece], generator: np.random.Generator) -> Crop:
    waves = [batch[0].wave]
    for piece in batch[1:]:
        gap = round(float(generator.uniform(*GAP_S)) * SAMPLE_RATE) + 2 * FADE
        waves += [np.zeros(gap, np.float32), piece.wave]
    return Crop(
        tuple(piece.name for piece in batch),
        blended(waves),
        batch[0].band_hz,
        _all([piece.text for piece in batch]),
        _all([piece.phones for piece in batch]),
    )


def _all(texts: Sequence[str | None]) -> tuple[str, ...] | None:
    known = tuple(text for text in texts if text is not None)
    return known if len(known) == len(texts) else None
