"""The transcripts of a fine-tuning: which are learned from, which scored, what is said of them."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from speechssl import distributed
from speechssl.data.manifest import Utterance
from speechssl.data.unknown import UnknownCharacters, find_unknown, min_rows
from speechssl.model.speech_model import CTCModel
from speechssl.rng import rng
from speechssl.text import Tokenizer

_MAX_IDS = 5
"""Utterances that are named in a sentence; all are in meta.json."""


@dataclass(frozen=True)
class Labels:
    """The sets of a run, and what is left out of them."""

    train: Sequence[Utterance]
    """Those whose transcript fits into their frames."""
    dropped: list[str]
    """Ids of the other ones of the training set."""
    valid: Sequence[Utterance]
    """The whole validation set."""
    scored: Sequence[Utterance]
    """Those that a validation during the run scores."""
    without_loss: list[str]
    """Ids of those of them whose transcript does not fit into their frames."""
    unknown: UnknownCharacters
    """Characters of the validation set that the training transcripts do not have."""

    @classmethod
    def choose(
        cls,
        train: Sequence[Utterance],
        valid: Sequence[Utterance],
        model: CTCModel,
        tokenizer: Tokenizer,
        max_valid: int,
        speeds: Sequence[float],
    ) -> "Labels":
        """Of sets with transcripts; at most `max_valid` utterances are scored, and those of the
        training are played at the `speeds`.

        Raises ValueError where no training transcript fits into its frames.
        """
        fitting_train, dropped = fitting(train, model, tokenizer, max(speeds))
        if not fitting_train:
            raise ValueError(
                "Every training transcript is longer than CTC can write in its recording's frames: "
                "raise --upsample, lower --speeds, or look at the transcripts."
            )
        scored = choose_valid(valid, max_valid)
        _, without_loss = fitting(scored, model, tokenizer, 1.0)
        unknown = find_unknown(tokenizer, valid)
        return cls(fitting_train, dropped, valid, scored, without_loss, unknown)

    def sentences(self) -> Iterator[str]:
        """For the person, where a run begins."""
        if self.unknown:
            yield self.unknown.sentence("validation")
        if self.dropped:
            yield _too_long(self.dropped, "training", "not learned from")
        if self.without_loss:
            why = "scored in WER and CER, but not in the loss"
            yield _too_long(self.without_loss, "validation", why)

    def notes(self) -> dict[str, Any]:
        """For meta.json: what the model was trained on; unknown characters and ids by name."""
        return {
            "train_utterances": len(self.train),
            "train_minutes": round(sum(u.duration_s for u in self.train) / 60, 2),
            "valid_utterances": len(self.valid),
            "dropped_too_many_symbols": list(self.dropped),
            "valid_characters_unseen_in_training": self.unknown.counts,
            "valid_utterances_with_unseen_characters": list(self.unknown.ids),
            "valid_too_many_symbols": self.without_loss,
        }


def transcribed(utterances: Sequence[Utterance], what: str) -> list[Utterance]:
    """Those with a transcript; ValueError where there is none in the `what` set."""
    kept = [u for u in utterances if u.is_labeled]
    if not kept:
        raise ValueError(f"No utterance of the {what} set has a transcript.")
    if (num := len(utterances) - len(kept)) and distributed.rank() == 0:
        line = f"Left out: {num} of the {len(utterances)} {what} utterances have no transcript."
        print(line, file=sys.stderr, flush=True)
    return kept


def choose_valid(utterances: Sequence[Utterance], max_valid: int) -> Sequence[Utterance]:
    """At most `max_valid` of them, always the same."""
    if len(utterances) <= max_valid:
        return utterances
    chosen = rng(0, "choose-valid").permutation(len(utterances))[:max_valid]
    return [utterances[i] for i in sorted(chosen.tolist())]


def take_minutes(utterances: Sequence[Utterance], minutes: float, seed: int) -> list[Utterance]:
    """A random choice of transcribed utterances that adds up to `minutes` (at least one
    utterance)."""
    if minutes <= 0:
        raise ValueError(f"The minutes of labels must be above 0, got {minutes:g}.")
    chosen: list[Utterance] = []
    spent = 0.0
    transcribed = [u for u in utterances if u.is_labeled]
    for index in rng(seed, "label-minutes").permutation(len(transcribed)).tolist():
        if spent >= 60 * minutes:
            break
        chosen.append(transcribed[index])
        spent += transcribed[index].duration_s
    return chosen


def fitting(
    utterances: Sequence[Utterance], model: CTCModel, tokenizer: Tokenizer, speed: float
) -> tuple[list[Utterance], list[str]]:
    """Those whose frames can hold their transcript when they are played at `speed`, and the ids of
    the others (CTC's length condition: frames >= symbols + adjacent repeats). Unknown characters
    beside each other are no repeat."""
    rate = model.speech.config.sample_rate / speed
    kept, dropped = [], []
    samples = torch.tensor([round(u.duration_s * rate) for u in utterances])
    for utterance, rows in zip(utterances, model.output_lengths(samples).tolist(), strict=True):
        fits = min_rows(tokenizer.encode(utterance.text or "")) <= rows
        if fits:
            kept.append(utterance)
        else:
            dropped.append(utterance.id)
    return kept, dropped


def _too_long(ids: Sequence[str], what: str, why: str) -> str:
    """For the person: transcripts of a set that do not fit into their frames."""
    more = ", ..." if len(ids) > _MAX_IDS else ""
    return (
        f"Longer than CTC can write in the frames: {len(ids)} of the {what} transcripts "
        f"({', '.join(ids[:_MAX_IDS])}{more}), {why}. Look at them, or raise --upsample."
    )
