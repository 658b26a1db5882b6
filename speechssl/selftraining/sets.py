"""The sets of a self-training: what is in two of them, what is of no use, and what a round learns.

A transcript of the pool is never learned from; it scores the labels where a person asks for it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from os.path import realpath

from speechssl.audio import file_state
from speechssl.data.manifest import Utterance
from speechssl.data.unknown import find_unknown
from speechssl.rng import rng
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.gate import Gated, weight_of
from speechssl.spelling import name_key
from speechssl.text import Tokenizer
from speechssl.training.labels import transcribed

MANY_LABELS_MIN = 30.0
"""See :func:`has_many_labels`."""

_SHOWN = 3
"""Utterances that are named in a sentence."""
_TOUCHING_S = 0.01
"""Two stretches of a recording that share less do not overlap."""


@dataclass(frozen=True)
class Sets:
    """What a self-training is given, without overlaps."""

    pool: tuple[Utterance, ...]
    labeled: tuple[Utterance, ...]
    """Each with a transcript, like those of `valid`."""
    valid: tuple[Utterance, ...]


def choose_sets(
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    tokenizer: Tokenizer,
    *,
    score_pool: bool,
    say: Callable[[str], None],
) -> Sets:
    """Check the three sets; `say` gets a sentence for what is left out or odd.

    Utterances of the pool that are in `labeled` too are left out of it. Raises ValueError where
    recordings of the validation are in another set, where no recording of the pool is there, where
    the model lacks symbols of most transcripts, and where `score_pool` has no transcripts.
    """
    labels, scored = transcribed(labeled, "labeled"), transcribed(valid, "validation")
    for utterances, option in ((unlabeled, "--unlabeled"), (labels, "--labeled")):
        if same := in_both(utterances, valid):
            raise ValueError(
                f"{len(same)} of the {len(utterances)} utterances of {option} are recordings of "
                f"--valid ({_named(same)}): what is learned from them would be scored on them. "
                "Take them out of one of the two manifests."
            )
        if namesakes := _namesakes(utterances, valid):
            say(
                f"{len(namesakes)} utterances of {option} have the id of one of --valid "
                f"({_named(namesakes)}) and are other recordings."
            )
    both = {u.id for u in in_both(unlabeled, labels)}
    pool = [u for u in unlabeled if u.id not in both]
    if both:
        say(
            f"{len(both)} of the {len(unlabeled)} utterances of --unlabeled are in --labeled: they "
            "keep their transcripts and are not labelled."
        )
    if not pool:
        raise ValueError("Every utterance of --unlabeled is in --labeled: there is nothing to add.")
    _check_recordings(pool)
    _check_symbols(tokenizer, labels, say)
    num_known = sum(u.is_labeled for u in pool)
    if score_pool and not num_known:
        raise ValueError("--score-pool needs transcripts in --unlabeled, and there are none.")
    if num_known and not score_pool:
        say(
            f"{num_known} of the {len(pool)} utterances of --unlabeled have transcripts, which are "
            "not used: --score-pool measures the labels by them, and as --labeled they would teach."
        )
    return Sets(tuple(pool), tuple(labels), tuple(scored))


def has_many_labels(labeled: Sequence[Utterance]) -> bool:
    """Whether a student is best begun with the teacher itself: with few labels it does better from
    what the teacher began with, with an hour of them it fell behind a teacher that had seen them
    more often (docs/log)."""
    return sum(u.duration_s for u in labeled if u.is_labeled) >= 60 * MANY_LABELS_MIN


def in_both(some: Iterable[Utterance], others: Iterable[Utterance]) -> list[Utterance]:
    """Those of `some` that are a recording of `others`: a stretch of the same file that overlaps,
    or the same id and duration wherever the file lies."""
    places: dict[str, list[tuple[float, float]]] = defaultdict(list)
    names = set()
    for other in others:
        places[realpath(other.audio)].append((other.start_s, other.start_s + other.duration_s))
        names.add((name_key(other.id), round(other.duration_s, 3)))
    found = []
    for u in some:
        stretches = places.get(realpath(u.audio), ())
        overlaps = any(
            min(u.start_s + u.duration_s, end) - max(u.start_s, start) > _TOUCHING_S
            for start, end in stretches
        )
        if overlaps or (name_key(u.id), round(u.duration_s, 3)) in names:
            found.append(u)
    return found


def _namesakes(some: Iterable[Utterance], others: Iterable[Utterance]) -> list[Utterance]:
    names = {name_key(other.id) for other in others}
    return [u for u in some if name_key(u.id) in names]


def _check_recordings(pool: Sequence[Utterance]) -> None:
    """ValueError where no recording of the pool exists; those that are missing in part are refused
    by the gate, by name."""
    if any(file_state(u.audio) is not None for u in pool):
        return
    raise ValueError(
        f"None of the recordings of --unlabeled is there, the first is {pool[0].audio}: paths in a "
        "manifest are relative to its folder."
    )


def _check_symbols(
    tokenizer: Tokenizer, labeled: Sequence[Utterance], say: Callable[[str], None]
) -> None:
    """ValueError where a teacher lacks symbols of most transcripts: its labels would be spelled in
    another way than these."""
    unknown = find_unknown(tokenizer, labeled)
    if not unknown:
        return
    if 2 * len(unknown.ids) > len(labeled):
        raise ValueError(
            f"{unknown.sentence('labeled')} Its labels would be spelled in another way than these "
            "transcripts: fine-tune MODEL on them first (speechssl finetune --init MODEL)."
        )
    say(unknown.sentence("labeled"))


def _named(utterances: Sequence[Utterance]) -> str:
    more = ", ..." if len(utterances) > _SHOWN else ""
    return ", ".join(u.id for u in utterances[:_SHOWN]) + more


def pseudo_labeled(gated: Gated, config: SelfTrainConfig) -> list[Utterance]:
    """What the gate kept, with the teacher's transcripts and their weights."""
    return [
        replace(label.utterance, text=label.text, weight=weight_of(label, config))
        for label in gated.kept
    ]


def mixed(
    labeled: Sequence[Utterance], pseudo: Sequence[Utterance], share: float, seed: int
) -> list[Utterance]:
    """Labeled and pseudo-labeled utterances, the former repeated until they are `share` of the
    seconds: whole times, and of the rest a random part. Each is there once at the least."""
    wanted_s = share / (1 - share) * sum(u.duration_s for u in pseudo)
    whole_s = sum(u.duration_s for u in labeled)
    times, rest_s = divmod(wanted_s, whole_s) if whole_s > 0 else (1.0, 0.0)
    chosen = [*labeled] * max(int(times), 1)
    if times >= 1:
        for i in rng(seed, "repeat-labeled").permutation(len(labeled)).tolist():
            if rest_s < labeled[i].duration_s / 2:
                break
            chosen.append(labeled[i])
            rest_s -= labeled[i].duration_s
    return [*chosen, *pseudo]
