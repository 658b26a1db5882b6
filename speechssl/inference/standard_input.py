"""Standard input as a recording: in memory where it is short, else as it comes, or in a file.

A WAV of integers is read as it comes, where once is enough. Other containers are read at any place
(their headers are held against what follows), which a pipe does not offer; a temporary file does,
and memory does not grow with it. It goes afterwards.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from speechssl.audio import Piped, piped_wav

MOST_IN_MEMORY = 1 << 24
"""Bytes of standard input that are kept in memory: eight minutes of 16 bits at 16 kHz."""

NAME = "standard input"
"""What messages call it."""


@contextmanager
def standard_input(
    stream: IO[bytes] | None, most_in_memory: int = MOST_IN_MEMORY, *, once: bool = False
) -> Iterator[bytes | Path | Piped]:
    """All of `stream`: bytes, or beyond `most_in_memory` a file in the folder for temporary files
    (``TMPDIR``), which is removed at the end. None is empty.

    `once`: it is read only once, so that what can be read as it comes (:func:`piped_wav`) needs no
    file.

    Raises OSError where that folder has no space.
    """
    if stream is None:
        yield b""
        return
    head = stream.read(most_in_memory + 1)
    if len(head) <= most_in_memory:
        yield head
        return
    if once and (piped := piped_wav(head, stream)) is not None:
        del head
        yield piped
        return
    with tempfile.TemporaryDirectory(prefix="speechssl-") as folder:
        path = Path(folder) / NAME
        with path.open("wb") as file:
            file.write(head)
            del head
            shutil.copyfileobj(stream, file, 1 << 20)
        yield path
