"""Files of text as people have them: all that is wrong in one message, and what is a transcript."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from speechssl.text.encodings import decode

MOST_LISTED = 10
"""Files that an error names at most."""


class Problems:
    """What is wrong with a file, line by line, raised all at once."""

    most = 20
    """No more are listed; a reader may stop at :attr:`full`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, sentence: str) -> None:
        """`sentence` has no full stop at its end."""
        self.found.append((line, sentence))

    @property
    def full(self) -> bool:
        """So many that the file is hardly what it was taken for."""
        return len(self.found) >= 50 * self.most

    def raise_if_any(self) -> None:
        """ValueError that names the file and each line, in the order of the lines."""
        if not self.found:
            return
        found = sorted(self.found, key=lambda problem: problem[0])
        if len(found) == 1:
            raise ValueError(f"{self.path}, line {found[0][0]}: {found[0][1]}.")
        lines = [f"  line {line}: {sentence}." for line, sentence in found[: self.most]]
        if len(found) > self.most:
            at_least = "at least " if self.full else ""
            lines.append(f"  ... and {at_least}{len(found) - self.most} more lines.")
        raise ValueError("\n".join([f"{self.path} has {len(found)} lines that are wrong:", *lines]))


def read_text(path: Path) -> str:
    """A whole file, white space at the ends removed; ValueError where it cannot be decoded."""
    return decode(path.read_bytes(), path).strip()


def read_lines(path: Path) -> list[str]:
    """The lines of a file; ValueError where it cannot be decoded."""
    lines = decode(path.read_bytes(), path).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


_NAMED = re.compile(r"trans|text|prompt|sentence|script|words|utterances|metadata")
_WORD = re.compile(r"[^\d_/:.]*[^\W\d_][^\d_/:.]*[.:]?")
"""A token of a sentence: letters, and no numbers, paths or times."""


def is_named_after_text(path: str | Path) -> bool:
    """Whether the name of a list or table says that it holds transcripts."""
    return bool(_NAMED.search(os.path.basename(path).lower()))


def are_transcripts(path: str | Path, texts: Sequence[str]) -> bool:
    """Whether `texts`, of the lines of a list, are what was said, and not speakers, durations or
    origins: the list's name says so, or most are several words, and most of their tokens words."""
    if is_named_after_text(path):
        return any(texts)
    tokens = [token for text in texts for token in text.split()]
    words = sum(bool(_WORD.fullmatch(token)) for token in tokens)
    return 2 * sum(" " in text for text in texts) >= len(texts) and words > 0.7 * len(tokens)
