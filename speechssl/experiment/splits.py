"""The manifests of an experiment."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from speechssl.data.layouts import Split
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.data.prepare import SPLITS

Splits = Mapping[Split, Sequence[Utterance]]


def transcribed(utterances: Iterable[Utterance]) -> list[Utterance]:
    return [u for u in utterances if u.is_labeled]


def minutes_of(utterances: Sequence[Utterance]) -> float:
    return sum(u.duration_s for u in utterances) / 60


def read_splits(data: Path) -> dict[Split, list[Utterance]]:
    """The manifests that `prepare` wrote; an empty list where there is none."""
    paths = {split: data / f"{split}.jsonl" for split in SPLITS}
    return {split: read_manifest(p) if p.exists() else [] for split, p in paths.items()}


def write_splits(data: Path, splits: Splits) -> None:
    for split, utterances in splits.items():
        if utterances:
            write_manifest(data / f"{split}.jsonl", utterances)


def say(line: str) -> None:
    """A line for the person, on stderr."""
    print(line, file=sys.stderr, flush=True)
