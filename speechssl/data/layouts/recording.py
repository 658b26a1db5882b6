"""What every layout is turned into: a recording or a part of one, as its source describes it."""

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from speechssl.audio import FOREIGN_SUFFIXES, SUFFIXES

Split = Literal["train", "dev", "test"]

AUDIO_SUFFIXES = SUFFIXES | FOREIGN_SUFFIXES

SPLIT_NAMES: dict[Split, set[str]] = {
    "train": {"train", "training", "trn"},
    "dev": {"dev", "valid", "validation", "val", "development"},
    "test": {"test", "tst", "testing", "eval"},
}


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, or a part of one, as its source describes it; nothing is checked yet."""

    id: str
    audio: Path
    start_s: float = 0.0
    duration_s: float | None = None
    """None: to the end of the file."""
    speaker: str | None = None
    text: str | None = None
    """None: the source gives no transcript. A blank one (an empty cell or file) is none either, for
    `prepare` to count."""
    split: Split | None = None
    """The split that the source publishes, None when it publishes none."""
    line: int | None = field(default=None, compare=False, repr=False)
    """Of the table that names it, for messages."""

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its file."""
        return (self.start_s, self.duration_s) == (0.0, None)


def nfc(name: str) -> str:
    """The form in which two names are compared: the same letters may be written in several ways in
    Unicode, and disks, editors and tables differ in the one they take."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stem(name: str) -> str:
    """A path without the suffix of a recording, where it has one."""
    base, suffix = os.path.splitext(name)
    return base if suffix.lower() in AUDIO_SUFFIXES else name


def split_name(name: str) -> Split | None:
    """train, dev or test for the many names of a split (``valid``, ``dev-clean``), else None."""
    first = re.split(r"[^a-z]", name.lower())[0]
    return next((split for split, names in SPLIT_NAMES.items() if first in names), None)


def splits_by_name(names: Sequence[str]) -> list[Split | None]:
    """The splits that `names` mean, when all mean one and not all the same; else None for each."""
    known = {name: split_name(name) for name in set(names)}
    splits = [known[name] for name in names]
    return splits if all(splits) and len(set(splits)) > 1 else [None] * len(names)
