"""A teacher's transcripts of a pool, written as they are made: a command that is stopped goes on.

Shapes: B batch, S samples, T rows of log-probabilities, V symbols.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.batching import BatchPlan
from speechssl.data.manifest import Utterance
from speechssl.device import pick_device
from speechssl.inference.batching import BATCH_S
from speechssl.inference.decoders import Decoder
from speechssl.inference.transcribe import log_probs
from speechssl.model.fast.accelerate import accelerate
from speechssl.selftraining.gate import LONGEST_S, Label

_BATCHES = 20
"""Between two sentences of progress."""
_FIELDS = ("text", "confidence", "error")
"""Of a :class:`Label`, beside its utterance."""


def label_pool(
    teacher: Checkpoint,
    pool: Sequence[Utterance],
    path: Path,
    *,
    decode: Decoder,
    say: Callable[[str], None],
) -> list[Label]:
    """What the teacher makes of each utterance, in the order of the pool.

    Args:
        teacher: a model with a CTC head.
        pool: the utterances; their transcripts are not looked at.
        path: ``hypotheses.jsonl``, to which each batch is added when it is done. What lies there of
            an earlier command is taken over, so it must be of the same teacher, pool and decoder.
        decode: greedy, or beam search.
        say: gets sentences of progress.

    A recording that cannot be read, or is longer than 30 s, gets an empty label.
    """
    model, _ = teacher.require_ctc()
    accelerate(model.to(pick_device()).eval())
    found = _read(path, len(pool))
    fit = [i for i, u in enumerate(pool) if u.duration_s <= LONGEST_S]
    plan = None
    if fit:
        seconds = np.array([pool[i].duration_s for i in fit])
        plan = BatchPlan(seconds, batch_s=BATCH_S, seed=0, shuffle=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for index in range(plan.num_batches if plan else 0):
            members = [fit[i] for i in plan.batch(index).tolist()] if plan else []
            if all(i in found for i in members):
                continue
            made = _label(teacher, [pool[i] for i in members], decode)
            for i, fields in zip(members, made, strict=True):
                found[i] = fields
                file.write(json.dumps({"number": i, **fields}, ensure_ascii=False) + "\n")
            file.flush()
            if index % _BATCHES == _BATCHES - 1:
                say(f"  {len(found)} of {len(pool)} utterances are labelled.")
    return [Label(u, **found.get(i, _nothing())) for i, u in enumerate(pool)]


def _label(
    teacher: Checkpoint, utterances: Sequence[Utterance], decode: Decoder
) -> list[dict[str, Any]]:
    """The fields of each utterance of a batch but its number."""
    model, tokenizer = teacher.require_ctc()
    fields: list[dict[str, Any]] = []
    waves = []
    for utterance in utterances:
        wave, error = _wave(utterance, model.speech.config.sample_rate)
        fields.append(_nothing(error))
        waves.append(wave)
    loud = [i for i, wave in enumerate(waves) if wave.any()]
    if not loud:
        return fields
    rows, lengths = log_probs(model, [waves[i] for i in loud])
    hypotheses = decode(rows, lengths)
    sure = confidences(rows, lengths, [h.ids for h in hypotheses])
    for i, hypothesis, confidence in zip(loud, hypotheses, sure, strict=True):
        fields[i] |= {"text": hypothesis.text(tokenizer), "confidence": confidence}
    return fields


def _nothing(error: str = "") -> dict[str, Any]:
    return dict(zip(_FIELDS, ("", 0.0, error), strict=True))


def _wave(utterance: Utterance, sample_rate: int) -> tuple[np.ndarray, str]:
    """(S,) float32, and why it could not be read, where it could not."""
    try:
        wave = audio.read(
            utterance.audio,
            sample_rate=sample_rate,
            start_s=utterance.start_s,
            duration_s=utterance.duration_s,
        )
    except (audio.AudioError, OSError) as error:
        return np.zeros(0, np.float32), str(error)
    return wave, ""


def confidences(rows: Tensor, lengths: Tensor, ids: Sequence[Sequence[int]]) -> list[float]:
    """``exp(log p(ids | speech) / len(ids))`` of each utterance, rounded to six digits; 0 for no
    symbols.

    `rows` (B, T, V) log-probabilities, `lengths` (B,) rows, `ids` without blanks. p is the sum over
    all CTC paths that spell the ids (Graves et al. 2006, section 3.1).
    """
    flat = torch.tensor([i for each in ids for i in each], dtype=torch.long)
    sizes = torch.tensor([len(each) for each in ids])
    losses = F.ctc_loss(
        rows.float().cpu().transpose(0, 1), flat, lengths.cpu(), sizes, reduction="none"
    )
    values = torch.exp(-losses.double() / sizes.clamp_min(1))
    return [round(v, 6) if len(each) else 0.0 for v, each in zip(values.tolist(), ids, strict=True)]


def _read(path: Path, num: int) -> dict[int, dict[str, Any]]:
    """The whole lines of an earlier command by number; what was written last and is no line any
    more is cut off."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    os.truncate(path, whole)
    found = {}
    try:
        for line in content[:whole].split(b"\n")[:-1]:
            fields = json.loads(line)
            found[range(num)[fields["number"]]] = {name: fields[name] for name in _FIELDS}
    except (ValueError, LookupError, TypeError) as error:
        sentence = f"{path} is damaged: delete it, and its pool is labelled anew."
        raise ValueError(sentence) from error
    return found


def pairs_with_text(labels: Sequence[Label]) -> Iterator[tuple[str, str]]:
    """True transcript and label of those that have both."""
    for label in labels:
        if label.utterance.text is not None and label.utterance.is_labeled:
            yield label.utterance.text, label.text
