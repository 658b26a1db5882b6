"""Finding what a reader looks for."""

from collections.abc import Iterator
from pathlib import Path

SOUNDS = frozenset((".wav", ".flac", ".ogg", ".opus", ".mp3", ".g722", ".gsm"))


def sounds(folder: Path) -> list[Path]:
    """Recordings below `folder`, sorted by their path as text, links to folders not followed."""
    return sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS and path.is_file()),
        key=lambda path: path.as_posix(),
    )


def subfolder(folder: Path, place: str) -> Path:
    """Raises FileNotFoundError where it is not there: the layout is another."""
    found = folder / place
    if not found.is_dir():
        raise FileNotFoundError(
            f"{folder} does not hold {place}/: the source is not complete, or another version."
        )
    return found


def relative(path: Path, folder: Path) -> str:
    """The name of a clip: its path in the source without the suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def pairs(table: Path, separator: str) -> Iterator[tuple[str, str]]:
    """``key SEPARATOR text`` of each line that has both; the text may hold more separators."""
    for line in table.read_text(encoding="utf-8-sig").splitlines():
        key, found, text = line.partition(separator)
        if found and key.strip() and text.strip():
            yield key.strip(), text.strip()
