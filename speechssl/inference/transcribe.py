"""Transcription: recordings of any length to text with word times, greedily or by beam search.

A recording longer than `recordings.MAX_CHUNK_S` is cut at pauses, and inferred in overlapping
windows where there are none (see `stitching`). Chunks of all recordings are put into batches of
about equal length, and a transcript does not depend on what it is batched with (see `batching`).

Shapes: B batch, S samples, T rows of log-probabilities, V vocabulary.
"""

import math
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechssl.audio import AudioWarning
from speechssl.checkpoint import Checkpoint
from speechssl.decoding.align import Word
from speechssl.decoding.greedy import Hypothesis, greedy_decode
from speechssl.device import keep_freed_memory, pick_device
from speechssl.inference.batching import (
    BATCH_S,
    End,
    InferencePrecision,
    Unreadable,
    batches,
    pad_chunks,
    products,
    runs_alone,
)
from speechssl.inference.confidence import calibrated, calibration_of
from speechssl.inference.decoders import Decoder
from speechssl.inference.groups import GroupWork, for_each_clip
from speechssl.inference.precision import fitting_precision
from speechssl.inference.recordings import MAX_CHUNK_S, Chunk, Clip, as_clip
from speechssl.inference.stitching import Result, Stitcher, Stretch, own_rows, stretches
from speechssl.inference.transcript import (
    Alternatives,
    Transcript,
    mean_confidence,
    to_segments,
    words_confidence,
)
from speechssl.model.config import ModelConfig
from speechssl.model.fast.accelerate import accelerate, in_8_bits
from speechssl.model.speech_model import CTCModel
from speechssl.workers import Processes


def transcribe(
    checkpoint: Checkpoint,
    source: str | Path | np.ndarray,
    *,
    decode: Decoder = greedy_decode,
    precision: InferencePrecision = "auto",
) -> Transcript:
    """The transcript of one file, or of a wave at the model's rate: float32 (S,), or another form
    of :func:`speechssl.audio.as_wave`.

    `decode` and `precision` are those of :func:`transcribe_all`. The transcript's notes are warned
    of (AudioWarning). Raises FileNotFoundError or AudioError for what cannot be read, and
    ValueError for a model that was not fine-tuned.
    """
    clips = [as_clip(source)]
    result = next(transcribe_all(checkpoint, clips, decode=decode, precision=precision))
    if isinstance(result, Unreadable):
        raise result.error
    for note in result.notes:
        warnings.warn(note, AudioWarning, stacklevel=2)
    return result


def transcribe_all(
    checkpoint: Checkpoint,
    clips: Iterable[Clip],
    *,
    decode: Decoder = greedy_decode,
    precision: InferencePrecision = "auto",
    batch_s: float = BATCH_S,
    max_chunk_s: float = MAX_CHUNK_S,
) -> Generator[Transcript | Unreadable]:
    """A result for each clip, in their order; memory does not grow with their length or number.

    Args:
        checkpoint: a fine-tuned model; it is moved to the GPU where there is one.
        clips: the recordings; one that cannot be read gives an :class:`Unreadable`.
        decode: greedily, or what
            :func:`speechssl.inference.decoders.choose_decoder` made for this model.
        precision: of the matrix products, ``fp32``, ``bf16``, ``int8`` (on a CPU), or ``auto``:
            what is fastest for a model of 20 M parameters or more on a CPU, else float32
            (:func:`speechssl.inference.precision.fitting_precision`).
        batch_s: seconds in a batch, padding included; a longer chunk is a batch alone.
        max_chunk_s: longest stretch that is one input.
    """
    transcriber = Transcriber(
        checkpoint, decode=decode, precision=precision, batch_s=batch_s, max_chunk_s=max_chunk_s
    )
    yield from transcriber(clips)


@dataclass(frozen=True)
class Said:
    """A stretch of a clip whose end is not reached; what was said in it stays as it is."""

    words: tuple[Word, ...]
    """None in silence."""
    end_s: float
    """How far the clip is transcribed; seconds."""


