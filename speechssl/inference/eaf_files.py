"""Transcripts as files of ELAN: new ones, or a person's own with a tier more."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from speechssl.annotations import Annotations, Media, Tier
from speechssl.annotations.choice import SAYMORE_TIER
from speechssl.annotations.eaf import read_media
from speechssl.annotations.eaf_writing import add_tier, write_eaf
from speechssl.audio.listing import walk
from speechssl.inference.transcript import Transcript
from speechssl.inference.writers import annotations_of, media_of
from speechssl.spelling import name_key

TIER = "speechssl"
"""The name of the tier that is added."""

SAYMORE_TRANSLATION = "Phrase Free Translation"
"""SayMore's second tier, for whoever translates."""


@dataclass(frozen=True)
class OwnFile:
    """A person's .eaf, and the recordings that it names."""

    path: Path
    media: tuple[Media, ...]

    def origin_of(self, recording: Path) -> float | None:
        """Where in a recording the file's time is zero; None: the file is not of it."""
        wanted = name_key(recording.name).casefold()
        for media in self.media:
            names = (place.replace("\\", "/").rsplit("/", 1)[-1] for place in media.places)
            if wanted in (name_key(name).casefold() for name in names):
                return media.origin_s
        base = name_key(self.path.stem.removesuffix(".annotations")).casefold()
        if base not in (wanted, name_key(recording.stem).casefold()):
            return None
        return self.media[0].origin_s if len(self.media) == 1 else 0.0


class EafFiles:
    """Makes the file for each transcript."""

    def __init__(
        self, into: Path | None = None, tier: str = TIER, *, saymore: bool = False
    ) -> None:
        """`into`: a person's own file, or a folder of them, whose copies get the transcript as a
        tier named `tier`; `saymore`: new files are as SayMore's.

        Raises FileNotFoundError and ValueError where `into` is or holds no .eaf that can be read.
        """
        self._tier, self._saymore = tier, saymore
        self._own = [] if into is None else _own_files(into)
        self._into = into

    def make(self, transcript: Transcript, folder: Path | None) -> tuple[bytes, str]:
        """``(the file, a sentence for the person or "")``; `folder` is where it will lie.

        Raises ValueError where several of the person's files are of the recording.
        """
        recording = media_of(transcript)
        own = self._of(recording) if recording is not None else None
        if own is not None:
            path, origin_s = own
            (phrases, *_) = annotations_of(transcript).tiers
            made, name = add_tier(
                path.read_bytes(), replace(phrases, name=self._tier), path, origin_s
            )
            taken = f"{path} has a tier {self._tier} already: the new one is {name}."
            return made, taken if name != self._tier else ""
        note = ""
        if self._into is not None:
            note = f"No .eaf in {self._into} is of {transcript.audio}: its file is a new one."
        annotations = annotations_of(transcript)
        if self._saymore:
            annotations = _as_saymore(annotations)
        return write_eaf(annotations, recording, folder).encode("utf-8"), note

    def _of(self, recording: Path) -> tuple[Path, float] | None:
        found = [
            (own.path, origin_s)
            for own in self._own
            if (origin_s := own.origin_of(recording)) is not None
        ]
        if len(found) > 1:  # the one beside it is meant, if there is one
            here = [each for each in found if _is_beside(each[0], recording)]
            found = here or found
        if len(found) > 1:
            names = ", ".join(str(path) for path, _ in found[:3])
            raise ValueError(
                f"{recording} is named by {len(found)} files of ELAN ({names}): give one as --into."
            )
        return found[0] if found else None


def _is_beside(path: Path, recording: Path) -> bool:
    return os.path.realpath(path.parent) == os.path.realpath(recording.parent)


def _own_files(into: Path) -> list[OwnFile]:
    if into.is_dir():
        paths = [
            Path(parent, name)
            for parent, names in walk(into)
            for name in sorted(names)
            if name.lower().endswith(".eaf")
        ]
        if not paths:
            raise ValueError(f"There is no .eaf in {into}, which was given as --into.")
    elif into.is_file():
        paths = [into]
    else:
        raise FileNotFoundError(f"There is no file or folder {into}, which was given as --into.")
    return [OwnFile(path, read_media(path)) for path in paths]


def _as_saymore(annotations: Annotations) -> Annotations:
    """The tier of phrases under the names that SayMore looks for, without words."""
    phrases = annotations.tiers[0].segments
    return replace(
        annotations,
        tiers=(
            Tier(SAYMORE_TIER, tuple(replace(s, words=()) for s in phrases), kind=SAYMORE_TIER),
            Tier(SAYMORE_TRANSLATION, (), kind="Translation", parent=SAYMORE_TIER),
        ),
    )
