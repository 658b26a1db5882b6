"""Several corpora in one pretraining: what is mixed, and how often each is sampled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from speechssl.data.index import Corpora, corpus_sizes, durations_s
from speechssl.data.manifest import Utterance
from speechssl.data.mix import corpus_shares
from speechssl.data.rehearsal import open_rehearsal
from speechssl.rng import rng

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig

NO_REHEARSAL = "none"


def with_rehearsal(
    config: "PretrainConfig", train_set: Sequence[Utterance], valid_set: Sequence[Utterance]
) -> tuple[Sequence[Utterance], Sequence[Utterance]]:
    """``(training, validation)``: the sets as they are, and where the run rehearses, its speech as
    the last corpus of both; errors as in :func:`open_rehearsal`.

    A part of the rehearsal is held out for the validation, which shows what is forgotten. Where own
    speech is trained on without transcripts, those of its validation are not looked at: they may be
    in letters that only they have. An empty validation set stays so.
    """
    if config.rehearsal == NO_REHEARSAL:
        return train_set, valid_set
    rehearsal = open_rehearsal(config.rehearsal)
    own = train_set.parts() if isinstance(train_set, Corpora) else [train_set]
    if not valid_set:
        return Corpora([*own, rehearsal]), valid_set
    if not any(u.is_labeled for u in train_set):
        valid_set = [replace(u, text=None, ipa=None) for u in valid_set]
    rest, held = hold_out_valid(rehearsal, config.loop.seed)
    return Corpora([*own, rest]), Corpora([valid_set, held])


def is_mixed(config: "PretrainConfig") -> bool:
    """Whether corpora are sampled otherwise than in proportion to their hours."""
    return (
        config.mix_temperature != 1
        or bool(config.mix_shares)
        or share_of_rehearsal(config) is not None
    )


def share_of_rehearsal(config: "PretrainConfig") -> float | None:
    """Of the micro-batches; None where the run does not rehearse."""
    return None if config.rehearsal == NO_REHEARSAL else config.rehearsal_share


def check_mix(config: "PretrainConfig", train_set: Sequence[Utterance]) -> None:
    """ValueError where there is nothing to mix, or the shares cannot be."""
    sizes = corpus_sizes(train_set)
    own = len(sizes) - (config.rehearsal != NO_REHEARSAL)
    for name, value, asked in (
        ("mix-temperature", config.mix_temperature, config.mix_temperature != 1),
        ("mix-shares", ",".join(f"{s:g}" for s in config.mix_shares), bool(config.mix_shares)),
    ):
        if asked and own == 1:
            default = "1" if name == "mix-temperature" else "[]"
            raise ValueError(
                f"--{name} {value} mixes several manifests, and --train names one: leave it out "
                f"(where a recipe has it, give --{name} {default}, or each corpus its own "
                "manifest)."
            )
    ends = np.cumsum(sizes)[:-1]
    seconds = np.array([part.sum() for part in np.split(durations_s(train_set), ends)])
    corpus_shares(seconds, config.mix_temperature, config.mix_shares, share_of_rehearsal(config))


def hold_out_valid(
    utterances: Sequence[Utterance], seed: int
) -> tuple[Sequence[Utterance], Sequence[Utterance]]:
    """``(rest, held out)``: a fiftieth, at least one, at most 200; a lone utterance is in both."""
    num = min(max(len(utterances) // 50, 1), 200)
    if len(utterances) == 1:
        return utterances, utterances
    held = rng(seed, "hold-out").permutation(len(utterances))[:num]
    keep = np.ones(len(utterances), bool)
    keep[held] = False
    whole = utterances if isinstance(utterances, Corpora) else Corpora([utterances])
    return whole.choose(keep), whole.choose(~keep)
