"""Recordings of a folder, found by their suffix."""

import os
from pathlib import Path

# fmt: off
SUFFIXES = frozenset((
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".w64", ".caf", ".rf64", ".voc",
))
"""What soundfile opens."""

FOREIGN_SUFFIXES = frozenset((
    ".m4a", ".aac", ".wma", ".amr", ".3gp", ".webm", ".mka", ".mp2", ".ape", ".wv", ".sph",
))
"""Sound that soundfile may not open: listed too, so that it is named and not overlooked."""
# fmt: on


def list_audio(folder: str | Path) -> list[Path]:
    """Every recording below `folder`, sorted, found by its suffix; hidden files are left out.

    A folder that several names lead to (links, also to a folder that it lies in) is listed once, by
    its own name where that is below `folder`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}.")
    known = SUFFIXES | FOREIGN_SUFFIXES
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    roots = [folder]
    for root in roots:  # links after all that is no link
        for parent, subfolders, names in os.walk(root):
            stat = os.stat(parent)
            if (stat.st_dev, stat.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            roots += [
                Path(parent, name) for name in subfolders if os.path.islink(f"{parent}/{name}")
            ]
            found += [
                Path(parent, name)
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in known
            ]
    return sorted(found)
