"""Files that are whole or not there: a reader finds the old one or the new one, never a half.

What is written takes its name when it is complete. An error on the way (a full disk) leaves the old
file as it was and nothing beside it.
"""

import hashlib
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from speechssl.system import replace

_STREAM = re.compile(r"/dev/(std(in|out|err)|fd/\d+)|/proc/.*")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` at the end; its folder is made.

    That is `path` itself where it is no file but a pipe or a terminal, and where nothing can be put
    beside it. A link stays one, and the file keeps its permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # /dev/stdout may be a file, which belongs to whoever opened it.
    stream = (path.exists() and not path.is_file()) or _STREAM.fullmatch(str(path.absolute()))
    if stream or not os.access(path.resolve().parent, os.W_OK | os.X_OK):
        yield path
        return
    import secrets  # slow to import, for whoever writes nothing
    import shutil

    path = path.resolve()
    # The name is cut, for that of a file has 255 bytes at most.
    part = path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}.part")
    try:
        yield part
        if path.exists():
            shutil.copymode(path, part)
        replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    r"""The text of what becomes `path`, as :func:`replacing`: UTF-8, lines that end in ``\n``.

    A byte of a file name that is not UTF-8 (U+DC80 to U+DCFF in Python) becomes ``\udc80``, which
    JSON reads as the same name.
    """
    with (
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        yield file


def sha256(path: Path) -> str:
    """The digest of a file's bytes in hexadecimal digits; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def output_folder(text: str) -> Path:
    """For ``type=`` of an option that names a folder to write into: there is no file in its place.

    Raises ArgumentTypeError, which argparse reports with the option's name.
    """
    path = Path(text)
    place = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not place.is_dir():
        raise ArgumentTypeError(f"{place} is a file: give a folder, which is made if needed")
    return path


def output_file(text: str) -> Path:
    """The same of a file to write: there is no folder of its name, and no file in its folder's
    place."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"{path} is a folder: give the name of a file")
    output_folder(str(path.absolute().parent))
    return path


def check_writable(folder: Path) -> None:
    """Make a folder, and raise OSError where no file can be put into it: before the work of hours,
    not behind it."""
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
