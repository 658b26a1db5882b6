"""Recordings of a folder, found by their suffix."""

import os
from collections.abc import Iterator
from pathlib import Path

# fmt: off
SUFFIXES = frozenset((
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".mpga", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".voc", ".gsm",
))
"""What soundfile opens."""

FOREIGN_SUFFIXES = frozenset((
    ".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".mkv", ".mka", ".webm", ".weba", ".ogv",
    ".avi", ".wma", ".wmv", ".asf", ".aac", ".adts", ".ac3", ".eac3", ".amr", ".awb", ".3gp",
    ".3g2", ".ape", ".wv", ".tta", ".mpc", ".dsf", ".dff", ".spx", ".sph", ".shn", ".dss", ".ds2",
    ".qcp", ".ra", ".rm", ".aax", ".mpa", ".mts", ".raw", ".pcm", ".g722",
))
"""Sound that soundfile may not open: listed too, read through PyAV where that is installed, else
named and not overlooked."""
# fmt: on


def list_audio(folder: str | Path) -> list[Path]:
    """Every recording below `folder`, sorted, found by its suffix; hidden files are left out."""
    known = SUFFIXES | FOREIGN_SUFFIXES
    return sorted(
        Path(parent, name)
        for parent, names in walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in known
    )


def walk(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """``(folder, names of its files)`` of `folder` and all below it; hidden ones are left out.

    A folder that several names lead to (links, also to a folder that it lies in) is there once, by
    its own name where that is below `folder`.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"No such folder: {folder}.")
    seen: set[tuple[int, int]] = set()
    roots = [str(folder)]
    for root in roots:  # links after all that is no link
        for parent, subfolders, names in os.walk(root):
            stat = os.stat(parent)
            if stat.st_ino:  # some network drives number nothing
                if (stat.st_dev, stat.st_ino) in seen:
                    subfolders.clear()
                    continue
                seen.add((stat.st_dev, stat.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            roots += [
                f"{parent}/{name}" for name in subfolders if os.path.islink(f"{parent}/{name}")
            ]
            yield parent, [name for name in names if not name.startswith(".")]
