"""Recordings that are there twice, whatever their names."""

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

from data_prep.open_speech.clip import Clip
from data_prep.open_speech.crops import Drop

Named = tuple[str, Clip]
"""The name of a source, and one of its clips."""


def without_doubles(clips: Iterable[Named]) -> tuple[list[Named], list[tuple[str, Drop]]]:
    """The first of clips whose bytes are the same, within and across sources; and the others.

    Only files of equal size are read. A clip whose file is not there is kept: decoding names it.
    """
    members = [(source, clip, _size(clip)) for source, clip in clips]
    counts = Counter(size for _, _, size in members)
    seen: dict[tuple[int, bytes], str] = {}
    kept: list[Named] = []
    drops: list[tuple[str, Drop]] = []
    for source, clip, size in members:
        if size >= 0 and counts[size] > 1:
            content = size, _digest(clip)
            if content in seen:
                reason = f"double: the same bytes as {seen[content]}"
                drops.append((source, Drop(clip.name, reason)))
                continue
            seen[content] = f"{source}: {clip.name}"
        kept.append((source, clip))
    return kept, drops


def _size(clip: Clip) -> int:
    if clip.span is not None:
        return clip.span[1]
    return clip.audio.stat().st_size if clip.audio.is_file() else -1


def _digest(clip: Clip) -> bytes:
    start, size = clip.span or (0, -1)
    with clip.audio.open("rb") as file:
        file.seek(start)
        return blake2b(file.read(size), digest_size=16).digest()
