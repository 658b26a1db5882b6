"""Transcripts that look wrong, by a model's output: those most worth a second look come first.

A transcript is suspicious where the model finds its own hypothesis much more probable: the
log-likelihood ratio of both under CTC (Graves et al. 2006, section 3.1), per symbol of the
transcript so that long ones do not come first for their length alone. A hard recording makes both
improbable and is not suspicious by that. Characters that the model does not know say nothing about
the recording: each run of them stands for whatever suits it, and is reported as what it is.

Shapes: T rows of log-probabilities, V vocabulary.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.batching import BatchPlan
from speechssl.data.manifest import Utterance
from speechssl.data.unknown import UnknownCharacters, find_unknown, merge_unknown, shown
from speechssl.decoding.align import align, mean_confidence
from speechssl.decoding.greedy import greedy_decode
from speechssl.device import Precision, pick_device
from speechssl.files import writing
from speechssl.inference.batching import BATCH_S, Unreadable
from speechssl.inference.precision import fitting_precision
from speechssl.inference.transcribe import log_probs
from speechssl.model.fast.accelerate import accelerate
from speechssl.scoring.wer import format_alignment, score
from speechssl.text import BLANK_ID, SPACE, UNKNOWN_ID, Tokenizer, ctc_min_frames


@dataclass(frozen=True, slots=True)
class Judged:
    """A transcript and what speaks against it."""

    id: str
    audio: str
    start_s: float
    suspicion: float
    """Nats per symbol of the transcript by which the hypothesis is more probable; infinite where
    the recording is too short for the transcript. Of a transcript with unknown characters it is
    that of the others."""
    cer: float
    """Errors of the hypothesis, were the transcript right, over the characters of the transcript
    (a fraction)."""
    loss: float
    """-log p(transcript | sound) per symbol, in nats."""
    own_loss: float
    """The same of the hypothesis."""
    alignment: float
    """How sure the model is of the transcript's symbols where they fit best, in [0, 1]."""
    transcript: str
    hypothesis: str
    unknown: str = ""
    """Characters of the transcript that the model does not know, each once."""


@dataclass(frozen=True)
class Check:
    """What was found in some manifests."""

    judged: tuple[Judged, ...]
    """The most suspicious first."""
    unreadable: tuple[Unreadable, ...]
    num_untranscribed: int
    unknown: UnknownCharacters
    """Characters of the transcripts that the model does not know."""


def check(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    precision: Precision = "fp32",
    batch_s: float = BATCH_S,
    say: Callable[[str], None] | None = None,
) -> Check:
    """Judge every transcript of `utterances`; ValueError where there is none, or no CTC head.

    `say` gets a sentence before the work begins, where transcripts hold characters that the model
    does not know.
    """
    chosen = [u for u in utterances if u.is_labeled]
    if not chosen:
        raise ValueError(f"None of the {len(utterances)} utterances has a transcript to check.")
    model, tokenizer = checkpoint.require_ctc()
    unknown = find_unknown(tokenizer, chosen)
    if unknown and say is not None:
        say(unknown.sentence())
    accelerate(model.to(pick_device()).eval())
    if precision == "auto":
        precision = cast(Precision, fitting_precision(model, with_int8=False))
    plan = BatchPlan(
        np.array([u.duration_s for u in chosen]), batch_s=batch_s, seed=0, shuffle=False
    )
    judged: list[Judged] = []
    unreadable: list[Unreadable] = []
    for index in range(plan.num_batches):
        waves, batch = [], []
        for utterance in (chosen[i] for i in plan.batch(index).tolist()):
            wave = _read(utterance, model.speech.config.sample_rate)
            if isinstance(wave, Unreadable):
                unreadable.append(wave)
            else:
                waves.append(wave)
                batch.append(utterance)
        if waves:
            judged += _judge(*log_probs(model, waves, precision), tokenizer, batch)
    judged.sort(key=lambda j: (-j.suspicion, -j.cer, j.id))
    return Check(
        tuple(judged),
        tuple(unreadable),
        len(utterances) - len(chosen),
        unknown,
    )


def _read(utterance: Utterance, sample_rate: int) -> np.ndarray | Unreadable:
    try:
        return audio.read(
            utterance.audio,
            sample_rate=sample_rate,
            start_s=utterance.start_s,
            duration_s=utterance.duration_s,
        )
    except (audio.AudioError, OSError) as error:
        return Unreadable(utterance.id, error)


def _judge(
    rows: Tensor, lengths: Tensor, tokenizer: Tokenizer, utterances: Sequence[Utterance]
) -> Iterator[Judged]:
    """``rows`` (B, T, V) and ``lengths`` (B,) of utterances with a transcript."""
    rows = rows.cpu()
    given = [merge_unknown(tokenizer.encode(u.text or "")) for u in utterances]
    own = [h.ids for h in greedy_decode(rows, lengths)]
    losses = _given_losses(rows, lengths, given, tokenizer)
    own_losses = _ctc_losses(rows, lengths, own)
    for i, utterance in enumerate(utterances):
        transcript, hypothesis = utterance.text or "", tokenizer.decode(own[i])
        num = max(len(given[i]), 1)
        yield Judged(
            id=utterance.id,
            audio=str(utterance.audio),
            start_s=utterance.start_s,
            suspicion=(losses[i] - own_losses[i]) / num,
            cer=_cer(transcript, hypothesis),
            loss=losses[i] / num,
            own_loss=own_losses[i] / max(len(own[i]), 1),
            alignment=_alignment(rows[i, : int(lengths[i])].numpy(), given[i]),
            transcript=transcript,
            hypothesis=hypothesis,
            unknown="".join(dict.fromkeys(tokenizer.unknown_characters(transcript))),
        )


