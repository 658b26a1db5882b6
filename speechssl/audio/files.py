"""Recordings on disk: probe, read, stream, write. Shapes: S samples, C channels."""

import warnings
from pathlib import Path

import numpy as np
import soundfile

from speechssl.audio.blocks import Blocks, mono_at
from speechssl.audio.info import AudioError, AudioInfo, AudioWarning
from speechssl.audio.opening import open_recording, reason


def probe(path: str | Path) -> AudioInfo:
    """What a recording is; FileNotFoundError or AudioError when that cannot be told.

    Its length is that of the samples that are there: where the header states none, or one that the
    pages, frames or bytes behind it do not bear out, it is decoded to its end, once as long as it
    does not change.
    """
    opened = open_recording(Path(path), str(path))
    opened.decoder.close()
    return opened.info


def read(
    path: str | Path,
    *,
    sample_rate: int = 16000,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> np.ndarray:
    """The wave (S,) float32 in [-1, 1] of a recording or a part of it: mono, at `sample_rate`.

    Channels are averaged, or one is taken where they cancel (:func:`speechssl.audio.mix`). S is
    ``round(n * sample_rate / source_rate)`` for the n source samples between `start_s` and
    ``start_s + duration_s`` (`duration_s` None: to the end). Several recordings that were joined in
    one file are one after the other. Samples beyond full scale are scaled by the largest of the
    file.

    Where sound is missing that the header states, what is there is read, with an AudioWarning; so
    it is with whatever else was not taken as it is. Raises FileNotFoundError for a missing file,
    and AudioError when the file is not sound, holds no samples, ends before the part that was asked
    for, does not decode at all, or holds NaN, infinite or impossible samples (see
    :data:`speechssl.audio.LOUDEST`).
    """
    wave, notes = read_with_notes(
        path, sample_rate=sample_rate, start_s=start_s, duration_s=duration_s
    )
    for note in notes:
        warnings.warn(note, AudioWarning, stacklevel=2)
    return wave


def read_with_notes(
    path: str | Path,
    *,
    sample_rate: int = 16000,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> tuple[np.ndarray, list[str]]:
    """:func:`read`, and the sentences that it would warn of."""
    whole = start_s == 0 and duration_s is None
    _, blocks = _stream(path, start_s, duration_s, scale=not whole)
    return mono_at(blocks, sample_rate), blocks.notes


def read_bytes(data: bytes, name: str = "<stdin>", *, sample_rate: int = 16000) -> np.ndarray:
    """:func:`read` for a whole file in memory; `name` is used in messages."""
    _, blocks = stream_bytes(data, name)
    wave = mono_at(blocks, sample_rate)
    for note in blocks.notes:
        warnings.warn(note, AudioWarning, stacklevel=2)
    return wave


def stream(
    path: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[AudioInfo, Blocks]:
    """The header, and blocks (S, C) float32 at the source rate; errors as in :func:`read`.

    Nothing is warned of: what :func:`read` warns of is in the notes of the blocks.
    """
    return _stream(path, start_s, duration_s, scale=True)


def stream_bytes(data: bytes, name: str = "<stdin>") -> tuple[AudioInfo, Blocks]:
    """:func:`stream` for a whole file in memory."""
    opened = open_recording(data, name)
    return opened.info, Blocks(opened)


def write(
    path: str | Path, wave: np.ndarray, sample_rate: int, subtype: str | None = "PCM_16"
) -> None:
    """Write a wave (S,) or (S, C) float to `path`; the suffix says the format (.wav, .flac, ...).

    `subtype` is soundfile's name of the coding; None takes the usual one of the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        soundfile.write(path, wave, sample_rate, subtype=subtype)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise AudioError(f"Cannot write {path}: {reason(error)}.") from error


def _stream(
    path: str | Path, start_s: float, duration_s: float | None, *, scale: bool
) -> tuple[AudioInfo, Blocks]:
    if not (0 <= start_s < 1e9 and (duration_s is None or 0 <= duration_s < 1e9)):
        raise ValueError(
            f"start_s and duration_s must be 0 or more and below 1e9, got {start_s} and "
            f"{duration_s}."
        )
    opened = open_recording(path if isinstance(path, Path) else Path(path), str(path))
    first = round(start_s * opened.info.sample_rate)
    wanted = None if duration_s is None else round(duration_s * opened.info.sample_rate)
    return opened.info, Blocks(opened, first, wanted, scale=scale)