class Transcriber:
    """A model ready to transcribe; the arguments are those of :func:`transcribe_all`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        decode: Decoder = greedy_decode,
        precision: InferencePrecision = "auto",
        batch_s: float = BATCH_S,
        max_chunk_s: float = MAX_CHUNK_S,
    ) -> None:
        model, self.tokenizer = checkpoint.require_ctc()
        keep_freed_memory()
        accelerate(model.to(pick_device()).eval())
        self.precision = choose_precision(model, precision)
        self.model = in_8_bits(model) if self.precision == "int8" else model
        self.decode, self.calibration = decode, calibration_of(checkpoint, decode)
        self.batch_s, self.max_chunk_s = batch_s, max_chunk_s

    def __call__(self, clips: Iterable[Clip]) -> Iterator[Transcript | Unreadable]:
        """A result for each clip, in their order."""
        return (part for part in self.parts(clips) if not isinstance(part, Said))

    def parts(self, clips: Iterable[Clip]) -> Iterator[Said | Transcript | Unreadable]:
        """The results, and before them what was said in each stretch of a clip, as it is known."""
        words: list[Word] = []
        confidences: list[float] = []
        others: list[Alternatives] = []
        for event in self.stretches(clips, self.decode, _SILENCE):
            if isinstance(event, Stretch):
                hypothesis = event.result
                said = hypothesis.words(
                    self.tokenizer,
                    hop_s=self.model.hop_s,
                    duration_s=event.end_s,
                    offset_s=event.start_s,
                )
                said = calibrated(said, self.calibration)
                words += said
                confidences.append(hypothesis.confidence)
                if hypothesis.alternatives:
                    others.append(Alternatives(event.start_s, event.end_s, hypothesis.alternatives))
                yield Said(tuple(said), event.end_s)
                continue
            result = _transcript(event, words, confidences, others, self.model.speech.config)
            if self.calibration and isinstance(result, Transcript):
                result = replace(result, calibrated=True)
            yield result
            words, confidences, others = [], [], []

    def stretches(
        self,
        clips: Iterable[Clip],
        decode: Callable[[Tensor, Tensor], list[Result]],
        silence: Result,
    ) -> Iterator[Stretch[Result] | End | Unreadable]:
        """What `decode` makes of the log-probabilities (B, T, V) and rows (B,) of each stretch of
        the clips, and where these end; `silence` for digital silence."""
        return stretches(
            clips,
            lambda chunks: infer_chunks(
                self.model, chunks, decode, self.precision, self.batch_s, silence
            ),
            Stitcher(decode, self.tokenizer, self.model),
            self.model.speech,
            batch_s=self.batch_s,
            max_chunk_s=self.max_chunk_s,
        )


def _transcript(
    event: End | Unreadable,
    words: list[Word],
    confidences: list[float],
    others: list[Alternatives],
    config: ModelConfig,
) -> Transcript | Unreadable:
    """Of a clip that has ended; `confidences` and `others` are those of its chunks."""
    if isinstance(event, Unreadable):
        return event
    return Transcript(
        event.name,
        event.num_samples / config.sample_rate,
        to_segments(words),
        words_confidence(words) if words else mean_confidence(confidences),
        event.narrow_band,
        (*event.notes, *level_note(event, config)),
        tuple(others),
    )


@dataclass(frozen=True)
class TranscribeGroup:
    """Makes the work of :func:`speechssl.inference.groups.for_each_clip`."""

    decode: Decoder
    precision: InferencePrecision
    batch_s: float

    def __call__(self, checkpoint: Checkpoint) -> GroupWork[Clip, Transcript | Unreadable]:
        transcriber = Transcriber(
            checkpoint, decode=self.decode, precision=self.precision, batch_s=self.batch_s
        )
        return lambda clips: list(transcriber(clips))


def transcribe_files(
    checkpoint: Checkpoint,
    clips: Sequence[Clip],
    *,
    source: str,
    decode: Decoder = greedy_decode,
    precision: InferencePrecision = "auto",
    batch_s: float = BATCH_S,
    processes: Processes = "auto",
    say: Callable[[str], None],
) -> Generator[Transcript | Unreadable]:
    """As :func:`transcribe_all`, shared by processes; a transcript is the same for any number of
    them. `source`, `processes` and `say` are those of :func:`for_each_clip`."""
    model, _ = checkpoint.require_ctc()
    precision = choose_precision(model.to(pick_device()), precision)
    make = TranscribeGroup(decode, precision, batch_s)
    yield from for_each_clip(
        clips,
        clips,
        checkpoint,
        make,
        source=source,
        processes=processes,
        batch_s=batch_s,
        precision=precision,
        say=say,
    )


QUIET_DBFS = -50.0
"""A recording whose peak is below this is far from what models learn from: their levels differ by
some 20 dB, and a peak is usually above -20 dBFS."""


def level_note(end: End, config: ModelConfig) -> list[str]:
    """That the recording is too quiet for a model that takes waves as they are."""
    if config.normalize_wave or not 0 < end.peak < 10 ** (QUIET_DBFS / 20):
        return []
    return [
        f"{end.name} is very quiet: its peak is at {20 * math.log10(end.peak):.0f} dBFS, and the "
        "model does not normalise its input, so that errors are likely; amplify the recording."
    ]


def choose_precision(model: CTCModel, precision: InferencePrecision) -> InferencePrecision:
    """`precision`, or what ``auto`` is for this model on its device."""
    return fitting_precision(model) if precision == "auto" else precision


def log_probs(
    model: CTCModel, waves: Sequence[np.ndarray], precision: InferencePrecision = "fp32"
) -> tuple[Tensor, Tensor]:
    """Waves of (S_i,) float32, one batch -> log-probabilities (B, T, V) float32, (B,) rows."""
    device = next(model.parameters()).device
    padded, lengths = pad_chunks(waves, device)
    # Autocast keeps its copies of the weights under no_grad, under inference_mode it does not.
    with torch.no_grad(), products(device, precision):
        rows, num_rows = model(padded, lengths)
    return rows[:, : int(num_rows.max())], num_rows


_SILENCE = Hypothesis((), 0, 0, 1.0)


def infer_chunks(
    model: CTCModel,
    chunks: Sequence[Chunk],
    decode: Callable[[Tensor, Tensor], list[Result]],
    precision: InferencePrecision,
    batch_s: float,
    silence: Result,
) -> list[Result | Tensor]:
    """What `decode` makes of each chunk's log-probabilities (B, T, V) and rows (B,); `silence` for
    digital silence, which says nothing and is not given to the model. The own rows (T, V) of a
    chunk that goes on in another one, or is the rest of one, which are to be joined."""
    hypotheses: list[Result | Tensor] = [silence] * len(chunks)
    loud = [i for i, chunk in enumerate(chunks) if chunk.wave.any() or not chunk.is_alone]
    if not loud:
        return hypotheses
    rate, hop = model.speech.config.sample_rate, model.speech.config.hop_samples
    device = next(model.parameters()).device
    given = [chunks[i] for i in loud]
    plan = batches(given, rate, batch_s=batch_s, alone=runs_alone(model, precision))
    with products(device, precision):  # weights are cast once for all
        for batch in plan:
            members = [loud[i] for i in batch]
            rows, lengths = log_probs(model, [chunks[i].wave for i in members], precision)
            alone = [b for b, i in enumerate(members) if chunks[i].is_alone]
            joined = [b for b, i in enumerate(members) if not chunks[i].is_alone]
            for b in joined:
                own = own_rows(chunks[members[b]], int(lengths[b]), hop, model.head.upsample)
                hypotheses[members[b]] = rows[b, own].clone()
            if joined:
                rows, lengths = rows[alone], lengths[alone]
            # Greedy: the best path is the most probable of all paths, so it is also the forced
            # alignment (Viterbi) of the text that it spells: its frames are the word times.
            for b, hypothesis in zip(alone, decode(rows, lengths) if alone else (), strict=True):
                hypotheses[members[b]] = hypothesis
    return hypotheses
