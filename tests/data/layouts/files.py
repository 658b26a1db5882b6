"""Sources in small for the tests of layouts."""

from collections.abc import Mapping
from pathlib import Path

from speechssl.data.layouts import Recording, Unused, read_layout, read_source


def fill(folder: Path, **files: str) -> Path:
    """Files by name, ``__`` for a slash and ``_dot_`` for a dot."""
    return put(
        folder, {n.replace("__", "/").replace("_dot_", "."): text for n, text in files.items()}
    )


def put(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Files by their relative paths."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(source: Path, layout: str = "auto") -> list[Recording]:
    return list(read_layout(source, layout))  # type: ignore[arg-type]


def texts(source: Path) -> dict[str, str | None]:
    """The transcripts by id."""
    return {recording.id: recording.text for recording in read(source)}


def unused(source: Path) -> dict[str, Unused]:
    """What of a source is not used, by its kind."""
    return {item.kind: item for item in read_source(source).unused}