def _given_losses(
    rows: Tensor, lengths: Tensor, given: Sequence[Sequence[int]], tokenizer: Tokenizer
) -> list[float]:
    """-log p of transcripts in nats. An unknown symbol is taken for whatever suits the recording:
    nothing (punctuation), or a stretch of any symbols (letters of another case)."""
    losses = _ctc_losses(rows, lengths, given)
    odd = [i for i, ids in enumerate(given) if UNKNOWN_ID in ids]
    if not odd:
        return losses
    rows, lengths = rows[odd].clone(), lengths[odd]
    silent = _ctc_losses(rows, lengths, [_without_unknown(given[i], tokenizer) for i in odd])
    rows[..., UNKNOWN_ID] = 0.0  # in place of any symbol, the blank too
    spoken = _ctc_losses(rows, lengths, [given[i] for i in odd])
    for i, pair in zip(odd, zip(silent, spoken, strict=True), strict=True):
        losses[i] = min(pair)
    return losses


def _without_unknown(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Without unknown symbols, and with one space where they stood between two."""
    kept: list[int] = []
    for i in ids:
        is_space = tokenizer.symbols[i] == SPACE
        if i != UNKNOWN_ID and not (is_space and (not kept or kept[-1] == i)):
            kept.append(i)
    return kept[:-1] if kept and tokenizer.symbols[kept[-1]] == SPACE else kept


def _ctc_losses(rows: Tensor, lengths: Tensor, ids: Sequence[Sequence[int]]) -> list[float]:
    """-log p(ids | rows) of each utterance in nats; infinite where its rows are too few."""
    flat = torch.tensor([i for each in ids for i in each], dtype=torch.long)
    sizes = torch.tensor([len(each) for each in ids])
    losses = F.ctc_loss(
        rows.transpose(0, 1), flat, lengths.cpu(), sizes, blank=BLANK_ID, reduction="none"
    )
    return [float(loss) for loss in losses]


def _alignment(rows: np.ndarray, ids: Sequence[int]) -> float:
    """Geometric mean of the known symbols' probabilities on the best path through (T, V); 0 where
    there is none or they do not fit."""
    if ctc_min_frames(ids) > len(rows):
        return 0.0
    known = [token for token in align(rows, ids).tokens if token.id != UNKNOWN_ID]
    return mean_confidence(known) if known else 0.0


def _cer(transcript: str, hypothesis: str) -> float:
    if not transcript.strip():
        return float(len(hypothesis))
    return score([transcript], [hypothesis], ids=[""]).cer


def describe(found: Check, num: int) -> str:
    """The most suspicious `num` for a person, each with what differs, word under word."""
    lines = [f"{len(found.judged)} transcripts checked; the {num} that look most wrong:"]
    for place, judged in enumerate(found.judged[:num], 1):
        why = f"{judged.suspicion:.2f} nats a symbol, CER {100 * judged.cer:.0f} %"
        if math.isinf(judged.suspicion):
            why = "the recording is too short for it"
        if judged.unknown:
            why += f", compared without {' '.join(map(shown, judged.unknown))}"
        lines += ["", f"{place}. {judged.id}: {why}"]
        lines.append(format_alignment(judged.transcript, judged.hypothesis))
    if num_unknown := len(found.unknown.ids):
        lines += [
            "",
            f"{num_unknown} transcripts were compared without the characters that the "
            f"model does not know ({' '.join(map(shown, found.unknown.counts))}).",
        ]
    if found.num_untranscribed:
        lines += ["", f"Left out: {found.num_untranscribed} utterances without a transcript."]
    return "\n".join(lines)


def check_suffix(path: Path) -> None:
    """ValueError where the suffix names no form that :func:`write_check` knows."""
    if path.suffix not in (".jsonl", ".tsv"):
        raise ValueError(f"--out must end in .jsonl or .tsv, got {path}.")


def write_check(path: Path, found: Check) -> None:
    """Write all of them in their order, as JSON lines (``.jsonl``) or as a table (``.tsv``)."""
    check_suffix(path)
    rows = [asdict(judged) for judged in found.judged]
    with writing(path) as file:
        if path.suffix == ".tsv":
            table = csv.DictWriter(
                file, list(Judged.__slots__), delimiter="\t", lineterminator="\n"
            )
            table.writeheader()
            table.writerows(rows)
            return
        for row in rows:
            if math.isinf(row["suspicion"]):  # JSON has no infinity
                row |= {"suspicion": None, "loss": None}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
