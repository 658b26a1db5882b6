"""The sets of a comparison: what is pretrained and fine-tuned on, what chooses, what is scored."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from speechssl.data.index import Corpora
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.data.prepare.split import hold_out
from speechssl.data.prepare.transcripts import sentence_key
from speechssl.spelling import name_key

SPLIT_SEED = 0
"""Of the choice of a test set where there is none: the same in all comparisons of a corpus."""


@dataclass(frozen=True)
class Corpus:
    """The sets, each of its own recordings."""

    train: tuple[tuple[Utterance, ...], ...]
    """What is pretrained on, for each manifest; those with a transcript are fine-tuned on."""
    dev: tuple[Utterance, ...]
    """With transcripts: the best model of each run is chosen on it."""
    test: tuple[Utterance, ...]
    """With transcripts: scored once, at the end."""
    test_rule: str
    """Where the test set comes from, in a sentence."""

    @property
    def sets(self) -> tuple[tuple[Utterance, ...], ...]:
        """All of them."""
        return (*self.train, self.dev, self.test)

    @property
    def labeled(self) -> list[Utterance]:
        """The transcribed ones to train on, by ids that are different in all manifests."""
        return [u for u in Corpora(self.train) if u.is_labeled]

    @property
    def label_minutes(self) -> float:
        return minutes_of(self.labeled)

    @property
    def train_minutes(self) -> float:
        return sum(minutes_of(part) for part in self.train)

    def digests(self) -> dict[str, str]:
        """By name, what distinguishes these sets from others; where they lie does not count."""
        trained = [u for part in self.train for u in part]
        sets = {"training set": trained, "validation set": self.dev, "test set": self.test}
        return {name: digest_of(utterances) for name, utterances in sets.items()}

    def write(self, folder: Path) -> None:
        """Manifests for the jobs."""
        for number, part in enumerate(self.train, 1):
            write_manifest(folder / f"train-{number}.jsonl", part, relative=False)
        write_manifest(folder / "dev.jsonl", self.dev, relative=False)
        write_manifest(folder / "test.jsonl", self.test, relative=False)


def minutes_of(utterances: Sequence[Utterance]) -> float:
    return sum(u.duration_s for u in utterances) / 60


def digest_of(utterances: Sequence[Utterance]) -> str:
    """Of ids, times and transcripts, in their order."""
    fields = [(u.id, round(u.start_s, 6), round(u.duration_s, 6), u.text) for u in utterances]
    return blake2b(json.dumps(fields).encode(), digest_size=8).hexdigest()


def read_written(folder: Path) -> Corpus:
    """What :meth:`Corpus.write` wrote."""
    train: list[tuple[Utterance, ...]] = []
    while (path := folder / f"train-{len(train) + 1}.jsonl").exists():
        train.append(tuple(read_manifest(path)))
    dev, test = (tuple(read_manifest(folder / f"{name}.jsonl")) for name in ("dev", "test"))
    return Corpus(tuple(train), dev, test, "")


def read_corpus(
    folder: Path | None, train: Sequence[Path], valid: Path | None, test: Path | None
) -> Corpus:
    """The sets of a prepared folder (train.jsonl, dev.jsonl, test.jsonl) or of manifests, which
    take the place of the folder's.

    Raises FileNotFoundError, or ValueError where a set is missing or lacks transcripts.
    """
    if folder is not None:
        if not (folder / "train.jsonl").exists():
            raise FileNotFoundError(
                f"{folder} is no prepared folder, as it has no train.jsonl: make one with "
                "`speechssl prepare`, or give --train and --valid."
            )
        train = train or [folder / "train.jsonl"]
        valid = valid or _if_there(folder / "dev.jsonl")
        test = test or _if_there(folder / "test.jsonl")
    if not train or valid is None:
        raise ValueError(
            "Name the corpus: a prepared folder (train.jsonl, dev.jsonl, test.jsonl), or --train "
            "and --valid with manifests."
        )
    parts = tuple(tuple(read_manifest(path)) for path in train)
    whole = [u for part in parts for u in part]
    if not any(u.is_labeled for u in whole):
        raise ValueError(
            f"None of the {len(whole)} utterances to train on has a transcript: a comparison "
            "fine-tunes on some, and scores others."
        )
    dev = _transcribed(read_manifest(valid), valid)
    if test is not None:
        scored = _transcribed(read_manifest(test), test)
        rule = f"the {len(scored)} transcribed utterances of {test.name}"
        return Corpus(parts, dev, scored, rule)
    return Corpus(parts, *split_valid(dev))


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _transcribed(utterances: Sequence[Utterance], path: Path) -> tuple[Utterance, ...]:
    kept = tuple(u for u in utterances if u.is_labeled)
    if not kept:
        raise ValueError(f"None of the {len(utterances)} utterances of {path} has a transcript.")
    return kept


def split_valid(
    dev: Sequence[Utterance],
) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...], str]:
    """``(validation, test, rule)``: about half each, by speaker where two or more are known of
    all, else by sentence, so that nothing of the test has chosen a model.

    Raises ValueError where there is but one sentence.
    """
    speakers = [name_key(u.speaker or "") for u in dev]
    by_speaker = all(speakers) and len(set(speakers)) > 1
    groups = speakers if by_speaker else [sentence_key(u.text or "") for u in dev]
    sizes: dict[str, float] = {}
    for group, utterance in zip(groups, dev, strict=True):
        sizes[group] = sizes.get(group, 0.0) + utterance.duration_s
    if len(sizes) < 2:
        raise ValueError(
            f"The {len(dev)} validation utterances are of one speaker or sentence, so that none "
            "can be kept for the test: give --test."
        )
    chosen = hold_out(sizes, 0.0, 0.5, SPLIT_SEED)
    pairs = list(zip(groups, dev, strict=True))
    test = tuple(u for group, u in pairs if group in chosen)
    rest = tuple(u for group, u in pairs if group not in chosen)
    what = "speakers" if by_speaker else "sentences"
    why = "" if by_speaker else ", as fewer than two speakers are known"
    return (
        rest,
        test,
        f"{len(test)} of the {len(dev)} validation utterances, of {len(set(chosen))} of the "
        f"{len(sizes)} {what}{why}; the others choose the models",
    )


def check_budgets(corpus: Corpus, budgets: Sequence[str]) -> None:
    """ValueError where a label budget is more than is transcribed."""
    there = corpus.label_minutes
    for budget in budgets:
        if budget != "all" and float(budget) > there:
            raise ValueError(
                f"--labels {budget} is more than the {there:.1f} transcribed minutes of the "
                "training set: give less, or all."
            )
