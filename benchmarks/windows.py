"""Speech without pauses: transcripts of overlapping windows against those of the whole at once.

    python benchmarks/windows.py runs/finetune data/dev.jsonl --minutes 60 --json windows.json

Sentences of a manifest are joined without gaps, again and again until there are so many minutes,
in another order each time: what is quiet at both ends is cut off, and silences inside to 0.1 s, so
that nothing is left to cut at. Each model transcribes the whole in one input, and in windows that
share so many seconds (``--contexts``; 0: cut without overlap). Stated is the share of the words of
the whole that the windows have too, 1 - errors / words.

A model whose encoder normalises over its input normalises each window by itself. Beside it stands
the same model with the normalisation of the whole recording, fixed: what is left then comes from
the edges of the windows alone.

Attention over a whole recording takes memory with the square of its length: give ``--minutes 3``
for models with attention, 60 for those with GRU layers.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import read_manifest
from speechssl.inference import stitching
from speechssl.inference.recordings import as_clip, chunks
from speechssl.inference.transcribe import Transcriber
from speechssl.inference.transcript import Transcript
from speechssl.interop.sources import open_model
from speechssl.model import filterbank, speech_model
from speechssl.model.encoder import ConvEncoder
from speechssl.model.normalization import MaskedGroupNorm
from speechssl.rng import rng
from speechssl.scoring.edits import align_texts, count_edits

RATE = 16000
PIECE = RATE // 100
QUIET_DB = 25.0
"""So far below the loud twentieth of a sentence is quiet."""
LONGEST_S = 0.1
"""Of a silence that is left."""


def main() -> None:
    """Measure every model, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--contexts", type=float, nargs="+", default=[0, 0.5, 1, 2, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    wave = connected_speech(args.manifest, args.minutes * 60)
    rows = []
    for source in args.models:
        rows += measure(source, wave, args.contexts)
    print(table(rows))
    if args.json:
        conditions = {"minutes": len(wave) / RATE / 60, "torch": torch.__version__}
        text = json.dumps({"conditions": conditions, "rows": rows}, indent=2)
        args.json.write_text(text + "\n", encoding="utf-8")


# ---- speech --------------------------------------------------------------------------------------


def connected_speech(manifest: Path, seconds: float) -> np.ndarray:
    """(S,) float32 at 16 kHz."""
    utterances = read_manifest(manifest)
    sentences: dict[int, np.ndarray] = {}
    parts: list[np.ndarray] = []
    num, turn = 0, 0
    while num < seconds * RATE:
        for index in rng(0, "order", turn).permutation(len(utterances)).tolist():
            if num >= seconds * RATE:
                break
            if index not in sentences:
                u = utterances[index]
                read = audio.read(u.audio, start_s=u.start_s, duration_s=u.duration_s)
                sentences[index] = without_pauses(read)
            parts.append(sentences[index])
            num += len(sentences[index])
        turn += 1
    return np.concatenate(parts)[: round(seconds * RATE)]


