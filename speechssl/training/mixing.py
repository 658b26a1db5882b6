"""Several corpora in one pretraining: what is mixed, and how often each is sampled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from speechssl.data.index import Corpora, corpus_sizes, durations_s
from speechssl.data.manifest import Utterance
from speechssl.data.mix import corpus_shares
from speechssl.data.rehearsal import open_rehearsal

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig

NO_REHEARSAL = "none"


def with_rehearsal(config: "PretrainConfig", train_set: Sequence[Utterance]) -> Sequence[Utterance]:
    """The training set, and where the run rehearses the speech of that as its last corpus; errors
    as in :func:`open_rehearsal`."""
    if config.rehearsal == NO_REHEARSAL:
        return train_set
    rehearsal = open_rehearsal(config.rehearsal)
    own = train_set.parts() if isinstance(train_set, Corpora) else [train_set]
    return Corpora([*own, rehearsal])


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
