"""Speech to text: files, folders and bytes of any length, batched.

What is written for a recording does not depend on what it is batched with: the model pads without looking
at the padding. Long recordings are cut where they are quiet, heard in parts and joined.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speechssl import audio, shapes
from speechssl.checkpoint import Checkpoint
from speechssl.decoding.align import Word, align, word_times
from speechssl.decoding.greedy import Hypothesis, greedy_decode

MAX_PART_S = 30.0
"""A longer recording is cut into parts of at most this length."""
BATCH_S = 60.0
"""Most seconds in a batch, padding included."""
_SEARCH_S = 10.0
"""How far before the end of a part a quiet place is looked for."""
_FRAME_S = 0.02


@dataclass(frozen=True)
class Segment:
    """One part of a recording; times in seconds of the source."""

    start_s: float
    end_s: float
    text: str
    confidence: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording."""

    audio: str
    duration_s: float
    text: str
    confidence: float
    """Mean over the segments, weighted by their length, of the probability of what was written; not
    calibrated."""
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Part:
    """A piece of a recording, ready to be heard."""

    recording: int
    start_s: float
    wave: np.ndarray
    """(S,) float32 at the model's rate."""


def transcribe_waves(
    checkpoint: Checkpoint, waves: Sequence[np.ndarray], *, names: Sequence[str] | None = None
) -> list[Transcript]:
    """Transcribe waves (S_i,) float32 at the model's sample rate, in their order."""
    model, _ = checkpoint.require_ctc()
    rate = model.speech.config.sample_rate
    names = names or [f"wave {i}" for i in range(len(waves))]
    parts = [part for i, wave in enumerate(waves) for part in cut(i, wave, rate)]
    segments: list[list[Segment]] = [[] for _ in waves]
    for part, segment in _hear(checkpoint, parts, rate):
        segments[part.recording].append(segment)
    return [
        _join(name, len(wave) / rate, sorted(found, key=lambda s: s.start_s))
        for name, wave, found in zip(names, waves, segments, strict=True)
    ]


def transcribe_files(
    checkpoint: Checkpoint, paths: Iterable[str | Path]
) -> Iterator[Transcript | audio.AudioError]:
    """Transcribe files, a few at a time; an unreadable one gives its error in its place.

    Raises FileNotFoundError where a file does not exist.
    """
    model, _ = checkpoint.require_ctc()
    rate = model.speech.config.sample_rate
    for group in _groups([Path(p) for p in paths]):
        read: list[np.ndarray | audio.AudioError] = [_read(path, rate) for path in group]
        good = [(p, w) for p, w in zip(group, read, strict=True) if isinstance(w, np.ndarray)]
        done = iter(
            transcribe_waves(checkpoint, [w for _, w in good], names=[str(p) for p, _ in good])
        )
        for result in read:
            yield next(done) if isinstance(result, np.ndarray) else result


def cut(recording: int, wave: np.ndarray, sample_rate: int) -> list[Part]:
    """Parts of at most `MAX_PART_S`, cut at the quietest 20 ms of the last `_SEARCH_S` of each."""
    parts, start = [], 0
    longest, frame = round(MAX_PART_S * sample_rate), round(_FRAME_S * sample_rate)
    while len(wave) - start > longest:
        first = start + longest - round(_SEARCH_S * sample_rate)
        window = wave[first : start + longest]
        power = np.square(window[: len(window) // frame * frame].reshape(-1, frame)).mean(1)
        end = first + int(power.argmin()) * frame + frame // 2
        parts.append(Part(recording, start / sample_rate, wave[start:end]))
        start = end
    parts.append(Part(recording, start / sample_rate, wave[start:]))
    return parts


def _hear(
    checkpoint: Checkpoint, parts: Sequence[Part], rate: int
) -> Iterator[tuple[Part, Segment]]:
    """Parts of similar length together; float32."""
    model, tokenizer = checkpoint.require_ctc()
    device = next(model.parameters()).device
    order = sorted((p for p in parts if len(p.wave)), key=lambda p: len(p.wave))
    for batch in _batches(order, rate):
        wave, lengths = shapes.pad_waves([p.wave for p in batch])
        with torch.inference_mode():
            log_probs, rows = model(wave.to(device), lengths.to(device))
        log_probs = log_probs.float().cpu()
        for row, (part, hypothesis) in enumerate(
            zip(batch, greedy_decode(log_probs, rows.cpu()), strict=True)
        ):
            scores = log_probs[row, : int(rows[row])].numpy()
            yield part, _segment(part, hypothesis, scores, checkpoint, rate)


def _segment(
    part: Part, hypothesis: Hypothesis, scores: np.ndarray, checkpoint: Checkpoint, rate: int
) -> Segment:
    model, tokenizer = checkpoint.require_ctc()
    end_s = part.start_s + len(part.wave) / rate
    words: list[Word] = []
    if hypothesis.ids:
        words = word_times(
            align(scores, hypothesis.ids).tokens,
            tokenizer,
            hop_s=model.hop_s,
            duration_s=end_s,
            offset_s=part.start_s,
        )
    return Segment(
        part.start_s, end_s, hypothesis.text(tokenizer), hypothesis.confidence, tuple(words)
    )


def _join(name: str, duration_s: float, segments: list[Segment]) -> Transcript:
    text = " ".join(s.text for s in segments if s.text)
    weights = [max(s.end_s - s.start_s, 1e-6) for s in segments]
    confidence = (
        float(np.average([s.confidence for s in segments], weights=weights)) if segments else 0.0
    )
    return Transcript(name, duration_s, text, confidence, tuple(segments))


def _batches(parts: Sequence[Part], rate: int) -> Iterator[list[Part]]:
    batch: list[Part] = []
    for part in parts:
        if batch and len(part.wave) / rate * (len(batch) + 1) > BATCH_S:
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


def _groups(paths: Sequence[Path], size: int = 64) -> Iterator[Sequence[Path]]:
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}.")
    for first in range(0, len(paths), size):
        yield paths[first : first + size]


def _read(path: Path, rate: int) -> np.ndarray | audio.AudioError:
    try:
        return audio.read(path, sample_rate=rate)
    except audio.AudioError as error:
        return error