def without_pauses(wave: np.ndarray) -> np.ndarray:
    """(S,) -> (S',): silences inside are `LONGEST_S` at most, and there is none at the ends."""
    pieces = wave[: len(wave) // PIECE * PIECE].reshape(-1, PIECE)
    energy = np.convolve(np.square(pieces).mean(1), np.ones(3) / 3, "same")
    quiet = energy < np.percentile(energy, 95) * 10 ** (-QUIET_DB / 10)
    if quiet.all():
        return np.zeros(0, np.float32)
    first, last = np.flatnonzero(~quiet)[[0, -1]]
    keep = np.ones(len(pieces), bool)
    keep[:first], keep[last + 1 :] = False, False
    run = 0
    for index, is_quiet in enumerate(quiet):
        run = run + 1 if is_quiet else 0
        keep[index] &= run * PIECE <= LONGEST_S * RATE
    return np.ascontiguousarray(pieces[keep].reshape(-1))


# ---- models --------------------------------------------------------------------------------------


def measure(source: str, wave: np.ndarray, contexts: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each context, and each with the normalisation of the whole where it is another."""
    rows = []
    checkpoint = open_model(source)
    kinds = ["own", "whole"] if normalises(checkpoint) else ["none"]
    for kind in kinds:
        if kind == "whole":
            checkpoint = open_model(source)  # another one is patched
        with fixed_normalisation(checkpoint, wave, on=kind == "whole"):
            made = [run(checkpoint, wave, context) for context in contexts]
            whole, seconds, peak = run(checkpoint, wave, None)
        for context, (found, took, held) in zip(contexts, made, strict=True):
            counts = [count_edits(e) for e in align_texts([whole.text], [found.text], "words")]
            rows.append(
                {
                    "model": source,
                    "normalisation": kind,
                    "context_s": context,
                    "words": len(whole.words),
                    "agreement": 1 - sum(c.errors for c in counts) / max(len(whole.words), 1),
                    "seconds": took,
                    "peak_mb": held,
                    "whole_seconds": seconds,
                    "whole_peak_mb": peak,
                    "windows": num_windows(checkpoint, wave, context),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def run(
    checkpoint: Checkpoint, wave: np.ndarray, context_s: float | None
) -> tuple[Transcript, float, float]:
    """The transcript, seconds, and the process's peak so far in MB; None: all is one input."""
    most = {} if context_s is not None else {"max_chunk_s": len(wave) / RATE + 1}
    with mock.patch.object(stitching, "context_samples", shared(context_s or 0.0)):
        transcriber = Transcriber(checkpoint, precision="fp32", **most)
        began = time.monotonic()
        (found,) = transcriber([as_clip(wave)])
    assert isinstance(found, Transcript)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found, time.monotonic() - began, peak


def shared(context_s: float) -> Any:
    """`context_samples` with another number of seconds."""

    def samples(speech: speech_model.SpeechModel) -> int:
        hop = speech.config.hop_samples
        return round(context_s * speech.config.sample_rate / hop) * hop

    return samples


def num_windows(checkpoint: Checkpoint, wave: np.ndarray, context_s: float) -> dict[str, int]:
    """How many inputs there are, and how many of the cuts between them are at pauses."""
    hop = checkpoint.speech.config.hop_samples
    context = shared(context_s or 2.0)(checkpoint.speech)
    found = list(chunks(as_clip(wave), RATE, grid=hop, context=context))
    return {"inputs": len(found), "pauses": sum(not c.goes_on for c in found[:-1])}


# ---- normalisation -------------------------------------------------------------------------------


def normalises(checkpoint: Checkpoint) -> bool:
    """Whether anything is normalised over the input."""
    speech = checkpoint.speech
    if speech.config.running_norm:
        return False
    if isinstance(speech.encoder, ConvEncoder):
        return speech.config.normalize_wave or speech.encoder.config.norm == "group"
    return True


class FixedNorm(nn.Module):
    """(B, T, C) by a mean and a deviation that are given, (C,) each."""

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, values: Tensor) -> Tensor:
        return (values.float() - self.mean) / self.deviation


@contextmanager
def fixed_normalisation(checkpoint: Checkpoint, wave: np.ndarray, *, on: bool) -> Iterator[None]:
    """What is normalised over the input is so by the statistics of the whole `wave`."""
    if not on:
        yield
        return
    speech, encoder = checkpoint.speech, checkpoint.speech.encoder
    given = torch.from_numpy(wave)[None]
    with torch.no_grad():
        if speech.config.normalize_wave:
            mean, deviation = given.mean(), (given.var(correction=0) + 1e-7).sqrt()
            given = (given - mean) / deviation
            speech.config = _without_wave_norm(speech.config)
            speech.wave_norm = FixedNorm(mean, deviation)
        if isinstance(encoder, ConvEncoder):
            layer = encoder.layers[0]
            if isinstance(layer.norm, MaskedGroupNorm):
                statistics = _Statistics()
                for start in range(0, given.shape[1], 60 * RATE):
                    statistics.add(layer.conv(given[:, None, start : start + 60 * RATE])[0].T)
                mean, variance = statistics.found()
                deviation = (variance + layer.norm.eps).sqrt() / layer.norm.weight
                layer.norm = FixedNorm(mean - layer.norm.bias * deviation, deviation)
            yield
            return
        statistics = _Statistics()
        for start in range(0, given.shape[1], 60 * RATE):
            statistics.add(encoder.energies(given[:, start : start + 60 * RATE])[0])
        mean, variance = statistics.found()
    deviation = (variance + 1e-6).sqrt() + 1e-2

    def normalize(values: Tensor, lengths: Tensor) -> Tensor:
        return filterbank.shapes.zero_padding((values - mean) / deviation, lengths)

    with mock.patch.object(filterbank, "normalize_over_time", normalize):
        yield


def _without_wave_norm(config: Any) -> Any:
    from dataclasses import replace

    return replace(config, normalize_wave=False)


class _Statistics:
    """Mean and variance of frames (T, C) that come in parts."""

    def __init__(self) -> None:
        self.num, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, frames: Tensor) -> None:
        frames = frames.double()
        self.num += len(frames)
        self.sum = self.sum + frames.sum(0)
        self.squares = self.squares + frames.square().sum(0)

    def found(self) -> tuple[Tensor, Tensor]:
        mean = self.sum / self.num
        return mean.float(), (self.squares / self.num - mean.square()).clamp_min(0).float()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lines for people."""
    lines = [
        f"{'model':40} {'normalised by':>13} {'shared s':>8} {'words':>7} {'the same':>9} "
        f"{'time':>7} {'whole':>7} {'MB':>6} {'whole':>6}"
    ]
    lines += [
        f"{row['model'][-40:]:40} {row['normalisation']:>13} {row['context_s']:8g} "
        f"{row['words']:7,} {row['agreement']:9.2%} {row['seconds']:6.1f}s "
        f"{row['whole_seconds']:6.1f}s {row['peak_mb']:6.0f} {row['whole_peak_mb']:6.0f}"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
