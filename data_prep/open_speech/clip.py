"""What a source is, and what its reader yields: clips, with nothing checked yet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Terms = Literal["free", "notice", "alike"]
"""What a licence asks of whoever shares a model, if the model counts as made from the recordings:
nothing (public domain, CC0), to name the authors (CC-BY, MIT, Apache, BSD), or the same terms again
(CC-BY-SA, GPL, and a licence of its own that says so)."""

TERMS: tuple[Terms, ...] = ("free", "notice", "alike")


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or a member of an archive, as its source describes it."""

    name: str
    """Unique within the source, with forward slashes."""
    audio: Path
    language: str
    """ISO 639-3."""
    speaker: str | None = None
    """Unique within the source; None: not known."""
    session: str = ""
    """Where a speaker recorded in several places or ways: clips are joined within one only."""
    text: str | None = None
    """What is said, as the source writes it."""
    phones: str | None = None
    """The same in IPA, where the source itself gives it."""
    span: tuple[int, int] | None = None
    """First byte and number of bytes of a member of the archive `audio`."""


Reader = Callable[..., Iterator[Clip]]
"""``read(folder, ...)``: a folder for each part of the source, in the order of `parts`."""


@dataclass(frozen=True)
class Source:
    """A row of the table of sources."""

    name: str
    parts: tuple[str, ...]
    """``github:OWNER/NAME``, ``debian:PACKAGE`` or ``folder:NAME``."""
    languages: tuple[str, ...]
    """ISO 639-3."""
    licence: str
    """As the source itself states it."""
    licence_file: str
    """Which file of the source states it."""
    terms: Terms
    read: Reader
    cap_h: float | None = None
    """At most so many hours of crops are taken."""
    held_out: bool = True
    """Whether speakers are known well enough that some can be held out for dev."""
    notes: str = field(default="", repr=False)

    @property
    def folders(self) -> tuple[str, ...]:
        """Where the parts lie below the folder of all sources."""
        return tuple(folder_of(part) for part in self.parts)


def folder_of(part: str) -> str:
    """``github:OWNER/NAME`` -> ``OWNER+NAME``; ``debian:PACKAGE`` -> ``PACKAGE``."""
    kind, _, place = part.partition(":")
    if kind not in ("github", "debian", "folder") or not place:
        raise ValueError(f"{part!r} is not github:OWNER/NAME, debian:PACKAGE or folder:NAME.")
    return place.replace("/", "+")
